//! Llama 3's pre-tokenisation: cutting text into the pieces that BPE never crosses.
//!
//! The regex is fixed (llama.cpp knows it as `llama-bpe`). Its only look-ahead, `\s+(?!\S)`, forces a backtracking
//! engine; here the same cut is made by a linear-time regex without it: a run of white space before a word gives its
//! last character to the word. `tokenizers` with the full regex is the reference in the tests.

use crate::{Error, Result};
use regex::Regex;
use std::path::PathBuf;

/// As written into tokenizer.json.
pub const LLAMA3_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub struct Pretokenizer {
    regex: Regex,
}

impl Pretokenizer {
    pub fn new() -> Result<Self> {
        Regex::new(&LLAMA3_REGEX.replace(r"|\s+(?!\S)", ""))
            .map(|regex| Pretokenizer { regex })
            .map_err(|error| Error::Tokenizer {
                file: PathBuf::from("pre-tokenizer"),
                reason: error.to_string(),
            })
    }

    /// The pieces of `text` in order; together they are `text`.
    pub fn pieces<'t>(&self, text: &'t str) -> Pieces<'_, 't> {
        Pieces {
            regex: &self.regex,
            text,
            start: 0,
        }
    }
}

pub struct Pieces<'r, 't> {
    regex: &'r Regex,
    text: &'t str,
    start: usize,
}

impl<'t> Iterator for Pieces<'_, 't> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        // Every character starts some alternative, so matches are adjacent and the search never skips.
        let found = self.regex.find_at(self.text, self.start)?;
        let mut piece = found.as_str();
        if found.end() < self.text.len() {
            piece = give_back_last_space(piece);
        }
        self.start = found.start() + piece.len();
        Some(piece)
    }
}

/// Only `\s+` ends in white space other than a line break; it must leave one character to what follows, if it can.
fn give_back_last_space(piece: &str) -> &str {
    match piece.char_indices().next_back() {
        Some((last, character))
            if last > 0 && character.is_whitespace() && !matches!(character, '\r' | '\n') =>
        {
            piece.get(..last).unwrap_or(piece)
        }
        _ => piece,
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

/// `piece` written in the byte alphabet.
pub fn byte_level(piece: &str, alphabet: &[char; 256]) -> String {
    piece.bytes().map(|byte| alphabet[usize::from(byte)]).collect()
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
