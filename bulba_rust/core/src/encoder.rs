//! Text to ids with a byte-level BPE tokenizer.json.
//!
//! For the pipeline that [`crate::tokenizer::train`] writes, pieces are cut by [`Pretokenizer`] and their ids cached,
//! which gives the same ids as the `tokenizers` crate (tested) many times faster; any other pipeline runs in the crate.

use crate::pretokenize::{LLAMA3_REGEX, Pretokenizer, byte_alphabet, byte_level};
use crate::{Error, Result};
use ahash::AHashMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokenizers::{Model, Tokenizer};

/// Text to ids, without bos and eos; the literal text of a special token is ordinary text.
pub struct Encoder {
    tokenizer: Tokenizer,
    fingerprint: [u8; 32],
    /// Present when the pipeline is exactly the one that [`train`] writes.
    fast: Option<Fast>,
}

struct Fast {
    pretokenizer: Pretokenizer,
    alphabet: [char; 256],
    /// One cache a thread, so that the locks are never waited for.
    caches: Vec<Mutex<Cache>>,
}

/// The ids of pieces met before.
type Cache = AHashMap<Box<str>, Arc<[u32]>>;

/// Distinct pieces kept a thread; natural text has few common ones.
const CACHED_PIECES: usize = 1 << 17;

impl Encoder {
    pub fn open(path: &Path) -> Result<Self> {
        let fault = |reason: String| Error::Tokenizer {
            file: path.to_path_buf(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|error| fault(error.to_string()))?;
        tokenizer.set_encode_special_tokens(true);
        // A file may carry a length to cut or pad to; a document is encoded whole.
        tokenizer
            .with_truncation(None)
            .map_err(|error| fault(error.to_string()))?
            .with_padding(None);
        let fast = if is_llama3(&value) {
            Some(Fast {
                pretokenizer: Pretokenizer::new()?,
                alphabet: byte_alphabet(),
                caches: (0..=rayon::max_num_threads().min(256))
                    .map(|_| Mutex::default())
                    .collect(),
            })
        } else {
            None
        };
        Ok(Encoder {
            tokenizer,
            fingerprint: Sha256::digest(&bytes).into(),
            fast,
        })
    }

    /// SHA-256 of the bytes of tokenizer.json.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Ids run from 0 to this number.
    pub fn vocab_size(&self) -> usize {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// The ids of a text in NFC.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let fault = |error: tokenizers::Error| Error::Tokenizer {
            file: PathBuf::from("encoding"),
            reason: error.to_string(),
        };
        match &self.fast {
            Some(fast) => fast.encode(text, &self.tokenizer).map_err(fault),
            None => {
                let encoding = self.tokenizer.encode_fast(text, false).map_err(fault)?;
                Ok(encoding.get_ids().to_vec())
            }
        }
    }
}

impl Fast {
    fn encode(&self, text: &str, tokenizer: &Tokenizer) -> std::result::Result<Vec<u32>, tokenizers::Error> {
        let mut ids = Vec::with_capacity(text.len() / 4);
        let thread = rayon::current_thread_index().map_or(0, |index| index + 1) % self.caches.len();
        let mut nobody = Cache::new();
        let mut lock = self.caches.get(thread).and_then(|cache| cache.try_lock().ok());
        let cache = lock.as_deref_mut().unwrap_or(&mut nobody);
        for piece in self.pretokenizer.pieces(text) {
            if let Some(known) = cache.get(piece) {
                ids.extend_from_slice(known);
                continue;
            }
            let tokens = tokenizer
                .get_model()
                .tokenize(&byte_level(piece, &self.alphabet))?;
            let start = ids.len();
            ids.extend(tokens.iter().map(|token| token.id));
            if cache.len() < CACHED_PIECES {
                cache.insert(piece.into(), ids.get(start..).unwrap_or_default().into());
            }
        }
        Ok(ids)
    }
}

/// Whether a tokenizer.json is the pipeline that [`train`] writes: then cutting, bytes and merges are all there is.
fn is_llama3(tokenizer: &Value) -> bool {
    let normalizer = &tokenizer["normalizer"];
    let split = &tokenizer["pre_tokenizer"]["pretokenizers"];
    let model = &tokenizer["model"];
    let plain = |name: &str| model[name].is_null() || model[name] == json!("") || model[name] == json!(false);
    let added = tokenizer["added_tokens"].as_array();
    (normalizer.is_null() || *normalizer == json!({"type": "NFC"}))
        && split.as_array().is_some_and(|steps| steps.len() == 2)
        && split[0]
            == json!({"type": "Split", "pattern": {"Regex": LLAMA3_REGEX}, "behavior": "Isolated", "invert": false})
        && split[1]["type"] == "ByteLevel"
        && split[1]["add_prefix_space"] == json!(false)
        && split[1]["use_regex"] == json!(false)
        && model["type"] == "BPE"
        && [
            "dropout",
            "unk_token",
            "continuing_subword_prefix",
            "end_of_word_suffix",
            "byte_fallback",
        ]
        .into_iter()
        .all(plain)
        && added.is_none_or(|tokens| tokens.iter().all(|token| token["special"] == json!(true)))
}
