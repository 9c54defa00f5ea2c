//! Which parts of a text are code: fenced blocks, indented blocks, inline code, `<pre>`, `<script>` and `<style>`.
//!
//! After CommonMark 0.31 (sections 4.4, 4.5, 6.1), leaning to code where it is in doubt: an unclosed fence runs to
//! the end, and so does an unclosed `<pre>`.

use std::collections::HashMap;
use std::ops::Range;

/// Sorted and disjoint byte ranges of `text`.
pub struct CodeRanges(Vec<Range<usize>>);

impl CodeRanges {
    pub fn of(text: &str) -> Self {
        let mut walk = Walk::default();
        for line in lines(text) {
            walk.line(text, line);
        }
        walk.end_block(text.len());
        walk.end_paragraph(text, text.len());
        CodeRanges(walk.ranges)
    }

    pub fn none() -> Self {
        CodeRanges(Vec::new())
    }

    /// Whether any byte of `start..end` is code.
    pub fn overlap(&self, start: usize, end: usize) -> bool {
        let after = self.0.partition_point(|range| range.end <= start);
        self.0.get(after).is_some_and(|range| range.start < end)
    }

    /// Those that touch `start..end`.
    pub fn within(&self, start: usize, end: usize) -> &[Range<usize>] {
        let from = self.0.partition_point(|range| range.end <= start);
        let to = self.0.partition_point(|range| range.start < end);
        self.0.get(from..to).unwrap_or_default()
    }
}

/// `text[start..end]`, empty where that is no whole text.
pub fn slice(text: &str, start: usize, end: usize) -> &str {
    text.get(start..end).unwrap_or_default()
}

/// Byte ranges of the lines of `text`, without their line break.
pub fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let breaks = memchr::memchr_iter(b'\n', text.as_bytes());
    let mut start = 0;
    breaks.chain(std::iter::once(text.len())).map(move |end| {
        let line = start..end;
        start = end + 1;
        line
    })
}

pub fn is_blank(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b' ' | b'\t')) || line.trim().is_empty()
}

/// The fence that `line` opens or closes: its character, its length, and whether it may close one.
pub fn fence(line: &str) -> Option<(u8, usize, bool)> {
    let line = after_markers(line);
    let mark = *line.as_bytes().first()?;
    if mark != b'`' && mark != b'~' {
        return None;
    }
    let length = line.bytes().take_while(|byte| *byte == mark).count();
    let rest = slice(line, length, line.len());
    let info_has_backtick = mark == b'`' && rest.contains('`');
    (length >= 3 && !info_has_backtick).then_some((mark, length, is_blank(rest)))
}

/// `line` without indent, quote marks and one list mark.
fn after_markers(line: &str) -> &str {
    let line = line.trim_start_matches([' ', '\t', '>']);
    let item = line.strip_prefix(['-', '*', '+']).or_else(|| {
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0).then(|| slice(line, digits, line.len()).strip_prefix(['.', ')']))?
    });
    match item {
        Some(item) if item.starts_with([' ', '\t']) => item.trim_start(),
        _ => line,
    }
}

pub fn is_indented(line: &str) -> bool {
    let spaces = line.bytes().take_while(|byte| *byte == b' ').count();
    spaces >= 4 || line.as_bytes().get(spaces) == Some(&b'\t')
}

enum Block {
    Fence { mark: u8, length: usize, start: usize },
    Indented { start: usize, end: usize },
    Html { close: &'static str, start: usize },
}

#[derive(Default)]
struct Walk {
    ranges: Vec<Range<usize>>,
    block: Option<Block>,
    /// Where the paragraph at hand began.
    paragraph: Option<usize>,
}

impl Walk {
    fn line(&mut self, text: &str, at: Range<usize>) {
        let line = slice(text, at.start, at.end);
        match &mut self.block {
            Some(Block::Fence { mark, length, .. }) => {
                let closes = |(m, n, may_close)| m == *mark && n >= *length && may_close;
                if fence(line).is_some_and(closes) {
                    self.end_block(at.end);
                }
                return;
            }
            Some(Block::Html { close, .. }) => {
                if find_ignoring_case(line, close).is_some() {
                    self.end_block(at.end);
                }
                return;
            }
            Some(Block::Indented { end, .. }) => {
                if is_blank(line) {
                    return;
                }
                if is_indented(line) {
                    *end = at.end;
                    return;
                }
                self.end_block(at.start);
            }
            None => {}
        }
        if is_blank(line) {
            self.end_paragraph(text, at.start);
        } else if let Some((mark, length, _)) = fence(line) {
            self.begin_block(
                text,
                Block::Fence {
                    mark,
                    length,
                    start: at.start,
                },
            );
        } else if self.paragraph.is_none() && is_indented(line) {
            let (start, end) = (at.start, at.end);
            self.begin_block(text, Block::Indented { start, end });
        } else if let Some(close) = html_block(line) {
            self.begin_block(
                text,
                Block::Html {
                    close,
                    start: at.start,
                },
            );
            if find_ignoring_case(line, close).is_some() {
                self.end_block(at.end);
            }
        } else {
            self.paragraph.get_or_insert(at.start);
        }
    }

