"""The tales: correct forms, correct sounds between words, endless variety, and files that every reader reads."""

from __future__ import annotations

import itertools
import json
import random
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulba.data.tales import LANGUAGES, PROMPTS, tale, write_tales
from bulba.data.tales.en_words import English
from bulba.data.tales.plots import PLOTS, Actor, Casting
from bulba.data.tales.slavic import SlavicLanguage
from bulba.data.tales.story import SHARED_BEATS, load_language
from bulba.data.tales.template import compile_template, fill
from bulba.errors import ConfigError

SLAVIC = ("be", "ru", "uk")
ALPHABETS = {
    "be": "абвгдеёжзійклмнопрстуўфхцчшыьэюя’",
    "ru": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "uk": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя’",
    "en": "abcdefghijklmnopqrstuvwxyz’",
}
PUNCTUATION = " \n.,!?:;—-«»“”"
VOWELS = {"be": "аеёіоуыэюя", "uk": "аеєиіїоуюя"}


def _slavic(code: str) -> SlavicLanguage:
    language = load_language(code)
    assert isinstance(language, SlavicLanguage)
    return language


def _tales(code: str, count: int) -> Iterator[str]:
    rng = random.Random(f"{code} tests")
    return (tale(code, rng) for _ in range(count))


# -- words: forms checked by hand against the standard grammars ---------------------------------------------

NOUNS = {
    "be": """
        воўк gen ваўка, воўк ins ваўком, воўк dat.pl ваўкам, воўк gen.pl ваўкоў, воўк acc ваўка, сабака dat сабаку,
        сабака ins сабакам, сабака gen.pl сабак, рака loc рацэ, рака dat рацэ, рака nom.pl рэкі, лес loc лесе,
        лес gen лесу, луг loc лузе, сад loc садзе, балота loc балоце, вёска loc вёсцы, чарапаха dat чарапасе,
        каза dat казе, каза nom.pl козы, мышка dat мышцы, верабей ins вераб’ём, верабей gen.pl вераб’ёў,
        певень gen пеўня, мядзведзь gen.pl мядзведзяў, кацяня gen кацяняці, кацяня ins кацянём,
        кацяня nom.pl кацяняты, парася dat парасяці, груша gen грушы, варона gen.pl варон, сава gen.pl соў,
        карова gen.pl кароў, возера loc возеры, возера nom.pl азёры, поле loc полі, малако ins малаком,
        кот dat кату, гара - -, конь dat каню, конь gen.pl коней, пірог gen пірага, званочак acc званочак
    """,
    "ru": """
        волк dat.pl волкам, волк gen.pl волков, волк acc волка, лиса ins лисой, заяц gen зайца, заяц gen.pl зайцев,
        медведь ins медведем, медведь gen.pl медведей, воробей gen воробья, воробей gen.pl воробьёв,
        муравей ins муравьём, котёнок gen котёнка, котёнок nom.pl котята, котёнок gen.pl котят, котёнок acc.pl котят,
        белка gen.pl белок, мышка gen.pl мышек, пчела nom.pl пчёлы, лес loc лесу, сад loc саду, луг loc лугу,
        поле gen.pl полей, озеро nom.pl озёра, яблоко nom.pl яблоки, яблоко gen.pl яблок, груша ins грушей,
        конь ins конём, деревня gen.pl деревень, мельница ins мельницей, пирожок gen пирожка, гриб acc гриб,
        собака acc собаку, сова acc.pl сов, зерно gen.pl зёрен, ключик acc ключик
    """,
    "uk": """
        вовк voc вовче, вовк dat вовкові, вовк gen.pl вовків, річка loc річці, річка dat річці, луг loc лузі,
        ліс loc лісі, ліс gen лісу, лисиця voc лисице, лисиця ins лисицею, лисиця gen.pl лисиць, ведмідь gen ведмедя,
        ведмідь voc ведмедю, ведмідь dat ведмедеві, зайчик voc зайчику, кіт gen кота, кіт voc коте, пес gen пса,
        пес voc псе, кінь ins конем, горобець voc горобче, горобець gen горобця, борсук voc борсуче, коза gen.pl кіз,
        черепаха loc черепасі, кошеня gen кошеняти, кошеня ins кошеням, кошеня nom.pl кошенята, курча dat курчаті,
        лелека dat лелеці, лелека voc лелеко, бабуся voc бабусю, дід voc діду, корова gen.pl корів, яблуко loc яблуці,
        поле loc полі, груша ins грушею, білочка dat білочці, їжачок gen їжачка, пастух voc пастуше, озеро loc озері
    """,
}


