//! A rule's result: what to put in place of which bytes of a text.

pub use crate::language::markdown::slice;
use std::borrow::Cow;

#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    pub start: usize,
    pub end: usize,
    pub with: Cow<'static, str>,
    /// How many things this edit mends; a removed run of lines counts each line.
    pub occurrences: u64,
}

impl Edit {
    pub fn new(start: usize, end: usize, with: impl Into<Cow<'static, str>>) -> Self {
        Edit {
            start,
            end,
            with: with.into(),
            occurrences: 1,
        }
    }
}

/// `text` with the edits made. They are in order and do not overlap.
pub fn apply(text: &str, edits: &[Edit]) -> String {
    let grown: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut new = String::with_capacity(text.len() + grown);
    let mut copied = 0;
    for edit in edits {
        new.push_str(slice(text, copied, edit.start));
        new.push_str(&edit.with);
        copied = edit.end;
    }
    new.push_str(slice(text, copied, text.len()));
    new
}

/// The one edit that turns `old`, which stands at `offset`, into `new`: their common beginning and end stay.
pub fn difference(offset: usize, old: &str, new: &str) -> Option<Edit> {
    if old == new {
        return None;
    }
    let same = |(a, b): &(char, char)| a == b;
    let head: usize = old
        .chars()
        .zip(new.chars())
        .take_while(same)
        .map(|(c, _)| c.len_utf8())
        .sum();
    let (old_rest, new_rest) = (slice(old, head, old.len()), slice(new, head, new.len()));
    let tail: usize = old_rest
        .chars()
        .rev()
        .zip(new_rest.chars().rev())
        .take_while(same)
        .map(|(c, _)| c.len_utf8())
        .sum();
    let with = slice(new_rest, 0, new_rest.len() - tail).to_owned();
    Some(Edit::new(offset + head, offset + old.len() - tail, with))
}

pub fn char_before(text: &str, at: usize) -> Option<char> {
    text.get(..at)?.chars().next_back()
}

pub fn char_at(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_difference_turns_the_old_text_into_the_new(old in "[абc ]{0,8}", new in "[абc ]{0,8}") {
            let edits: Vec<Edit> = difference(0, &old, &new).into_iter().collect();
            prop_assert_eq!(apply(&old, &edits), new);
        }
    }
}
