//! Latin letters inside Cyrillic words and the reverse: "мoва" with a Latin o.
//!
//! A word is mended only if each of its foreign letters has a look-alike in the other script and one reading is clear.
//! What mixes scripts on purpose stays: code, identifiers, addresses, formulas, "iPhone'ом", "3D-друк", "ITшник".

use super::apostrophes::is_apostrophe;
use super::edit::{Edit, char_at, char_before, slice};
use crate::language::Language;
use crate::language::markdown::CodeRanges;
use std::ops::Range;

/// Latin, Cyrillic.
#[rustfmt::skip]
const LOOK_ALIKES: [(char, &str); 40] = [
    ('a', "а"), ('c', "с"), ('e', "е"), ('i', "і"), ('o', "о"), ('p', "р"), ('x', "х"), ('y', "у"),
    ('A', "А"), ('B', "В"), ('C', "С"), ('E', "Е"), ('H', "Н"), ('I', "І"), ('K', "К"), ('M', "М"),
    ('O', "О"), ('P', "Р"), ('T', "Т"), ('X', "Х"), ('Y', "У"), ('ï', "ї"), ('ë', "ё"), ('Ï', "Ї"),
    ('Ë', "Ё"), ('á', "а\u{301}"), ('é', "е\u{301}"), ('í', "і\u{301}"), ('ó', "о\u{301}"), ('ý', "у\u{301}"),
    ('Á', "А\u{301}"), ('É', "Е\u{301}"), ('Í', "І\u{301}"), ('Ó', "О\u{301}"), ('Ý', "У\u{301}"),
    ('à', "а\u{300}"), ('è', "е\u{300}"), ('ì', "і\u{300}"), ('ò', "о\u{300}"), ('ù', "у\u{300}"),
];

fn to_cyrillic(c: char) -> Option<&'static str> {
    LOOK_ALIKES
        .iter()
        .find(|(latin, _)| *latin == c)
        .map(|(_, cyrillic)| *cyrillic)
}

fn to_latin(c: char) -> Option<char> {
    let same = |cyrillic: &str| cyrillic.chars().eq([c]);
    LOOK_ALIKES
        .iter()
        .find(|(_, cyrillic)| same(cyrillic))
        .map(|(latin, _)| *latin)
}

pub fn is_cyrillic(c: char) -> bool {
    matches!(c, '\u{400}'..='\u{481}' | '\u{48a}'..='\u{4ff}')
}

fn is_latin(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '\u{c0}'..='\u{24f}' if c.is_alphabetic())
}

fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// What the first byte of a character tells of it: enough to find words of two scripts at the speed of the memory.
/// Later bytes and stress marks tell nothing.
const KIND: [u8; 256] = {
    let mut kinds = [BOUNDARY; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | 0xc3..=0xc9 => LATIN,
            0xd0..=0xd3 => CYRILLIC,
            0x80..=0xbf | 0xcc | 0xcd => 0,
            _ => BOUNDARY,
        };
        byte += 1;
    }
    kinds
};
const LATIN: u8 = 1;
const CYRILLIC: u8 = 2;
const BOUNDARY: u8 = 4;

pub fn homoglyphs(text: &str, language: Language) -> Vec<Edit> {
    let with_singles = matches!(language, Language::Be | Language::Uk) && has_single_i(text);
    let mut edits = Vec::new();
    let mut single = SingleLetters::default();
    let (mut from, mut kinds) = (0, 0);
    for (at, byte) in text.bytes().chain([b' ']).enumerate() {
        let kind = KIND[byte as usize];
        let ends = kind == BOUNDARY;
        // One branch that is hardly ever taken: where words end cannot be guessed.
        if ends & ((kinds == LATIN | CYRILLIC) | (with_singles & (at - from <= 4))) {
            let words = words(text, from, at);
            if kinds == LATIN | CYRILLIC {
                edits.extend(words.filter_map(|word| mend(text, word.start, word.end, language)));
            } else {
                words.for_each(|word| single.add(text, word.start, word.end));
            }
        }
        from = if ends { at } else { from };
        kinds = if ends { 0 } else { kinds | kind };
    }
    if with_singles {
        let singles = single.mended(text, &edits);
        edits.extend(singles);
        edits.sort_by_key(|edit| edit.start);
    }
    if !edits.is_empty() {
        let code = CodeRanges::of(text);
        edits.retain(|edit| !code.overlap(edit.start, edit.end));
    }
    edits
}

