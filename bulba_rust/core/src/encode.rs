//! From the documents of a corpus to token files, in two steps that can each be taken up again after a kill.
//!
//! [`encode_shard`] writes the ids of one shard's documents beside each other; [`assemble`] copies them into
//! `train.bin` and `val.bin` in the order of the split. Memory is one batch, whatever the size of the corpus.

use crate::corpus::{Corpus, Dropped};
use crate::encoder::Encoder;
use crate::language::Language;
use crate::progress::{Meter, Progress};
use crate::shard::{bytes, map_file};
use crate::split::Split;
use crate::threads::in_order;
use crate::token_file::{Header, Meta, TokenFileWriter, token_bytes};
use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Text that a thread encodes at a time; the ids of two such batches for each thread are all that is held.
const BATCH_BYTES: u64 = 1 << 19;

/// What the encoding of every shard shares.
pub struct ShardJob<'a> {
    pub corpus: &'a Corpus,
    pub dropped: &'a Dropped,
    pub encoder: &'a Encoder,
    pub bos_id: u32,
    pub eos_id: u32,
}

impl ShardJob<'_> {
    /// Writes `tokens` (ids, u16 or u32) and `ends` (u64 each: where a document's tokens end) into `folder`.
    /// Each document is bos, its ids, eos; a dropped one has none.
    pub fn encode(
        &self,
        shard: usize,
        pool: &rayon::ThreadPool,
        folder: &Path,
        progress: &mut Progress,
    ) -> Result<()> {
        let documents = self.corpus.shard_documents(shard);
        let mut total = 0;
        for document in documents.clone() {
            total += self.corpus.document_bytes(document)?;
        }
        let (mut meter, mut done) = (Meter::new(progress, total), 0);
        let token_bytes = token_bytes(vocab_size(self.encoder)?);
        let mut writer = EncodedWriter::create(folder)?;
        in_order(
            pool,
            self.batches(documents),
            |batch| self.encode_batch(&batch, token_bytes),
            |encoded| {
                let encoded = encoded?;
                writer.push(&encoded)?;
                done += encoded.text_bytes;
                meter.tick(done)
            },
        )?;
        meter.finish()?;
        writer.finish()
    }

    /// The documents in batches of about `BATCH_BYTES` of text.
    fn batches(&self, mut documents: Range<u32>) -> impl Iterator<Item = Result<Batch>> {
        std::iter::from_fn(move || {
            let mut batch = Batch {
                documents: documents.start..documents.start,
                text_bytes: 0,
            };
            while batch.text_bytes < BATCH_BYTES
                && let Some(document) = documents.next()
            {
                match self.corpus.document_bytes(document) {
                    Ok(text_bytes) => batch.text_bytes += text_bytes,
                    Err(error) => return Some(Err(error)),
                }
                batch.documents.end = documents.start;
            }
            (!batch.documents.is_empty()).then_some(Ok(batch))
        })
    }

    fn encode_batch(&self, batch: &Batch, token_bytes: u32) -> Result<EncodedBatch> {
        let mut encoded = EncodedBatch {
            text_bytes: batch.text_bytes,
            ..EncodedBatch::default()
        };
        let mut ids = Vec::new();
        for document in batch.documents.clone() {
            ids.clear();
            self.encode_document(document, &mut ids)?;
            for id in &ids {
                let bytes = id.to_le_bytes();
                encoded
                    .tokens
                    .extend(bytes.get(..token_bytes as usize).unwrap_or(&bytes));
            }
            encoded.lengths.push(ids.len() as u64);
        }
        Ok(encoded)
    }

    /// The ids of a document go into `ids`, which is empty.
    fn encode_document(&self, document: u32, ids: &mut Vec<u32>) -> Result<()> {
        if self.dropped.contains(document) {
            return Ok(());
        }
        let text = self.corpus.text(document)?;
        // Shards are not synced to the disk: a power failure may have left one with its size and without its text.
        if xxh3_64(text.as_bytes()) != self.corpus.record(document)?.hash {
            return Err(self.corpus.damaged(document));
        }
        ids.push(self.bos_id);
        self.encoder.encode_into(text, ids)?;
        ids.push(self.eos_id);
        Ok(())
    }
}

/// As a token file stores it.
pub fn vocab_size(encoder: &Encoder) -> Result<u32> {
    u32::try_from(encoder.vocab_size()).map_err(|_| Error::Argument {
        name: "vocab_size",
        expected: "below 2^32".into(),
        got: encoder.vocab_size().to_string(),
    })
}

/// Neighbouring documents, and how much text they hold.
struct Batch {
    documents: Range<u32>,
    text_bytes: u64,
}

#[derive(Default)]
struct EncodedBatch {
    /// As the file stores them.
    tokens: Vec<u8>,
    /// Tokens of each document.
    lengths: Vec<u64>,
    text_bytes: u64,
}

struct EncodedWriter {
    folder: PathBuf,
    tokens: BufWriter<File>,
    ends: BufWriter<File>,
    num_tokens: u64,
}

impl EncodedWriter {
    fn create(folder: &Path) -> Result<Self> {
        let open = |name: &str| {
            let path = folder.join(name);
            File::create(&path)
                .map(|file| BufWriter::with_capacity(1 << 20, file))
                .map_err(|error| Error::io("create", &path, error))
        };
        Ok(EncodedWriter {
            folder: folder.to_path_buf(),
            tokens: open("tokens")?,
            ends: open("ends")?,
            num_tokens: 0,
        })
    }

