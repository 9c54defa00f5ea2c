"""Russian words and how they inflect: the tables of `grammar`, the lexicon, and the sounds between words."""

from __future__ import annotations

import re

from bulba.data.tales.grammar import Adjective, Grammar, Noun


class RussianGrammar(Grammar):
    """The paradigms of Russian."""

    NOUN_CLASSES = {
        "m": "- а у = ом е | ы ов ам = ами ах",  # волк
        "mc": "- а у = ем е | ы ев ам = ами ах",  # заяц
        "ms": "ь я ю = ем е | и ей ям = ями ях",  # медведь
        "mse": "ь я ю = ём е | и ей ям = ями ях",  # конь
        "mj": "й я ю = ём е | и ёв ям = ями ях",  # воробей
        "mk": "- а у = ом е | а - ам = ами ах",  # котёнок, котята
        "f": "а ы е у ой е | ы - ам = ами ах",  # лиса
        "fh": "а ы е у ей е | ы - ам = ами ах",  # груша
        "fs": "я и е ю ей е | и ь ям = ями ях",  # Оля
        "n": "о а у = ом е | а - ам = ами ах",  # болото
        "ns": "е я ю = ем е | я ей ям = ями ях",  # поле
    }
    ADJECTIVE_CLASSES = {
        "h": ("ый ого ому = ым ом", "ая ой ой ую ой ой", "ое ого ому ое ым ом", "ые ых ым = ыми ых"),  # добрый
        "o": ("ой ого ому = ым ом", "ая ой ой ую ой ой", "ое ого ому ое ым ом", "ые ых ым = ыми ых"),  # большой
        "x": ("ий его ему = им ем", "ая ей ей ую ей ей", "ее его ему ее им ем", "ие их им = ими их"),  # рыжий
        "j": ("ий его ему = им ем", "яя ей ей юю ей ей", "ее его ему ее им ем", "ие их им = ими их"),  # синий
    }
    VERB_CLASSES = {
        "А": "ю ешь ет ем ют",  # гуляю
        "Е": "у ешь ет ем ут",  # плачу
        "Ё": "у ёшь ёт ём ут",  # найду
        "И": "ю ишь ит им ят",  # люблю
        "У": "у ишь ит им ят",  # вижу
        "Ч": "у ишь ит им ат",  # лежу
    }
    PRONOUNS = {
        "он": ("он его ему его им нём", "она её ей её ею ней", "оно его ему его им нём", "они их им их ими них"),
        "свой": (
            "свой своего своему = своим своём",
            "своя своей своей свою своей своей",
            "своё своего своему своё своим своём",
            "свои своих своим = своими своих",
        ),
        "мой": (
            "мой моего моему = моим моём",
            "моя моей моей мою моей моей",
            "моё моего моему моё моим моём",
            "мои моих моим = моими моих",
        ),
        "один": (
            "один одного одному = одним одном",
            "одна одной одной одну одной одной",
            "одно одного одному одно одним одном",
            "одни одних одним = одними одних",
        ),
        # Nouns for a person that come in pairs agree like pronouns do.
        "друг": (
            "друг друга другу друга другом друге",
            "подруга подруги подруге подругу подругой подруге",
            "друг друга другу друга другом друге",
            "друзья друзей друзьям друзей друзьями друзьях",
        ),
    }
    ONE = "один"
    AFTER_PREPOSITION = {
        "его": "него",
        "ему": "нему",
        "им": "ним",
        "её": "неё",
        "ей": "ней",
        "ею": "ней",
        "их": "них",
        "ими": "ними",
    }
    SMALL_NUMERALS = {
        2: {"m": "два двух двум = двумя двух", "f": "две двух двум = двумя двух"},
        3: {"m": "три трёх трём = тремя трёх"},
        4: {"m": "четыре четырёх четырём = четырьмя четырёх"},
    }
    LARGE_NUMERALS = {
        5: "пять пяти пяти пять пятью пяти",
        6: "шесть шести шести шесть шестью шести",
        7: "семь семи семи семь семью семи",
        8: "восемь восьми восьми восемь восемью восьми",
        9: "девять девяти девяти девять девятью девяти",
        10: "десять десяти десяти десять десятью десяти",
    }
    INFINITIVE, REFLEXIVE_INFINITIVE, PAST = "ть", "ться", ("л", "о", "и")

    def attach(self, stem: str, ending: str, animate: bool = False) -> str:
        if ending == "-":
            return stem
        return stem + ("и" + ending[1:] if ending[0] == "ы" and stem[-1] in "гкхжшщч" else ending)

    def reflexive(self, key: str, form: str) -> str:
        return form + ("сь" if form[-1] in "аеёиоуюя" else "ся")

    def few(self, noun: Noun, adjective: Adjective | None) -> list[str]:
        case = "nom" if noun.gender == "f" else "gen"
        return [*([adjective.agreeing("pl", False, case)] if adjective else []), noun.forms["gen"]]


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
fish         рыба       f
honey        мёд        m
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
    "approach": {"run": "подбежать", "walk": "подойти", "fly": "подлететь", "jump": "подскакать", "crawl": "подползти"},
    "pass": {"run": "бежать", "walk": "идти", "fly": "лететь", "jump": "скакать", "crawl": "ползти"},
    "set_off": {"run": "побежать", "walk": "пойти", "fly": "полететь", "jump": "поскакать", "crawl": "поползти"},
}
VERBS = """
жить        ipf Ё жив
быть        ipf
идти        ipf Ё ид          past=шёл:шл imp=иди
пойти       pf  Ё пойд        past=пошёл:пошл
прийти      pf                past=пришёл:пришл
выйти       pf                past=вышел:вышл
зайти       pf                past=зашёл:зашл
перейти     pf                past=перешёл:перешл
обойти      pf                past=обошёл:обошл
уйти        pf  Ё уйд         past=ушёл:ушл
ходить      ipf
бежать      ipf
бегать      ipf А бега
побежать    pf
прибежать   pf
убежать     pf
лететь      ipf
полететь    pf
прилететь   pf
скакать     ipf
поскакать   pf
прискакать  pf
ползти      ipf               past=полз:ползл
поползти    pf                past=пополз:поползл
приползти   pf                past=приполз:приползл
вернуться   pf
играть      ipf
гулять      ipf
любить      ipf И любл:люб
потерять    pf
пропасть    pf                past=пропал:пропал
искать      ipf Е ищ
найти       pf  Ё найд        past=нашёл:нашл
сесть       pf                past=сел:сел
лечь        pf                past=лёг:легл
плакать     ipf Е плач        imp=плачь
заплакать   pf  Е заплач
смотреть    ipf И смотр       imp=смотри
посмотреть  pf  И посмотр     imp=посмотри
заглядывать ipf А заглядыва
огорчиться  pf
стать       pf
грустить    ipf У грущ:груст
горевать    ipf А горю        imp=горюй
спрашивать  ipf А спрашива
спросить    pf  У спрош:спрос
отвечать    ipf А отвеча
ответить    pf  У отвеч:ответ
говорить    ipf И говор
сказать     pf  Е скаж
помогать    ipf А помога
помочь      pf  Е помог:помож past=помог:помогл imp=помоги
смочь       pf                past=смог:смогл
встретить   pf  У встреч:встрет
встретиться pf
видеть      ipf У виж:вид
увидеть     pf  У увиж:увид
лежать      ipf Ч леж
стоять      ipf И сто
сидеть      ipf У сиж:сид
показать    pf  Е покаж
закричать   pf
крикнуть    pf
обрадоваться pf
поблагодарить pf
угощать     ipf А угоща
угостить    pf  У угощ:угост
дать        pf                imp=дай
отдать      pf                imp=отдай
подать      pf
тянуть      ipf
потянуть    pf
вытянуть    pf
посадить    pf
поливать    ipf
расти       ipf               past=рос:росл
вырасти     pf                past=вырос:выросл
взять       pf
взяться     pf
звать       ipf
позвать     pf
попросить   pf
смеяться    ipf Ё сме
засмеяться  pf
улыбаться   ipf А улыба
согласиться pf
сварить     pf
перехитрить pf
думать      ipf А дума
подумать    pf  А подума
понести     pf                past=понёс:понесл
принести    pf  Ё принес      past=принёс:принесл
носить      ipf
выскочить   pf
есть        ipf               past=ел:ел 1sg=ем 3sg=ест
съесть      pf                past=съел:съел 1sg=съем
испугаться  pf
брать       ipf Ё бер         imp=бери
закрыть     pf                imp=закрой
сосчитать   pf                imp=сосчитай
посчитать   pf
схватить    pf
бояться     ipf И бо          imp=бой imp.pl=бойте
слышать     ipf У слыш
услышать    pf
броситься   pf
мыть        ipf
помыть      pf                imp=помой
спрятаться  pf
остаться    pf
поймать     pf
трогать     ipf               imp=трогай
пригодиться pf  У пригож:пригод
разбудить   pf
отпустить   pf                imp=отпусти
пустить     pf                imp=пусти
пожалеть    pf
попасть     pf                past=попал:попал
попасться   pf                past=попал:попал
стараться   ipf
узнать      pf  А узна
перегрызть  pf                past=перегрыз:перегрызл
спасти      pf                past=спас:спасл
сложить     pf
собирать    ipf
собрать     pf
оставить    pf
хватить     pf  У хвач:хват
постучать   pf
делиться    ipf И дел
поделиться  pf
проснуться  pf
уснуть      pf
дрожать     ipf
заглянуть   pf
решить      pf
ночевать    ipf
строить     ipf И стро
построить   pf
работать    ipf А работа
пригласить  pf
пить        ipf
петь        ipf
гордиться   ipf
хвастаться  ipf
догнать     pf  И догон
обогнать    pf
оглянуться  pf
остановиться pf
останавливаться ipf А останавлива
ждать       ipf
побеждать   ipf А побежда
заболеть    pf
болеть      ipf А боле
лечить      ipf
поправиться pf
закинуть    pf
вытащить    pf
исполнить   pf  И исполн
удивиться   pf
заговорить  pf
сбыться     pf  Е сбуд
махнуть     pf
исчезнуть   pf                past=исчез:исчезл
греться     ipf
готовиться  ipf               imp=готовь
успеть      pf  А успе
замерзать   ipf А замерза
накормить   pf
вздохнуть   pf
лениться    ipf
делать      ipf А дела
заметить    pf
забыть      pf
заблудиться pf
знать       ipf А зна
проводить   pf  У провож:провод
вывести     pf                past=вывел:вывел
повести     pf                past=повёл:повел
водить      ipf
обнять      pf
подойти     pf                past=подошёл:подошл
подбежать   pf
подлететь   pf
подскакать  pf
подползти   pf                past=подполз:подползл
"""
PREPOSITIONS = frozenset("в к у с на за от до из для без перед под над".split())
_CONSONANT = "бвгджзклмнпрстфхцчшщ"
_VOCALISED = (
    (re.compile(rf"\b([вВ]) (?=[вф][{_CONSONANT}]|мн|двор|сне\b|льд)"), "о "),
    (re.compile(rf"\b([сС]) (?=[сзшж][{_CONSONANT}]|вс|мн|двор)"), "о "),
    (re.compile(r"\b([кК]) (?=вс|мн|двор)"), "о "),
)


def polish(text: str) -> str:
    """The sounds between words: в, с and к become во, со and ко before a cluster that needs it."""
    for pattern, tail in _VOCALISED:
        text = pattern.sub(rf"\1{tail}", text)
    return text
