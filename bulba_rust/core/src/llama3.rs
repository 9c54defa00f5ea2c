//! Llama 3's pipeline: pieces are cut by [`Pretokenizer`], looked up in a [`PieceCache`], and new ones merged by
//! [`Merges`].

use crate::Result;
use crate::merges::Merges;
use crate::nfc::to_nfc;
use crate::piece_cache::{Found, PieceCache};
use crate::pretokenize::{LLAMA3_REGEX, Pretokenizer};
use crate::thread_slots::ThreadSlots;
use crate::vocabulary::Vocabulary;
use ahash::AHashMap;
use serde_json::{Value, json};

pub struct Llama3 {
    pretokenizer: Pretokenizer,
    normalizes: bool,
    /// The tokens that a piece becomes without merging, where the model has `ignore_merges`.
    whole: AHashMap<Box<[u8]>, u32>,
    merges: Merges,
    caches: ThreadSlots<PieceCache>,
}

/// Pieces whose places in the cache are on their way from memory at a time.
const PIECES_TOGETHER: usize = 16;

impl Llama3 {
    /// None if the definition is of another pipeline, or the model is not of bytes or too large for the tables.
    pub fn new(definition: &Value) -> Result<Option<Self>> {
        let model = &definition["model"];
        let read = || {
            let vocabulary = Vocabulary::new(model)?;
            let tokens = vocabulary.tokens();
            let merges = Merges::new(vocabulary.byte_ids()?, &tokens, &vocabulary.merges()?)?;
            Some((tokens, merges))
        };
        let Some((tokens, merges)) = is_llama3(definition).then(read).flatten() else {
            return Ok(None);
        };
        let ignore_merges = model["ignore_merges"] == json!(true);
        Ok(Some(Llama3 {
            pretokenizer: Pretokenizer::new()?,
            normalizes: !definition["normalizer"].is_null(),
            whole: tokens.into_iter().filter(|_| ignore_merges).collect(),
            merges,
            caches: ThreadSlots::new(),
        }))
    }

    /// The ids of `text` go behind `ids`.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let normal;
        let mut text = text;
        if self.normalizes {
            normal = to_nfc(text)?;
            text = &normal;
        }
        let mut slot = self.caches.lock();
        let cache = slot.get_or_insert_with(PieceCache::new);
        let text = text.as_bytes();
        let mut pieces = [Found::default(); PIECES_TOGETHER];
        let mut start = 0;
        while start < text.len() {
            let mut count = 0;
            while start < text.len() && count < PIECES_TOGETHER {
                let end = self.pretokenizer.piece_end(text, start);
                pieces[count] = cache.find(text, start, end);
                (start, count) = (end, count + 1);
            }
            for piece in &pieces[..count] {
                cache.tokens(piece, ids, |ids| self.merge(&text[piece.start..piece.end], ids));
            }
        }
        Ok(())
    }

    fn merge(&self, piece: &[u8], ids: &mut Vec<u32>) {
        match self.whole.get(piece) {
            Some(id) => ids.push(*id),
            None => self.merges.apply(piece, ids),
        }
    }
}

/// Whether a tokenizer.json is the pipeline that [`crate::tokenizer::train`] writes: then cutting, bytes and merges are all there is.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretokenize::byte_alphabet;

    /// As in the tokenizer.json of Llama 3, but with bytes and one merge.
    fn definition() -> Value {
        let mut vocabulary: serde_json::Map<String, Value> = byte_alphabet()
            .iter()
            .zip(0..)
            .map(|(character, id): (_, u32)| (character.to_string(), json!(id)))
            .collect();
        vocabulary.insert("th".into(), json!(256));
        json!({
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": LLAMA3_REGEX}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
            ]},
            "added_tokens": [{"id": 128000, "content": "<|begin_of_text|>", "special": true}],
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
                "vocab": vocabulary, "merges": ["t h"]
            }
        })
    }

    fn is_taken(change: impl FnOnce(&mut Value)) -> bool {
        let mut definition = definition();
        change(&mut definition);
        Llama3::new(&definition).unwrap().is_some()
    }

    #[test]
    fn the_pipeline_of_llama_3_and_ours_are_taken() {
        assert!(is_taken(|_| ()));
        assert!(is_taken(
            |definition| definition["normalizer"] = json!({"type": "NFC"})
        ));
        assert!(is_taken(
            |definition| definition["model"]["merges"] = json!([["t", "h"]])
        ));
        assert!(is_taken(
            |definition| definition["model"]["ignore_merges"] = json!(false)
        ));
    }

    #[test]
    fn what_else_a_pipeline_may_do_is_left_to_the_crate() {
        assert!(!is_taken(
            |definition| definition["normalizer"] = json!({"type": "NFKC"})
        ));
        assert!(!is_taken(|definition| definition["model"]["dropout"] = json!(0.1)));
        assert!(!is_taken(
            |definition| definition["model"]["unk_token"] = json!("th")
        ));
        assert!(!is_taken(
            |definition| definition["model"]["byte_fallback"] = json!(true)
        ));
        assert!(!is_taken(
            |definition| definition["model"]["end_of_word_suffix"] = json!("</w>")
        ));
        assert!(!is_taken(
            |definition| definition["model"]["vocab"]["!"] = Value::Null
        ));
        assert!(!is_taken(
            |definition| definition["model"]["vocab"]["th"] = json!(5)
        ));
        assert!(!is_taken(
            |definition| definition["model"]["vocab"]["th"] = json!(u32::MAX)
        ));
        assert!(!is_taken(
            |definition| definition["model"]["merges"] = json!([["t", "e"]])
        ));
        assert!(!is_taken(
            |definition| definition["added_tokens"][0]["special"] = json!(false)
        ));
        let split = |field: &str, value: Value| {
            is_taken(|definition| definition["pre_tokenizer"]["pretokenizers"][0][field] = value)
        };
        assert!(!split("pattern", json!({"Regex": r"\s+"})));
        assert!(!split("behavior", json!("Removed")));
        let byte_level = |field: &str| {
            is_taken(|definition| definition["pre_tokenizer"]["pretokenizers"][1][field] = json!(true))
        };
        assert!(!byte_level("add_prefix_space"));
        assert!(!byte_level("use_regex"));
    }
}
