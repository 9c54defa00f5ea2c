//! Llama 3's pre-tokenisation: cutting text into the pieces that BPE never crosses.
//!
//! The regex is fixed (llama.cpp knows it as `llama-bpe`), so its alternatives are written out by hand: each piece is
//! decided by the classes of its first two characters and read to its end once. `tokenizers` with the regex is the
//! reference in the tests.

use crate::Result;
use crate::character_class::{CharacterClasses, Class};

/// As written into tokenizer.json.
pub const LLAMA3_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[derive(Clone, Copy)]
pub struct Pretokenizer {
    classes: &'static CharacterClasses,
}

impl Pretokenizer {
    pub fn new() -> Result<Self> {
        let classes = CharacterClasses::get()?;
        Ok(Pretokenizer { classes })
    }

    /// The pieces of `text` in order; together they are `text`.
    pub fn pieces<'t>(&self, text: &'t str) -> Pieces<'t> {
        Pieces {
            pretokenizer: *self,
            text,
            start: 0,
        }
    }

    /// Where the piece that starts at byte `start` ends. `text` is well-formed UTF-8 and not at its end.
    #[inline]
    pub(crate) fn piece_end(&self, text: &[u8], start: usize) -> usize {
        let (class, size) = self.classes.at(text, start);
        let next = start + size;
        match class {
            Class::Letter => self.end_of_letters(text, next),
            Class::Number => self.end_of_number(text, next),
            Class::Break => self.end_of_space(text, start),
            Class::Space => match self.classes.at(text, next) {
                (Class::Letter, size) => self.end_of_letters(text, next + size),
                (Class::Other, size) if size > 0 && text.get(start) == Some(&b' ') => {
                    self.end_of_others(text, next + size)
                }
                _ => self.end_of_space(text, start),
            },
            Class::Other => {
                if let Some(end) = end_of_contraction(text, start) {
                    return end;
                }
                match self.classes.at(text, next) {
                    (Class::Letter, size) => self.end_of_letters(text, next + size),
                    _ => self.end_of_others(text, next),
                }
            }
        }
    }

    /// `\p{L}*`
    #[inline]
    fn end_of_letters(&self, text: &[u8], mut at: usize) -> usize {
        loop {
            at = skip_common_letters(text, at);
            match self.classes.at(text, at) {
                (Class::Letter, size) => at += size,
                _ => return at,
            }
        }
    }

    /// `\p{N}{0,2}`
    fn end_of_number(&self, text: &[u8], mut at: usize) -> usize {
        for _ in 0..2 {
            match self.classes.at(text, at) {
                (Class::Number, size) => at += size,
                _ => break,
            }
        }
        at
    }

    /// `[^\s\p{L}\p{N}]*[\r\n]*`
    fn end_of_others(&self, text: &[u8], mut at: usize) -> usize {
        while let (Class::Other, size @ 1..) = self.classes.at(text, at) {
            at += size;
        }
        while let Some(b'\r' | b'\n') = text.get(at) {
            at += 1;
        }
        at
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line break; without one, all but the last character, which goes
    /// to what follows, if anything does.
    fn end_of_space(&self, text: &[u8], start: usize) -> usize {
        let (mut at, mut last, mut after_break) = (start, start, None);
        loop {
            let (class, size) = self.classes.at(text, at);
            match class {
                Class::Space => {}
                Class::Break => after_break = Some(at + size),
                _ => break,
            }
            (last, at) = (at, at + size);
        }
        match after_break {
            Some(end) => end,
            None if at < text.len() && last > start => last,
            None => at,
        }
    }
}

/// Skips letters of ASCII, eight at a time, and of U+0400 to U+047F, four at a time: these 128 are all letters, and no
/// others start with the bytes D0 and D1.
#[inline]
fn skip_common_letters(text: &[u8], mut at: usize) -> usize {
    while let Some(next) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let next = u64::from_le_bytes(*next);
        let others = next & 0x00fe_00fe_00fe_00fe ^ 0x00d0_00d0_00d0_00d0;
        let mut skipped = others.trailing_zeros() as usize / 16 * 2;
        if skipped == 0 {
            skipped = others_than_ascii_letters(next).trailing_zeros() as usize / 8;
        }
        at += skipped;
        if skipped < 8 {
            break;
        }
    }
    at
}

