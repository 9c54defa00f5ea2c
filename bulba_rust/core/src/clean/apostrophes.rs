//! One apostrophe inside words: whichever stands between two Cyrillic letters becomes the one that was chosen.

use super::edit::{Edit, char_at, char_before};
use super::homoglyphs::is_cyrillic;
use crate::language::markdown::CodeRanges;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Apostrophe {
    #[default]
    Keep,
    /// `'`
    U0027,
    /// `’`
    U2019,
    /// `ʼ`, which Unicode counts as a letter
    U02BC,
}

impl Apostrophe {
    pub const ALL: [Apostrophe; 4] = [
        Apostrophe::Keep,
        Apostrophe::U0027,
        Apostrophe::U2019,
        Apostrophe::U02BC,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Apostrophe::Keep => "keep",
            Apostrophe::U0027 => "U+0027",
            Apostrophe::U2019 => "U+2019",
            Apostrophe::U02BC => "U+02BC",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    fn text(self) -> &'static str {
        match self {
            Apostrophe::Keep => "",
            Apostrophe::U0027 => "'",
            Apostrophe::U2019 => "\u{2019}",
            Apostrophe::U02BC => "\u{2bc}",
        }
    }
}

/// The backtick is not among them: in "`слова`м" it ends code.
pub fn is_apostrophe(c: char) -> bool {
    matches!(
        c,
        '\'' | '\u{2019}' | '\u{2bc}' | '\u{2018}' | '\u{2032}' | '\u{b4}'
    )
}

pub fn apostrophes(text: &str, chosen: Apostrophe) -> Vec<Edit> {
    let mut edits = Vec::new();
    let with = chosen.text();
    let cyrillic = |c: Option<char>| c.is_some_and(is_cyrillic);
    let bytes = text.as_bytes();
    // The bytes with which an apostrophe begins.
    let common = memchr::memchr3_iter(b'\'', 0xca, 0xe2, bytes);
    for at in common.chain(memchr::memmem::find_iter(bytes, "\u{b4}")) {
        let Some(c) = char_at(text, at).filter(|c| is_apostrophe(*c)) else {
            continue;
        };
        let end = at + c.len_utf8();
        if !with.is_empty()
            && !with.starts_with(c)
            && cyrillic(char_before(text, at))
            && cyrillic(char_at(text, end))
        {
            edits.push(Edit::new(at, end, with));
        }
    }
    if !edits.is_empty() {
        edits.sort_by_key(|edit| edit.start);
        let code = CodeRanges::of(text);
        edits.retain(|edit| !code.overlap(edit.start, edit.end));
    }
    edits
}
