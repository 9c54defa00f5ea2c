"""Ukrainian words and how they inflect: the tables of `grammar`, the lexicon, and the sounds between words.

The norm is that of the orthography of 2019. Of parallel forms the tales use one: animate masculines take -ові, -еві
in the dative and locative.
"""

from __future__ import annotations

import re

from bulba.data.tales.grammar import Adjective, Grammar, Noun


class UkrainianGrammar(Grammar):
    """The paradigms of Ukrainian; ``%`` is the dative, ``&`` the locative and ``!`` the vocative of masculines."""

    NOUN_CLASSES = {
        "m": "- а % = ом & ! | и ів ам = ами ах",  # вовк
        "ms": "ь я еві = ем еві ю | і ів ям = ями ях",  # ведмідь
        "mo": "о а ові = ом ові у | и ів ам = ами ах",  # Сашко
        "f": "а и @ у ою @ о | и - ам = ами ах",  # коза
        "fs": "я і і ю ею і е | і ь ям = ями ях",  # лисиця
        "fm": "а і і у ею і е | і - ам = ами ах",  # груша
        "n": "о а у = ом @ о | а - ам = ами ах",  # болото
        "ns": "е я ю = ем і е | я ів ям = ями ях",  # поле
        "nt": "я яти яті = ям яті я | ята ят ятам = ятами ятах",  # кошеня
        "nh": "а ати аті = ам аті а | ата ат атам = атами атах",  # курча
    }
    ADJECTIVE_CLASSES = {
        "h": ("ий ого ому = им ому", "а ої ій у ою ій", "е ого ому е им ому", "і их им = ими их"),  # добрий
        "j": ("ій ього ьому = ім ьому", "я ьої ій ю ьою ій", "є ього ьому є ім ьому", "і іх ім = іми іх"),  # синій
    }
    VERB_CLASSES = {
        "А": "ю єш є ємо ють",  # гуляю
        "Е": "у еш е емо уть",  # знайду
        "И": "ю иш ить имо ять",  # люблю
        "У": "у иш ить имо ять",  # сиджу
        "Ч": "у иш ить имо ать",  # бачу
        "Ї": "ю їш їть їмо ять",  # стою
    }
    PRONOUNS = {
        "він": ("він його йому його ним ньому", "вона її їй її нею ній", "воно його йому його ним ньому", "вони їх їм їх ними них"),
        "свій": (
            "свій свого своєму = своїм своєму",
            "своя своєї своїй свою своєю своїй",
            "своє свого своєму своє своїм своєму",
            "свої своїх своїм = своїми своїх",
        ),
        "мій": (
            "мій мого моєму = моїм моєму",
            "моя моєї моїй мою моєю моїй",
            "моє мого моєму моє моїм моєму",
            "мої моїх моїм = моїми моїх",
        ),
        "один": (
            "один одного одному = одним одному",
            "одна однієї одній одну однією одній",
            "одне одного одному одне одним одному",
            "одні одних одним = одними одних",
        ),
        # Nouns for a person that come in pairs agree like pronouns do.
        "друг": (
            "друг друга другові друга другом другові",
            "подруга подруги подрузі подругу подругою подрузі",
            "друг друга другові друга другом другові",
            "друзі друзів друзям друзів друзями друзях",
        ),
    }
    ONE = "один"
    AFTER_PREPOSITION = {"його": "нього", "її": "неї", "їх": "них"}
    SMALL_NUMERALS = {
        2: {"m": "два двох двом = двома двох", "f": "дві двох двом = двома двох"},
        3: {"m": "три трьох трьом = трьома трьох"},
        4: {"m": "чотири чотирьох чотирьом = чотирма чотирьох"},
    }
    LARGE_NUMERALS = {
        5: "п’ять п’яти п’яти п’ять п’ятьма п’яти",
        6: "шість шести шести шість шістьма шести",
        7: "сім семи семи сім сьома семи",
        8: "вісім восьми восьми вісім вісьма восьми",
        9: "дев’ять дев’яти дев’яти дев’ять дев’ятьма дев’яти",
        10: "десять десяти десяти десять десятьма десяти",
    }
    INFINITIVE, REFLEXIVE_INFINITIVE, PAST = "ти", "тися", ("в", "о", "и")

    def attach(self, stem: str, ending: str, animate: bool = False) -> str:
        last = stem[-1]
        if ending == "-":
            return stem
        if ending == "!":
            if not animate or stem.endswith(("ик", "чк", "шк")):
                return stem + "у"
            return stem[:-1] + {"к": "че", "г": "же", "х": "ше"}.get(last, last + "е")
        if ending in ("%", "&") and animate:
            return stem + "ові"
        if ending == "%" or (ending == "&" and last == "к"):
            return stem + "у"
        if ending in ("&", "@"):
            return stem[:-1] + {"к": "ці", "г": "зі", "х": "сі"}.get(last, last + "і")
        return stem + ending

    def reflexive(self, key: str, form: str) -> str:
        return form + ("ться" if key == "3sg" and not form.endswith("ть") else "ся")

    def few(self, noun: Noun, adjective: Adjective | None) -> list[str]:
        return [*([adjective.agreeing("pl", False, "nom")] if adjective else []), noun.forms["nom.pl"]]