/// The top bit of each byte that is no ASCII letter.
#[inline]
fn others_than_ascii_letters(bytes: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let lower = (bytes | (0x20 * EACH)) & (0x7f * EACH);
    let from_a = lower + u64::from(0x80 - b'a') * EACH;
    let behind_z = lower + u64::from(0x7f - b'z') * EACH;
    (bytes | !from_a | behind_z) & (0x80 * EACH)
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`. Of all characters only U+017F, the long s, is a letter of these in another case.
fn end_of_contraction(text: &[u8], start: usize) -> Option<usize> {
    let mut letters = text.get(start..)?.strip_prefix(b"'")?.iter();
    let mut lower = || letters.next().map(u8::to_ascii_lowercase);
    match (lower()?, lower()) {
        (b's' | b't' | b'm' | b'd', _) => Some(start + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) | (0xc5, Some(0xbf)) => Some(start + 3),
        _ => None,
    }
}

pub struct Pieces<'t> {
    pretokenizer: Pretokenizer,
    text: &'t str,
    start: usize,
}

impl<'t> Iterator for Pieces<'t> {
    type Item = &'t str;

    #[inline]
    fn next(&mut self) -> Option<&'t str> {
        if self.start >= self.text.len() {
            return None;
        }
        let end = self.pretokenizer.piece_end(self.text.as_bytes(), self.start);
        let piece = self.text.get(self.start..end);
        self.start = end;
        piece
    }
}

/// The character that stands for each byte in a byte-level vocabulary (GPT-2's table: printable Latin-1 bytes stand
/// for themselves, the other 68 for U+0100 and up).
pub fn byte_alphabet() -> [char; 256] {
    let mut next = 0x100u32;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
    };

    static REFERENCE: LazyLock<Split> = LazyLock::new(|| {
        Split::new(
            SplitPattern::Regex(LLAMA3_REGEX.into()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .unwrap()
    });
    static OURS: LazyLock<Pretokenizer> = LazyLock::new(|| Pretokenizer::new().unwrap());

    fn reference(text: &str) -> Vec<String> {
        let mut pretokenized = PreTokenizedString::from(text);
        REFERENCE.pre_tokenize(&mut pretokenized).unwrap();
        let splits = pretokenized.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(piece, _, _)| piece.to_owned()).collect()
    }

    fn ours(text: &str) -> Vec<String> {
        OURS.pieces(text).map(str::to_owned).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn equals_the_full_regex_on_any_text(text in any::<String>()) {
            prop_assert_eq!(ours(&text), reference(&text));
        }

        #[test]
        fn equals_the_full_regex_on_hostile_text(
            text in "([ \t\r\n\u{a0}\u{2009}\u{200b}\u{85}]|['’ʼ]|[sStTrReEvVmMlLdDſ]|[абвгіўѓ]|\u{301}|\u{306}|[0-9١½]|[!№§$_]|👩‍🚀){0,60}"
        ) {
            prop_assert_eq!(ours(&text), reference(&text));
        }
    }

    #[test]
    fn every_code_point_splits_as_the_reference_does() {
        let text: String = (0..=0x10_ffff)
            .filter_map(char::from_u32)
            .flat_map(|character| {
                [
                    character, 'a', character, ' ', character, character, '7', character, '!', '\n',
                ]
            })
            .collect();
        for chunk in text.chars().collect::<Vec<_>>().chunks(100_000) {
            let chunk: String = chunk.iter().collect();
            assert_eq!(ours(&chunk), reference(&chunk));
        }
    }

    #[test]
    fn the_alphabet_is_that_of_tokenizers() {
        let ours: std::collections::HashSet<char> = byte_alphabet().into_iter().collect();
        assert_eq!(ours.len(), 256);
        assert!(
            ByteLevel::alphabet()
                .iter()
                .all(|character| ours.contains(character))
        );
    }
}
