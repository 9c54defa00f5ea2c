//! In which language a text is: Belarusian, Russian, Ukrainian, English, source code, or something else.
//!
//! Lines that look like code are counted apart from lines of prose. Prose is scored, by script, with weights of
//! letters, common words and endings (naive Bayes, see `weights.rs`), against each other and against other languages
//! of the script. Fenced blocks, inline code, links and tags of a Markdown text have no say in its language.
//! Of a long text only samples are read.

mod model;
mod shape;
mod weights;

pub mod markdown;

use markdown::{fence, slice};
use model::{MODEL, Model, add, best};
use shape::Shape;
use std::ops::Range;

#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    Other = 0,
    Be = 1,
    Ru = 2,
    Uk = 3,
    En = 4,
    Code = 5,
}

impl Language {
    pub const ALL: [Language; 6] = [
        Language::Other,
        Language::Be,
        Language::Ru,
        Language::Uk,
        Language::En,
        Language::Code,
    ];

    pub const COUNT: usize = Self::ALL.len();

    /// The language of a stored tag; Other for one that is unknown.
    pub fn from_tag(tag: u8) -> Self {
        Self::ALL
            .get(usize::from(tag))
            .copied()
            .unwrap_or(Language::Other)
    }

    pub fn name(self) -> &'static str {
        match self {
            Language::Other => "other",
            Language::Be => "be",
            Language::Ru => "ru",
            Language::Uk => "uk",
            Language::En => "en",
            Language::Code => "code",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// A text up to this long is read whole; of a longer one, as much in samples.
const MAX_READ_BYTES: usize = 2 << 10;
const NUM_SAMPLES: usize = 4;
/// Share of the bytes of code and prose lines that must be code in source code; comments are neither.
const MIN_CODE_FRAC: f64 = 0.3;
/// With fewer letters of prose outside the fenced blocks, a text is what is inside them.
const MIN_PROSE_LETTERS: u64 = 12;
/// A text with at least this share of Cyrillic letters is in a Cyrillic language: foreign terms and names are
/// common there, the reverse is not.
const MIN_CYRILLIC_FRAC: f64 = 0.3;

pub fn detect(text: &str) -> Language {
    let mut evidence = Evidence::default();
    if text.len() <= MAX_READ_BYTES {
        evidence.read(text, 0, &[]);
    } else {
        let fenced = fenced_blocks(text);
        for sample in samples(text) {
            evidence.read(slice(text, sample.start, sample.end), sample.start, &fenced);
        }
    }
    evidence.language()
}

/// Ranges of whole lines spread evenly over `text`, the first at its beginning.
fn samples(text: &str) -> impl Iterator<Item = Range<usize>> {
    const BYTES: usize = MAX_READ_BYTES / NUM_SAMPLES;
    (0..NUM_SAMPLES).map(|number| {
        let wanted = text.len() / NUM_SAMPLES * number;
        let bytes = text.as_bytes();
        let rest = bytes.get(wanted..).unwrap_or_default();
        let mut start = match memchr::memchr(b'\n', rest.get(..BYTES).unwrap_or(rest)) {
            Some(at) if wanted > 0 => wanted + at + 1,
            _ => wanted,
        };
        while !text.is_char_boundary(start) {
            start += 1;
        }
        let mut end = (start + BYTES).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    })
}

/// Fenced code blocks of the whole text, so that a sample from the middle of one is known as such.
fn fenced_blocks(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut marks: Vec<usize> = ["```", "~~~"]
        .into_iter()
        .flat_map(|mark| memchr::memmem::find_iter(bytes, mark))
        .map(|at| memchr::memrchr(b'\n', bytes.get(..at).unwrap_or_default()).map_or(0, |line| line + 1))
        .collect();
    marks.sort_unstable();
    marks.dedup();
    let mut blocks = Vec::new();
    let mut open: Option<(u8, usize, usize)> = None;
    for start in marks {
        let end =
            memchr::memchr(b'\n', bytes.get(start..).unwrap_or_default()).map_or(text.len(), |at| start + at);
        match (fence(slice(text, start, end)), open) {
            (Some((mark, length, _)), None) => open = Some((mark, length, start)),
            (Some((mark, length, true)), Some((m, n, from))) if mark == m && length >= n => {
                blocks.push(from..end);
                open = None;
            }
            _ => {}
        }
    }
    blocks.extend(open.map(|(_, _, from)| from..text.len()));
    blocks
}

#[derive(Default)]
struct Evidence {
    code_bytes: u64,
    prose_bytes: u64,
    fenced_bytes: u64,
    comment_bytes: u64,
    cyrillic_letters: u64,
    latin_letters: u64,
    other_letters: u64,
    cyrillic: [i32; 7],
    latin: [i32; 2],
}

impl Evidence {
    /// Adds a piece of a text that begins at byte `offset` of it; without `fenced`, the piece is a whole text.
    fn read(&mut self, piece: &str, offset: usize, fenced: &[Range<usize>]) {
        let mut open: Option<(u8, usize)> = None;
        let (mut front_matter, mut comment, mut previous) = (false, None, "");
        let mut prose = String::new();
        for (number, at) in markdown::lines(piece).enumerate() {
            let line = slice(piece, at.start, at.end);
            let place = offset + at.start;
            if offset == 0 && line.trim_end() == "---" && (number == 0 || front_matter) {
                front_matter = number == 0;
                continue;
            }
            let block = fenced.get(fenced.partition_point(|block| block.end <= place));
            let in_fence = block.is_some_and(|block| block.start <= place);
            let opened = shape::opens_comment(line, previous);
            match (fence(line), open) {
                (Some((mark, length, _)), None) if fenced.is_empty() => open = Some((mark, length)),
                (Some((mark, length, true)), Some((m, n))) if mark == m && length >= n => open = None,
                (_, None) if comment.is_some() || opened.is_some() => {
                    let closed = comment.is_some_and(|end| line.contains(end));
                    comment = comment.or(opened).filter(|_| !closed);
                    self.comment_bytes += line.len() as u64;
                }
                (_, None) if !in_fence && !front_matter => self.line(line, &mut prose),
                _ => self.fenced_bytes += line.len() as u64,
            }
            previous = line;
        }
    }

    fn line(&mut self, line: &str, prose: &mut String) {
        shape::prose_of(line, prose);
        let bytes = prose.trim().len() as u64;
        match shape::of(prose, line.starts_with("  ") || line.starts_with('\t')) {
            Shape::Blank => {}
            Shape::Code => self.code_bytes += bytes,
            Shape::Comment => self.comment_bytes += bytes,
            Shape::Heading => self.words(prose),
            Shape::Prose => {
                self.prose_bytes += bytes;
                self.words(prose);
            }
        }
    }

    fn words(&mut self, prose: &str) {
        let model = &*MODEL;
        let mut word = String::new();
        for c in prose.chars().chain([' ']) {
            if is_alphabetic(c) {
                word.push(lower(c));
            } else if !word.is_empty() {
                self.word(model, &word);
                word.clear();
            }
        }
    }

    fn word(&mut self, model: &Model, word: &str) {
        let (mut letters, mut cyrillic) = (0, 0);
        for c in word.chars() {
            letters += 1;
            match c {
                '\u{400}'..='\u{52f}' => {
                    cyrillic += 1;
                    add(&mut self.cyrillic, model.cyrillic.letter(c as usize - 0x400));
                }
                'a'..='\u{24f}' => {
                    self.latin_letters += 1;
                    add(&mut self.latin, model.latin.letter(c as usize));
                }
                _ => self.other_letters += 1,
            }
        }
        self.cyrillic_letters += cyrillic;
        if cyrillic > 0 {
            add(&mut self.cyrillic, model.cyrillic.word(word, letters));
        } else {
            add(&mut self.latin, model.latin.word(word, letters));
        }
    }

    fn language(&self) -> Language {
        let letters = self.cyrillic_letters + self.latin_letters + self.other_letters;
        let code = self.code_bytes as f64 / (self.code_bytes + self.prose_bytes).max(1) as f64;
        if code >= MIN_CODE_FRAC {
            return Language::Code;
        }
        if letters < MIN_PROSE_LETTERS && self.fenced_bytes + self.comment_bytes > self.prose_bytes {
            return Language::Code;
        }
        if letters == 0 || self.other_letters * 2 > letters {
            Language::Other
        } else if self.cyrillic_letters as f64 >= MIN_CYRILLIC_FRAC * letters as f64 {
            match best(&self.cyrillic) {
                0 => Language::Be,
                1 => Language::Ru,
                2 => Language::Uk,
                _ => Language::Other,
            }
        } else if best(&self.latin) == 0 {
            Language::En
        } else {
            Language::Other
        }
    }
}

/// As `char::is_alphabetic`, without its search for what is common here.
fn is_alphabetic(c: char) -> bool {
    match c {
        '\u{400}'..='\u{481}' | '\u{48a}'..='\u{52f}' => true,
        '\u{2000}'..='\u{206f}' => false,
        _ => c.is_alphabetic(),
    }
}

fn lower(c: char) -> char {
    match c {
        'a'..='z' | 'а'..='ё' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        'А'..='Я' => char::from_u32(c as u32 + 0x20).unwrap_or(c),
        // A few capitals have lower-case forms of more than one character; the first will do.
        _ => c.to_lowercase().next().unwrap_or(c),
    }
}

#[cfg(test)]
mod tests;
