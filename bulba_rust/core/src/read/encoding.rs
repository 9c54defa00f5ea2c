//! Which one-byte Cyrillic encoding bytes are text of, told from the text itself.
//!
//! Belarusian, Russian and Ukrainian text is scored in each of six encodings: the bits that its letter pairs cost in
//! these languages ([`BITS`]), more for a capital inside a word, for a sign where none stands and for letters of no
//! such language. The cheapest reading is certain only with enough letters, the price of real text, a lead over every
//! reading that gives other text, and words that each fit one of the three alphabets. Nothing else is converted.

use super::letters::{BITS, LETTERS};
use encoding_rs::{Encoding, IBM866, ISO_8859_5, KOI8_R, KOI8_U, WINDOWS_1251, X_MAC_CYRILLIC};
use std::sync::LazyLock;

/// What a character is to the scorer; small letters begin at [`LOWER`], capitals at [`UPPER`].
const EDGE: u8 = 0;
const LATIN: u8 = 1;
const SIGN: u8 = 2;
const OPENING: u8 = 3;
const CLOSING: u8 = 4;
const ALIEN: u8 = 5;
const LOWER: u8 = 6;
const NUM_LETTERS: usize = 38;
const UPPER: u8 = LOWER + NUM_LETTERS as u8;
const NUM_KINDS: usize = UPPER as usize + NUM_LETTERS;

/// Between two readings that differ in few letters, for one document of a file.
const MIN_KOI8_LEAD_BITS: u64 = 8;

/// What a certain reading needs. Of 400,000 cuts of 100 bytes and more in six encodings none was taken for another.
const MIN_LETTERS: u64 = 32;
const MIN_LEAD_BITS: u64 = 24;
const MAX_BITS_PER_PAIR: f64 = 4.8;
const MAX_ODD_WORDS_FRAC: f64 = 0.01;

/// Dearer text of so many pairs is none of the three languages. Of a million lines of theirs one in 75,000 is, most
/// of them drawings; in a wrong encoding text costs 8 bits and more.
const GARBAGE_BITS_PER_PAIR: f64 = 7.0;
const MIN_PAIRS: u64 = 10;

/// A document in a converted file is checked in blocks, so that a part in another encoding is not missed.
const BLOCK_BYTES: usize = 1024;

/// One encoding as the scorer sees it.
pub(super) struct Reading {
    encoding: &'static Encoding,
    chars: [char; 256],
    kinds: [u8; 256],
}

static READINGS: LazyLock<[Reading; 6]> = LazyLock::new(|| {
    let encodings = [WINDOWS_1251, KOI8_R, KOI8_U, IBM866, ISO_8859_5, X_MAC_CYRILLIC];
    encodings.map(|encoding| {
        let chars = std::array::from_fn(|byte| {
            let text = [byte as u8];
            let text = encoding.decode_without_bom_handling(&text).0;
            text.chars().next().unwrap_or_default()
        });
        Reading {
            encoding,
            chars,
            kinds: chars.map(kind),
        }
    })
});

/// Bits that the second kind of character costs after the first; longer than needed, so that no index is outside.
static COSTS: LazyLock<Box<[[u8; 128]; 128]>> = LazyLock::new(|| {
    let row = |first| std::array::from_fn(|second| cost(first as u8, second as u8));
    Box::new(std::array::from_fn(row))
});

/// By kind: the alphabets (1 Belarusian, 2 Russian, 4 Ukrainian) that a word with such a letter may be of.
static ALPHABETS: LazyLock<[u8; NUM_KINDS]> = LazyLock::new(|| {
    let mut alphabets = [0; NUM_KINDS];
    for (index, letter) in LETTERS.chars().enumerate() {
        let missing = [(1, "ищъїєґ"), (2, "іїєґў"), (4, "ыэъёў")];
        let fits = missing.iter().filter(|(_, letters)| !letters.contains(letter));
        let fits = fits.map(|(alphabet, _)| alphabet).sum();
        for first in [LOWER, UPPER] {
            if let Some(alphabet) = alphabets.get_mut(usize::from(first) + index) {
                *alphabet = fits;
            }
        }
    }
    alphabets
});

fn kind(character: char) -> u8 {
    let small = character.to_lowercase().next().unwrap_or(character);
    match LETTERS.chars().position(|letter| letter == small) {
        Some(index) if small == character => LOWER + index as u8,
        Some(index) => UPPER + index as u8,
        None if character.is_ascii_alphabetic() => LATIN,
        None if character.is_ascii() => EDGE,
        None if "«„“‘".contains(character) => OPENING,
        None if "»”’…".contains(character) => CLOSING,
        None if "–—№§©°•\u{a0}".contains(character) => SIGN,
        None => ALIEN,
    }
}