    fn begin_block(&mut self, text: &str, block: Block) {
        let (Block::Fence { start, .. } | Block::Indented { start, .. } | Block::Html { start, .. }) = block;
        self.end_paragraph(text, start);
        self.block = Some(block);
    }

    fn end_block(&mut self, at: usize) {
        match self.block.take() {
            Some(Block::Fence { start, .. } | Block::Html { start, .. }) => self.ranges.push(start..at),
            Some(Block::Indented { start, end }) => self.ranges.push(start..end),
            None => {}
        }
    }

    fn end_paragraph(&mut self, text: &str, end: usize) {
        if let Some(start) = self.paragraph.take() {
            inline_code(text, start, end, &mut self.ranges);
        }
    }
}

/// The tag that ends the block of raw HTML that begins with `line`.
fn html_block(line: &str) -> Option<&'static str> {
    let line = after_markers(line);
    [
        ("<pre", "</pre>"),
        ("<script", "</script>"),
        ("<style", "</style>"),
    ]
    .into_iter()
    .find_map(|(open, close)| (find_ignoring_case(line, open) == Some(0)).then_some(close))
}

fn find_ignoring_case(line: &str, tag: &str) -> Option<usize> {
    memchr::memchr_iter(b'<', line.as_bytes()).find(|&at| {
        let found = line.as_bytes().get(at..at + tag.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(tag.as_bytes()))
    })
}

/// Code spans of one paragraph: a run of backticks up to the next run of the same length.
fn inline_code(text: &str, start: usize, end: usize, ranges: &mut Vec<Range<usize>>) {
    let runs = backtick_runs(slice(text, start, end));
    if runs.len() < 2 {
        return;
    }
    // next[i]: the next run as long as run i. Filled from the end, so that hostile text costs no more than its length.
    let mut next = vec![None; runs.len()];
    let mut last_of_length = HashMap::new();
    for (index, run) in runs.iter().enumerate().rev() {
        next[index] = last_of_length.insert(run.len(), index);
    }
    let mut index = 0;
    while let Some(run) = runs.get(index) {
        match next
            .get(index)
            .copied()
            .flatten()
            .and_then(|close| Some((close, runs.get(close)?)))
        {
            Some((close, closing)) => {
                ranges.push(start + run.start..start + closing.end);
                index = close + 1;
            }
            None => index += 1,
        }
    }
}

pub fn backtick_runs(text: &str) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for at in memchr::memchr_iter(b'`', text.as_bytes()) {
        match runs.last_mut() {
            Some(run) if run.end == at => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<&str> {
        CodeRanges::of(text)
            .0
            .iter()
            .map(|range| &text[range.clone()])
            .collect()
    }

    #[test]
    fn finds_every_kind_of_code() {
        assert_eq!(code("a\n```py\nx\n\ny\n```\nb"), ["```py\nx\n\ny\n```"]);
        assert_eq!(code("~~~~\n~~~\n```\n~~~~~\nb"), ["~~~~\n~~~\n```\n~~~~~"]);
        assert_eq!(code("> ```\n> x\n> ```\nb"), ["> ```\n> x\n> ```"]);
        assert_eq!(code("1. ```\n   x\n   ```\nb"), ["1. ```\n   x\n   ```"]);
        assert_eq!(code("a\n\n    x\n\n\ty\n\nb"), ["    x\n\n\ty"]);
        assert_eq!(code("a `b` c ``d ` e`` f"), ["`b`", "``d ` e``"]);
        assert_eq!(code("a `b\nc` d"), ["`b\nc`"]);
        assert_eq!(code("<PRE class=x>\nx\n</pre>\ny"), ["<PRE class=x>\nx\n</pre>"]);
        assert_eq!(code("```\nnever closed\n\nb"), ["```\nnever closed\n\nb"]);
    }

    #[test]
    fn takes_prose_for_prose() {
        assert!(code("a\n    a line that goes on is no code").is_empty());
        assert!(code("a `b\n\nc` d").is_empty());
        assert!(code("a ` b `` c").is_empty());
        assert!(code("``` a `` b").is_empty());
        assert!(code("   three spaces").is_empty());
    }
}
