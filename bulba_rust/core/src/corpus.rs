//! The corpus of one preparation: the documents of its shards as one numbered list, readable in any order.
//!
//! Deduplication, tokenizer training and the split read it through mmap, so memory does not grow with the text.

use crate::dedup::{Documents, Duplicates, Signature};
use crate::language::Language;
use crate::shard::{Record, Shard};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// NFC without copying text that already is NFC.
pub fn normalize(text: &str) -> std::borrow::Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        text.into()
    } else {
        text.nfc().collect::<String>().into()
    }
}

/// Where one shard of a corpus lies, and what it belongs to.
#[derive(Clone, Debug)]
pub struct ShardRef {
    pub folder: PathBuf,
    /// Place of the source in the list of sources. Shards come in the order of their sources.
    pub source: u32,
    /// Number of the shard's first file in the list of all files.
    pub first_origin: u32,
}

pub struct Corpus {
    shards: Vec<(Shard, ShardRef)>,
    /// First document of each shard, and the number of documents.
    starts: Vec<u32>,
    text_bytes: u64,
}

impl Corpus {
    pub fn open(refs: &[ShardRef]) -> Result<Self> {
        let (mut shards, mut starts) = (Vec::new(), vec![0u32]);
        let (mut num_documents, mut text_bytes) = (0u64, 0u64);
        for one in refs {
            let shard = Shard::open(&one.folder)?;
            num_documents += shard.len() as u64;
            text_bytes += shard.text_bytes();
            let fits = u32::try_from(num_documents).map_err(|_| {
                Error::Split(format!(
                    "the sources hold more than {} documents, which is what one preparation can take: split them",
                    u32::MAX
                ))
            })?;
            starts.push(fits);
            shards.push((shard, one.clone()));
        }
        if num_documents == 0 {
            return Err(Error::Split(
                "the sources hold no text at all: add documents that are not empty".into(),
            ));
        }
        Ok(Corpus {
            shards,
            starts,
            text_bytes,
        })
    }

    pub fn len(&self) -> u32 {
        self.starts.last().copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    pub fn num_sources(&self) -> usize {
        self.shards
            .iter()
            .map(|(_, one)| one.source as usize + 1)
            .max()
            .unwrap_or(0)
    }

    fn find(&self, document: u32) -> Result<(&Shard, &ShardRef, usize)> {
        let (number, place) = self.locate(document)?;
        match self.shards.get(number) {
            Some((shard, one)) => Ok((shard, one, place)),
            None => Err(Error::Split(format!("document {document} is in no shard"))),
        }
    }

    /// The shard of a document, and the document's place in it.
    pub fn locate(&self, document: u32) -> Result<(usize, usize)> {
        let number = self
            .starts
            .partition_point(|start| *start <= document)
            .saturating_sub(1);
        match self.starts.get(number) {
            Some(start) if document < self.len() => Ok((number, (document - start) as usize)),
            _ => Err(Error::Argument {
                name: "document",
                expected: format!("below {}", self.len()),
                got: document.to_string(),
            }),
        }
    }

    /// Its documents' numbers: those of one shard lie together.
    pub fn shard_documents(&self, shard: usize) -> std::ops::Range<u32> {
        let at = |place: usize| self.starts.get(place).copied().unwrap_or(self.len());
        at(shard)..at(shard + 1)
    }

    pub fn num_shards(&self) -> usize {
        self.shards.len()
    }

    pub fn record(&self, document: u32) -> Result<Record> {
        let (shard, _, place) = self.find(document)?;
        shard.record(place)
    }

    pub fn source(&self, document: u32) -> Result<u32> {
        Ok(self.find(document)?.1.source)
    }

    /// Number of the document's file in the list of all files.
    pub fn origin(&self, document: u32) -> Result<u32> {
        let (shard, one, place) = self.find(document)?;
        Ok(one.first_origin + shard.record(place)?.file)
    }

    pub fn language(&self, document: u32) -> Result<Language> {
        Ok(self.record(document)?.language)
    }

    pub fn document_bytes(&self, document: u32) -> Result<u64> {
        Ok(self.record(document)?.text_bytes)
    }

    /// The sentence for a document whose text is not what was stored.
    pub fn damaged(&self, document: u32) -> Error {
        match self.find(document) {
            Ok((_, one, _)) => Error::Format {
                file: one.folder.clone(),
                offset: 0,
                what: "the text of a document",
                expected: "as it was stored".into(),
                got: "different".into(),
            },
            Err(error) => error,
        }
    }

    pub fn text(&self, document: u32) -> Result<&str> {
        let (shard, _, place) = self.find(document)?;
        shard.text(place)
    }
}

impl Documents for Corpus {
    fn len(&self) -> u32 {
        Corpus::len(self)
    }

    fn hash(&self, document: u32) -> Result<u64> {
        Ok(self.record(document)?.hash)
    }

    fn signature(&self, document: u32) -> Result<Signature> {
        let (shard, _, place) = self.find(document)?;
        shard.signature(place)
    }

    fn text(&self, document: u32) -> Result<&str> {
        Corpus::text(self, document)
    }
}

/// The numbers of documents that are left out, as a bit each; stored as the work file `dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    bits: Vec<u8>,
}

impl Dropped {
    pub fn new(num_documents: u32, duplicates: &Duplicates) -> Self {
        let mut dropped = Dropped {
            bits: vec![0; num_documents.div_ceil(8) as usize],
        };
        for duplicate in &duplicates.dropped {
            dropped.insert(duplicate.document);
        }
        dropped
    }

    fn insert(&mut self, document: u32) {
        if let Some(byte) = self.bits.get_mut(document as usize / 8) {
            *byte |= 1 << (document % 8);
        }
    }

    pub fn contains(&self, document: u32) -> bool {
        self.bits
            .get(document as usize / 8)
            .is_some_and(|byte| byte & (1 << (document % 8)) != 0)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, &self.bits).map_err(|error| Error::io("write", path, error))
    }

    pub fn read(path: &Path, num_documents: u32) -> Result<Self> {
        let bits = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let expected = num_documents.div_ceil(8) as usize;
        if bits.len() != expected {
            return Err(Error::Format {
                file: path.to_path_buf(),
                offset: 0,
                what: "the size",
                expected: format!("{expected} bytes"),
                got: format!("{} bytes", bits.len()),
            });
        }
        Ok(Dropped { bits })
    }
}
