//! Whether a line looks like prose, code or a comment.

use super::is_alphabetic;
use super::markdown::slice;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Blank,
    Prose,
    Code,
    Comment,
    /// Of Markdown, or a comment.
    Heading,
}

/// What will end the comment that `line`, which comes after `previous`, begins and does not end: a documentation
/// string of Python, or `/* ...`.
pub fn opens_comment(line: &str, previous: &str) -> Option<&'static str> {
    let line = line.trim();
    if line.starts_with("/*") {
        return (!line.contains("*/")).then_some("*/");
    }
    let string = line.trim_start_matches(['r', 'R', 'b', 'u']);
    ["\"\"\"", "'''"].into_iter().find(|quotes| {
        string.strip_prefix(quotes).is_some_and(|rest| {
            // Alone on its line it is rather the end of one.
            !rest.contains(quotes)
                && (!rest.is_empty() || previous.is_empty() || previous.trim_end().ends_with(':'))
        })
    })
}

const COMMENTS: [&str; 6] = ["//", "/*", "*/", "##", "#!", "<!--"];

/// First words of lines of code; many are English words too, so one alone proves nothing.
#[rustfmt::skip]
const KEYWORDS: [&str; 78] = [
    "abstract", "assert", "async", "await", "break", "case", "catch", "class", "const", "constexpr",
    "continue", "def", "default", "del", "do", "echo", "elif", "else", "elsif", "end", "enum", "except",
    "export", "extends", "extern", "final", "finally", "fn", "for", "foreach", "from", "func", "function",
    "global", "if", "impl", "import", "include", "int", "interface", "let", "local", "loop", "match", "mod",
    "module", "mut", "namespace", "new", "package", "pass", "print", "printf", "private", "protected", "pub",
    "public", "raise", "require", "return", "select", "self", "static", "struct", "switch", "template",
    "this", "throw", "trait", "try", "type", "unsafe", "use", "using", "var", "void", "while", "yield",
];

/// Copies `line` into `prose` without what is no language: inline code, links, tags and references.
pub fn prose_of(line: &str, prose: &mut String) {
    prose.clear();
    let mut rest = line.trim();
    while let Some(at) = memchr::memchr3(b'`', b'<', b':', rest.as_bytes()) {
        prose.push_str(slice(rest, 0, at));
        rest = slice(rest, at, rest.len());
        let skipped = match rest.as_bytes().first() {
            Some(b'`') => inline_code_bytes(rest),
            Some(b'<') => link_bytes(rest),
            _ => address_bytes(rest),
        };
        if skipped == 0 {
            prose.push_str(slice(rest, 0, 1));
        } else {
            prose.push(' ');
        }
        rest = slice(rest, skipped.max(1), rest.len());
    }
    prose.push_str(rest);
}

/// Up to the next run of as many backticks.
fn inline_code_bytes(rest: &str) -> usize {
    let ticks = rest.bytes().take_while(|byte| *byte == b'`').count();
    let inner = slice(rest, ticks, rest.len());
    inner
        .find(slice(rest, 0, ticks))
        .map_or(0, |close| ticks + close + ticks)
}

/// `<https://...>`
fn link_bytes(rest: &str) -> usize {
    let end = memchr::memchr(b'>', rest.as_bytes()).unwrap_or(0);
    if slice(rest, 0, end).contains("://") {
        end + 1
    } else {
        0
    }
}

/// `://...` and what follows up to white space or a bracket.
fn address_bytes(rest: &str) -> usize {
    if !rest.starts_with("://") {
        return 0;
    }
    rest.find(|c: char| c.is_whitespace() || matches!(c, ')' | ']' | '>' | '"'))
        .unwrap_or(rest.len())
}

/// The shape of a line as [`prose_of`] gives it; `indented` if it began with more than one space or a tab.
pub fn of(line: &str, indented: bool) -> Shape {
    let line = line.trim();
    if !line.contains(is_alphabetic) && !line.contains(['{', '}']) {
        return Shape::Blank;
    }
    if COMMENTS.iter().any(|mark| line.starts_with(mark)) {
        return Shape::Comment;
    }
    if line.starts_with("# ") {
        return Shape::Heading;
    }
    let statement = before_comment(line);
    let mut points = begins_like_code(statement)
        + operators(statement)
        + ends_like_code(statement)
        + punctuation(statement)
        + assignment(statement);
    if indented && points > 0 && !line.starts_with(['-', '*', '+', '>']) {
        points += 1;
    }
    if points >= 2 && points - prose_run(statement) >= 2 {
        Shape::Code
    } else {
        Shape::Prose
    }
}

/// What stands before ` # ...` or ` // ...` at the end of a line of code.
fn before_comment(line: &str) -> &str {
    if memchr::memchr2(b'#', b'/', line.as_bytes()).is_none() {
        return line;
    }
    let end = line.find(" # ").or_else(|| line.find(" // "));
    let statement = slice(line, 0, end.unwrap_or(line.len())).trim_end();
    if statement.ends_with(|c: char| c.is_ascii_punctuation() || c.is_ascii_digit()) {
        statement
    } else {
        line
    }
}

