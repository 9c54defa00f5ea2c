//! Text to ids with a byte-level BPE tokenizer.json.
//!
//! The pipeline that [`crate::tokenizer::train`] writes, which is Llama 3's, runs in [`Llama3`], with the same ids as
//! the `tokenizers` crate (tested) many times faster; any other pipeline runs in the crate.

use crate::llama3::Llama3;
use crate::threads::thread_pool;
use crate::vocabulary::Vocabulary;
use crate::{Error, Result};
use ahash::AHashMap;
use rayon::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Text to ids, without bos and eos; the literal text of a special token is ordinary text.
pub struct Encoder {
    pipeline: Pipeline,
    fingerprint: [u8; 32],
    vocab_size: usize,
    /// What each id stands for; a special token stands for no bytes.
    token_bytes: AHashMap<u32, Box<[u8]>>,
}

enum Pipeline {
    Llama3(Box<Llama3>),
    Any(Box<Tokenizer>),
}

impl Encoder {
    pub fn open(path: &Path) -> Result<Self> {
        let fault = |reason: String| Error::Tokenizer {
            file: path.to_path_buf(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
        let vocabulary = Vocabulary::new(&value["model"]);
        let mut token_bytes: AHashMap<u32, Box<[u8]>> = AHashMap::new();
        for (token, id) in vocabulary.iter().flat_map(Vocabulary::tokens) {
            token_bytes.insert(id, token);
        }
        let pipeline = match Llama3::new(&value)? {
            Some(llama3) => Pipeline::Llama3(Box::new(llama3)),
            None => Pipeline::Any(Box::new(
                open_any(&bytes).map_err(|error| fault(error.to_string()))?,
            )),
        };
        let added = match &pipeline {
            Pipeline::Llama3(_) => added_tokens(&value),
            Pipeline::Any(tokenizer) => {
                let added = tokenizer.get_added_tokens_decoder();
                added.iter().map(|(id, token)| (*id, token.special)).collect()
            }
        };
        for (id, _) in added.iter().filter(|(_, special)| *special) {
            token_bytes.insert(*id, Box::default());
        }
        let largest = match &pipeline {
            Pipeline::Llama3(_) => {
                let ids = vocabulary.iter().flat_map(Vocabulary::ids);
                ids.chain(added.iter().map(|(id, _)| *id)).max()
            }
            Pipeline::Any(tokenizer) => tokenizer.get_vocab(true).into_values().max(),
        };
        Ok(Encoder {
            pipeline,
            fingerprint: Sha256::digest(&bytes).into(),
            vocab_size: largest.map_or(0, |id| id as usize + 1),
            token_bytes,
        })
    }

    /// SHA-256 of the bytes of tokenizer.json.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Ids run from 0 to this number.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// The ids of `text` go behind `ids`. As many threads as like may encode at a time.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        match &self.pipeline {
            Pipeline::Llama3(llama3) => llama3.encode(text, ids),
            Pipeline::Any(tokenizer) => {
                let encoding = tokenizer
                    .encode_fast(text, false)
                    .map_err(|error| Error::Tokenizer {
                        file: PathBuf::from("encoding"),
                        reason: error.to_string(),
                    })?;
                ids.extend_from_slice(encoding.get_ids());
                Ok(())
            }
        }
    }

    /// The ids of each text, on `num_threads` threads; 0: one for each core.
    pub fn encode_batch(
        &self,
        texts: &[impl AsRef<str> + Sync],
        num_threads: usize,
    ) -> Result<Vec<Vec<u32>>> {
        let pool = thread_pool(num_threads)?;
        pool.install(|| texts.par_iter().map(|text| self.encode(text.as_ref())).collect())
    }

    /// The number of ids of each text, with threads as in [`Encoder::encode_batch`].
    pub fn count_tokens(&self, texts: &[impl AsRef<str> + Sync], num_threads: usize) -> Result<Vec<usize>> {
        let pool = thread_pool(num_threads)?;
        let count = |ids: &mut Vec<u32>, text: &str| {
            ids.clear();
            self.encode_into(text, ids)?;
            Ok(ids.len())
        };
        pool.install(|| {
            let texts = texts.par_iter();
            texts
                .map_init(Vec::new, |ids, text| count(ids, text.as_ref()))
                .collect()
        })
    }

    /// The bytes that `ids` stand for; a special token stands for none. Of the ids of a text they are the text, in NFC
    /// if the tokenizer normalises, but ids in another order may give bytes that are not UTF-8.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        for id in ids {
            let token = self.token_bytes.get(id).ok_or_else(|| Error::Argument {
                name: "token id",
                expected: format!(
                    "an entry of the vocabulary of {} that stands for bytes",
                    self.vocab_size
                ),
                got: id.to_string(),
            })?;
            bytes.extend_from_slice(token);
        }
        Ok(bytes)
    }
}

/// The crate's own encoder: whole texts, special tokens as ordinary text.
fn open_any(bytes: &[u8]) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_bytes(bytes)?;
    tokenizer.set_encode_special_tokens(true);
    // A file may carry a length to cut or pad to; a document is encoded whole.
    tokenizer.with_truncation(None)?.with_padding(None);
    Ok(tokenizer)
}

/// Id of each added token of a tokenizer.json, and whether it is special.
fn added_tokens(definition: &Value) -> Vec<(u32, bool)> {
    let tokens = definition["added_tokens"].as_array().into_iter().flatten();
    tokens
        .filter_map(|token| {
            let id = u32::try_from(token["id"].as_u64()?).ok()?;
            Some((id, token["special"] == Value::Bool(true)))
        })
        .collect()
}
