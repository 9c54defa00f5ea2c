//! Rules for single characters: control characters, zero-width characters, soft hyphens and normal form C.

use super::edit::{Edit, char_at, char_before, difference, slice};
use super::report::Rule;
use super::scan::scan;
use crate::language::markdown::lines;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Every kind of line break becomes U+000A. Other control characters go, except the tab; so do form feeds, but
/// between two characters of a line they break it.
pub fn control(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        match c {
            '\n' | '\t' => {}
            '\r' if char_at(text, end) == Some('\n') => edits.push(Edit::new(at, end, "")),
            '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => edits.push(Edit::new(at, end, "\n")),
            '\u{b}' | '\u{c}' => {
                let inside = char_before(text, at).is_some_and(|before| !breaks_line(before))
                    && char_at(text, end).is_some_and(|after| !breaks_line(after) || after == c);
                edits.push(Edit::new(at, end, if inside { "\n" } else { "" }));
            }
            _ if c.is_control() => edits.push(Edit::new(at, end, "")),
            _ => {}
        }
    }
    edits
}

fn breaks_line(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Zero-width spaces, joiners and direction marks go. A joiner stays where it shapes: between emoji, and between
/// letters of scripts that need it (Arabic, those of India, Khmer, Mongolian ...).
pub fn zero_width(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        let goes = match c {
            '\u{200b}' | '\u{2060}' | '\u{feff}' => true,
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' => true,
            '\u{200c}' | '\u{200d}' => match (char_before(text, at), char_at(text, end)) {
                (Some(before), Some(after)) => {
                    let emoji = c == '\u{200d}' && is_emoji(before) && is_emoji(after);
                    !(emoji || is_joining_script(before) && is_joining_script(after))
                }
                _ => true,
            },
            _ => false,
        };
        if goes {
            edits.push(Edit::new(at, end, ""));
        }
    }
    edits
}

fn is_emoji(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{fe0f}'
        | '\u{1f000}'..='\u{1faff}' | '\u{e0020}'..='\u{e007f}')
}

fn is_joining_script(c: char) -> bool {
    matches!(c, '\u{600}'..='\u{8ff}' | '\u{900}'..='\u{fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{18af}'
        | '\u{1900}'..='\u{1c4f}' | '\u{a800}'..='\u{abff}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
        | '\u{10a00}'..='\u{11fff}')
}

/// Soft hyphens go; one that splits a word at the end of a line takes the line break with it.
pub fn soft_hyphen(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    for at in memchr::memmem::find_iter(text.as_bytes(), "\u{ad}") {
        let end = at + "\u{ad}".len();
        let rest = slice(text, end, text.len());
        let next_line = rest
            .strip_prefix('\n')
            .map(|line| line.trim_start_matches([' ', '\t']));
        let splits = next_line.is_some_and(|line| line.starts_with(char::is_alphabetic))
            && char_before(text, at).is_some_and(char::is_alphabetic);
        let rest = if splits { next_line.unwrap_or(rest) } else { rest };
        edits.push(Edit::new(at, text.len() - rest.len(), ""));
    }
    edits
}

/// Unicode normal form C; an edit for each line that was not in it. A line break never composes with anything, so
/// lines can be normalised one by one.
pub fn nfc(text: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    for line in lines(text) {
        let old = slice(text, line.start, line.end);
        if scan(old).has(Rule::Nfc) && is_nfc_quick(old.chars()) != IsNormalized::Yes {
            edits.extend(difference(line.start, old, &old.nfc().collect::<String>()));
        }
    }
    edits
}