def _forms(block: str) -> list[tuple[str, str, str]]:
    rows = [tuple(row.split()) for row in block.split(",")]
    return [(lemma, case, form) for lemma, case, form in rows if form != "-"]


@pytest.mark.parametrize("code", SLAVIC)
def test_nouns_decline(code: str) -> None:
    nouns = {noun.lemma: noun for noun in _slavic(code).grammar.nouns.values()}
    wrong = {
        (lemma, case): nouns[lemma].forms[case]
        for lemma, case, form in _forms(NOUNS[code])
        if nouns[lemma].forms[case] != form
    }
    assert not wrong
    assert len(_forms(NOUNS[code])) >= 25


NAMES = {
    "be": "Янка gen Янкі, Янка ins Янкам, Янка dat Янку, Алесь gen Алеся, Алеся ins Алесяй, Наста dat Насце",
    "ru": "Миша gen Миши, Миша ins Мишей, Ваня acc Ваню, Егор acc Егора, Катя dat Кате, Алёнушка voc Алёнушка",
    "uk": "Сашко gen Сашка, Сашко voc Сашку, Тарас voc Тарасе, Оленка voc Оленко, Катруся voc Катрусю",
}


@pytest.mark.parametrize("code", SLAVIC)
def test_names_decline(code: str) -> None:
    names = {noun.lemma: noun for nouns in _slavic(code).names.values() for noun in nouns}
    assert [(lemma, names[lemma].forms[case]) for lemma, case, _ in _forms(NAMES[code])] == [
        (lemma, form) for lemma, _, form in _forms(NAMES[code])
    ]


VERBS = {
    "be": """
        ісці m ішоў, ісці f ішла, ісці n ішло, знайсці n знайшло, сказаць n сказала, жыць n жыло,
        дапамагчы 1sg дапамагу, дапамагчы 2sg дапаможаш, дапамагчы m дапамог, пайсці 1pl пойдзем,
        баяцца 2sg баішся, баяцца imp бойся, усміхацца 3sg усміхаецца,
        плакаць 2sg плачаш, сядзець 3sg сядзіць, шукаць 1sg шукаю, дагнаць 3sg дагоніць, вывесці f вывела,
        прынесці m прынёс, легчы f лягла, дзяліцца 1sg дзялюся, збыцца 3sg збудзецца, знайсці 1pl знойдзем
    """,
    "ru": """
        идти m шёл, идти f шла, найти n нашло, найти 1pl найдём, помочь 1sg помогу, помочь 2sg поможешь, помочь m помог,
        бояться 2sg боишься, бояться imp бойся, улыбаться 3sg улыбается, улыбаться f улыбалась, улыбаться m улыбался,
        плакать 2sg плачешь, сидеть 3sg сидит, искать 1sg ищу, догнать 3sg догонит, лечь f легла, жить 1sg живу,
        делиться 1sg делюсь, сбыться 3sg сбудется, показать 1sg покажу, брать imp бери
    """,
    "uk": """
        іти m ішов, іти f ішла, знайти n знайшло, знайти 1pl знайдемо, допомогти 1sg допоможу, допомогти m допоміг,
        боятися 2sg боїшся, боятися imp бійся, усміхатися 3sg усміхається, плакати 2sg плачеш, сидіти 3sg сидить,
        шукати 1sg шукаю, лягти m ліг, лягти f лягла, жити 3sg живе, ділитися 1sg ділюся, збутися 3sg збудеться,
        показати 1sg покажу, принести m приніс, стояти 3sg стоїть, провести 1sg проведу, готуватися imp готуйся
    """,
}


