//! One look at every byte of a text that tells which rules may have something to do.
//!
//! A pair of neighbouring byte classes that no rule cares about costs two table look-ups and no branch, so clean text
//! is passed at memory speed; every other pair is looked at closely. A rule may be named that then finds nothing,
//! but none is missed.

use super::report::Rule;
use unicode_normalization::{IsNormalized, is_nfc_quick};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Suspects(u16);

impl Suspects {
    pub fn has(self, rule: Rule) -> bool {
        self.0 & 1 << rule as u16 != 0
    }

    fn add(&mut self, rule: Rule) {
        self.0 |= 1 << rule as u16;
    }
}

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Class {
    Plain,
    Control,
    Latin,
    LatinI,
    /// `&` and `<`
    Markup,
    /// `'`
    Apostrophe,
    /// The second and later bytes of a character.
    Tail,
    /// First byte of U+0400..U+0480.
    Cyrillic,
    /// First byte of a character to look at closely.
    Close,
    /// First byte of any other character.
    Lead,
}

const NUM_CLASSES: usize = 10;

const CLASS: [u8; 256] = {
    let mut classes = [Class::Plain as u8; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'\t' | b'\n' => Class::Plain,
            0..0x20 | 0x7f => Class::Control,
            b'i' => Class::LatinI,
            b'a'..=b'z' | b'A'..=b'Z' => Class::Latin,
            b'&' | b'<' => Class::Markup,
            b'\'' => Class::Apostrophe,
            0x80..0xc0 => Class::Tail,
            0xd0 | 0xd1 => Class::Cyrillic,
            0xc2..=0xca | 0xcc..=0xcf | 0xd2.. => Class::Close,
            0xc0..=0xff => Class::Lead,
            _ => Class::Plain,
        } as u8;
        byte += 1;
    }
    classes
};

/// Whether the second byte of a pair with these classes is to be looked at closely.
const LOOK: [bool; NUM_CLASSES * 16] = {
    let mut look = [false; NUM_CLASSES * 16];
    let mut before = 0;
    while before < NUM_CLASSES {
        let mut class = 0;
        while class < NUM_CLASSES {
            let latin_before = before == Class::Latin as usize || before == Class::LatinI as usize;
            let latin = class == Class::Latin as usize || class == Class::LatinI as usize;
            look[before * 16 + class] = class == Class::Control as usize
                || class == Class::Markup as usize
                || class == Class::Close as usize
                || latin_before && class == Class::Cyrillic as usize
                || before == Class::Tail as usize && (latin || class == Class::Apostrophe as usize)
                || (before == Class::Plain as usize || before == Class::Control as usize)
                    && class == Class::LatinI as usize;
            class += 1;
        }
        before += 1;
    }
    look
};

pub fn scan(text: &str) -> Suspects {
    let bytes = text.as_bytes();
    let mut suspects = Suspects::default();
    let mut before = Class::Plain as usize;
    for (at, byte) in bytes.iter().enumerate() {
        let class = CLASS[*byte as usize] as usize;
        if LOOK[before * 16 + class] {
            look_closely(text, at, &mut suspects);
        }
        before = class;
    }
    suspects
}

fn is_cyrillic_lead(byte: Option<&u8>) -> bool {
    matches!(byte, Some(0xd0..=0xd3))
}

#[cold]
fn look_closely(text: &str, at: usize, suspects: &mut Suspects) {
    let bytes = text.as_bytes();
    let rest = bytes.get(at..).unwrap_or_default();
    let letter_before = at.checked_sub(1).and_then(|before| bytes.get(before));
    let lead_before = at.checked_sub(2).and_then(|before| bytes.get(before));
    let cyrillic_before = is_cyrillic_lead(lead_before);
    let mark_before = matches!(lead_before, Some(0xcc | 0xcd));
    match *rest {
        [0..0x20 | 0x7f, ..] => suspects.add(Rule::Control),
        [b'&', b'#' | b'a'..=b'z' | b'A'..=b'Z', ..] | [b'<', b'/' | b'a'..=b'z' | b'A'..=b'Z', ..] => {
            suspects.add(Rule::Html);
        }
        [b'\'', next, ..] if cyrillic_before && is_cyrillic_lead(Some(&next)) => {
            suspects.add(Rule::Apostrophes)
        }
        [0xd0 | 0xd1, ..] => suspects.add(Rule::Homoglyphs),
        [b'a'..=b'z' | b'A'..=b'Z', ..] if cyrillic_before || mark_before => suspects.add(Rule::Homoglyphs),
        [b'i', b' ' | b'\n' | b'\t' | 0x80..=0xff, ..]
            if !letter_before.is_some_and(u8::is_ascii_alphanumeric) =>
        {
            suspects.add(Rule::Homoglyphs);
        }
        [0xc2, 0x80..0xa0, ..] => suspects.add(Rule::Control),
        [0xc2, 0xad, ..] => suspects.add(Rule::SoftHyphen),
        [0xc2, 0xb4, ..] | [0xca, 0xbc, ..] | [0xe2, 0x80, 0x98 | 0x99 | 0xb2, ..] if cyrillic_before => {
            suspects.add(Rule::Apostrophes);
        }
        [0xc3..=0xc9, ..] if cyrillic_before || mark_before || is_cyrillic_lead(rest.get(2)) => {
            suspects.add(Rule::Homoglyphs)
        }
        [0xd8, 0x9c, ..] => suspects.add(Rule::ZeroWidth),
        [0xd2 | 0xd3, tail, ..] => {
            if tail < 0x88 {
                suspects.add(Rule::Nfc);
            }
            if letter_before.is_some_and(u8::is_ascii_alphabetic) {
                suspects.add(Rule::Homoglyphs);
            }
        }
        [0xe2, 0x80, 0x8b..=0x8f | 0xaa..=0xae, ..] | [0xe2, 0x81, 0xa0 | 0xa6..=0xa9, ..] => {
            suspects.add(Rule::ZeroWidth);
        }
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => suspects.add(Rule::Control),
        [0xef, 0xbb, 0xbf, ..] => suspects.add(Rule::ZeroWidth),
        [0xc2..=0xca, ..] | [0xe2, 0x80, 0x82..=0xbf, ..] => {}
        [0xcc..=0xff, ..] => {
            // A stress mark inside a word hides which letters are neighbours.
            if letter_before.is_some_and(u8::is_ascii_alphabetic) || matches!(lead_before, Some(0xc3..=0xc9))
            {
                suspects.add(Rule::Homoglyphs);
            }
            let character = text.get(at..).and_then(|rest| rest.chars().next());
            if is_nfc_quick(character.into_iter()) != IsNormalized::Yes
                || character.is_some_and(|c| unicode_normalization::char::canonical_combining_class(c) != 0)
            {
                suspects.add(Rule::Nfc);
            }
        }
        _ => {}
    }
}
