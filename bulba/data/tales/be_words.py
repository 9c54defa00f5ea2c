"""Belarusian words and how they inflect: the tables of `grammar`, the lexicon, and the sounds between words.

Akanne is written in the stems (кот, ката; рака, рэкі), and stress decides between the classes ``m`` and ``me``,
``f`` and ``fe``, ``n`` and ``ne`` (endings ам, ай, а without it, ом, ой, о under it). The norm is that of the
orthography of 2008, so the conjunction і stays і after a vowel.
"""

from __future__ import annotations

import re

from bulba.data.tales.grammar import Adjective, Grammar, Noun

VOWELS = "аеёіоуыэюя"


class BelarusianGrammar(Grammar):
    """The paradigms of Belarusian."""

    NOUN_CLASSES = {
        "m": "- а у = ам & | ы аў ам = амі ах",  # вожык
        "me": "- а у = ом & | ы оў ам = амі ах",  # кот
        "ms": "ь я ю = ем ю | і яў ям = ямі ях",  # мядзведзь
        "mse": "ь я ю = ём ю | і ёў ям = ямі ях",  # конь
        "ma": "а ы у у ам у | ы - ам = амі ах",  # сабака
        "f": "а ы @ у ай @ | ы - ам = амі ах",  # варона
        "fe": "а ы @ у ой @ | ы - ам = амі ах",  # сава
        "fs": "я і і ю яй і | і ь ям = ямі ях",  # бабуля
        "n": "а а у = ам & | ы - ам = амі ах",  # балота
        "ne": "о а у = ом & | ы - ам = амі ах",  # малако
        "ns": "е я ю = ем і | і яў ям = ямі ях",  # поле
        "nt": "я яці яці = ём яці | яты ят ятам = ятамі ятах",  # кацяня
    }
    ADJECTIVE_CLASSES = {
        "u": ("ы ага аму = ым ым", "ая ай ай ую ай ай", "ае ага аму ае ым ым", "ыя ых ым = ымі ых"),  # добры
        "s": ("ы ога ому = ым ым", "ая ой ой ую ой ой", "ое ога ому ое ым ым", "ыя ых ым = ымі ых"),  # стары
        "j": ("і яга яму = ім ім", "яя яй яй юю яй яй", "яе яга яму яе ім ім", "ія іх ім = імі іх"),  # сіні
    }
    VERB_CLASSES = {
        "А": "ю еш е ем юць",  # гуляю
        "Е": "у еш е ем уць",  # знайду, знойдзеш
        "Ё": "у еш е ём уць",  # жыву
        "Э": "у эш э ом уць",  # бяру
        "Ш": "у аш а ам уць",  # плачу
        "І": "ю іш іць ім яць",  # люблю
        "Ж": "у іш іць ім яць",  # гляджу
        "Ы": "у ыш ыць ым аць",  # ляжу
    }
    PRONOUNS = {
        "ён": ("ён яго яму яго ім ім", "яна яе ёй яе ёю ёй", "яно яго яму яго ім ім", "яны іх ім іх імі іх"),
        "свой": (
            "свой свайго свайму = сваім сваім",
            "свая сваёй сваёй сваю сваёй сваёй",
            "сваё свайго свайму сваё сваім сваім",
            "свае сваіх сваім = сваімі сваіх",
        ),
        "мой": (
            "мой майго майму = маім маім",
            "мая маёй маёй маю маёй маёй",
            "маё майго майму маё маім маім",
            "мае маіх маім = маімі маіх",
        ),
        "адзін": (
            "адзін аднаго аднаму = адным адным",
            "адна адной адной адну адной адной",
            "адно аднаго аднаму адно адным адным",
            "адны адных адным = аднымі адных",
        ),
        # Nouns for a person that come in pairs agree like pronouns do.
        "сябар": (
            "сябар сябра сябру сябра сябрам сябру",
            "сяброўка сяброўкі сяброўцы сяброўку сяброўкай сяброўцы",
            "сябар сябра сябру сябра сябрам сябру",
            "сябры сяброў сябрам сяброў сябрамі сябрах",
        ),
    }
    ONE = "адзін"
    SMALL_NUMERALS = {
        2: {"m": "два двух двум = двума двух", "f": "дзве дзвюх дзвюм = дзвюма дзвюх"},
        3: {"m": "тры трох тром = трыма трох"},
        4: {"m": "чатыры чатырох чатыром = чатырма чатырох"},
    }
    LARGE_NUMERALS = {
        5: "пяць пяці пяці пяць пяццю пяці",
        6: "шэсць шасці шасці шэсць шасцю шасці",
        7: "сем сямі сямі сем сямю сямі",
        8: "восем васьмі васьмі восем васьмю васьмі",
        9: "дзевяць дзевяці дзевяці дзевяць дзевяццю дзевяці",
        10: "дзесяць дзесяці дзесяці дзесяць дзесяццю дзесяці",
    }
    INFINITIVE, REFLEXIVE_INFINITIVE, PAST = "ць", "цца", ("ў", "а", "і")

    def attach(self, stem: str, ending: str, animate: bool = False) -> str:
        last = stem[-1]
        if ending == "-":
            return stem[:-1] + "ў" if last == "в" else stem
        if ending == "&" and (animate or last == "к"):
            return stem + "у"
        if ending in ("&", "@"):
            softened = {"к": "цы", "г": "зе", "х": "се", "д": "дзе", "т": "це"}
            if last in softened:
                return stem[:-1] + softened[last]
            return stem + ("ы" if last in "ржшчц" else "е")
        if ending[0] == "ы" and last in "гкх":
            ending = "і" + ending[1:]
        return stem + ending

    def reflexive(self, key: str, form: str) -> str:
        if key == "3pl" or (key == "3sg" and form.endswith("ць")):
            return form.removesuffix("ць") + "цца"
        return form + ("цца" if key == "3sg" else "ся")

    def few(self, noun: Noun, adjective: Adjective | None) -> list[str]:
        return [*([adjective.agreeing("pl", False, "nom")] if adjective else []), noun.forms["nom.pl"]]


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
stork        бусел      me*  obl=бусл
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
horse        конь       mse* obl=кан pl=кон gp=коней
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
bag          торба      f
doll         лялька     f    gp=лялек
apple        яблык      m
pear         груша      f
plum         сліва      f
nut          арэх       m
mushroom     грыб       m    gp=грыбоў
berry        ягада      f
carrot       морквіна   f
potato       бульбіна   f
pie          пірог      me   obl=піраг
pancake      блін       me
cheese       сыр        m    gen=сыру gp=сыроў
fish         рыба       f
honey        мёд        m    gen=мёду
raspberry    маліна     f
milk         малако     ne   loc=малацэ
bread        хлеб       m
grain        зерне      ns
cabbage      капуста    f
turnip       рэпка      f    gp=рэпак
beet         бурак      me
house        хата       f
boat         човен      m    obl=чоўн
cart         воз        m    pl=ваз gp=вазоў
"""
NAMES = {
    "boy": "Янка ma*|Алесь ms*|Антось ms*|Кастусь ms*|Рыгор m*|Тарас m*|Сымон m*",
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
real       сапраўдны u
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
        "jump": "падскакаць",
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
жыць        ipf Ё жыв         past=::о
быць        ipf               past=::о
гуляць      ipf А гуля
згубіць     pf  І згубл:згуб
любіць      ipf І любл:люб
ісці        ipf Ё ід:ідз      past=ішоў:ішл:о imp=ідзі
пайсці      pf  Е пайд:пойдз  past=пайшоў:пайшл:о 3pl=пойдуць
прыйсці     pf                past=прыйшоў:прыйшл:о
выйсці      pf                past=выйшаў:выйшл
зайсці      pf                past=зайшоў:зайшл:о
перайсці    pf                past=перайшоў:перайшл:о
абысці      pf                past=абышоў:абышл:о
бегчы       ipf               past=бег:бегл
прыбегчы    pf                past=прыбег:прыбегл
пабегчы     pf                past=пабег:пабегл
ляцець      ipf
прыляцець   pf
паляцець    pf
скакаць     ipf
прыскакаць  pf
паскакаць   pf
паўзці      ipf               past=поўз:паўзл:о
прыпаўзці   pf                past=прыпоўз:прыпаўзл:о
папаўзці    pf                past=папоўз:папаўзл:о
бегаць      ipf А бега
вярнуцца    pf
шукаць      ipf А шука
знайсці     pf  Е знайд:знойдз past=знайшоў:знайшл:о 3pl=знойдуць
сесці       pf                past=сеў:сел
легчы       pf                past=лёг:лягл:о
плакаць     ipf Ш плач        imp=плач
заплакаць   pf  Ш заплач
глядзець    ipf Ж глядж:глядз imp=глядзі
паглядзець  pf  Ж паглядж:паглядз imp=паглядзі
засмуціцца  pf
пачаць      pf                past=::о
хадзіць     ipf
сумаваць    ipf А суму        imp=сумуй
бедаваць    ipf А бяду        imp=бядуй
пытацца     ipf А пыта
спытацца    pf  А спыта
казаць      ipf Ш каж
сказаць     pf  Ш скаж
адказваць   ipf А адказва
адказаць    pf  Ш адкаж
дапамагаць  ipf А дапамага
дапамагчы   pf  Ш дапамаг:дапамож past=дапамог:дапамагл:о 3pl=дапамогуць imp=дапамажы
сустрэць    pf
сустрэцца   pf
бачыць      ipf Ы бач
убачыць     pf  Ы убач
ляжаць      ipf Ы ляж
стаяць      ipf І ста
сядзець     ipf Ж сядж:сядз
паказаць    pf  Ш пакаж
закрычаць   pf
крыкнуць    pf
узрадавацца pf
падзякаваць pf
частаваць   ipf А часту
пачаставаць pf  А пачасту
даць        pf                past=::о imp=дай
аддаць      pf                past=::о imp=аддай
падаць      pf                past=::о
цягнуць     ipf
пацягнуць   pf
выцягнуць   pf
пасадзіць   pf
паліваць    ipf
расці       ipf               past=рос:расл:о
вырасці     pf                past=вырас:вырасл
змагчы      pf                past=змог:змагл:о
узяць       pf                past=::о
узяцца      pf                past=::о
паклікаць   pf
клікаць     ipf
прасіць     ipf
папрасіць   pf
смяяцца     ipf А смя
засмяяцца   pf  А засмя
усміхацца   ipf А усміха
згадзіцца   pf
зварыць     pf
перахітрыць pf
думаць      ipf А дума
падумаць    pf  А падума
панесці     pf                past=панёс:панесл
прынесці    pf  Ё прыняс      past=прынёс:прынесл
насіць      ipf
выскачыць   pf
есці        ipf               past=еў:ел 1sg=ем 3sg=есць
з’есці      pf                past=з’еў:з’ел 1sg=з’ем
спалохацца  pf
браць       ipf Э бяр         imp=бяры
заплюшчыць  pf                imp=заплюшчы
палічыць    pf                imp=палічы
схапіць     pf
уцячы       pf                past=уцёк:уцякл:о
баяцца      ipf І ба          imp=бой imp.pl=бойце
чуць        ipf А чу
пачуць      pf  А пачу
кінуцца     pf
мыць        ipf
памыць      pf                imp=памый
схавацца    pf
застацца    pf
злавіць     pf
чапаць      ipf А чапа        imp=чапай
спатрэбіцца pf  І спатрэбл:спатрэб
будзіць     ipf
разбудзіць  pf
адпусціць   pf                imp=адпусці
пусціць     pf                imp=пусці
шкадаваць   ipf А шкаду
пашкадаваць pf  А пашкаду
трапіць     pf
старацца    ipf
перагрызці  pf                past=перагрыз:перагрызл
выратаваць  pf
скласці     pf                past=склаў:склал
назбіраць   pf
збіраць     ipf
пакінуць    pf
хапіць      pf  І хапл:хоп
стукаць     ipf
пастукаць   pf
падзяліцца  pf
прачнуцца   pf
заснуць     pf
дрыжаць     ipf Ы дрыж
даведацца   pf  А даведа
шамацець    ipf
вырашыць    pf
начаваць    ipf
будаваць    ipf А буду
пабудаваць  pf  А пабуду
працаваць   ipf А працу
запрасіць   pf
піць        ipf               past=::о
спяваць     ipf А спява
ганарыцца   ipf
хваліцца    ipf
дагнаць     pf  І даган:дагон
абагнаць    pf
азірнуцца   pf
спыняцца    ipf А спыня
спыніцца    pf
чакаць      ipf А чака
перамагаць  ipf А перамага
захварэць   pf
хварэць     ipf А хварэ
лячыць      ipf
паправіцца  pf
закінуць    pf
выканаць    pf  А выкана
здзівіцца   pf
загаварыць  pf
збыцца      pf  Е збуд:збудз
махнуць     pf
знікнуць    pf                past=знік:знікл
грэцца      ipf
рыхтавацца  ipf А рыхту       imp=рыхтуй
паспець     pf  А паспе
замярзаць   ipf А замярза
накарміць   pf
уздыхнуць   pf
лянавацца   ipf А ляну
рабіць      ipf І рабл:роб
заўважыць   pf
забыцца     pf
заблудзіцца pf
ведаць      ipf А веда
правесці    pf  Ё правяд:правядз
вывесці     pf                past=вывеў:вывел
павесці     pf                past=павёў:павел
вадзіць     ipf
абняць      pf                past=::о
спаць       ipf               past=::о
зазірнуць   pf
зазіраць    ipf А зазіра
падбегчы    pf                past=падбег:падбегл
падысці     pf                past=падышоў:падышл:о
падляцець   pf
падскакаць  pf
падпаўзці   pf                past=падпоўз:падпаўзл:о
дзяліцца    ipf І дзял
стаць       pf
"""
PREPOSITIONS: frozenset[str] = frozenset()  # no pronoun changes after one
_SEMIVOWEL = re.compile(rf"(?<=[{VOWELS}{VOWELS.upper()}] )у")
_WITH = re.compile(r"\b([зЗ]) (?=[сзшж][бвгджзклмнпрстфхцчш]|мной)")


def polish(text: str) -> str:
    """The sounds between words: у becomes ў after a vowel without a pause, з becomes са before a cluster.

    The rule of ў: at the beginning of a word, in small letters, right after a word that ends in a vowel, with nothing
    but a space between. No word of the lexicon begins with a stressed у, which would stay.
    """
    return _WITH.sub(lambda match: "са " if match[1] == "з" else "Са ", _SEMIVOWEL.sub("ў", text))