fn cost(first: u8, second: u8) -> u8 {
    let row = |kind: u8| match kind {
        UPPER.. => Some(usize::from(kind - UPPER) + 1),
        LOWER.. => Some(usize::from(kind - LOWER) + 1),
        _ => None,
    };
    let bits = |first: Option<usize>, second: Option<usize>| {
        let digit = BITS
            .get(first.unwrap_or(0))
            .and_then(|row| row.get(second.unwrap_or(0)));
        digit.map_or(15, |&digit| char::from(digit).to_digit(16).unwrap_or(15) as u8)
    };
    let (left, right) = (row(first), row(second));
    let capital = u8::from(second >= UPPER);
    match (left, right) {
        (Some(_), Some(_)) if first < UPPER && second >= UPPER => bits(left, right) + 9,
        (Some(_), Some(_)) => bits(left, right) + capital,
        (None, Some(_)) => match first {
            LATIN => 10 + capital,
            ALIEN => bits(left, right) + 12 + capital,
            CLOSING => bits(left, right) + 8 + capital,
            SIGN => bits(left, right) + 3 + capital,
            _ => bits(left, right) + capital,
        },
        (Some(_), None) => match second {
            LATIN => 10,
            ALIEN => 18,
            OPENING => bits(left, right) + 8,
            SIGN => bits(left, right) + 6,
            CLOSING => bits(left, right) + 4,
            _ => bits(left, right),
        },
        (None, None) => match (first, second) {
            (ALIEN, ALIEN) => 10,
            (_, ALIEN) => 14,
            (ALIEN, _) => 4,
            (_, SIGN | OPENING | CLOSING) => 6,
            _ => 1,
        },
    }
}

#[derive(Clone, Copy, Default)]
struct Score {
    bits: u64,
    /// Pairs of characters of which at least one is not ASCII.
    pairs: u64,
    letters: u64,
    /// Of those, letters that touch a Latin one.
    letters_at_latin: u64,
}

impl Score {
    fn bits_per_pair(&self) -> f64 {
        self.bits as f64 / self.pairs.max(1) as f64
    }
}

/// What a piece of text that is not UTF-8 is, as far as it can be told.
pub(super) enum Verdict {
    Certain(&'static Reading),
    /// A hint that names the likely encodings.
    Unclear(String),
}

impl Reading {
    pub fn name(&self) -> &'static str {
        self.encoding.name()
    }

    /// The others occur too seldom to be worth the risk: they are recognised and refused by name.
    pub fn converts(&self) -> bool {
        [WINDOWS_1251, KOI8_R, KOI8_U].contains(&self.encoding)
    }

    fn score(&self, bytes: &[u8]) -> Score {
        let costs = &*COSTS;
        let mut score = Score::default();
        let (mut last, mut last_high) = (EDGE, false);
        for &byte in bytes {
            let (kind, high) = (self.kinds[usize::from(byte)], byte >= 0x80);
            let counts = u64::from(high | last_high);
            score.bits += counts * u64::from(costs[usize::from(last & 127)][usize::from(kind & 127)]);
            score.pairs += counts;
            score.letters += u64::from(high & (kind >= LOWER));
            let at_latin = (kind == LATIN) & (last >= LOWER) | (last == LATIN) & (kind >= LOWER);
            score.letters_at_latin += u64::from(at_latin);
            (last, last_high) = (kind, high);
        }
        score
    }

    /// The share of words that fit none of the three alphabets or have a capital after a small letter.
    fn odd_words_frac(&self, bytes: &[u8]) -> f64 {
        let (mut words, mut odd) = (0u64, 0u64);
        let (mut alphabets, mut last) = (7, EDGE);
        for &byte in bytes.iter().chain(b" ") {
            let kind = self.kinds[usize::from(byte)];
            if kind >= UPPER && (LOWER..UPPER).contains(&last) {
                alphabets = 0;
            } else if kind >= ALIEN {
                alphabets &= ALPHABETS[usize::from(kind)];
            } else if last >= ALIEN {
                words += 1;
                odd += u64::from(alphabets == 0);
                alphabets = 7;
            }
            last = kind;
        }
        odd as f64 / words.max(1) as f64
    }

    fn gives_the_same_as(&self, other: &Reading, bytes: &[u8]) -> bool {
        bytes
            .iter()
            .all(|&byte| self.chars[usize::from(byte)] == other.chars[usize::from(byte)])
    }
}

