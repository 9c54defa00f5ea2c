"""Ukrainian words: the lexicon that `uk_grammar` inflects. The columns are those of `grammar`."""

NOUNS = """
hare         зайчик     m*
fox          лисиця     fs*
wolf         вовк       m*
bear         ведмідь    ms*  obl=ведмед
hedgehog     їжачок     m*   obl=їжачк
squirrel     білочка    f*   gp=білочок
mouse        мишка      f*   gp=мишок
frog         жабка      f*   gp=жабок
cat          кіт        m*   obl=кот
dog          пес        m*   obl=пс
goat         коза       f*   gp=кіз
rooster      півень     ms*  obl=півн
hen          курочка    f*   gp=курочок
duck         качка      f*   gp=качок
crow         ворона     f*
owl          сова       f*
sparrow      горобець   ms*  obl=горобц voc=горобче
stork        лелека     f*   g=m
beaver       бобер      m*   obl=бобр
badger       борсук     m*
mole         кріт       m*   obl=крот
turtle       черепаха   f*
snail        равлик     m*
ant          мурашка    f*   gp=мурашок
bee          бджілка    f*   gp=бджілок
grasshopper  коник      m*
kitten       кошеня     nt*
piglet       порося     nt*
horse        кінь       ms*  obl=кон gp=коней ins.pl=кіньми
cow          корова     f*   gp=корів
duckling     каченя     nt*
chick        курча      nh*
kid          козеня     nt*
cub          лисеня     nt*
goldfish     рибка      f*   gp=рибок
boy          хлопчик    m*
girl         дівчинка   f*   gp=дівчинок
grandfather  дід        m*   voc=діду
grandmother  бабуся     fs*  voc=бабусю
fisherman    рибалка    f*   g=m gp=рибалок
miller       мірошник   m*
shepherd     пастух     m*
forest       ліс        m    gen=лісу where=у
glade        галявина   f    where=на
meadow       луг        m    gen=лугу where=на
field        поле       ns   where=у
garden       город      m    gen=городу where=на
orchard      сад        m    gen=саду loc=саду where=у
bog          болото     n    gp=боліт where=на
hill         пагорб     m    where=на
river        річка      f    gp=річок where=біля.gen to=до.gen
lake         озеро      n    where=біля.gen to=до.gen
pond         ставок     m    obl=ставк where=біля.gen to=до.gen
village      село       n    gp=сіл where=у
oak          дуб        m    where=біля.gen to=до.gen
mill         млин       m    where=біля.gen to=до.gen
ball         м’ячик     m
hat          шапка      f    gp=шапок
key          ключик     m
basket       кошик      m
mitten       рукавичка  f    gp=рукавичок
scarf        шарфик     m
pipe         сопілка    f    gp=сопілок
bell         дзвіночок  m    obl=дзвіночк
bag          торбинка   f    gp=торбинок
doll         лялька     f    gp=ляльок
apple        яблуко     n
pear         груша      fm
plum         слива      f
nut          горіх      m
mushroom     гриб       m
berry        ягода      f    gp=ягід
carrot       морквина   f
potato       картоплина f
pie          пиріжок    m    obl=пиріжк
pancake      млинець    ms   obl=млинц
cheese       сир        m    gen=сиру
fish         рибина     f*
honey        мед        m    gen=меду
raspberry    малина     f
milk         молоко     n
bread        хліб       m
grain        зерно      n    gp=зерен
cabbage      капуста    f
turnip       ріпка      f    gp=ріпок
beet         буряк      m    voc=буряку
house        хата       f
boat         човен      m    obl=човн
cart         віз        m    obl=воз
"""
NAMES = {
    "boy": "Івасик m*|Петрик m*|Михайлик m*|Сашко mo*|Андрійко mo*|Тарас m*|Остап m*",
    "girl": "Оленка f*|Марійка f*|Катруся fs* voc=Катрусю|Оксана f*|Наталка f*|Софійка f*|Ганнуся fs* voc=Ганнусю",
}
ADJECTIVES = """
small      маленький  h
big        великий    h
old        старий     h
young      молодий    h
grey       сірий      h
ginger     рудий      h
white      білий      h
black      чорний     h
brown      бурий      h
green      зелений    h
red        червоний   h
blue       синій      j
yellow     жовтий     h
golden     золотий    h
silver     срібний    h
prickly    колючий    h
kind       добрий     h
merry      веселий    h
clever     розумний   h
brave      хоробрий   h
sly        хитрий     h
hungry     голодний   h
nimble     спритний   h
strong     дужий      h
timid      полохливий h
fluffy     пухнастий  h
proud      гордий     h
quiet      тихий      h
curious    допитливий h
poor       бідний     h
dense      густий     h
dark       темний     h
distant    далекий    h
sunny      сонячний   h
wide       широкий    h
high       високий    h
deep       глибокий   h
new        новий      h
warm       теплий     h
beautiful  гарний     h
ripe       стиглий    h
sweet      солодкий   h
tasty      смачний    h
hot        гарячий    h
fresh      свіжий     h
huge       величезний h
such       такий      h
smallest   найменший  h
which      який       h
free       вільний    h
"""
GAITS = {
    "arrive": {"run": "прибігти", "walk": "прийти", "fly": "прилетіти", "jump": "прискакати", "crawl": "приповзти"},
    "approach": {"run": "підбігти", "walk": "підійти", "fly": "підлетіти", "jump": "прискакати", "crawl": "підповзти"},
    "pass": {"run": "бігти", "walk": "іти", "fly": "летіти", "jump": "скакати", "crawl": "повзти"},
    "set_off": {"run": "побігти", "walk": "піти", "fly": "полетіти", "jump": "поскакати", "crawl": "поповзти"},
}
VERBS = """
бачити      ipf Ч бач
боятися     ipf Ї бо          imp=бій imp.pl=бійте
брати       ipf Е бер         imp=бери
будувати    ipf А буду
бути        ipf
бігати      ipf А біга
бігти       ipf               past=біг:бігл
вивести     pf                past=вивів:вивел
вийти       pf                past=вийшов:вийшл
виконати    pf  А викона
випередити  pf
вирости     pf                past=виріс:виросл
вирішити    pf
вискочити   pf
вистачити   pf  Ч вистач
витягнути   pf
водити      ipf
встигнути   pf  Е встигн
віддати     pf                imp=віддай
відповідати ipf А відповіда
відповісти  pf                past=відповів:відповіл
відпустити  pf                imp=відпусти
глянути     pf                imp=глянь
готуватися  ipf А готу        imp=готуй
гратися     ipf
грітися     ipf
гукнути     pf
гуляти      ipf
дати        pf                imp=дай
дивитися    ipf И дивл:див    3pl=дивлять imp=диви
допомагати  ipf А допомага
допомогти   pf  Е допомож     past=допоміг:допомогл imp=допоможи
дізнатися   pf  А дізна
ділитися    ipf И діл
жити        ipf Е жив
журитися    ipf               imp=жури
заблукати   pf
забути      pf
заговорити  pf
загубити    pf
зазирати    ipf А зазира
зазирнути   pf
зайти       pf                past=зайшов:зайшл
закинути    pf
закричати   pf
залишити    pf
замерзати   ipf А замерза
запитати    pf  А запита
заплакати   pf  Е заплач
заплющити   pf                imp=заплющ
запросити   pf
засмутитися pf
засміятися  pf
заснути     pf
захворіти   pf
збирати     ipf
збудувати   pf
збутися     pf                3sg=збуде
зварити     pf
здивуватися pf
злякатися   pf
змогти      pf                past=зміг:змогл
знадобитися pf  И знадобл:знадоб 3pl=знадоблять
знайти      pf  Е знайд       past=знайшов:знайшл
знати       ipf А зна
зникнути    pf                past=зник:зникл
зрадіти     pf
зустріти    pf
зітхнути    pf
з’їсти      pf                past=з’їв:з’їл 1sg=з’їм
казати      ipf Е каж
кинутися    pf
кликати     ipf
лежати      ipf Ч леж
летіти      ipf
лишитися    pf
любити      ipf И любл:люб    3pl=люблять
лягти       pf                past=ліг:лягл
лікувати    ipf
лінуватися  ipf
махнути     pf
мити        ipf
нагодувати  pf
назбирати   pf
наздогнати  pf  Е наздожен
носити      ipf
ночувати    ipf
обійняти    pf
обійти      pf                past=обійшов:обійшл
одужати     pf
озирнутися  pf
перегризти  pf                past=перегриз:перегризл
перейти     pf                past=перейшов:перейшл
перемагати  ipf А перемага
перехитрити pf
питати      ipf А пита
пити        ipf
пишатися    ipf
плакати     ipf Е плач        imp=плач
побачити    pf  Ч побач
побігти     pf                past=побіг:побігл
повернутися pf
повести     pf                past=повів:повел
повзти      ipf               past=повз:повзл
погодитися  pf
подати      pf
подумати    pf  А подума
подякувати  pf
поділитися  pf
пожаліти    pf
показати    pf  Е покаж
покликати   pf
полетіти    pf
поливати    ipf
полічити    pf                imp=полічи
помити      pf                imp=помий
помітити    pf
понести     pf                past=поніс:понесл
попливти    pf                past=поплив:попливл
поповзти    pf                past=поповз:поповзл
попросити   pf
посадити    pf
поскакати   pf
постукати   pf
потрапити   pf
потягнути   pf
почастувати pf  А почасту
почати      pf
почути      pf  А почу
працювати   ipf А працю
прибігти    pf                past=прибіг:прибігл
прийти      pf                past=прийшов:прийшл
прилетіти   pf
принести    pf  Е принес      past=приніс:принесл
приповзти   pf                past=приповз:приповзл
прискакати  pf
провести    pf  Е провед      past=провів:провел
прокинутися pf
пропасти    pf                past=пропав:пропал
пустити     pf                imp=пусти
підбігти    pf                past=підбіг:підбігл
підлетіти   pf
підповзти   pf                past=підповз:підповзл
підійти     pf                past=підійшов:підійшл
піймати     pf
піти        pf  Е під         past=пішов:пішл
робити      ipf И робл:роб    3pl=роблять
розбудити   pf
рости       ipf               past=ріс:росл
сидіти      ipf У сидж:сид
сказати     pf  Е скаж
скакати     ipf
скласти     pf                past=склав:склал
сміятися    ipf А смі
спинитися   pf
спинятися   ipf А спиня
співати     ipf А співа
старатися   ipf
стати       pf
стояти      ipf Ї сто
сумувати    ipf А суму        imp=сумуй
сховатися   pf
схопити     pf
сісти       pf                past=сів:сіл
трапитися   pf
тремтіти    ipf
тягнути     ipf               past=тягнув:тягнул
узяти       pf
узятися     pf
урятувати   pf
усміхатися  ipf А усміха
утекти      pf                past=утік:утекл
хвалитися   ipf
хворіти     ipf А хворі
ходити      ipf
частувати   ipf А часту
чекати      ipf А чека
чути        ipf А чу
чіпати      ipf А чіпа        imp=чіпай
шукати      ipf А шука
іти         ipf Е ід          past=ішов:ішл imp=іди
їсти        ipf               past=їв:їл 1sg=їм 3sg=їсть
"""