@pytest.mark.parametrize("code", SLAVIC)
def test_verbs_conjugate(code: str) -> None:
    verbs = _slavic(code).grammar.verbs
    wrong = {
        (lemma, key): verbs[lemma].forms[key]
        for lemma, key, form in _forms(VERBS[code])
        if verbs[lemma].forms[key] != form
    }
    assert not wrong


PHRASES = [
    # Counted nouns: 1, 2-4 and 5 or more govern differently in each language.
    ("be", Actor("wolf", "grey", count=2), "nom", "два шэрыя ваўкі"),
    ("be", Actor("wolf", "grey", count=2), "acc", "двух шэрых ваўкоў"),
    ("be", Actor("pear", "ripe", count=2), "nom", "дзве спелыя грушы"),
    ("be", Actor("apple", "red", count=3), "acc", "тры чырвоныя яблыкі"),
    ("be", Actor("apple", "red", count=5), "nom", "пяць чырвоных яблыкаў"),
    ("be", Actor("apple", "red", count=5), "gen", "пяці чырвоных яблыкаў"),
    ("be", Actor("duckling", "small", count=8), "ins", "васьмю маленькімі качанятамі"),
    ("be", Actor("pear", "ripe", count=1), "acc", "адну спелую грушу"),
    ("ru", Actor("wolf", "grey", count=5), "dat", "пяти серым волкам"),
    ("ru", Actor("wolf", "grey", count=2), "nom", "два серых волка"),
    ("ru", Actor("wolf", "grey", count=2), "acc", "двух серых волков"),
    ("ru", Actor("pear", "ripe", count=3), "nom", "три спелые груши"),
    ("ru", Actor("apple", "red", count=4), "acc", "четыре красных яблока"),
    ("ru", Actor("apple", "red", count=7), "nom", "семь красных яблок"),
    ("ru", Actor("duckling", "small", count=8), "ins", "восемью маленькими утятами"),
    ("ru", Actor("pear", "ripe", count=1), "acc", "одну спелую грушу"),
    ("uk", Actor("wolf", "grey", count=2), "nom", "два сірі вовки"),
    ("uk", Actor("pear", "ripe", count=2), "nom", "дві стиглі груші"),
    ("uk", Actor("apple", "red", count=3), "acc", "три червоні яблука"),
    ("uk", Actor("apple", "red", count=5), "nom", "п’ять червоних яблук"),
    ("uk", Actor("duckling", "small", count=7), "ins", "сьома маленькими каченятами"),
    ("uk", Actor("wolf", "grey", count=4), "dat", "чотирьом сірим вовкам"),
    ("en", Actor("mouse", "grey", count=3), "bare", "three grey mice"),
    ("en", Actor("apple", "red", count=1), "bare", "one red apple"),
    # Adjectives and names agree in every case; the accusative follows animacy.
    ("be", Actor("hare", "small"), "acc", "маленькага зайца"),
    ("be", Actor("hat", "blue"), "acc", "сінюю шапку"),
    ("be", Actor("ball", "blue"), "acc", "сіні мячык"),
    ("be", Actor("girl", "kind", name=0), "dat", "добрай дзяўчынцы Алесі"),
    ("be", Actor("forest", "dense"), "where", "у густым лесе"),
    ("be", Actor("river", "wide"), "to", "да шырокай ракі"),
    ("ru", Actor("hare", "small"), "acc", "маленького зайца"),
    ("ru", Actor("ball", "blue"), "acc", "синий мячик"),
    ("ru", Actor("boy", "brave", name=2), "gen", "храброго мальчика Миши"),
    ("ru", Actor("forest", "dense"), "where", "в густом лесу"),
    ("ru", Actor("river", "wide"), "to", "к широкой реке"),
    ("uk", Actor("kitten", "small"), "acc", "маленьке кошеня"),
    ("uk", Actor("fisherman", "old"), "acc", "старого рибалку"),
    ("uk", Actor("stork", "white"), "dat", "білому лелеці"),
    ("uk", Actor("forest", "dense"), "where", "у густому лісі"),
    ("uk", Actor("river", "wide"), "to", "до широкої річки"),
    ("en", Actor("owl", "old"), "a", "an old owl"),
    ("en", Actor("girl", "kind", name=0), "a", "a kind girl called Anna"),
    ("en", Actor("honey", "fresh"), "a", "some fresh honey"),
    ("en", Actor("hare", "small"), "voc", "dear little hare"),
]