/// Judges text that is not UTF-8.
pub(super) fn judge(bytes: &[u8]) -> Verdict {
    let mut scored: Vec<(&'static Reading, Score)> = READINGS
        .iter()
        .map(|reading| (reading, reading.score(bytes)))
        .collect();
    scored.sort_by_key(|(_, score)| score.bits);
    let Some(&(best, score)) = scored.first() else {
        return Verdict::Unclear(String::new());
    };
    let rival = scored
        .iter()
        .find(|(reading, _)| !reading.gives_the_same_as(best, bytes));
    let lead = rival.map_or(u64::MAX, |(_, other)| other.bits - score.bits);
    if score.letters >= MIN_LETTERS
        && lead >= MIN_LEAD_BITS
        && score.bits_per_pair() <= MAX_BITS_PER_PAIR
        && best.odd_words_frac(bytes) <= MAX_ODD_WORDS_FRAC
    {
        return Verdict::Certain(best);
    }
    let likely: Vec<&str> = scored
        .iter()
        .filter(|(_, other)| {
            other.letters > 0
                && other.letters > 2 * other.letters_at_latin
                && other.bits <= score.bits + MIN_LEAD_BITS
                && other.bits_per_pair() <= GARBAGE_BITS_PER_PAIR
        })
        .map(|(reading, _)| reading.name())
        .collect();
    Verdict::Unclear(match likely.as_slice() {
        [] => " (and in no encoding that is recognised)".into(),
        names => format!(" (perhaps {}, which is not certain)", names.join(" or ")),
    })
}

/// Characters of UTF-8 beyond ASCII, and bytes that are not UTF-8.
pub(super) fn count_utf8(bytes: &[u8]) -> (u64, u64) {
    let (mut characters, mut invalid) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        characters += chunk.valid().bytes().filter(|&byte| byte >= 0xc0).count() as u64;
        invalid += chunk.invalid().len() as u64;
    }
    (characters, invalid)
}

/// The text of a document in a file whose encoding is known, or why it cannot be that.
pub(super) fn convert(bytes: &[u8], reading: &'static Reading) -> Result<String, String> {
    let of_file = reading.name();
    let Some(reading) = koi8_of(bytes, reading) else {
        return Err("KOI8-R or KOI8-U, which is not certain".into());
    };
    for block in bytes.chunks(BLOCK_BYTES) {
        if let Some(other) = contradiction(block, reading) {
            return Err(format!("{other} in a file of {of_file}"));
        }
    }
    let control = |&byte: &u8| byte >= 0x80 && reading.chars[usize::from(byte)].is_control();
    if let Some(byte) = bytes.iter().find(|byte| control(byte)) {
        return Err(format!(
            "a byte {byte:#x}, which {} does not have",
            reading.name()
        ));
    }
    Ok(reading.encoding.decode_without_bom_handling(bytes).0.into_owned())
}

/// KOI8-R and KOI8-U differ in eight letters that Russian lacks, so that the beginning of a file does not tell them
/// apart: each document is read in the better one. None if neither is better and the file was not certainly KOI8-U.
fn koi8_of(bytes: &[u8], reading: &'static Reading) -> Option<&'static Reading> {
    let [_, first, second, ..] = &*READINGS;
    if reading.name() != first.name() && reading.name() != second.name()
        || first.gives_the_same_as(second, bytes)
    {
        return Some(reading);
    }
    let (first_bits, second_bits) = (first.score(bytes).bits, second.score(bytes).bits);
    if first_bits.abs_diff(second_bits) < MIN_KOI8_LEAD_BITS {
        return (reading.name() == second.name()).then_some(reading);
    }
    Some(if first_bits < second_bits { first } else { second })
}

/// What a block is instead of text in this encoding, where that is certain.
fn contradiction(block: &[u8], reading: &'static Reading) -> Option<String> {
    if block.is_ascii() {
        return None;
    }
    let (characters, invalid) = count_utf8(block);
    let one_letter = || {
        let text = String::from_utf8_lossy(block);
        text.chars()
            .any(|character| !character.is_ascii() && kind(character) != ALIEN)
    };
    if characters > 3 * invalid && (characters > 1 || one_letter()) {
        return Some("UTF-8".into());
    }
    let score = reading.score(block);
    if 2 * score.letters_at_latin > score.letters && score.letters > 2 {
        return Some("letters of a Western encoding".into());
    }
    match judge(block) {
        Verdict::Certain(other) if !other.gives_the_same_as(reading, block) => Some(other.name().into()),
        _ if score.pairs >= MIN_PAIRS && score.bits_per_pair() > GARBAGE_BITS_PER_PAIR => {
            Some("bytes that are no text".into())
        }
        _ => None,
    }
}