/// `name = ...`, `name.part += ...`
fn assignment(line: &str) -> i32 {
    let name = line
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"_.[]$".contains(byte))
        .count();
    let rest = slice(line, name, line.len());
    let assigns = [" = ", " := ", " += ", " -= "]
        .iter()
        .any(|sign| rest.starts_with(sign));
    if name > 0 && assigns { 3 } else { 0 }
}

fn begins_like_code(line: &str) -> i32 {
    let length = line.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let word = slice(line, 0, length);
    let keyword = KEYWORDS.binary_search(&word).is_ok();
    let special = [
        "@", "#include", "#define", "#if", "#end", "<?", "$ ", "$", ">>> ", "{%",
    ];
    let is_import = word == "from" && line.contains(" import ")
        || word == "import" && (line.split(' ').count() == 2 || line.contains(" as ") || line.contains('.'));
    if is_import {
        return 3;
    }
    i32::from(keyword || special.iter().any(|mark| line.starts_with(mark)))
}

/// Pairs of characters that prose has no use for: `==`, `);`, `f(x`, `a_b`, `x = y`. Two are proof enough.
fn operators(line: &str) -> i32 {
    let bytes = line.as_bytes();
    let word = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    let pairs = bytes.windows(2).enumerate().filter(|(at, pair)| match pair {
        [b'=' | b'!' | b':' | b'+' | b'-' | b'<' | b'>' | b'*' | b'/', b'='] => true,
        [b'=' | b'-', b'>'] | [b':', b':'] | [b'&', b'&'] | [b'|', b'|'] | [b'+', b'+'] => true,
        [b'<', b'/' | b'<'] | [b'/', b'>'] | [b'>', b'>'] | [b'$' | b'{' | b'%', b'{'] | [b'}', b'}'] => true,
        [b'(', b')' | b'&' | b'*' | b'\'' | b'"'] | [b'[', b']' | b'\''] | [b'{', b'}'] => true,
        [b')' | b']' | b'}', b';' | b'['] => true,
        [b')' | b']', b'.'] => bytes.get(at + 2).is_some_and(u8::is_ascii_lowercase),
        [b'\\', b'n' | b'x' | b'u' | b't'] => true,
        [b' ', b'='] => bytes.get(at + 2) == Some(&b' '),
        [left, b'('] => {
            left.is_ascii_alphanumeric() && !matches!(bytes.get(at + 2), None | Some(b's' | b' '))
        }
        [left, b'_' | b'['] => left.is_ascii_alphanumeric() && word(at + 2),
        [left, b'='] => left.is_ascii_alphanumeric() && bytes.get(at + 2).is_some_and(|byte| *byte != b' '),
        [b'$', right] => right.is_ascii_alphabetic(),
        _ => false,
    });
    pairs.take(2).count() as i32
}

fn ends_like_code(line: &str) -> i32 {
    let is_tag = line.starts_with('<') && line.ends_with('>');
    let only_closes = line.len() <= 4 && line.starts_with(['{', '}', ']', ')']);
    if is_tag || only_closes || is_property(line) {
        return 2;
    }
    let marks = ["{", "}", "[", "(", "\\", ";", "):", "),", "\",", "',", "],"];
    i32::from(marks.iter().any(|mark| line.ends_with(mark)))
}

/// `color: red;` and `name: 'x',`
fn is_property(line: &str) -> bool {
    let name = line
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"-_\"'".contains(byte))
        .count();
    name > 0 && slice(line, name, line.len()).starts_with(':') && line.ends_with([';', ','])
}

/// Whether much of the line is neither letters nor white space.
fn punctuation(line: &str) -> i32 {
    let marks = line.bytes().filter(|byte| byte.is_ascii_punctuation()).count();
    let visible = line.chars().filter(|c| !c.is_whitespace()).count();
    i32::from(marks * 5 > visible)
}

/// Words that follow each other without anything but a space between them speak for prose.
fn prose_run(line: &str) -> i32 {
    let (mut longest, mut run) = (0, 0);
    for word in line.split(' ') {
        let bare = word.trim_matches([
            ',', '.', ';', ':', '!', '?', '(', ')', '"', '«', '»', '\u{201c}', '\u{201d}',
        ]);
        let letter = |c: char| is_alphabetic(c) || matches!(c, '-' | '\'' | '\u{2019}' | '\u{301}');
        let is_word = bare.starts_with(is_alphabetic) && bare.chars().all(letter);
        run = if is_word { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    i32::from(longest >= 4) + i32::from(longest >= 8)
}

#[cfg(test)]
mod tests {
    #[test]
    fn keywords_are_sorted() {
        assert!(super::KEYWORDS.is_sorted());
    }
}