@pytest.mark.parametrize(("code", "actor", "feature", "expected"), PHRASES)
def test_phrases_agree(code: str, actor: Actor, feature: str, expected: str) -> None:
    assert load_language(code).phrase(actor).form((feature,), long=True) == expected


PAST_TENSE = [
    ("be", "{знайсці@h} {свой.acc@x} {X.acc}", "знайшоў знайшла знайшло", "сваю чырвоную шапку"),
    ("ru", "{найти@h} {свой.acc@x} {X.acc}", "нашёл нашла нашёл", "свою красную шапку"),
    ("uk", "{знайти@h} {свій.acc@x} {X.acc}", "знайшов знайшла знайшло", "свою червону шапку"),
]


@pytest.mark.parametrize(("code", "template", "verbs", "rest"), PAST_TENSE)
def test_past_tense_agrees_with_the_gender_of_its_subject(code: str, template: str, verbs: str, rest: str) -> None:
    language = _slavic(code)
    for animal, verb in zip(("wolf", "fox", "piglet"), verbs.split(), strict=True):
        cast = {"h": language.phrase(Actor(animal)), "x": language.phrase(Actor("hat", "red"))}
        out: list[str] = []
        fill(compile_template(template), cast, language, random.Random(0), out)
        assert "".join(out) == f"{verb} {rest}"


def test_pronouns_change_after_a_preposition() -> None:
    for code, text, expected in [
        ("ru", "у {он.gen@h} и за {он.ins@h}, но {он.acc@h}", "у неё и за ней, но её"),
        ("uk", "до {він.gen@h} і за {він.ins@h}, але {він.acc@h}", "до неї і за нею, але її"),
        ("be", "да {ён.gen@h} і за {ён.ins@h}", "да яе і за ёю"),
    ]:
        language = _slavic(code)
        out: list[str] = []
        template = compile_template(text, frozenset({"у", "за", "до", "да"}))
        fill(template, {"h": language.phrase(Actor("fox"))}, language, random.Random(0), out)
        assert "".join(out) == expected


ASPECT_PAIRS = {
    "be": "шукаць знайсці, цягнуць выцягнуць, казаць сказаць, дапамагаць дапамагчы, частаваць пачаставаць, "
    "пытацца спытацца, адказваць адказаць, плакаць заплакаць, будаваць пабудаваць, бачыць убачыць",
    "ru": "искать найти, тянуть вытянуть, говорить сказать, помогать помочь, угощать угостить, "
    "спрашивать спросить, отвечать ответить, плакать заплакать, строить построить, видеть увидеть",
    "uk": "шукати знайти, тягнути витягнути, казати сказати, допомагати допомогти, частувати почастувати, "
    "питати запитати, відповідати відповісти, плакати заплакати, будувати збудувати, бачити побачити",
}
DURATION = {
    "be": r"[Цц]элы дзень|[Уу]весь вечар|[УуЎў]сё лета|[Кк]ожн(?:ы дзень|ую раніцу)",
    "ru": r"[Цц]елый день|[Вв]есь (?:день|вечер)|[Вв]сё лето|[Кк]ажд(?:ый день|ое утро)",
    "uk": r"[Цц]ілий день|[Уу]весь (?:день|вечір)|[УуВв]се літо|Щодня|Щоранку",
}


