"""Russian words: the lexicon that `ru_grammar` inflects. The columns are those of `grammar`."""

NOUNS = """
hare         заяц       mc*  obl=зайц
fox          лиса       f*
wolf         волк       m*
bear         медведь    ms*
hedgehog     ёжик       m*
squirrel     белка      f*   gp=белок
mouse        мышка      f*   gp=мышек
frog         лягушка    f*   gp=лягушек
cat          кот        m*
dog          собака     f*
goat         коза       f*
rooster      петух      m*
hen          курочка    f*   gp=курочек
duck         утка       f*   gp=уток
crow         ворона     f*
owl          сова       f*
sparrow      воробей    mj*  obl=воробь
stork        аист       m*
beaver       бобр       m*
badger       барсук     m*
mole         крот       m*
turtle       черепаха   f*
snail        улитка     f*   gp=улиток
ant          муравей    mj*  obl=муравь
bee          пчела      f*   pl=пчёл
grasshopper  кузнечик   m*
kitten       котёнок    mk*  obl=котёнк pl=котят
piglet       поросёнок  mk*  obl=поросёнк pl=поросят
horse        конь       mse*
cow          корова     f*
duckling     утёнок     mk*  obl=утёнк pl=утят
chick        цыплёнок   mk*  obl=цыплёнк pl=цыплят
kid          козлёнок   mk*  obl=козлёнк pl=козлят
cub          лисёнок    mk*  obl=лисёнк pl=лисят
goldfish     рыбка      f*   gp=рыбок
boy          мальчик    m*
girl         девочка    f*   gp=девочек
grandfather  дед        m*
grandmother  бабушка    f*   gp=бабушек
fisherman    рыбак      m*
miller       мельник    m*
shepherd     пастух     m*
forest       лес        m    loc=лесу nom.pl=леса where=в
glade        поляна     f    where=на
meadow       луг        m    loc=лугу nom.pl=луга where=на
field        поле       ns   where=в
garden       огород     m    where=в
orchard      сад        m    loc=саду where=в
bog          болото     n    where=на
hill         холм       m    where=на
river        река       f    where=у.gen to=к.dat
lake         озеро      n    pl=озёр where=у.gen to=к.dat
pond         пруд       m    where=у.gen to=к.dat
village      деревня    fs   gp=деревень where=в
oak          дуб        m    where=у.gen to=к.dat
mill         мельница   fh   where=у.gen to=к.dat
ball         мячик      m
hat          шапка      f    gp=шапок
key          ключик     m
basket       корзинка   f    gp=корзинок
mitten       варежка    f    gp=варежек
scarf        шарфик     m
pipe         дудочка    f    gp=дудочек
bell         колокольчик m
bag          сумка      f    gp=сумок
doll         кукла      f    gp=кукол
apple        яблоко     n    nom.pl=яблоки
pear         груша      fh
plum         слива      f
nut          орех       m
mushroom     гриб       m
berry        ягода      f
carrot       морковка   f    gp=морковок
potato       картофелина f
pie          пирожок    m    obl=пирожк
pancake      блин       m
cheese       сыр        m
fish         рыба       f*
honey        мёд        m    pl=мед
raspberry    малина     f
milk         молоко     n
bread        хлеб       m
grain        зерно      n    pl=зёрн gp=зёрен
cabbage      капуста    f
turnip       репка      f    gp=репок
beet         свёкла     f
house        дом        m    nom.pl=дома
boat         лодка      f    gp=лодок
cart         телега     f
"""
NAMES = {
    "boy": "Ваня fs* g=m|Петя fs* g=m|Миша fh* g=m|Коля fs* g=m|Егор m*|Степан m*|Гриша fh* g=m",
    "girl": "Маша fh*|Даша fh*|Катя fs*|Оля fs*|Настя fs*|Алёнушка f*|Варя fs*",
}
ADJECTIVES = """
small      маленький  h
big        большой    o
old        старый     h
young      молодой    o
grey       серый      h
ginger     рыжий      x
white      белый      h
black      чёрный     h
brown      бурый      h
green      зелёный    h
red        красный    h
blue       синий      j
yellow     жёлтый     h
golden     золотой    o
silver     серебряный h
prickly    колючий    x
kind       добрый     h
merry      весёлый    h
clever     умный      h
brave      храбрый    h
sly        хитрый     h
hungry     голодный   h
nimble     ловкий     h
strong     сильный    h
timid      трусливый  h
fluffy     пушистый   h
proud      гордый     h
quiet      тихий      h
curious    любопытный h
poor       бедный     h
dense      густой     o
dark       тёмный     h
distant    дальний    j
sunny      солнечный  h
wide       широкий    h
high       высокий    h
deep       глубокий   h
new        новый      h
warm       тёплый     h
beautiful  красивый   h
ripe       спелый     h
sweet      сладкий    h
tasty      вкусный    h
hot        горячий    x
fresh      свежий     x
huge       огромный   h
such       такой      o
most       самый      h
which      который    h
real       настоящий  x
"""
GAITS = {
    "arrive": {"run": "прибежать", "walk": "прийти", "fly": "прилететь", "jump": "прискакать", "crawl": "приползти"},
    "approach": {"run": "подбежать", "walk": "подойти", "fly": "подлететь", "jump": "прискакать", "crawl": "подползти"},
    "pass": {"run": "бежать", "walk": "идти", "fly": "лететь", "jump": "скакать", "crawl": "ползти"},
    "set_off": {"run": "побежать", "walk": "пойти", "fly": "полететь", "jump": "поскакать", "crawl": "поползти"},
}
VERBS = """
бегать      ipf А бега
бежать      ipf
болеть      ipf А боле
бояться     ipf И бо          imp=бой imp.pl=бойте
брать       ipf Ё бер         imp=бери
броситься   pf
быть        ipf
вернуться   pf
вздохнуть   pf
взять       pf
взяться     pf
видеть      ipf У виж:вид
водить      ipf
встретить   pf  У встреч:встрет
встретиться pf
вывести     pf                past=вывел:вывел
выйти       pf                past=вышел:вышл
вырасти     pf                past=вырос:выросл
выскочить   pf
вытащить    pf
вытянуть    pf
говорить    ipf И говор
гордиться   ipf
горевать    ipf А горю        imp=горюй
готовиться  ipf               imp=готовь
греться     ipf
грустить    ipf У грущ:груст
гулять      ipf
дать        pf                imp=дай
делать      ipf А дела
делиться    ipf И дел
догнать     pf  И догон
дрожать     ipf
есть        ipf               past=ел:ел 1sg=ем 3sg=ест
ждать       ipf
жить        ipf Ё жив
заблудиться pf
заболеть    pf
забыть      pf
заглядывать ipf А заглядыва
заглянуть   pf
заговорить  pf
зайти       pf                past=зашёл:зашл
закинуть    pf
закричать   pf
закрыть     pf                imp=закрой
замерзать   ipf А замерза
заметить    pf
заплакать   pf  Е заплач
засмеяться  pf
звать       ipf
знать       ipf А зна
играть      ipf
идти        ipf Ё ид          past=шёл:шл imp=иди
искать      ipf Е ищ
исполнить   pf  И исполн
испугаться  pf
исчезнуть   pf                past=исчез:исчезл
крикнуть    pf
лежать      ipf Ч леж
лениться    ipf
лететь      ipf
лечить      ipf
лечь        pf                past=лёг:легл
любить      ipf И любл:люб
махнуть     pf
мыть        ipf
найти       pf  Ё найд        past=нашёл:нашл
накормить   pf
носить      ipf
ночевать    ipf
обнять      pf
обогнать    pf
обойти      pf                past=обошёл:обошл
обрадоваться pf
оглянуться  pf
огорчиться  pf
оставить    pf
останавливаться ipf А останавлива
остановиться pf
остаться    pf
ответить    pf  У отвеч:ответ
отвечать    ipf А отвеча
отдать      pf                imp=отдай
отпустить   pf                imp=отпусти
перегрызть  pf                past=перегрыз:перегрызл
перейти     pf                past=перешёл:перешл
перехитрить pf
петь        ipf
пить        ipf
плакать     ipf Е плач        imp=плачь
побежать    pf
побеждать   ipf А побежда
поблагодарить pf
повести     pf                past=повёл:повел
подать      pf
подбежать   pf
поделиться  pf
подлететь   pf
подойти     pf                past=подошёл:подошл
подползти   pf                past=подполз:подползл
подумать    pf  А подума
пожалеть    pf
позвать     pf
поймать     pf
пойти       pf  Ё пойд        past=пошёл:пошл
показать    pf  Е покаж
полететь    pf
ползти      ipf               past=полз:ползл
поливать    ipf
помогать    ipf А помога
помочь      pf  Е помог:помож past=помог:помогл imp=помоги
помыть      pf                imp=помой
понести     pf                past=понёс:понесл
попасть     pf                past=попал:попал
попасться   pf                past=попал:попал
поползти    pf                past=пополз:поползл
поправиться pf
попросить   pf
посадить    pf
поскакать   pf
посмотреть  pf  И посмотр     imp=посмотри
построить   pf
постучать   pf
посчитать   pf
потерять    pf
потянуть    pf
прибежать   pf
пригласить  pf
пригодиться pf  У пригож:пригод
прийти      pf                past=пришёл:пришл
прилететь   pf
принести    pf  Ё принес      past=принёс:принесл
приползти   pf                past=приполз:приползл
прискакать  pf
проводить   pf  У провож:провод
пропасть    pf                past=пропал:пропал
проснуться  pf
пустить     pf                imp=пусти
работать    ipf А работа
разбудить   pf
расти       ipf               past=рос:росл
решить      pf
сбыться     pf                3sg=сбудет
сварить     pf
сесть       pf                past=сел:сел
сидеть      ipf У сиж:сид
сказать     pf  Е скаж
скакать     ipf
сложить     pf
слышать     ipf Ч слыш
смеяться    ipf Ю сме
смотреть    ipf И смотр       imp=смотри
смочь       pf                past=смог:смогл
собирать    ipf
собрать     pf
согласиться pf
сосчитать   pf                imp=сосчитай
спасти      pf                past=спас:спасл
спрашивать  ipf А спрашива
спросить    pf  У спрош:спрос
спрятаться  pf
стараться   ipf
стать       pf
стоять      ipf И сто
строить     ipf И стро
схватить    pf
съесть      pf                past=съел:съел 1sg=съем
трогать     ipf               imp=трогай
тянуть      ipf
убежать     pf
увидеть     pf  У увиж:увид
угостить    pf  У угощ:угост
угощать     ipf А угоща
удивиться   pf
узнать      pf  А узна
уйти        pf  Ё уйд         past=ушёл:ушл
улыбаться   ipf А улыба
уплыть      pf
услышать    pf
уснуть      pf
успеть      pf  А успе
хвастаться  ipf
хватить     pf  У хвач:хват
ходить      ipf
"""