fn has_single_i(text: &str) -> bool {
    let other = |at: Option<usize>| {
        !at.and_then(|at| text.as_bytes().get(at))
            .is_some_and(u8::is_ascii_alphanumeric)
    };
    memchr::memchr2_iter(b'i', b'I', text.as_bytes())
        .any(|at| other(at.checked_sub(1)) && other(Some(at + 1)))
}

/// The words of `text[start..end]`, which may begin inside a character.
fn words(text: &str, mut start: usize, end: usize) -> impl Iterator<Item = Range<usize>> {
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let part = slice(text, start, end);
    part.split(|c| !is_latin(c) && !is_cyrillic(c) && !is_mark(c))
        .filter(|word| !word.is_empty())
        .map(move |word| {
            let offset = start + (word.as_ptr() as usize - part.as_ptr() as usize);
            offset..offset + word.len()
        })
}

fn mend(text: &str, start: usize, end: usize, language: Language) -> Option<Edit> {
    let word = slice(text, start, end);
    let mixed = word.contains(is_latin) && word.contains(is_cyrillic);
    if !mixed || !is_prose_token(text, start, end) {
        return None;
    }
    let new = match reading(word, language)? {
        Script::Cyrillic => {
            let letter = |c: char| to_cyrillic(c).map_or_else(|| String::from(c), str::to_owned);
            word.chars().map(letter).collect::<String>()
        }
        Script::Latin => word.chars().map(|c| to_latin(c).unwrap_or(c)).collect(),
    };
    has_natural_case(&new).then(|| Edit::new(start, end, new))
}

#[derive(Clone, Copy, PartialEq)]
enum Script {
    Latin,
    Cyrillic,
}

/// In which script a mixed word is to be read, if that is clear.
fn reading(word: &str, language: Language) -> Option<Script> {
    let letters: Vec<char> = word.chars().filter(|c| !is_mark(*c)).collect();
    let scripts: Vec<Script> = letters
        .iter()
        .map(|c| {
            if is_cyrillic(*c) {
                Script::Cyrillic
            } else {
                Script::Latin
            }
        })
        .collect();
    let may_be_cyrillic = letters
        .iter()
        .all(|c| is_cyrillic(*c) || to_cyrillic(*c).is_some());
    let may_be_latin = letters.iter().all(|c| is_latin(*c) || to_latin(*c).is_some());
    let script = match (may_be_cyrillic, may_be_latin) {
        (true, false) => Script::Cyrillic,
        (false, true) => Script::Latin,
        (true, true) => ambiguous(&letters, &scripts, language)?,
        (false, false) => return None,
    };
    let clear = match script {
        Script::Cyrillic => {
            !is_joint(&letters, &scripts) && !is_ordinal(&letters) && !is_product(&letters, &scripts)
        }
        Script::Latin => !ends_in_cyrillic(&scripts, language) || letters.iter().all(|c| is_roman_digit(*c)),
    };
    clear.then_some(script)
}

/// Every letter of the word has a look-alike: "Hо", "рacа", "ХIХ", "РHP".
fn ambiguous(letters: &[char], scripts: &[Script], language: Language) -> Option<Script> {
    if is_roman(letters) {
        return Some(Script::Latin);
    }
    let upper = letters.iter().all(|c| c.is_uppercase());
    if upper && letters.len() <= 4 {
        return None;
    }
    let cyrillic = scripts
        .iter()
        .filter(|script| **script == Script::Cyrillic)
        .count();
    let latin = scripts.len() - cyrillic;
    match language {
        Language::Be | Language::Ru | Language::Uk => {
            let begins_sentence = letters.first().is_some_and(|c| c.is_uppercase()) && !upper;
            // "iх" and "їx" are words, "xу" may be two variables.
            let has_i = language != Language::Ru && letters.iter().any(|c| matches!(c, 'i' | 'і' | 'ї'));
            (cyrillic > latin || cyrillic == latin && (begins_sentence || has_i)).then_some(Script::Cyrillic)
        }
        _ => (latin > cyrillic).then_some(Script::Latin),
    }
}