@pytest.mark.parametrize("code", SLAVIC)
def test_aspect_is_used_for_what_it_means(code: str) -> None:
    verbs = _slavic(code).grammar.verbs
    for pair in ASPECT_PAIRS[code].split(", "):
        assert [verbs[lemma].aspect for lemma in pair.split()] == ["ipf", "pf"], pair
    past = {verb.forms[key]: verb.aspect for verb in verbs.values() for key in ("m", "f", "n", "pl")}
    lasting = [
        [past[word] for word in re.findall(r"[\w’]+", sentence.lower()) if word in past]
        for text in _tales(code, 600)
        for sentence in re.split(r"(?<=[.!?])\s", text)
        if re.search(DURATION[code], sentence)
    ]
    assert len(lasting) > 100
    assert all(aspects[0] == "ipf" for aspects in lasting), "what lasts or repeats is told in the imperfective"


# -- every way to tell every beat -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_beat_is_worded_and_every_template_can_be_filled(code: str) -> None:
    language = load_language(code)
    assert isinstance(language, SlavicLanguage | English)
    assert set(language.wording) == {"shared", *(plot.name for plot in PLOTS)}
    for plot in PLOTS:
        beats = language.wording[plot.name]
        assert {*beats, *SHARED_BEATS} == {"title", *itertools.chain(*plot.paragraphs)}, plot.name
        for seed, templates in enumerate([*beats.values(), *language.wording["shared"].values()] * 20):
            rng = random.Random(seed)
            cast = {role: language.phrase(actor) for role, actor in plot.cast(Casting(rng)).items()}
            for template in templates:
                out: list[str] = []
                fill(template, cast, language, rng, out)
                assert not re.search(r"[{}\[\]|@]|  |^[ \n]| [.,!?]", "".join(out)), "".join(out)


# -- texts --------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), code=st.sampled_from(LANGUAGES))
def test_a_tale_is_a_title_and_paragraphs_in_its_own_alphabet(seed: int, code: str) -> None:
    text = tale(code, random.Random(seed))
    title, empty, *paragraphs = text.split("\n")
    assert title[-1].isalpha() or title.endswith("?")
    assert not empty
    assert len(paragraphs) >= 4
    assert 400 <= len(text) <= 1200
    assert all(re.search(r"[.!?…][”»]?$", paragraph) or paragraph.endswith(":") for paragraph in paragraphs)
    assert re.search(r"[.!?…][”»]?$", text)
    assert unicodedata.is_normalized("NFC", text)
    assert not set(text.lower()) - set(ALPHABETS[code]) - set(PUNCTUATION)
    assert all(re.match(r"(?:— |[“«])?[^\W\d_]", line) for line in [title, *paragraphs])
    assert not re.search(r"(?:^|[.!?] |— )[a-zа-яёіўїєґ]", "\n".join(line[:3] for line in paragraphs), re.MULTILINE)
    assert not re.search(r"[.?!] [a-zа-яёіўїєґ]|  | \n|\n ", text)


@given(seed=st.integers(0, 2**32))
def test_belarusian_u_is_non_syllabic_exactly_after_a_vowel(seed: int) -> None:
    """With only a space between two words: ў after a vowel, у otherwise (no word of ours begins with a stressed у)."""
    text = tale("be", random.Random(seed))
    for before, letter in re.findall(r"(\S) ([уў])", text):
        assert letter == ("ў" if before.lower() in VOWELS["be"] else "у"), text
    assert not re.search(r"(?:^|[^\w ] ?|\n)ў|Ў", text)
    assert not re.search(r"\bз (?:[сзшж][бвгдзклмнпрстфхцч]|мной)", text)


