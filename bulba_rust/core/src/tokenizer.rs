//! Training a byte-level BPE tokenizer on a corpus: counting its pieces, learning merges, writing tokenizer.json.

use crate::bpe::{self, Learnt};
use crate::corpus::Corpus;
use crate::pretokenize::{LLAMA3_REGEX, Pretokenizer, byte_alphabet};
use crate::progress::{Meter, Progress};
use crate::split::Split;
use crate::{Error, Result};
use ahash::{AHashMap, AHashSet};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use tokenizers::Tokenizer;

/// Bytes of text handed to the threads at a time.
const BATCH_BYTES: u64 = 16 << 20;

#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Entries learnt: 256 bytes and vocab_size - 256 merges. Special tokens come on top.
    pub vocab_size: usize,
    /// Their ids are vocab_size, vocab_size + 1, ...
    pub special_tokens: Vec<String>,
    /// The special token that the post-processor puts in front.
    pub bos_token: String,
    /// A pair seen less often than this is never merged.
    pub min_frequency: u64,
    /// Text to learn from, taken from the start of the (shuffled) training stream.
    pub max_text_bytes: u64,
    /// 0: one for each core.
    pub num_threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainReport {
    pub documents: u64,
    pub text_bytes: u64,
    pub distinct_pieces: u64,
}

pub(crate) fn thread_pool(num_threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(num_threads)
        .build()
        .map_err(|error| Error::Argument {
            name: "num_threads",
            expected: "threads that can be started".into(),
            got: error.to_string(),
        })
}

/// Learns a tokenizer from the training documents and writes `tokenizer.json`.
pub fn train(
    corpus: &Corpus,
    split: &Split,
    options: &TrainOptions,
    out_path: &Path,
    progress: &mut Progress,
) -> Result<TrainReport> {
    check_options(options)?;
    let pool = thread_pool(options.num_threads)?;
    let (counts, report) = count_pieces(corpus, split, options.max_text_bytes, &pool, progress)?;
    let learnt = learn_merges(counts, options, report.text_bytes, progress)?;
    let tokenizer = assemble(&learnt, options, out_path)?;
    write_atomically(out_path, tokenizer.as_bytes())?;
    Ok(report)
}

fn check_options(options: &TrainOptions) -> Result<()> {
    let wrong = |name, expected: &str, got: String| Error::Argument {
        name,
        expected: expected.into(),
        got,
    };
    if options.vocab_size < 256 || options.vocab_size > 1 << 24 {
        return Err(wrong(
            "tokenizer.vocab_size",
            "256 (one entry a byte) or more",
            options.vocab_size.to_string(),
        ));
    }
    let distinct: AHashSet<&String> = options.special_tokens.iter().collect();
    if distinct.len() != options.special_tokens.len() || distinct.iter().any(|token| token.is_empty()) {
        return Err(wrong(
            "tokenizer.special_tokens",
            "distinct strings that are not empty",
            format!("{:?}", options.special_tokens),
        ));
    }
    if !distinct.contains(&options.bos_token) {
        return Err(wrong(
            "tokenizer.bos_token",
            "one of the special tokens",
            options.bos_token.clone(),
        ));
    }
    Ok(())
}

/// How often each piece occurs in the training text, borrowed from the mapped corpus.
type Counts<'t> = AHashMap<&'t str, u64>;

fn count_pieces<'t>(
    corpus: &'t Corpus,
    split: &Split,
    max_text_bytes: u64,
    pool: &rayon::ThreadPool,
    progress: &mut Progress,
) -> Result<(Counts<'t>, TrainReport)> {
    let pretokenizer = Pretokenizer::new()?;
    let mut report = TrainReport {
        documents: 0,
        text_bytes: 0,
        distinct_pieces: 0,
    };
    let mut counts = Counts::new();
    // Learning the merges is the second half of the work.
    let mut meter = Meter::new(progress, 2 * max_text_bytes.min(corpus.text_bytes()));
    let mut documents = split.train().peekable();
    while documents.peek().is_some() && report.text_bytes < max_text_bytes {
        let mut batch = Vec::new();
        let start = report.text_bytes;
        while report.text_bytes < max_text_bytes
            && report.text_bytes - start < BATCH_BYTES
            && let Some(document) = documents.next()
        {
            let text = corpus.text(document as usize)?;
            report.documents += 1;
            report.text_bytes += text.len() as u64;
            batch.push(text);
        }
        let counted = pool.install(|| count_batch(&batch, &pretokenizer));
        for (piece, count) in counted {
            *counts.entry(piece).or_default() += count;
        }
        meter.tick(report.text_bytes)?;
    }
    report.distinct_pieces = counts.len() as u64;
    Ok((counts, report))
}