/// A Roman numeral below 40, three letters or more: shorter ones are words too ("ІХ").
fn is_roman(letters: &[char]) -> bool {
    let latin: String = letters.iter().map(|c| to_latin(*c).unwrap_or(*c)).collect();
    letters.len() >= 3 && (3..40).any(|number| roman(number) == latin)
}

fn is_roman_digit(c: char) -> bool {
    "IVXLCDM".contains(to_latin(c).unwrap_or(c))
}

fn roman(number: usize) -> String {
    const ONES: [&str; 10] = ["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"];
    "X".repeat(number / 10) + ONES.get(number % 10).copied().unwrap_or_default()
}

/// One Latin block beside one Cyrillic block, long enough to be a word of its own: "ITшник", "copyпаст".
fn is_joint(letters: &[char], scripts: &[Script]) -> bool {
    let blocks: Vec<&[Script]> = scripts.chunk_by(|a, b| a == b).collect();
    let [first, second] = blocks[..] else { return false };
    let latin_first = first.first() == Some(&Script::Latin);
    let (length, range) = match latin_first {
        true => (first.len(), 0..first.len()),
        false => (second.len(), first.len()..letters.len()),
    };
    let latin = letters.get(range).unwrap_or_default();
    let whole_word_upper = letters.iter().all(|c| c.is_uppercase());
    length >= 3 || length == 2 && !whole_word_upper && latin.iter().all(|c| c.is_uppercase())
}

/// A Roman numeral of one letter with a Cyrillic ending: "Iго", "Xй".
fn is_ordinal(letters: &[char]) -> bool {
    let Some((first, ending)) = letters.split_first() else {
        return false;
    };
    let ending: String = ending.iter().collect();
    matches!(first, 'I' | 'X' | 'C' | 'M')
        && ["й", "я", "е", "ю", "х", "го", "му", "ой", "ст", "ым", "м"].contains(&ending.as_str())
}

/// A Latin x between two long words may mean "times": "шыринаxвышыня".
fn is_product(letters: &[char], scripts: &[Script]) -> bool {
    let mut latin = scripts
        .iter()
        .enumerate()
        .filter(|(_, script)| **script == Script::Latin);
    match (latin.next(), latin.next()) {
        (Some((at, _)), None) => letters.get(at) == Some(&'x') && at >= 5 && letters.len() - at > 5,
        _ => false,
    }
}

/// A Latin name with a Cyrillic ending in Cyrillic text: "в Javaе".
fn ends_in_cyrillic(scripts: &[Script], language: Language) -> bool {
    let blocks = scripts.chunk_by(|a, b| a == b).count();
    let cyrillic_text = matches!(language, Language::Be | Language::Ru | Language::Uk);
    cyrillic_text && blocks == 2 && scripts.last() == Some(&Script::Cyrillic)
}

/// All small, all capital, or one capital at the beginning. Anything else may be an identifier.
fn has_natural_case(word: &str) -> bool {
    let mut letters = word.chars().filter(|c| c.is_alphabetic());
    let first_upper = letters.next().is_some_and(char::is_uppercase);
    let rest: Vec<char> = letters.collect();
    rest.iter().all(|c| c.is_lowercase()) || first_upper && rest.iter().all(|c| c.is_uppercase())
}

/// How much of what is glued to a word is looked at, on each side.
const MAX_TOKEN_CHARS: usize = 100;

