//! Normal form C as the `tokenizers` crate makes it, at the cost of a glance where the text is in it already.
//!
//! A character that neither decomposes, nor composes with what lies before it, nor changes places with it is a border
//! that normalisation does not cross (Unicode Standard Annex 15, "Stable Code Points"). Nearly all are; only the
//! stretches between borders go to the crate, whose tables may be of an older Unicode: it knows fewer exceptions.

use crate::{Error, Result};
use std::borrow::Cow;
use std::path::PathBuf;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::{NormalizedString, Normalizer};
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick};

/// `text` in NFC; itself where it is that already.
pub fn to_nfc(text: &str) -> Result<Cow<'_, str>> {
    let mut normal = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = find_active(text, at) {
        let (before, rest) = text.split_at(found);
        let start = before.char_indices().next_back().map_or(0, |(start, _)| start);
        let end = rest.find(is_border).map_or(text.len(), |len| found + len);
        let stretch = text.get(start..end).unwrap_or_default();
        let changed = nfc_of_stretch(stretch)?;
        if changed != stretch {
            normal += text.get(copied..start).unwrap_or_default();
            normal += &changed;
            copied = end;
        }
        at = end;
    }
    if copied == 0 {
        return Ok(text.into());
    }
    normal += text.get(copied..).unwrap_or_default();
    Ok(normal.into())
}

fn nfc_of_stretch(stretch: &str) -> Result<String> {
    let mut normalized = NormalizedString::from(stretch);
    NFC.normalize(&mut normalized).map_err(|error| Error::Tokenizer {
        file: PathBuf::from("NFC normalizer"),
        reason: error.to_string(),
    })?;
    Ok(normalized.get().to_owned())
}

/// Bytes looked at together.
const CHUNK: usize = 64;

/// The first character from byte `at` that is no border.
fn find_active(text: &str, mut at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    while at < bytes.len() {
        let chunk = &bytes[at..bytes.len().min(at + CHUNK)];
        if !chunk
            .iter()
            .fold(false, |found, byte| found | may_be_active(*byte))
        {
            at += chunk.len();
            continue;
        }
        at += chunk.iter().position(|byte| may_be_active(*byte))?;
        let character = text.get(at..)?.chars().next()?;
        if !is_border(character) {
            return Some(at);
        }
        at += character.len_utf8();
    }
    None
}

/// Whether a byte may start a character that is no border. Below U+0300 (lead byte CC) and from U+0400 to U+047F
/// (lead bytes D0 and D1) all are.
fn may_be_active(byte: u8) -> bool {
    byte >= 0xcc && byte & 0xfe != 0xd0
}

fn is_border(character: char) -> bool {
    // Dashes, quotes and the ellipsis are most of what is asked for.
    character < '\u{300}'
        || matches!(character, '\u{400}'..='\u{47f}' | '\u{2010}'..='\u{2027}')
        || (canonical_combining_class(character) == 0
            && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(text: &str) -> String {
        let mut normalized = NormalizedString::from(text);
        normalized.nfc();
        normalized.get().to_owned()
    }

    #[test]
    fn every_code_point_is_normalised_as_the_crate_does() {
        for character in (0..=0x10_ffff).filter_map(char::from_u32) {
            // Behind a letter, and between marks that may have to change places with it.
            for text in [
                format!("a{character}"),
                format!("е\u{306}{character}\u{323}\u{308}"),
            ] {
                assert_eq!(to_nfc(&text).unwrap(), reference(&text), "{character:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn mixtures_are_normalised_as_the_crate_does(
            text in "([a-eA-E]|[аеиуіЕИ]|[\u{300}-\u{33f}]|[\u{483}-\u{487}]|[—…№“]|[\u{2000}\u{2126}Å]|[가각]|[क़ख़\u{93c}]|👩‍🚀|.){0,120}"
        ) {
            prop_assert_eq!(to_nfc(&text).unwrap(), reference(&text));
        }
    }
}