    fn push(&mut self, batch: &EncodedBatch) -> Result<()> {
        let written = self.tokens.write_all(&batch.tokens).and_then(|()| {
            batch.lengths.iter().try_for_each(|length| {
                self.num_tokens += length;
                self.ends.write_all(&self.num_tokens.to_le_bytes())
            })
        });
        written.map_err(|error| Error::io("write", &self.folder, error))
    }

    fn finish(mut self) -> Result<()> {
        self.tokens
            .flush()
            .and_then(|()| self.ends.flush())
            .map_err(|error| Error::io("write", &self.folder, error))
    }
}

/// What [`encode_shard`] wrote, mapped.
struct Encoded {
    folder: PathBuf,
    tokens: Option<Mmap>,
    ends: Option<Mmap>,
    token_bytes: u64,
}

impl Encoded {
    fn open(folder: &Path, num_documents: usize, token_bytes: u32) -> Result<Self> {
        let encoded = Encoded {
            folder: folder.to_path_buf(),
            tokens: map_file(&folder.join("tokens"))?,
            ends: map_file(&folder.join("ends"))?,
            token_bytes: u64::from(token_bytes),
        };
        let tokens = encoded.end(num_documents) * encoded.token_bytes;
        if bytes(&encoded.ends).len() != num_documents * 8 || bytes(&encoded.tokens).len() as u64 != tokens {
            return Err(encoded.broken());
        }
        Ok(encoded)
    }

    /// Tokens before document number `place`.
    fn end(&self, place: usize) -> u64 {
        let Some(before) = place.checked_sub(1) else {
            return 0;
        };
        bytes(&self.ends)
            .get(before * 8..before * 8 + 8)
            .map_or(0, bytemuck::pod_read_unaligned)
    }

    fn document(&self, place: usize) -> Result<&[u8]> {
        let span = self.end(place) * self.token_bytes..self.end(place + 1) * self.token_bytes;
        bytes(&self.tokens)
            .get(span.start as usize..span.end as usize)
            .ok_or_else(|| self.broken())
    }

    fn broken(&self) -> Error {
        Error::Format {
            file: self.folder.clone(),
            offset: 0,
            what: "the encoded shard",
            expected: "one that belongs to its text".into(),
            got: "another".into(),
        }
    }
}

/// What went into one token file.
#[derive(Clone, Debug)]
pub struct FileReport {
    pub header: Header,
    /// [source][language] -> (documents, tokens, bytes of text).
    pub counts: Vec<[Counts; Language::COUNT]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub documents: u64,
    pub tokens: u64,
    pub text_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct FileReports {
    pub train: FileReport,
    pub val: FileReport,
}

/// Writes `train.bin` and `val.bin` into `out_dir`. `encoded` holds the folders of all shards, in order.
pub fn assemble(
    corpus: &Corpus,
    split: &Split,
    encoded: &[PathBuf],
    meta: &Meta,
    out_dir: &Path,
    progress: &mut Progress,
) -> Result<FileReports> {
    let token_bytes = token_bytes(meta.vocab_size);
    let mut parts = Vec::with_capacity(encoded.len());
    for (shard, folder) in encoded.iter().enumerate() {
        let num_documents = corpus.shard_documents(shard).len();
        parts.push(Encoded::open(folder, num_documents, token_bytes)?);
    }
    let mut assembly = Assembly {
        corpus,
        parts,
        meta,
        meter: Meter::new(progress, corpus.text_bytes()),
        done: 0,
    };
    let val = assembly.write(
        &out_dir.join("val.bin"),
        split.val().iter().copied(),
        split.val().len() as u64,
    )?;
    let train = assembly.write(&out_dir.join("train.bin"), split.train(), split.num_train())?;
    assembly.meter.finish()?;
    Ok(FileReports { train, val })
}

struct Assembly<'a, 'b, 'c> {
    corpus: &'a Corpus,
    parts: Vec<Encoded>,
    meta: &'a Meta,
    meter: Meter<'b, 'c>,
    done: u64,
}

impl Assembly<'_, '_, '_> {
    fn write(
        &mut self,
        path: &Path,
        documents: impl Iterator<Item = u32>,
        num_documents: u64,
    ) -> Result<FileReport> {
        let mut counts = vec![[Counts::default(); Language::COUNT]; self.corpus.num_sources()];
        let mut writer = TokenFileWriter::create(path, self.meta.clone(), num_documents)?;
        for document in documents {
            let (shard, place) = self.corpus.locate(document)?;
            let part = self
                .parts
                .get(shard)
                .ok_or_else(|| Error::Split(format!("shard {shard} is not encoded")))?;
            let tokens = part.document(place)?;
            let record = self.corpus.record(document)?;
            writer.push_raw(
                tokens,
                self.corpus.origin(document)?,
                record.language as u8,
                record.text_bytes,
            )?;
            let source = self.corpus.source(document)? as usize;
            if let Some(count) = counts
                .get_mut(source)
                .and_then(|row| row.get_mut(record.language as usize))
            {
                count.documents += 1;
                count.tokens += tokens.len() as u64 / part.token_bytes;
                count.text_bytes += record.text_bytes;
            }
            self.done += record.text_bytes;
            self.meter.tick(self.done)?;
        }
        Ok(FileReport {
            header: writer.finish()?,
            counts,
        })
    }
}
