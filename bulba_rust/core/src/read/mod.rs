//! Reading files of text: one file a format, behind them unpacking and encodings.
//!
//! [`open`] unpacks, [`input`] buffers and turns bytes into text ([`encoding`], [`utf16`]), [`text`], [`json`],
//! [`json_lines`] and [`csv`] find the documents. Memory does not grow with the file.
//!
//! Nothing is lost silently: with [`OnBad::Skip`] a broken document is recorded with its place and reason and so is
//! the rest of a file that cannot be read further, with [`OnBad::Fail`] either ends the reading. Text is never
//! guessed and no character is replaced: what is not certain is refused.

mod csv;
mod encoding;
mod input;
mod json;
mod json_lines;
mod letters;
mod open;
mod text;
mod utf16;

use crate::progress::Progress;
use crate::{Error, Result};
use input::Input;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The whole file is one document, or several if it is longer than [`MAX_TEXT_BYTES`].
    Text,
    /// A list of strings or of objects with `text`, or one such object.
    Json,
    /// One string or one object with `text` a line.
    JsonLines,
    /// A table with a header row, one document a row in its column `text`.
    Csv,
}

/// A plain text longer than this is cut at line ends, where possible at blank lines; each part is a document.
pub const MAX_TEXT_BYTES: usize = 16 << 20;

/// A line, a list element or a table row longer than this in the file is left out.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBad {
    Skip,
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub place: String,
    pub reason: String,
}

/// What came of one file. `rejects` holds the first [`FileReport::MAX_REJECTS`] of `num_rejected`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Given to the sink, and their size in UTF-8.
    pub documents: u64,
    pub text_bytes: u64,
    pub num_rejected: u64,
    pub rejects: Vec<Reject>,
    /// In which all documents were; "UTF-8" also where there was ASCII only.
    pub encoding: &'static str,
    /// How often a plain text was cut for its length.
    pub num_cuts: u64,
}

impl FileReport {
    pub const MAX_REJECTS: usize = 20;
}

/// Gives every document of the file to `sink`, once and in order. `progress` counts bytes as they lie on disk.
pub fn read_file(
    path: &Path,
    format: Format,
    on_bad: OnBad,
    sink: &mut dyn FnMut(&str) -> Result<()>,
    progress: &mut Progress,
) -> Result<FileReport> {
    let mut input = Input::open(path, progress)?;
    let mut output = Output {
        path,
        on_bad,
        sink,
        report: FileReport::default(),
    };
    let read = input.recognise_start().and_then(|()| match format {
        Format::Text => text::read(&mut input, &mut output),
        Format::Json => json::read(&mut input, &mut output),
        Format::JsonLines => json_lines::read(&mut input, &mut output),
        Format::Csv => csv::read(&mut input, &mut output),
    });
    match read {
        Ok(()) => {}
        Err(Stop::Fatal(error)) => return Err(error),
        Err(Stop::Refused { place, problem }) => output.refuse(place, problem)?,
    }
    input.finish()?;
    output.report.encoding = input.encoding();
    Ok(output.report)
}

/// Ends the reading of a file.
enum Stop {
    Fatal(Error),
    /// What follows cannot be read; what came before was.
    Refused {
        place: Option<String>,
        problem: Problem,
    },
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Fatal(error)
    }
}

type Flow<T> = std::result::Result<T, Stop>;

/// Why a document, or the rest of a file, cannot be used.
#[derive(Debug)]
enum Problem {
    NotUtf8 { offset: u64, hint: String },
    Other { offset: u64, reason: String },
}

impl Problem {
    fn offset(&self) -> u64 {
        match self {
            Problem::NotUtf8 { offset, .. } | Problem::Other { offset, .. } => *offset,
        }
    }
}

/// Where the documents of one file and the complaints about it go.
struct Output<'a> {
    path: &'a Path,
    on_bad: OnBad,
    sink: &'a mut dyn FnMut(&str) -> Result<()>,
    report: FileReport,
}

impl Output<'_> {
    fn accept(&mut self, text: &str) -> Flow<()> {
        (self.sink)(text)?;
        self.report.documents += 1;
        self.report.text_bytes += text.len() as u64;
        Ok(())
    }

    fn reject(&mut self, place: String, reason: String) -> Flow<()> {
        if self.on_bad == OnBad::Fail {
            return Err(Stop::Fatal(Error::BadDocument {
                file: self.path.to_path_buf(),
                place,
                reason,
            }));
        }
        self.record(place, reason);
        Ok(())
    }

    /// Leaves out a document whose bytes are no text. Its place is its offset if it has no other.
    fn reject_bytes(&mut self, place: Option<String>, problem: Problem) -> Flow<()> {
        match (problem, place) {
            (Problem::NotUtf8 { offset, hint }, None) if self.on_bad == OnBad::Fail => {
                Err(Stop::Fatal(self.not_utf8(offset, hint)))
            }
            (Problem::NotUtf8 { offset, hint }, None) => {
                self.reject(format!("byte {offset}"), format!("not UTF-8{hint}"))
            }
            (Problem::NotUtf8 { offset, hint }, Some(place)) => {
                self.reject(place, format!("not UTF-8 at byte {offset}{hint}"))
            }
            (Problem::Other { offset, reason }, place) => {
                self.reject(place.unwrap_or_else(|| format!("byte {offset}")), reason)
            }
        }
    }

    /// Leaves out the rest of the file.
    fn refuse(&mut self, place: Option<String>, problem: Problem) -> Result<()> {
        let place = place.unwrap_or_else(|| format!("byte {}", problem.offset()));
        let reason = match problem {
            Problem::NotUtf8 { offset, hint } if self.on_bad == OnBad::Fail => {
                return Err(self.not_utf8(offset, hint));
            }
            Problem::NotUtf8 { hint, .. } => format!("not UTF-8{hint}: convert it to UTF-8"),
            Problem::Other { reason, .. } => reason,
        };
        if self.on_bad == OnBad::Fail {
            return Err(Error::BadDocument {
                file: self.path.to_path_buf(),
                place,
                reason,
            });
        }
        let before = match self.report.documents {
            0 => String::new(),
            count => format!("; the {count} documents before it were kept, the rest was not read"),
        };
        self.record(place, format!("{reason}{before}"));
        Ok(())
    }

    fn not_utf8(&self, offset: u64, hint: String) -> Error {
        Error::NotUtf8 {
            file: self.path.to_path_buf(),
            offset,
            hint,
        }
    }

    fn record(&mut self, place: String, reason: String) {
        self.report.num_rejected += 1;
        if self.report.rejects.len() < FileReport::MAX_REJECTS {
            self.report.rejects.push(Reject { place, reason });
        }
    }
}

#[cfg(test)]
mod tests;
