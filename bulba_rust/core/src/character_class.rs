//! What the pre-tokenisation asks of a character: is it a letter, a number, white space, a line break, or none of these?
//!
//! The classes are those of `regex-syntax`, the tables behind the regex engine that is the reference: one look-up
//! replaces the engine. The table is built once, in a millisecond.

use crate::{Error, Result};
use regex_syntax::hir::{Class as HirClass, HirKind};
use std::path::PathBuf;
use std::sync::OnceLock;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    #[default]
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s` but a line break
    Space,
    /// `[\r\n]`
    Break,
}

const BLOCK: usize = 256;

pub struct CharacterClasses {
    /// U+0000 to U+07FF, all that one and two bytes of UTF-8 can say.
    near: Box<[Class; 0x800]>,
    /// For each 256 code points the number of their block; most of the 4352 blocks are equal to another.
    block_of: Vec<u8>,
    blocks: Vec<[Class; BLOCK]>,
}

impl CharacterClasses {
    /// The one table of the process.
    pub fn get() -> Result<&'static Self> {
        static TABLE: OnceLock<CharacterClasses> = OnceLock::new();
        if let Some(table) = TABLE.get() {
            return Ok(table);
        }
        let built = Self::build()?;
        Ok(TABLE.get_or_init(|| built))
    }

    fn build() -> Result<Self> {
        let mut all = vec![Class::Other; char::MAX as usize + 1];
        for (pattern, class) in [
            (r"\s", Class::Space),
            (r"[\r\n]", Class::Break),
            (r"\p{L}", Class::Letter),
            (r"\p{N}", Class::Number),
        ] {
            for (start, end) in ranges(pattern)? {
                if let Some(range) = all.get_mut(start as usize..=end as usize) {
                    range.fill(class);
                }
            }
        }
        let (mut block_of, mut blocks) = (Vec::new(), Vec::<[Class; BLOCK]>::new());
        for block in all.as_chunks::<BLOCK>().0 {
            let known = blocks.iter().position(|known| known == block);
            block_of.push(u8::try_from(known.unwrap_or(blocks.len())).map_err(|_| fault("too many blocks"))?);
            if known.is_none() {
                blocks.push(*block);
            }
        }
        let mut near = Box::new([Class::Other; 0x800]);
        for (class, known) in near.iter_mut().zip(&all) {
            *class = *known;
        }
        Ok(CharacterClasses {
            near,
            block_of,
            blocks,
        })
    }

    /// The class of the character that starts at byte `at` of well-formed UTF-8, and its length in bytes; 0 at the end.
    #[inline(always)]
    pub fn at(&self, text: &[u8], at: usize) -> (Class, usize) {
        let byte = |ahead: usize| u32::from(text.get(at + ahead).copied().unwrap_or(0) & 0x3f);
        let Some(first) = text.get(at).copied() else {
            return (Class::Other, 0);
        };
        match first {
            0..0x80 => (self.near[usize::from(first)], 1),
            0x80..0xe0 => {
                let code = (u32::from(first) & 0x1f) << 6 | byte(1);
                (self.near[code as usize], 2)
            }
            0xe0..0xf0 => {
                let code = (u32::from(first) & 0xf) << 12 | byte(1) << 6 | byte(2);
                (self.of_code(code), 3)
            }
            0xf0.. => {
                let code = (u32::from(first) & 7) << 18 | byte(1) << 12 | byte(2) << 6 | byte(3);
                (self.of_code(code), 4)
            }
        }
    }

    #[inline]
    fn of_code(&self, code: u32) -> Class {
        let block = self.block_of.get(code as usize / BLOCK).copied().unwrap_or(0);
        self.blocks
            .get(usize::from(block))
            .map_or(Class::Other, |block| block[code as usize % BLOCK])
    }
}

/// The code points of a character class of a regex, as ranges.
fn ranges(pattern: &str) -> Result<Vec<(u32, u32)>> {
    let parsed = regex_syntax::parse(pattern).map_err(|error| fault(&error.to_string()))?;
    match parsed.kind() {
        HirKind::Class(HirClass::Unicode(class)) => Ok(class
            .iter()
            .map(|range| (u32::from(range.start()), u32::from(range.end())))
            .collect()),
        _ => Err(fault("not a class of characters")),
    }
}

fn fault(reason: &str) -> Error {
    Error::Tokenizer {
        file: PathBuf::from("pre-tokenizer"),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_regex_engine_on_every_code_point() {
        let table = CharacterClasses::get().unwrap();
        let regex = |pattern: &str| regex::Regex::new(pattern).unwrap();
        let classes = [
            (regex(r"^[\r\n]$"), Class::Break),
            (regex(r"^\s$"), Class::Space),
            (regex(r"^\p{L}$"), Class::Letter),
            (regex(r"^\p{N}$"), Class::Number),
        ];
        for character in (0..=0x10_ffff).filter_map(char::from_u32) {
            let mut buffer = [0; 4];
            let text: &str = character.encode_utf8(&mut buffer);
            let expected = classes
                .iter()
                .find(|(regex, _)| regex.is_match(text))
                .map_or(Class::Other, |(_, class)| *class);
            assert_eq!(
                table.at(text.as_bytes(), 0),
                (expected, text.len()),
                "{character:?}"
            );
        }
    }
}
