//! The vocabulary and merges of a byte-level BPE model, as tokenizer.json has them.

use crate::bpe::Pair;
use crate::pretokenize::byte_alphabet;
use ahash::{AHashMap, AHashSet};
use serde_json::Value;

/// A token and its id.
pub type Token = (Box<[u8]>, u32);

pub struct Vocabulary<'j> {
    ids: AHashMap<&'j str, u32>,
    merges: &'j Value,
}

impl<'j> Vocabulary<'j> {
    /// None if `model` has no vocabulary of one id for each token.
    pub fn new(model: &'j Value) -> Option<Self> {
        let entries = model["vocab"].as_object()?.iter();
        let ids: AHashMap<&str, u32> = entries
            .map(|(token, id)| Some((token.as_str(), u32::try_from(id.as_u64()?).ok()?)))
            .collect::<Option<_>>()?;
        let distinct: AHashSet<u32> = ids.values().copied().collect();
        (distinct.len() == ids.len()).then_some(Vocabulary {
            ids,
            merges: &model["merges"],
        })
    }

    /// The id of each byte; None if a byte has none.
    pub fn byte_ids(&self) -> Option<[u32; 256]> {
        let mut ids = [0; 256];
        for (id, character) in ids.iter_mut().zip(byte_alphabet()) {
            *id = self.id(character.encode_utf8(&mut [0; 4]))?;
        }
        Some(ids)
    }

    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.ids.values().copied()
    }

    /// The tokens that are spelt in bytes.
    pub fn tokens(&self) -> Vec<Token> {
        let bytes: AHashMap<char, u8> = byte_alphabet().into_iter().zip(0..=255).collect();
        let byte = |character: char| bytes.get(&character).copied();
        self.ids
            .iter()
            .filter_map(|(token, id)| Some((token.chars().map(byte).collect::<Option<_>>()?, *id)))
            .collect()
    }

    /// Pairs in the order of their ranks and the token each makes; None if one names a token that does not exist.
    ///
    /// A merge is written as `["a", "b"]` or, in older files, as `"a b"`.
    pub fn merges(&self) -> Option<Vec<(Pair, u32)>> {
        let mut merged = String::new();
        let mut read = |merge: &Value| {
            let (left, right) = match merge {
                Value::String(both) => both.split_once(' ')?,
                both => (both[0].as_str()?, both[1].as_str()?),
            };
            merged.clear();
            merged.extend([left, right]);
            Some(((self.id(left)?, self.id(right)?), self.id(&merged)?))
        };
        self.merges.as_array()?.iter().map(&mut read).collect()
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }
}