@given(seed=st.integers(0, 2**32))
def test_ukrainian_prepositions_and_conjunctions_sound_well(seed: int) -> None:
    """у or в, і or й, з or із or зі by the sounds around them; a mark of punctuation is a pause."""
    text = tale("uk", random.Random(seed))
    vowels = VOWELS["uk"]
    for before, word, after in re.findall(r"(\S) ([ув]) (\S+)", text):
        if after[0] in vowels:
            assert word == "в", text
        elif re.match(r"[вф]|[лстхдз]ь?в", after) or before.lower() not in vowels:
            assert word == "у", text
        else:
            assert word == "в", text
    for before, word, after in re.findall(r"(\S) ([ій]) (\S)", text):
        assert word == ("й" if before.lower() in vowels and after not in "йяюєї" else "і"), text
    for before, word, after in re.findall(r"(\S) (з|із|зі) (\S+)", text):
        if re.match(r"[зсцчшщж][бвгґджзклмнпрстфхцчшщ]|мною", after):
            assert word == "зі", text
        elif after[0] in "зсшщ" or (before.isalpha() and before not in vowels and after[0] not in vowels):
            assert word == "із", text
        else:
            assert word == "з", text
    for before, letter in re.findall(r"(\S) ([ув])(?:же|сі|се|зя|дома|двох|трьох)\b", text):
        assert letter == ("в" if before.lower() in vowels else "у"), text


@given(seed=st.integers(0, 2**32))
def test_russian_prepositions_take_a_vowel_before_clusters(seed: int) -> None:
    text = tale("ru", random.Random(seed)).lower()
    consonant = "[бвгджзклмнпрстфхцчшщ]"
    assert not re.search(rf"\bв [вф]{consonant}|\bс [сзшж]{consonant}|\b[вск] (?:мн|двор)", text)
    assert not re.search(rf"\bво (?!дворе|[вф]{consonant}|мн)|\bсо (?!мной|двор|[сзшж]{consonant}|вс)", text)


@pytest.mark.parametrize("code", LANGUAGES)
def test_tales_do_not_repeat(code: str) -> None:
    bodies = [text.partition("\n\n")[2] for text in _tales(code, 1500)]
    assert len(set(bodies)) > 0.99 * len(bodies)
    for prompt in PROMPTS[code]:
        assert sum(body.startswith(prompt) for body in bodies) > 0.05 * len(bodies), prompt


def test_the_apostrophe_of_belarusian_and_ukrainian_is_one_letter() -> None:
    texts = {code: "".join(_tales(code, 400)) for code in ("be", "uk")}
    assert "сям’ю" in texts["be"]
    assert "сім’ю" in texts["uk"]
    assert "подвір’ї" in texts["uk"]


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'pl': choose one of be, ru, uk, en"):
        tale("pl", random.Random(0))


# -- files --------------------------------------------------------------------------------------------------------


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_tales(tmp_path / name, 100_000, seed)
    first, again, other = (_files(tmp_path / name) for name in "abc")
    assert first == again
    assert all(other[name] != content for name, content in first.items() if name in other)


@pytest.mark.parametrize("size_bytes", [100_000, 1_000_000])
def test_the_size_is_kept_in_equal_parts_and_in_every_format(tmp_path: Path, size_bytes: int) -> None:
    write_tales(tmp_path, size_bytes, 7)
    files = _files(tmp_path)
    assert sum(map(len, files.values())) == pytest.approx(size_bytes, rel=0.05)
    for code in LANGUAGES:
        part = sum(len(content) for name, content in files.items() if name.startswith(code))
        assert part == pytest.approx(size_bytes / 4, rel=0.05)
        assert {Path(name).suffix for name in files if name.startswith(f"{code}/")} == {".txt", ".md"}
    texts = [
        *(json.loads(line)["text"] for code in ("be", "uk") for line in files[f"{code}.jsonl"].decode().splitlines()),
        *(record["text"] for record in json.loads(files["ru.json"])),
        *json.loads(files["en.json"]),
        *(content.decode().rstrip("\n") for name, content in files.items() if "/" in name),
    ]
    assert len(set(texts)) > 0.99 * len(texts)
    assert all(text[-1] in ".!?…”" for text in texts)
    titled = sum("\n\n" in text for text in texts)
    assert 0.45 * len(texts) < titled < 0.75 * len(texts)  # the large files begin every other tale without its title
    assert all(content.startswith(b"# ") for name, content in files.items() if name.endswith(".md"))


def test_a_size_too_small_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="99999 bytes of tales are too few to train on: ask for at least 100000"):
        write_tales(tmp_path, 99_999, 1)
    assert not list(tmp_path.iterdir())