fn count_batch<'t>(batch: &[&'t str], pretokenizer: &Pretokenizer) -> Counts<'t> {
    batch
        .par_iter()
        .fold(Counts::new, |mut counts, text| {
            for piece in pretokenizer.pieces(text) {
                *counts.entry(piece).or_default() += 1;
            }
            counts
        })
        .reduce(Counts::new, |mut into, from| {
            for (piece, count) in from {
                *into.entry(piece).or_default() += count;
            }
            into
        })
}

fn learn_merges(
    counts: Counts,
    options: &TrainOptions,
    text_bytes: u64,
    progress: &mut Progress,
) -> Result<Learnt> {
    let mut meter = Meter::new(progress, 2 * text_bytes);
    let learnt = bpe::learn(
        counts.into_iter(),
        &byte_ids(),
        options.vocab_size,
        options.min_frequency,
        |num_tokens| meter.tick(text_bytes + text_bytes * num_tokens as u64 / options.vocab_size as u64),
    )?;
    meter.finish()?;
    if learnt.tokens.len() < options.vocab_size {
        return Err(Error::TooFewMerges {
            asked: options.vocab_size,
            supported: learnt.tokens.len(),
            text_bytes,
        });
    }
    Ok(learnt)
}

/// The id of each byte: its place in the byte alphabet in the order of code points, as the `tokenizers` crate has it.
fn byte_ids() -> [u8; 256] {
    let alphabet = byte_alphabet();
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|byte| alphabet[usize::from(*byte)]);
    let mut ids = [0; 256];
    for (id, byte) in bytes.into_iter().enumerate() {
        ids[usize::from(byte)] = id as u8;
    }
    ids
}

/// The learnt tokens and merges as tokenizer.json spells them.
fn model_json(learnt: &Learnt) -> Value {
    let alphabet = byte_alphabet();
    let spelt: Vec<String> = learnt
        .tokens
        .iter()
        .map(|token| token.iter().map(|byte| alphabet[usize::from(*byte)]).collect())
        .collect();
    let spell = |id: u32| spelt.get(id as usize).cloned().unwrap_or_default();
    let merges: Vec<Value> = learnt
        .merges
        .iter()
        .map(|(left, right)| json!([spell(*left), spell(*right)]))
        .collect();
    let vocabulary: serde_json::Map<String, Value> = spelt
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
        "vocab": vocabulary, "merges": merges
    })
}

/// The text of tokenizer.json: the learnt model inside the fixed Llama-3 pipeline.
fn assemble(learnt: &Learnt, options: &TrainOptions, out_path: &Path) -> Result<String> {
    let fault = |reason: String| Error::Tokenizer {
        file: out_path.to_path_buf(),
        reason,
    };
    let first_id = options.vocab_size;
    let added: Vec<Value> = (first_id..)
        .zip(&options.special_tokens)
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true
            })
        })
        .collect();
    let bos_place = options
        .special_tokens
        .iter()
        .position(|token| *token == options.bos_token);
    let bos_id = first_id + bos_place.unwrap_or(0);
    let bos = &options.bos_token;
    let pipeline = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3_REGEX}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}
            ],
            "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": model_json(learnt)
    });
    // Through the crate and back: it fixes the order of the fields and refuses what it cannot read.
    let tokenizer: Tokenizer = pipeline
        .to_string()
        .parse()
        .map_err(|error: tokenizers::Error| fault(error.to_string()))?;
    for (id, token) in (first_id..).zip(&options.special_tokens) {
        if tokenizer.token_to_id(token) != Some(id as u32) {
            return Err(fault(format!(
                "the special token {token:?} is also an ordinary entry of the vocabulary: choose another name for it"
            )));
        }
    }
    tokenizer
        .to_string(true)
        .map_err(|error| fault(error.to_string()))
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| Error::io("write", path, error))
}
