//! The one error type. Each message is a single sentence: what, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        action: &'static str,
        file: PathBuf,
        source: io::Error,
    },
    #[error(
        "no room left while writing {} ({source}): free some disk space or set data.cache_dir to a larger disk",
        file.display()
    )]
    NoSpace { file: PathBuf, source: io::Error },
    #[error(
        "{} is not UTF-8 at byte {offset}{hint}: convert it to UTF-8, or set data.on_bad=skip to leave it out",
        file.display()
    )]
    NotUtf8 {
        file: PathBuf,
        offset: u64,
        hint: String,
    },
    #[error("{}, {place}: {reason}; mend it, or set data.on_bad=skip to leave it out", file.display())]
    BadDocument {
        file: PathBuf,
        place: String,
        reason: String,
    },
    #[error(
        "{}: {what} at byte {offset} should be {expected} but is {got}; delete the file and prepare the data again",
        file.display()
    )]
    Format {
        file: PathBuf,
        offset: u64,
        what: &'static str,
        expected: String,
        got: String,
    },
    #[error(
        "{} has format version {got} at byte {offset} and this Bulba reads version {expected}: prepare the data again",
        file.display()
    )]
    OtherVersion {
        file: PathBuf,
        offset: u64,
        expected: u32,
        got: u32,
    },
    #[error(
        "{} has its bytes in big-endian order from byte 0 on and token files are little-endian: prepare the data again",
        file.display()
    )]
    ForeignByteOrder { file: PathBuf },
    #[error(
        "{} was written with another tokenizer (fingerprint {got} at byte 40, expected {expected}): prepare the data with the tokenizer of this run",
        file.display()
    )]
    OtherTokenizer {
        file: PathBuf,
        expected: String,
        got: String,
    },
    #[error("{}: {reason}; delete the file, it is made again at the next start", file.display())]
    Plan { file: PathBuf, reason: String },
    #[error(
        "cannot write {}, the plan of the rows beside the token file ({source}): allow writing in that folder, set data.cache_dir to another one, or set data.mode=chunked, which needs no plan",
        file.display()
    )]
    PlanFolder { file: PathBuf, source: io::Error },
    #[error("tokenizer {}: {reason}", file.display())]
    Tokenizer { file: PathBuf, reason: String },
    #[error(
        "the training text ({text_bytes} bytes) supports {supported} tokens but tokenizer.vocab_size={asked} asks for more: set tokenizer.vocab_size={supported} or lower, or add text"
    )]
    TooFewMerges {
        asked: usize,
        supported: usize,
        text_bytes: u64,
    },
    #[error("{0}")]
    Split(String),
    #[error(
        "{} holds {num_tokens} tokens but one row of data.seq_len={seq_len} needs {needed}: set a smaller data.seq_len or add text",
        file.display()
    )]
    TooSmall {
        file: PathBuf,
        num_tokens: u64,
        seq_len: u64,
        needed: u64,
    },
    #[error("argument {name}: expected {expected}, got {got}")]
    Argument {
        name: &'static str,
        expected: String,
        got: String,
    },
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Wraps an I/O error; a full disk, a quota and a file-size limit get their own sentence.
    pub fn io(action: &'static str, file: &Path, source: io::Error) -> Self {
        let file = file.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Error::NoSpace { file, source }
            }
            _ => Error::Io { action, file, source },
        }
    }
}
