//! Leftovers of HTML in prose: character references, and the tags that only format text.
//!
//! A text may speak of HTML instead of being a leftover of it, so all of this stays as it is:
//! code, and lines with any tag that is not in the list; `&amp;lt;`, which stands for the text `&lt;`; a reference or
//! tag in quotes or brackets of its own; `&amp;` beside a bare `&`, and `&lt;` beside a bare `<` or where it would make
//! a tag; tags without a partner. A line whose mended form could be mended again is left alone as a whole.

use super::edit::{Edit, apply, char_at, char_before, slice};
use super::entities::{named, numbered};
use crate::language::markdown::{CodeRanges, backtick_runs, fence, is_indented, lines};

const TAGS: [&str; 18] = [
    "a", "b", "big", "br", "center", "em", "font", "i", "nobr", "p", "s", "small", "span", "strike",
    "strong", "u", "tt", "wbr",
];
const MAX_REFERENCE_BYTES: usize = 32;
const MAX_TAG_BYTES: usize = 300;
/// Of one line; with more it is no prose.
const MAX_OPEN_TAGS: usize = 100;

/// `settle` does to a text what the rules for single characters will do to it.
pub fn html(text: &str, settle: impl Fn(&str) -> String) -> Vec<Edit> {
    let mut code = None;
    let mut edits = Vec::new();
    for line in lines(text) {
        let content = slice(text, line.start, line.end);
        if memchr::memchr2(b'&', b'<', content.as_bytes()).is_none() {
            continue;
        }
        let code = code.get_or_insert_with(|| CodeRanges::of(text));
        let found = leftovers(content, line.start, code);
        if !found.is_empty() && is_settled(content, line.start, &found, code, &settle) {
            edits.extend(found.into_iter().map(|edit| Edit {
                start: edit.start + line.start,
                end: edit.end + line.start,
                ..edit
            }));
        }
    }
    edits
}

/// Whether the mended line holds no further leftover, and is code where it was code and nowhere else.
fn is_settled(
    line: &str,
    offset: usize,
    edits: &[Edit],
    code: &CodeRanges,
    settle: &impl Fn(&str) -> String,
) -> bool {
    let new = apply(line, edits);
    let kept_runs = |text: &str| {
        backtick_runs(text)
            .iter()
            .map(|run| run.len())
            .collect::<Vec<_>>()
    };
    if kept_runs(line) != kept_runs(&new) || new.split('\n').any(|part| fence(part).is_some()) {
        return false;
    }
    if new.split('\n').skip(1).any(is_indented) || is_indented(&new) && !is_indented(line) {
        return false;
    }
    // The same line with a backtick in the place of each piece of code.
    let hidden = code.within(offset, offset + line.len()).iter().map(|range| {
        let start = range.start.saturating_sub(offset);
        Edit::new(start, (range.end - offset).min(line.len()), "`")
    });
    let mut both: Vec<Edit> = edits.iter().cloned().chain(hidden).collect();
    both.sort_by_key(|edit| edit.start);
    let settled = settle(&apply(line, &both));
    lines(&settled).all(|part| {
        let part = slice(&settled, part.start, part.end);
        leftovers(part, 0, &CodeRanges::none()).is_empty()
    })
}

/// The edits for one line that begins at byte `offset` of the text that `code` is about.
fn leftovers(line: &str, offset: usize, code: &CodeRanges) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut open: Vec<Tag> = Vec::new();
    let angles = Angles::of(line, offset, code);
    if angles.other_tag {
        return edits;
    }
    let mut from = 0;
    while let Some(found) = memchr::memchr2(b'&', b'<', line.as_bytes().get(from..).unwrap_or_default()) {
        let at = from + found;
        from = at + 1;
        if code.overlap(offset + at, offset + at + 1) {
            continue;
        }
        if line.as_bytes().get(at) == Some(&b'&') {
            if let Some((end, character)) = reference(line, at) {
                if stands_for_itself(line, at, end, character, &angles) {
                    // `&amp;lt;` is passed over as a whole.
                    from = reference_tail(line, end).unwrap_or(end);
                } else {
                    edits.push(Edit::new(at, end, String::from(character)));
                    from = end;
                }
            }
        } else if let Some(tag) = Tag::parse(line, at).filter(Tag::is_listed) {
            from = tag.end;
            if !is_quoted(line, tag.start, tag.end) && !code.overlap(offset + tag.start, offset + tag.end) {
                pair(line, tag, &mut open, &mut edits);
            }
        }
    }
    edits.sort_by_key(|edit| edit.start);
    edits
}

/// A reference at `at`: its end and what it stands for.
fn reference(line: &str, at: usize) -> Option<(usize, char)> {
    let end = reference_tail(line, at + 1)?;
    let name = slice(line, at + 1, end - 1);
    let character = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(hex) => numbered(u32::from_str_radix(hex, 16).ok()?),
            None => numbered(number.parse().ok()?),
        },
        None => named(name),
    }?;
    // Line breaks and marks of code would change what the rest of the document is; who writes U+FFFD names it.
    let never =
        character.is_control() || matches!(character, '`' | '~' | '\u{2028}' | '\u{2029}' | '\u{fffd}');
    (!never).then_some((end, character))
}

/// The end of `name;` or `#123;` at `at`.
fn reference_tail(line: &str, at: usize) -> Option<usize> {
    let rest = line.as_bytes().get(at..)?;
    let rest = rest.get(..MAX_REFERENCE_BYTES).unwrap_or(rest);
    let digits = rest.strip_prefix(b"#").unwrap_or(rest);
    let length = digits
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric())
        .count();
    (length > 0 && digits.get(length) == Some(&b';')).then(|| at + (rest.len() - digits.len()) + length + 1)
}

