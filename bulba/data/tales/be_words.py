"""Belarusian words: the lexicon that `be_grammar` inflects. The columns are those of `grammar`."""

NOUNS = """
hare         заяц       m*   obl=зайц gp=зайцоў
fox          ліса       fe*
wolf         воўк       me*  obl=ваўк
bear         мядзведзь  ms*
hedgehog     вожык      m*
squirrel     вавёрка    f*   gp=вавёрак
mouse        мышка      f*   gp=мышак
frog         жаба       f*
cat          кот        me*  obl=кат
dog          сабака     ma*
goat         каза       fe*  pl=коз
rooster      певень     ms*  obl=пеўн
hen          курачка    f*   gp=курачак
duck         качка      f*   gp=качак
crow         варона     f*
owl          сава       fe*  pl=сов
sparrow      верабей    mse* obl=вераб’
stork        бусел      m*   obl=бусл gp=буслоў
beaver       бабёр      me*  obl=бабр
badger       барсук     me*
mole         крот       me*  obl=крат
turtle       чарапаха   f*
snail        слімак     me*
ant          мурашка    f*   gp=мурашак
bee          пчала      fe*  pl=пчол
grasshopper  конік      m*
kitten       кацяня     nt*
piglet       парася     nt*
horse        конь       mse* obl=кан pl=кон gp=коней ins.pl=коньмі
cow          карова     f*
duckling     качаня     nt*
chick        кураня     nt*
kid          казляня    nt*
cub          лісяня     nt*
goldfish     рыбка      f*   gp=рыбак
boy          хлопчык    m*
girl         дзяўчынка  f*   gp=дзяўчынак
grandfather  дзед       m*   pl=дзяд gp=дзядоў
grandmother  бабуля     fs*
fisherman    рыбак      me*
miller       млынар     me*
shepherd     пастух     me*
forest       лес        m    gen=лесу pl=ляс gp=лясоў where=у
glade        паляна     f    where=на
meadow       луг        m    gen=лугу gp=лугоў where=на
field        поле       ns   pl=пал gp=палёў where=у
garden       агарод     m    where=у
orchard      сад        m    gen=саду gp=садоў where=у
bog          балота     n    where=на
hill         узгорак    m    obl=узгорк where=на
river        рака       fe   dat=рацэ loc=рацэ pl=рэк where=каля.gen to=да.gen
lake         возера     n    pl=азёр where=каля.gen to=да.gen
pond         сажалка    f    gp=сажалак where=каля.gen to=да.gen
village      вёска      f    gp=вёсак where=у
oak          дуб        m    gp=дубоў where=каля.gen to=да.gen
mill         млын       me   where=каля.gen to=да.gen
ball         мячык      m
hat          шапка      f    gp=шапак
key          ключык     m
basket       кошык      m
mitten       рукавічка  f    gp=рукавічак
scarf        шалік      m
pipe         дудачка    f    gp=дудачак
bell         званочак   m    obl=званочк
bag          торба      f    gp=торбаў
doll         лялька     f    gp=лялек
apple        яблык      m
pear         груша      f
plum         сліва      f
nut          арэх       m    loc=арэху
mushroom     грыб       m    gp=грыбоў
berry        ягада      f
carrot       морквіна   f
potato       бульбіна   f
pie          пірог      me   obl=піраг loc=пірагу
pancake      блін       me
cheese       сыр        m    gen=сыру gp=сыроў
fish         рыба       f*
honey        мёд        m    gen=мёду pl=мяд gp=мядоў
raspberry    маліна     f
milk         малако     ne   loc=малацэ
bread        хлеб       m    pl=хляб gp=хлябоў
grain        зерне      ns
cabbage      капуста    f
turnip       рэпка      f    gp=рэпак
beet         бурак      me
house        хата       f
boat         човен      m    obl=чоўн pl=чаўн gp=чаўноў
cart         воз        m    pl=ваз gp=вазоў
"""
NAMES = {
    "boy": "Янка ma*|Алесь ms*|Антось ms*|Лявон m*|Рыгор m*|Тарас m*|Сымон m*",
    "girl": "Алеся fs*|Ганна f*|Марыля fs*|Зося fs*|Наста f*|Яніна f*|Аленка f*",
}
ADJECTIVES = """
small      маленькі  u
big        вялікі    u
old        стары     s
young      малады    s
grey       шэры      u
ginger     руды      s
white      белы      u
black      чорны     u
brown      буры      u
green      зялёны    u
red        чырвоны   u
blue       сіні      j
yellow     жоўты     u
golden     залаты    s
silver     срэбны    u
prickly    калючы    u
kind       добры     u
merry      вясёлы    u
clever     разумны   u
brave      смелы     u
sly        хітры     u
hungry     галодны   u
nimble     спрытны   u
strong     дужы      u
timid      палахлівы u
fluffy     пушысты   u
proud      горды     u
quiet      ціхі      u
curious    цікаўны   u
poor       бедны     u
dense      густы     s
dark       цёмны     u
distant    далёкі    u
sunny      сонечны   u
wide       шырокі    u
high       высокі    u
deep       глыбокі   u
new        новы      u
warm       цёплы     u
beautiful  прыгожы   u
ripe       спелы     u
sweet      салодкі   u
tasty      смачны    u
hot        гарачы    u
fresh      свежы     u
huge       вялізны   u
such       такі      s
most       самы      u
which      які       s
free       вольны    u
"""
GAITS = {
    "arrive": {
        "run": "прыбегчы",
        "walk": "прыйсці",
        "fly": "прыляцець",
        "jump": "прыскакаць",
        "crawl": "прыпаўзці",
    },
    "approach": {
        "run": "падбегчы",
        "walk": "падысці",
        "fly": "падляцець",
        "jump": "прыскакаць",
        "crawl": "падпаўзці",
    },
    "pass": {"run": "бегчы", "walk": "ісці", "fly": "ляцець", "jump": "скакаць", "crawl": "паўзці"},
    "set_off": {
        "run": "пабегчы",
        "walk": "пайсці",
        "fly": "паляцець",
        "jump": "паскакаць",
        "crawl": "папаўзці",
    },
}
VERBS = """
абагнаць    pf
абняць      pf                past=::о
абысці      pf                past=абышоў:абышл:о
аддаць      pf                past=::о imp=аддай
адказаць    pf  Ш адкаж
адказваць   ipf А адказва
адпусціць   pf                imp=адпусці
азірнуцца   pf
бачыць      ipf Ы бач
баяцца      ipf І ба          imp=бой imp.pl=бойце
бегаць      ipf А бега
бегчы       ipf               past=бег:бегл
бедаваць    ipf А бяду        imp=бядуй
браць       ipf Э бяр         imp=бяры
будаваць    ipf А буду
быць        ipf               past=::о
вадзіць     ipf
ведаць      ipf А веда
вывесці     pf                past=вывеў:вывел
выйсці      pf                past=выйшаў:выйшл
выканаць    pf  А выкана
вырасці     pf                past=вырас:вырасл
выратаваць  pf
вырашыць    pf
выскачыць   pf
выцягнуць   pf
вярнуцца    pf
ганарыцца   ipf
глядзець    ipf Ж глядж:глядз imp=глядзі
грэцца      ipf
гуляць      ipf А гуля
даведацца   pf  А даведа
дагнаць     pf  І даган:дагон
дапамагаць  ipf А дапамага
дапамагчы   pf  Ш дапамаг:дапамож past=дапамог:дапамагл:о 3pl=дапамогуць imp=дапамажы
даць        pf                past=::о imp=дай
дзяліцца    ipf І дзял:дзел
дрыжаць     ipf Ы дрыж
есці        ipf               past=еў:ел 1sg=ем 3sg=есць
жыць        ipf Ё жыв         past=::о
заблудзіць  pf
забыцца     pf
загаварыць  pf
зазіраць    ipf А зазіра
зазірнуць   pf
зайсці      pf                past=зайшоў:зайшл:о
закрычаць   pf
закінуць    pf
замярзаць   ipf А замярза
заплакаць   pf  Ш заплач
заплюшчыць  pf                imp=заплюшчы
запрасіць   pf
засмуціцца  pf
засмяяцца   pf
заснуць     pf
застацца    pf
захварэць   pf
заўважыць   pf
збыцца      pf                3sg=збудзе
збіраць     ipf
зварыць     pf
згадзіцца   pf
згубіць     pf  І згубл:згуб
здзівіцца   pf
злавіць     pf
змагчы      pf                past=змог:змагл:о
знайсці     pf  Е знайд:знойдз past=знайшоў:знайшл:о 3pl=знойдуць
знікнуць    pf                past=знік:знікл
з’есці      pf                past=з’еў:з’ел 1sg=з’ем
казаць      ipf Ш каж
клікаць     ipf
крыкнуць    pf
кінуцца     pf
легчы       pf                past=лёг:лягл:о
ленавацца   ipf А ляну
любіць      ipf І любл:люб
ляжаць      ipf Ы ляж
ляцець      ipf
лячыць      ipf
махнуць     pf
мыць        ipf
назбіраць   pf
накарміць   pf
насіць      ipf
начаваць    ipf
пабегчы     pf                past=пабег:пабегл
пабудаваць  pf  А пабуду
павесці     pf                past=павёў:павял:о
паглядзець  pf  Ж паглядж:паглядз imp=паглядзі
падаць      pf                past=::о
падбегчы    pf                past=падбег:падбегл
падзякаваць pf
падзяліцца  pf
падляцець   pf
падпаўзці   pf                past=падпоўз:падпаўзл:о
падумаць    pf  А падума
падысці     pf                past=падышоў:падышл:о
пайсці      pf  Е пайд:пойдз  past=пайшоў:пайшл:о 3pl=пойдуць
паказаць    pf  Ш пакаж
паклікаць   pf
пакінуць    pf
паляцець    pf
паліваць    ipf
палічыць    pf                imp=палічы
памыць      pf                imp=памый
панесці     pf                past=панёс:панесл
папаўзці    pf                past=папоўз:папаўзл:о
паплыць     pf                past=::о
паправіцца  pf
папрасіць   pf
пасадзіць   pf
паскакаць   pf
паспець     pf  А паспе
пастукаць   pf
пацягнуць   pf
пачаставаць pf  А пачасту
пачаць      pf                past=::о
пачуць      pf  А пачу
пашкадаваць pf  А пашкаду
паўзці      ipf               past=поўз:паўзл:о
перагрызці  pf                past=перагрыз:перагрызл
перайсці    pf                past=перайшоў:перайшл:о
перамагаць  ipf А перамага
перахітрыць pf
плакаць     ipf Ш плач        imp=плач
правесці    pf  Ё правяд:правядз past=правёў:правял:о
працаваць   ipf А працу
прачнуцца   pf
прыбегчы    pf                past=прыбег:прыбегл
прыйсці     pf                past=прыйшоў:прыйшл:о
прыляцець   pf
прынесці    pf  Ё прыняс      past=прынёс:прынесл
прыпаўзці   pf                past=прыпоўз:прыпаўзл:о
прыскакаць  pf
пусціць     pf                imp=пусці
пытацца     ipf А пыта
піць        ipf               past=::о
рабіць      ipf І рабл:роб
разбудзіць  pf
расці       ipf               past=рос:расл:о
рыхтавацца  ipf А рыхту       imp=рыхтуй
сесці       pf                past=сеў:сел
сказаць     pf  Ш скаж
скакаць     ipf
скласці     pf                past=склаў:склал
смяяцца     ipf А смя         1pl=смяём
спалохацца  pf
спатрэбіцца pf  І спатрэбл:спатрэб
спыняцца    ipf А спыня
спыніцца    pf
спытацца    pf  А спыта
спяваць     ipf А спява
старацца    ipf
стаць       pf
стаяць      ipf І ста
сумаваць    ipf А суму        imp=сумуй
сустрэцца   pf
сустрэць    pf
схавацца    pf
схапіць     pf
сядзець     ipf Ж сядж:сядз
трапіць     pf
убачыць     pf  Ы убач
уздыхнуць   pf
узрадавацца pf
узяцца      pf                past=::о
узяць       pf                past=::о
усміхацца   ipf А усміха
уцячы       pf                past=уцёк:уцякл:о
хадзіць     ipf
хапіць      pf  І хапл:хоп
хваліцца    ipf
хварэць     ipf А хварэ
цягнуць     ipf
чакаць      ipf А чака
чапаць      ipf А чапа        imp=чапай
частаваць   ipf А часту
чуць        ipf А чу
шукаць      ipf А шука
ісці        ipf Ё ід:ідз      past=ішоў:ішл:о imp=ідзі
"""
