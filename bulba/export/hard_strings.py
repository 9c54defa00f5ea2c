"""Texts that two tokenizers split differently when one of them is wrong, and prompts to continue.

`HARD_STRINGS` are encoded by Bulba and by llama.cpp at every GGUF export; `PROMPTS` are continued by both.
"""

from __future__ import annotations

import unicodedata

APOSTROPHES = ("'", "\u2019", "\u02bc")
# {} is the apostrophe.
APOSTROPHE_WORDS = (
    "сям{}я і п{}яць вераб{}ёў",
    "аб{}ява, пад{}езд, з{}ява",
    "п{}ять об{}єктів, м{}яч, сім{}я, В{}ячеслав",
    "Кам{}янець-Подільський, прем{}єр",
    "Жанна д{}Арк, О{}Генри и Д{}Артаньян",
    "I{}m, you{}re, we{}ve, he{}ll, she{}d, it{}s, don{}t",
    "I{}M YOU{}RE WE{}VE HE{}LL SHE{}D IT{}S DON{}T",
    "ЯЪ{}s і дом{}d, кот{}ll, мы{}re",
    "{}цытата{} {} {}",
    "rock{}n{}roll {}tis",
)
COMPOSED_WORDS = (
    "мой твой свой герой чужой Йод",
    "воўк іншы ўсё Ўладзіслаў",
    "їжак Київ Україна своїй Її",
    "ёлка ещё моё Ёж",
    "café naïve résumé coöperate",
    "Łódź žluťoučký kůň",
    "Å Ω ề ậ",
)
STRESSED_WORDS = (
    "за\u0301мок и замо\u0301к",
    "бо\u0301льшая больша\u0301я",
    "гара\u0301 і го\u0301ры",
    "за\u0301мок на горі\u0301",
    "\u0301 адзін знак націску",
)
WORDS = (
    "слова",
    "Беларусь",
    "не-будзь",
    "щось",
    "подъезд",
    "x1y2",
    "hello",
    "ГОСТ",
    "мова",
    "дзякуй",
    "Їжак",
    "Объём",
)
# {} is a word: what may stand around and inside of words.
AROUND_WORDS = (
    " {}",
    "  {}  ",
    "\t{}\n",
    "{}\r\n\r\n{}",
    "«{}»",
    "„{}“",
    "({}),",
    "{}…",
    "{}\u00a0{}",
    "{}\u00ad{}",
    "{}\u200b{}",
    "\ufeff{}",
)
BELARUSIAN = (
    "Жыў сабе дзед ды баба, і была ў іх курка рабая.",
    "Мой родны кут, як ты мне мілы!.. Забыць цябе не маю сілы!",
    "а б в г ґ д е ё ж з і й к л м н о п р с т у ў ф х ц ч ш ы ь э ю я",
    "Мінск – сталіца; Гродна, Віцебск, Брэст — не.",
)
RUSSIAN = (
    "Мороз и солнце; день чудесный! Ещё ты дремлешь, друг прелестный —",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "ул. Ленина, д. 5/2, кв. 17, тел. 8-029-123-45-67",
    "и т. д., и т. п.; т.е. кто-то из-за чего-нибудь",
)
UKRAINIAN = (
    "Реве та стогне Дніпр широкий, сердитий вітер завива.",
    "Жебракують філософи при ґанку церкви в Гадячі, ще й шатро їхнє п'яне знаємо.",
    "Щастя — це коли «є», а не коли «буде».",
    "а б в г ґ д е є ж з и і ї й к л м н о п р с т у ф х ц ч ш щ ь ю я",
)
ENGLISH = (
    "The quick brown fox jumps over the lazy dog.",
    "Mr. O'Brien's co-workers didn't pay $1,234.56 on 12/31/1999!",
    "HTTPServer2 uses UTF-8; see RFC 3629 (2003).",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
)
CODE = (
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "class Хата:\n\tdef __init__(self):\n\t\tself.вокны = 4\n",
    "for (int i = 0; i < n; ++i) {\n  sum += a[i] * 0x1F;\n}\n",
    "SELECT name, count(*) FROM t WHERE id <> 'a''b' GROUP BY 1;",
    '{"имя": "Ганна", "век": 27, "список": [1, 2.5e-3, null]}',
    "<p class='x'>Тэкст &amp; <b>тлусты</b></p>",
    'git commit -m "fix: don\'t crash" && echo $?',
    "https://be.wikipedia.org/wiki/%D0%91?a=1&b=2#c",
    "    \n\n        if x:\n\n\n    pass   \n",
    "a=b;c+=d-->e!=f==g;;/*x*/#y",
)
NUMBERS = (
    "7",
    "42",
    "123",
    "2024",
    "12345678",
    "3,14159",
    "1 000 000",
    "№12",
    "10%",
    "−5°C",
    "1-га",
    "5-ый",
    "½",
    "Ⅷ",
    "٣٤",
)
SPACES = (
    " ",
    "   ",
    "\n",
    "\n\n\n",
    "\t\t",
    " \n ",
    "\r\n",
    "a" + " " * 40 + "b",
    "x \n\n y",
    "\u2003\u3000",
    "канец ",
)
SYMBOLS = (
    "!!!",
    "?!..",
    "—",
    "«»",
    "***",
    "=====",
    "₴₽€$",
    "→≠≤√",
    "| a | b |",
    "@#$%^&*",
    "~~x~~",
    "• пункт",
)
EMOJI = (
    "🥔",
    "👩‍👩‍👧‍👦 сям'я",
    "👍🏽 добра 👍🏿",
    "🏳️‍🌈🇺🇦",
    "❤️",
    "1️⃣2️⃣",
    "😀😃😄тэкст😁",
)
SCRIPTS = (
    "日本語の文",
    "中文，标点。",
    "한국어",
    "العربية",
    "עברית",
    "हिन्दी",
    "ქართული",
    "Ελληνικά",
    "Қазақша",
    "𝔘𝔫𝔦",
    "ꙋѡ҂а҃",
)
SPECIAL_TEXTS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|pad|>",
    "пачатак <|end_of_text|> працяг",
    "<|begin_of_text|>Прывітанне<|end_of_text|>",
    "<|eot_id|><|im_end|></s>[INST]",
    "<|end_of_text|",
)

HARD_STRINGS: tuple[str, ...] = (
    "",
    *(text.replace("{}", mark) for text in APOSTROPHE_WORDS for mark in APOSTROPHES),
    *COMPOSED_WORDS,
    *(unicodedata.normalize("NFD", text) for text in COMPOSED_WORDS),
    *STRESSED_WORDS,
    *(around.replace("{}", WORDS[(i + j) % len(WORDS)]) for i, around in enumerate(AROUND_WORDS) for j in range(6)),
    *BELARUSIAN,
    *RUSSIAN,
    *UKRAINIAN,
    *ENGLISH,
    *CODE,
    *NUMBERS,
    *SPACES,
    *SYMBOLS,
    *EMOJI,
    *SCRIPTS,
    *SPECIAL_TEXTS,
)

PROMPTS: tuple[str, ...] = (
    "",
    "Жыў",
    "Аднойчы раніцай",
    "Беларуская мова",
    "У лесе расла",
    "Дзед сказаў:",
    "Жили-были",
    "Однажды",
    "В городе",
    "Мама сказала:",
    "Сегодня утром",
    "Жив собі",
    "Одного разу",
    "Українська мова",
    "Кіт спав",
    "Мій дім",
    "Once upon a time",
    "The",
    "She said",
    "def f(x):\n",
    "for i in",
    "1, 2, 3,",
    "«",
    "- ",
)