fn stands_for_itself(line: &str, start: usize, end: usize, character: char, angles: &Angles) -> bool {
    match character {
        '&' if reference_tail(line, end).is_some() || angles.bare_ampersand => true,
        '<' | '>' if angles.bare_less || angles.written_tag => true,
        _ => is_quoted(line, start, end) || is_inside_reference(line, start),
    }
}

/// Whether `start..end` stands alone in quotes or brackets.
fn is_quoted(line: &str, start: usize, end: usize) -> bool {
    let pair = char_before(line, start).zip(char_at(line, end));
    pair.is_some_and(|pair| {
        matches!(
            pair,
            ('"', '"')
                | ('\'', '\'')
                | ('«', '»')
                | ('„', '“' | '”')
                | ('“', '”')
                | ('‘', '’')
                | ('(', ')')
                | ('[', ']')
        )
    })
}

/// Whether an unfinished reference ends at `at`: what stands there may be all that keeps it from being one.
fn is_inside_reference(line: &str, at: usize) -> bool {
    let before = slice(line, 0, at);
    let name = before
        .bytes()
        .rev()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'#')
        .count();
    before
        .as_bytes()
        .get(..before.len() - name)
        .is_some_and(|rest| rest.ends_with(b"&"))
}

/// What a line tells about how its author writes `&` and `<`.
#[derive(Default)]
struct Angles {
    bare_ampersand: bool,
    bare_less: bool,
    /// `&lt;` before a letter: a tag that is spelt out.
    written_tag: bool,
    other_tag: bool,
}

impl Angles {
    fn of(line: &str, offset: usize, code: &CodeRanges) -> Self {
        let mut angles = Angles::default();
        for at in memchr::memchr2_iter(b'&', b'<', line.as_bytes()) {
            if code.overlap(offset + at, offset + at + 1) {
                continue;
            }
            let rest = line.as_bytes().get(at..).unwrap_or_default();
            match rest {
                [b'&', ..] => match reference(line, at) {
                    Some((end, '<')) => {
                        let next = char_at(line, end);
                        angles.written_tag |=
                            next.is_some_and(|c| c.is_alphabetic() || matches!(c, '/' | '!'));
                    }
                    Some(_) => {}
                    None => angles.bare_ampersand |= reference_tail(line, at + 1).is_none(),
                },
                [b'<', b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!', ..] => match Tag::parse(line, at) {
                    Some(tag) => angles.other_tag |= !tag.is_listed(),
                    None => angles.bare_less = true,
                },
                _ => angles.bare_less = true,
            }
        }
        angles
    }
}

struct Tag {
    start: usize,
    end: usize,
    name: String,
    closes: bool,
}

impl Tag {
    fn parse(line: &str, start: usize) -> Option<Tag> {
        let rest = line.as_bytes().get(start + 1..)?;
        let rest = rest.get(..MAX_TAG_BYTES).unwrap_or(rest);
        let length = rest.iter().position(|byte| matches!(byte, b'<' | b'>' | b'`'))?;
        if rest.get(length) != Some(&b'>') {
            return None;
        }
        let inner = slice(line, start + 1, start + 1 + length);
        let named = inner.strip_prefix('/').unwrap_or(inner);
        let name_bytes = named.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let after_name = named.as_bytes().get(name_bytes);
        // `<https://...>` and `<name@host>` are links.
        if name_bytes == 0 || after_name.is_some_and(|byte| !matches!(byte, b' ' | b'\t' | b'/')) {
            return None;
        }
        Some(Tag {
            start,
            end: start + 1 + length + 1,
            name: slice(named, 0, name_bytes).to_ascii_lowercase(),
            closes: inner.starts_with('/'),
        })
    }

    fn is_listed(&self) -> bool {
        TAGS.contains(&self.name.as_str())
    }
}

/// Removes `tag` if it stands alone by nature, or together with its partner before it on the line.
fn pair(line: &str, tag: Tag, open: &mut Vec<Tag>, edits: &mut Vec<Edit>) {
    let before = char_before(line, tag.start);
    let after = char_at(line, tag.end);
    let spaced = before.is_some_and(char::is_whitespace) && after.is_some_and(char::is_whitespace);
    match tag.name.as_str() {
        "wbr" if !spaced => edits.push(Edit::new(tag.start, tag.end, "")),
        "br" if !spaced && before.is_some() => {
            let rest = slice(line, tag.end, line.len()).trim_start_matches([' ', '\t']);
            let table = line.trim_start().starts_with('|');
            let with = if rest.is_empty() {
                ""
            } else if table {
                " "
            } else {
                "\n"
            };
            edits.push(Edit::new(tag.start, line.len() - rest.len(), with));
        }
        "br" | "wbr" => {}
        "p" if !tag.closes && slice(line, 0, tag.start).trim().is_empty() && after != Some(' ') => {
            edits.push(Edit::new(tag.start, tag.end, ""));
        }
        "p" if tag.closes
            && slice(line, tag.end, line.len()).trim().is_empty()
            && before.is_some_and(|c| c != ' ') =>
        {
            edits.push(Edit::new(tag.start, tag.end, ""));
        }
        _ if !tag.closes && open.len() < MAX_OPEN_TAGS => open.push(tag),
        _ if !tag.closes => {}
        name => {
            let Some(found) = open.iter().rposition(|other| other.name == name) else {
                return;
            };
            let Some(partner) = open.drain(found..).next() else {
                return;
            };
            // "the tags <b> and </b>" names them.
            let spoken_of = before.is_some_and(char::is_whitespace)
                && char_at(line, partner.end).is_some_and(char::is_whitespace);
            if !spoken_of {
                edits.push(Edit::new(partner.start, partner.end, ""));
                edits.push(Edit::new(tag.start, tag.end, ""));
            }
        }
    }
}
