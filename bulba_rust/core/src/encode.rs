//! Encoding a corpus into `train.bin` and `val.bin`: ordered, on all cores, in bounded memory.

use crate::corpus::Corpus;
use crate::encoder::Encoder;
use crate::progress::{Meter, Progress};
use crate::split::Split;
use crate::token_file::{Header, Meta, TokenFileWriter};
use crate::tokenizer::thread_pool;
use crate::{Error, Result};
use rayon::prelude::*;
use std::path::Path;

/// Bytes of text encoded at a time; the ids of one such batch are all that is held.
const BATCH_BYTES: u64 = 8 << 20;

#[derive(Clone, Copy, Debug)]
pub struct EncodeOptions {
    pub bos_id: u32,
    pub eos_id: u32,
    pub pad_id: Option<u32>,
    /// The counts by source are at least this long.
    pub num_sources: usize,
    /// 0: one for each core.
    pub num_threads: usize,
}

/// One written file and its share of each source.
#[derive(Clone, Debug)]
pub struct EncodeReport {
    pub header: Header,
    /// Tokens of each source, by source index.
    pub source_tokens: Vec<u64>,
    pub source_documents: Vec<u64>,
}

#[derive(Clone, Debug)]
pub struct EncodeReports {
    pub train: EncodeReport,
    pub val: EncodeReport,
}

/// Writes `train.bin` and `val.bin` into `out_dir`. Each document becomes bos, its ids, eos.
pub fn encode_corpus(
    corpus: &Corpus,
    split: &Split,
    encoder: &Encoder,
    options: &EncodeOptions,
    out_dir: &Path,
    progress: &mut Progress,
) -> Result<EncodeReports> {
    let total = total_bytes(corpus, split.val())? + total_bytes(corpus, split.train())?;
    let mut job = Job {
        corpus,
        encoder,
        options,
        pool: thread_pool(options.num_threads)?,
        meter: Meter::new(progress, total),
        done: 0,
    };
    let val = job.write(&out_dir.join("val.bin"), split.val())?;
    let train = job.write(&out_dir.join("train.bin"), split.train())?;
    job.meter.finish()?;
    Ok(EncodeReports { train, val })
}

fn total_bytes(corpus: &Corpus, documents: impl Iterator<Item = u32>) -> Result<u64> {
    documents
        .map(|document| corpus.document_bytes(document as usize))
        .sum()
}

struct Job<'a, 'b, 'c> {
    corpus: &'a Corpus,
    encoder: &'a Encoder,
    options: &'a EncodeOptions,
    pool: rayon::ThreadPool,
    meter: Meter<'b, 'c>,
    done: u64,
}

impl Job<'_, '_, '_> {
    fn write(&mut self, path: &Path, documents: impl ExactSizeIterator<Item = u32>) -> Result<EncodeReport> {
        let meta = Meta {
            vocab_size: u32::try_from(self.encoder.vocab_size()).map_err(|_| Error::Argument {
                name: "vocab_size",
                expected: "below 2^32".into(),
                got: self.encoder.vocab_size().to_string(),
            })?,
            tokenizer_fingerprint: self.encoder.fingerprint(),
            bos_id: Some(self.options.bos_id),
            eos_id: Some(self.options.eos_id),
            pad_id: self.options.pad_id,
        };
        let mut writer = TokenFileWriter::create(path, meta, documents.len() as u64)?;
        let (mut source_tokens, mut source_documents) = (
            vec![0; self.options.num_sources],
            vec![0; self.options.num_sources],
        );
        let mut documents = documents.peekable();
        while documents.peek().is_some() {
            let batch = self.take_batch(&mut documents)?;
            let (corpus, encoder, options) = (self.corpus, self.encoder, self.options);
            let encode = |document: &u32| encode_document(corpus, encoder, options, *document);
            let encoded: Result<Vec<Vec<u32>>> = self.pool.install(|| batch.par_iter().map(encode).collect());
            for (document, ids) in batch.iter().zip(encoded?) {
                let source = self.corpus.source(*document as usize)?;
                let text_bytes = self.corpus.document_bytes(*document as usize)?;
                writer.push(&ids, source, text_bytes)?;
                add(&mut source_tokens, source, ids.len() as u64);
                add(&mut source_documents, source, 1);
                self.done += text_bytes;
            }
            self.meter.tick(self.done)?;
        }
        Ok(EncodeReport {
            header: writer.finish()?,
            source_tokens,
            source_documents,
        })
    }

    fn take_batch(&self, documents: &mut impl Iterator<Item = u32>) -> Result<Vec<u32>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(document) = documents.next()
        {
            bytes += self.corpus.document_bytes(document as usize)?;
            batch.push(document);
        }
        Ok(batch)
    }
}

fn encode_document(
    corpus: &Corpus,
    encoder: &Encoder,
    options: &EncodeOptions,
    document: u32,
) -> Result<Vec<u32>> {
    let mut ids = encoder.encode(corpus.text(document as usize)?)?;
    ids.insert(0, options.bos_id);
    ids.push(options.eos_id);
    Ok(ids)
}

fn add(counts: &mut Vec<u64>, source: u32, amount: u64) {
    let source = source as usize;
    if counts.len() <= source {
        counts.resize(source + 1, 0);
    }
    if let Some(count) = counts.get_mut(source) {
        *count += amount;
    }
}