NOUNS = """
hare         заєць      ms*  obl=зайц voc=зайче
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
girl         дівчинка   f*   gp=дівчаток
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
fish         рибина     f
honey        мед        m    gen=меду
raspberry    малина     f
milk         молоко     n
bread        хліб       m
grain        зерно      n    gp=зерен
cabbage      капуста    f
turnip       ріпка      f    gp=ріпок
beet         буряк      m
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
real       справжній  j
"""
GAITS = {
    "arrive": {"run": "прибігти", "walk": "прийти", "fly": "прилетіти", "jump": "пристрибати", "crawl": "приповзти"},
    "approach": {"run": "підбігти", "walk": "підійти", "fly": "підлетіти", "jump": "підстрибати", "crawl": "підповзти"},
    "pass": {"run": "бігти", "walk": "іти", "fly": "летіти", "jump": "стрибати", "crawl": "повзти"},
    "set_off": {"run": "побігти", "walk": "піти", "fly": "полетіти", "jump": "пострибати", "crawl": "поповзти"},
}
VERBS = """
жити        ipf Е жив
бути        ipf
іти         ipf Е ід          past=ішов:ішл imp=іди
піти        pf  Е під         past=пішов:пішл
прийти      pf                past=прийшов:прийшл
підійти     pf                past=підійшов:підійшл
вийти       pf                past=вийшов:вийшл
зайти       pf                past=зайшов:зайшл
перейти     pf                past=перейшов:перейшл
обійти      pf                past=обійшов:обійшл
ходити      ipf
бігти       ipf               past=біг:бігл
бігати      ipf А біга
побігти     pf                past=побіг:побігл
прибігти    pf                past=прибіг:прибігл
підбігти    pf                past=підбіг:підбігл
летіти      ipf
полетіти    pf
прилетіти   pf
підлетіти   pf
стрибати    ipf
пострибати  pf
пристрибати pf
підстрибати pf
повзти      ipf               past=повз:повзл
поповзти    pf                past=поповз:поповзл
приповзти   pf                past=приповз:приповзл
підповзти   pf                past=підповз:підповзл
повернутися pf
гратися     ipf
гуляти      ipf
любити      ipf И любл:люб
загубити    pf
шукати      ipf А шука
знайти      pf  Е знайд       past=знайшов:знайшл
сісти       pf                past=сів:сіл
лягти       pf                past=ліг:лягл
плакати     ipf Е плач        imp=плач
заплакати   pf  Е заплач
дивитися    ipf И дивл:див    imp=диви
подивитися  pf
глянути     pf                imp=глянь
зазирнути   pf
зазирати    ipf А зазира
засмутитися pf
почати      pf
сумувати    ipf А суму        imp=сумуй
журитися    ipf               imp=жури
питати      ipf А пита
запитати    pf  А запита
казати      ipf Е каж
сказати     pf  Е скаж
відповідати ipf А відповіда
відповісти  pf                past=відповів:відповіл
допомагати  ipf А допомага
допомогти   pf  Е допомож     past=допоміг:допомогл imp=допоможи
змогти      pf                past=зміг:змогл
зустріти    pf
зустрітися  pf
трапитися   pf
бачити      ipf Ч бач
побачити    pf  Ч побач
лежати      ipf Ч леж
стояти      ipf Ї сто
сидіти      ipf У сидж:сид
показати    pf  Е покаж
закричати   pf
гукнути     pf
зрадіти     pf
подякувати  pf
частувати   ipf А часту
почастувати pf  А почасту
дати        pf                imp=дай
віддати     pf                imp=віддай
подати      pf
тягнути     ipf               past=тягнув:тягнул
потягнути   pf
витягнути   pf
посадити    pf
поливати    ipf
рости       ipf               past=ріс:росл
вирости     pf                past=виріс:виросл
взяти       pf
взятися     pf
кликати     ipf
покликати   pf
попросити   pf
сміятися    ipf А смі
засміятися  pf
усміхатися  ipf А усміха
погодитися  pf
зварити     pf
перехитрити pf
подумати    pf  А подума
понести     pf                past=поніс:понесл
принести    pf  Е принес      past=приніс:принесл
носити      ipf
вискочити   pf
їсти        ipf               past=їв:їл 1sg=їм 3sg=їсть
з’їсти      pf                past=з’їв:з’їл 1sg=з’їм
злякатися   pf
брати       ipf Е бер         imp=бери
заплющити   pf                imp=заплющ
полічити    pf                imp=полічи
схопити     pf
втекти      pf                past=втік:втекл
боятися     ipf Ї бо          imp=бій imp.pl=бійте
чути        ipf А чу
почути      pf  А почу
кинутися    pf
мити        ipf
помити      pf                imp=помий
сховатися   pf
лишитися    pf
піймати     pf
чіпати      ipf А чіпа        imp=чіпай
знадобитися pf  И знадобл:знадоб
розбудити   pf
відпустити  pf                imp=відпусти
пустити     pf                imp=пусти
пожаліти    pf
потрапити   pf
старатися   ipf
дізнатися   pf  А дізна
перегризти  pf                past=перегриз:перегризл
врятувати   pf
скласти     pf                past=склав:склал
назбирати   pf
збирати     ipf
залишити    pf
вистачити   pf  Ч вистач
постукати   pf
ділитися    ipf И діл
поділитися  pf
прокинутися pf
заснути     pf
тремтіти    ipf
вирішити    pf
ночувати    ipf
будувати    ipf А буду
збудувати   pf
працювати   ipf А працю
запросити   pf
пити        ipf
співати     ipf А співа
пишатися    ipf
хвалитися   ipf
наздогнати  pf  Е наздожен
випередити  pf
озирнутися  pf
спинятися   ipf А спиня
спинитися   pf
чекати      ipf А чека
перемагати  ipf А перемага
захворіти   pf
хворіти     ipf А хворі
лікувати    ipf
одужати     pf
закинути    pf
виконати    pf  А викона
здивуватися pf
заговорити  pf
збутися     pf  Е збуд
махнути     pf
зникнути    pf                past=зник:зникл
грітися     ipf
готуватися  ipf А готу        imp=готуй
встигнути   pf  Е встигн
замерзати   ipf А замерза
нагодувати  pf
зітхнути    pf
лінуватися  ipf
робити      ipf И робл:роб
помітити    pf
забути      pf
заблукати   pf
знати       ipf А зна
провести    pf  Е провед
вивести     pf                past=вивів:вивел
повести     pf                past=повів:повел
водити      ipf
обійняти    pf
стати       pf
пропасти    pf                past=пропав:пропал
"""
PREPOSITIONS = frozenset("в у з із за від до на для без перед під над біля".split())
_VOWEL = "аеєиіїоуюя"
_CONSONANT = "бвгґджзйклмнпрстфхцчшщ"
# What stands before a word: a vowel, or a pause (anything but a letter), or else a consonant.
_AFTER_VOWEL = rf"(?<=[{_VOWEL}{_VOWEL.upper()}] )"
_AFTER_CONSONANT = rf"(?<=[{_CONSONANT}{_CONSONANT.upper()}ьЬ] )"
_NO_V = "[вф]|[лстхдз]ь?в"  # before these у stays у even after a vowel
_ALTERNATING = "же|сі|се|сіх|сім|зя|тік|тек|двох|трьох|ряту|осени|вечері|ранці|зимку"  # уже - вже, усі - всі
_RULES = (
    # у - в: the preposition, then the words that begin with either.
    (re.compile(rf"{_AFTER_VOWEL}у (?!{_NO_V})"), "в "),
    (re.compile(rf"\bу (?=[{_VOWEL}])"), "в "),
    (re.compile(rf"\bУ (?=[{_VOWEL}])"), "В "),
    (re.compile(rf"{_AFTER_VOWEL}у(?={_ALTERNATING})"), "в"),
    # і - й: the conjunction, then the verb to go.
    (re.compile(rf"{_AFTER_VOWEL}і (?![йяюєї])"), "й "),
    (re.compile(rf"{_AFTER_VOWEL}і(?=(?:шов|шла|шло|шли|де|деш|ти)\b)"), "й"),
    # з - із - зі.
    (re.compile(rf"\b([зЗ]) (?=[зсцчшщж][{_CONSONANT}]|мною)"), r"\1і "),
)
_WITH_VOWEL = str.maketrans({"з": "із", "З": "Із"})
_WITH = re.compile(rf"\b[зЗ] (?=[зсцчшщж])|{_AFTER_CONSONANT}з (?=[{_CONSONANT}])")


def polish(text: str) -> str:
    """The sounds between words: у or в, і or й, з, із or зі (orthography of 2019, §§ 23-25).

    The templates write у, і and з, which stay after a consonant and after a pause. After a vowel they become в
    (not before в, ф, св, тв and the like) and й (not before й, я, ю, є, ї); before a vowel у becomes в anyway.
    З becomes зі before a cluster that a sibilant opens, із before another sibilant and between consonants.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return _WITH.sub(lambda match: match[0].translate(_WITH_VOWEL), text)
