//! The corpus file: every normalised document of one preparation, on disk, readable in any order.
//!
//! Two files share a stem: `STEM.text` holds the documents back to back as UTF-8, `STEM.index` one 32-byte record
//! per document (offset, length, hash of the text, source). Tokenizer training, the split and encoding all read it
//! through mmap, so memory does not grow with the corpus. It is a work file: not fsynced, not kept.

use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use xxhash_rust::xxh3::xxh3_64;

#[derive(Clone, Copy, Debug)]
struct Record {
    offset: u64,
    text_bytes: u64,
    hash: u64,
    source: u32,
}

const RECORD_BYTES: usize = 32;

impl Record {
    fn to_words(self) -> [u64; 4] {
        [self.offset, self.text_bytes, self.hash, u64::from(self.source)]
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let [offset, text_bytes, hash, source]: [u64; 4] = bytemuck::pod_read_unaligned(bytes);
        Record {
            offset,
            text_bytes,
            hash,
            source: source as u32,
        }
    }
}

fn text_path(stem: &Path) -> PathBuf {
    stem.with_extension("text")
}

fn index_path(stem: &Path) -> PathBuf {
    stem.with_extension("index")
}

/// NFC without copying text that already is NFC.
pub fn normalize(text: &str) -> std::borrow::Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        text.into()
    } else {
        text.nfc().collect::<String>().into()
    }
}

pub struct CorpusWriter {
    stem: PathBuf,
    text: BufWriter<File>,
    index: BufWriter<File>,
    text_bytes: u64,
    num_documents: u64,
}

impl CorpusWriter {
    pub fn create(stem: &Path) -> Result<Self> {
        let open = |path: PathBuf| {
            File::create(&path)
                .map(|file| BufWriter::with_capacity(1 << 20, file))
                .map_err(|error| Error::io("create", &path, error))
        };
        Ok(CorpusWriter {
            stem: stem.to_path_buf(),
            text: open(text_path(stem))?,
            index: open(index_path(stem))?,
            text_bytes: 0,
            num_documents: 0,
        })
    }

    /// Adds one document, normalised to NFC. Returns its size in bytes, or None for a document of white space only,
    /// which is not stored.
    pub fn push(&mut self, text: &str, source: u32) -> Result<Option<u64>> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let text = normalize(text);
        let record = Record {
            offset: self.text_bytes,
            text_bytes: text.len() as u64,
            hash: xxh3_64(text.as_bytes()),
            source,
        };
        self.text
            .write_all(text.as_bytes())
            .map_err(|error| Error::io("write", &text_path(&self.stem), error))?;
        self.index
            .write_all(bytemuck::bytes_of(&record.to_words()))
            .map_err(|error| Error::io("write", &index_path(&self.stem), error))?;
        self.text_bytes += record.text_bytes;
        self.num_documents += 1;
        Ok(Some(record.text_bytes))
    }

    pub fn num_documents(&self) -> u64 {
        self.num_documents
    }

    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    pub fn finish(mut self) -> Result<()> {
        self.text
            .flush()
            .map_err(|error| Error::io("write", &text_path(&self.stem), error))?;
        self.index
            .flush()
            .map_err(|error| Error::io("write", &index_path(&self.stem), error))
    }
}

pub struct Corpus {
    stem: PathBuf,
    text: Mmap,
    index: Mmap,
}

impl Corpus {
    pub fn open(stem: &Path) -> Result<Self> {
        let corpus = Corpus {
            stem: stem.to_path_buf(),
            text: map_file(&text_path(stem))?,
            index: map_file(&index_path(stem))?,
        };
        if corpus.is_empty() {
            return Err(Error::Split(
                "the sources hold no text at all: add documents that are not empty".into(),
            ));
        }
        if corpus.len() > u32::MAX as usize {
            return Err(Error::Split(format!(
                "the sources hold {} documents and one preparation can take {}: split them",
                corpus.len(),
                u32::MAX
            )));
        }
        Ok(corpus)
    }

    pub fn len(&self) -> usize {
        self.index.len() / RECORD_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn text_bytes(&self) -> u64 {
        self.text.len() as u64
    }

    fn record(&self, document: usize) -> Result<Record> {
        let start = document * RECORD_BYTES;
        self.index
            .get(start..start + RECORD_BYTES)
            .map(Record::from_bytes)
            .ok_or_else(|| self.broken(start as u64, "a record", "the end of the file"))
    }

    pub fn hash(&self, document: usize) -> Result<u64> {
        Ok(self.record(document)?.hash)
    }

    pub fn source(&self, document: usize) -> Result<u32> {
        Ok(self.record(document)?.source)
    }

    pub fn document_bytes(&self, document: usize) -> Result<u64> {
        Ok(self.record(document)?.text_bytes)
    }

    pub fn text(&self, document: usize) -> Result<&str> {
        let record = self.record(document)?;
        let end = record.offset.saturating_add(record.text_bytes) as usize;
        self.text
            .get(record.offset as usize..end)
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .ok_or_else(|| {
                self.broken(
                    record.offset,
                    "UTF-8 text",
                    "something else or the end of the file",
                )
            })
    }

    fn broken(&self, offset: u64, expected: &str, got: &str) -> Error {
        Error::Format {
            file: text_path(&self.stem),
            offset,
            what: "the corpus file",
            expected: expected.into(),
            got: got.into(),
        }
    }
}

pub(crate) fn map_file(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    // SAFETY: these files are written once, renamed into place or private to this process, and never changed after.
    unsafe { Mmap::map(&file) }.map_err(|error| Error::io("map", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn documents_come_back_normalised_in_any_order(texts in prop::collection::vec(".{0,40}", 1..20)) {
            let folder = tempfile::tempdir().unwrap();
            let stem = folder.path().join("corpus");
            let mut writer = CorpusWriter::create(&stem).unwrap();
            let mut expected = Vec::new();
            for (number, text) in texts.iter().enumerate() {
                let kept = writer.push(text, number as u32).unwrap();
                prop_assert_eq!(kept.is_none(), text.trim().is_empty());
                if kept.is_some() {
                    expected.push((number as u32, text.nfc().collect::<String>()));
                }
            }
            writer.finish().unwrap();
            match Corpus::open(&stem) {
                Err(error) => {
                    prop_assert!(expected.is_empty(), "{}", error);
                }
                Ok(corpus) => {
                    prop_assert_eq!(corpus.len(), expected.len());
                    for (document, (source, text)) in expected.iter().enumerate().rev() {
                        prop_assert_eq!(corpus.text(document).unwrap(), text);
                        prop_assert_eq!(corpus.source(document).unwrap(), *source);
                    }
                }
            }
        }
    }
}
