//! The same line again and again: menus, footers, empty lines.
//!
//! Poems repeat lines, and so do tables, lists and programs. So nothing goes that is code, a table row or (for lines
//! repeated all over the text) an item of a list, and the numbers below are what no refrain of a song in the
//! training text reaches.

use super::edit::{Edit, slice};
use crate::language::markdown::{CodeRanges, is_blank, lines};
use std::collections::HashMap;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

pub const MAX_BLANK_LINES: usize = 2;
/// A run of at least so many equal lines becomes one line, if the line has enough letters to mean something.
pub const MIN_RUN: usize = 4;
pub const MIN_RUN_LETTERS: usize = 10;
/// A line this long is kept once if a text has it at least so many times.
pub const MIN_REPEATS: u32 = 10;
pub const MIN_REPEATED_CHARS: usize = 60;

pub fn repeated_lines(text: &str) -> Vec<Edit> {
    let Some(counts) = look(text) else {
        return Vec::new();
    };
    let code = CodeRanges::of(text);
    let all: Vec<Range<usize>> = lines(text).collect();
    let mut edits = blank_runs(text, &all, &code);
    edits.extend(runs(text, &all, &code));
    edits.extend(repeats(text, &all, &code, counts));
    disjoint(edits)
}

/// How often each long line occurs, or None if nothing in the text repeats often enough.
fn look(text: &str) -> Option<HashMap<u64, u32, ahash::RandomState>> {
    let mut counts: HashMap<u64, u32, ahash::RandomState> = HashMap::default();
    let (mut found, mut blank, mut run, mut last) = (false, 0, 0, "");
    for line in lines(text) {
        let line = slice(text, line.start, line.end);
        if is_blank(line) {
            blank += 1;
            found |= blank > MAX_BLANK_LINES;
            continue;
        }
        blank = 0;
        run = if line == last { run + 1 } else { 1 };
        found |= run >= MIN_RUN;
        last = line;
        if line.len() >= MIN_REPEATED_CHARS {
            let count = counts.entry(xxh3_64(line.as_bytes())).or_insert(0);
            *count += 1;
            found |= *count >= MIN_REPEATS;
        }
    }
    found.then_some(counts)
}

fn blank_runs(text: &str, all: &[Range<usize>], code: &CodeRanges) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut first = 0;
    for run in
        all.chunk_by(|a, b| is_blank(slice(text, a.start, a.end)) == is_blank(slice(text, b.start, b.end)))
    {
        let next = all.get(first + run.len());
        first += run.len();
        let (Some(kept), Some(last)) = (run.get(MAX_BLANK_LINES), run.last()) else {
            continue;
        };
        let end = next.map_or(last.end, |line| line.start);
        if is_blank(slice(text, kept.start, kept.end)) && kept.start < end && !code.overlap(kept.start, end) {
            let mut edit = Edit::new(kept.start, end, "");
            edit.occurrences = (run.len() - MAX_BLANK_LINES) as u64;
            edits.push(edit);
        }
    }
    edits
}

/// Runs of equal lines; blank lines between them do not count.
fn runs(text: &str, all: &[Range<usize>], code: &CodeRanges) -> Vec<Edit> {
    let content = |line: &Range<usize>| slice(text, line.start, line.end);
    let written: Vec<&Range<usize>> = all.iter().filter(|line| !is_blank(content(line))).collect();
    let mut edits = Vec::new();
    for run in written.chunk_by(|a, b| content(a) == content(b)) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        let letters = content(first)
            .chars()
            .filter(|c| c.is_alphabetic())
            .take(MIN_RUN_LETTERS)
            .count();
        if run.len() >= MIN_RUN
            && letters >= MIN_RUN_LETTERS
            && may_go(content(first))
            && !code.overlap(first.start, last.end)
        {
            let mut edit = Edit::new(first.end, last.end, "");
            edit.occurrences = run.len() as u64 - 1;
            edits.push(edit);
        }
    }
    edits
}

fn repeats(
    text: &str,
    all: &[Range<usize>],
    code: &CodeRanges,
    mut counts: HashMap<u64, u32, ahash::RandomState>,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    counts.retain(|_, count| *count >= MIN_REPEATS);
    let blank =
        |line: Option<&Range<usize>>| line.is_none_or(|line| is_blank(slice(text, line.start, line.end)));
    let places = all.iter().enumerate().filter_map(|(index, line)| {
        let content = slice(text, line.start, line.end);
        let long = content.chars().take(MIN_REPEATED_CHARS).count() == MIN_REPEATED_CHARS;
        let known = content.len() >= MIN_REPEATED_CHARS && long && !counts.is_empty();
        let hash = known
            .then(|| xxh3_64(content.as_bytes()))
            .filter(|hash| counts.contains_key(hash))?;
        let goes = may_go(content) && !is_list_item(content) && !code.overlap(line.start, line.end);
        goes.then_some((hash, index))
    });
    let mut by_line: HashMap<u64, Vec<usize>, ahash::RandomState> = HashMap::default();
    for (hash, index) in places {
        by_line.entry(hash).or_default().push(index);
    }
    for places in by_line
        .into_values()
        .filter(|places| places.len() >= MIN_REPEATS as usize)
    {
        for index in places.into_iter().skip(1) {
            let Some(line) = all.get(index) else { continue };
            let before = index.checked_sub(1).and_then(|before| all.get(before));
            // With the blank line before it, if another follows.
            let start = match before {
                Some(before) if blank(Some(before)) && blank(all.get(index + 1)) => before.start,
                _ => line.start,
            };
            let end = all.get(index + 1).map_or(line.end, |next| next.start);
            edits.push(Edit::new(start, end, ""));
        }
    }
    edits
}

/// A line with a backtick may begin or end code, and one that ends in a colon belongs to what follows.
fn may_go(line: &str) -> bool {
    let content = line.trim();
    !content.starts_with(['|', '+'])
        && !content.ends_with(':')
        && !line.contains('`')
        && !line.contains(" | ")
}

fn is_list_item(line: &str) -> bool {
    line.trim_start()
        .starts_with(|c: char| c.is_ascii_digit() || matches!(c, '*' | '-' | '+' | '>' | '#' | '•'))
}

/// Of edits that overlap, the first; what is left over is found when the text is looked at again.
fn disjoint(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort_by_key(|edit| (edit.start, edit.end));
    let mut end = 0;
    edits.retain(|edit| {
        let fits = edit.start >= end;
        if fits {
            end = edit.end;
        }
        fits
    });
    edits
}