/// Whether the word stands among letters, hyphens and apostrophes only, so that it is no part of an address, a path,
/// an identifier or a formula.
fn is_prose_token(text: &str, start: usize, end: usize) -> bool {
    let part = |c: char| {
        c.is_alphanumeric() || is_mark(c) || is_apostrophe(c) || "._-/@\\:=&%+#$^~<>{}|*".contains(c)
    };
    let taken = |chars: &mut dyn Iterator<Item = char>| {
        chars
            .take(MAX_TOKEN_CHARS)
            .take_while(|c| part(*c))
            .collect::<Vec<char>>()
    };
    let before = taken(&mut slice(text, 0, start).chars().rev());
    let after = taken(&mut slice(text, end, text.len()).chars());
    let clean = |mut side: Vec<char>, before: bool| {
        let edge = |c: &char| {
            is_apostrophe(*c) || matches!(c, '.' | '-' | ':' | '_' | '*' | '~') && !(before && *c == ':')
        };
        while side.last().is_some_and(edge) {
            side.pop();
        }
        side.iter()
            .all(|c| c.is_alphabetic() || is_mark(*c) || is_apostrophe(*c) || *c == '-')
    };
    clean(before, true) && clean(after, false)
}

/// The word "i" in a text whose "і" is Latin.
#[derive(Default)]
struct SingleLetters {
    latin_i: Vec<usize>,
    has_cyrillic_i: bool,
    /// A variable may be near.
    has_other_latin: bool,
}

impl SingleLetters {
    fn add(&mut self, text: &str, start: usize, end: usize) {
        match slice(text, start, end) {
            "і" | "І" => self.has_cyrillic_i = true,
            "i" if stands_between_words(text, start, end) => self.latin_i.push(start),
            "I" if begins_sentence(text, start, end) => self.latin_i.push(start),
            "I" => {}
            letter => self.has_other_latin |= letter.len() == 1,
        }
    }

    /// Those in lines where a mended word had a Latin i too. If the text has neither a Cyrillic "і" nor another single
    /// Latin letter, then every "i"; but an "I" may be a numeral.
    fn mended(self, text: &str, words: &[Edit]) -> Vec<Edit> {
        let all = !self.has_cyrillic_i && !self.has_other_latin;
        let had_i = |word: &&Edit| slice(text, word.start, word.end).contains(['i', 'I']);
        let evidence: Vec<usize> = words.iter().filter(had_i).map(|word| word.start).collect();
        let mut line = 0..0;
        let mut mends = |at: &usize| {
            if *at >= line.end {
                let break_before = memchr::memrchr(b'\n', slice(text, line.end, *at).as_bytes());
                let start = break_before.map_or(line.end, |found| line.end + found);
                let end = memchr::memchr(b'\n', slice(text, *at, text.len()).as_bytes());
                line = start..end.map_or(text.len(), |found| at + found);
            }
            let first = evidence.partition_point(|word| *word < line.start);
            let small = slice(text, *at, *at + 1) == "i";
            all && small || evidence.get(first).is_some_and(|word| *word < line.end)
        };
        let cyrillic = |at| {
            if slice(text, at, at + 1) == "i" {
                "і"
            } else {
                "І"
            }
        };
        let mended = self.latin_i.into_iter().filter(|at| mends(at));
        mended.map(|at| Edit::new(at, at + 1, cyrillic(at))).collect()
    }
}

/// Between Cyrillic words, with white space on both sides.
fn stands_between_words(text: &str, start: usize, end: usize) -> bool {
    let space = |c: Option<char>| c.is_none_or(char::is_whitespace);
    let marks = |c: char| c.is_whitespace() || ",.;:!?…()«»\"“”„—–-".contains(c);
    space(char_before(text, start))
        && space(char_at(text, end))
        && slice(text, 0, start)
            .trim_end_matches(marks)
            .ends_with(is_cyrillic)
        && slice(text, end, text.len())
            .trim_start_matches(marks)
            .starts_with(is_cyrillic)
}

/// Before a small Cyrillic letter, at the beginning of a line or after the end of a sentence.
fn begins_sentence(text: &str, start: usize, end: usize) -> bool {
    let opening = [' ', '«', '"', '“', '„', '(', '—', '–', '-'];
    let before = slice(text, 0, start).trim_end_matches(opening);
    let small = |c: char| is_cyrillic(c) && c.is_lowercase();
    (before.is_empty() || before.ends_with(['\n', '.', '!', '?', '…']))
        && slice(text, end, text.len())
            .strip_prefix(' ')
            .is_some_and(|rest| rest.starts_with(small))
}
