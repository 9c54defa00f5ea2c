//! Learning the merges of a byte-level BPE from counted pieces.
//!
//! The commonest pair of neighbouring tokens becomes a token, over and over (Sennrich, Haddow and Birch, "Neural
//! Machine Translation of Rare Words with Subword Units", 2016). Among equals the pair of the lowest ids is first, so
//! the result depends on the counts alone. Counts are exact in 64 bits. The trainer of the `tokenizers` crate orders
//! pairs alike; this one needs a fraction of its memory and time, and can be stopped.

use crate::Result;
use ahash::AHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub type Pair = (u32, u32);

/// What was learnt: tokens by id, as bytes, and the merges in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    pub tokens: Vec<Vec<u8>>,
    pub merges: Vec<Pair>,
}

/// Pieces as runs of token ids in one array; a merge shortens its run in place.
struct Words {
    ids: Vec<u32>,
    spans: Vec<(usize, u32)>,
    counts: Vec<u64>,
}

/// Pairs of neighbours: how often each occurs, and in which words it may.
#[derive(Default)]
struct Pairs {
    counts: AHashMap<Pair, u64>,
    words: AHashMap<Pair, Vec<u32>>,
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

/// Learns merges until there are `vocab_size` tokens or no pair occurs `min_frequency` times.
///
/// `alphabet` gives the id of each byte, 0 to 255 in some order. `step` hears the number of tokens after every merge
/// and may stop the learning with its error.
pub fn learn(
    pieces: impl Iterator<Item = (impl AsRef<[u8]>, u64)>,
    alphabet: &[u8; 256],
    vocab_size: usize,
    min_frequency: u64,
    mut step: impl FnMut(usize) -> Result<()>,
) -> Result<Learnt> {
    let mut words = Words::new(pieces, alphabet);
    let mut pairs = Pairs::count(&words);
    let mut learnt = Learnt {
        tokens: vec![Vec::new(); 256],
        merges: Vec::new(),
    };
    for (byte, id) in alphabet.iter().enumerate() {
        if let Some(token) = learnt.tokens.get_mut(usize::from(*id)) {
            token.push(byte as u8);
        }
    }
    let mut known: AHashMap<Vec<u8>, u32> = (0u32..)
        .zip(&learnt.tokens)
        .map(|(id, token)| (token.clone(), id))
        .collect();
    let mut ranks: AHashMap<Pair, u32> = AHashMap::new();
    while learnt.tokens.len() < vocab_size {
        let Some(pair) = pairs.pop(min_frequency) else {
            break;
        };
        let merged = learnt.spell(pair);
        let next_id = learnt.tokens.len() as u32;
        // Two different pairs may spell the same token: "a"+"bc" and "ab"+"c".
        let id = *known.entry(merged).or_insert_with_key(|token| {
            learnt.tokens.push(token.clone());
            next_id
        });
        // A pair can come back after such a twin; its first rank is the one that encoding goes by.
        if ranks.insert(pair, id).is_none() {
            learnt.merges.push(pair);
        }
        pairs.merge(&mut words, pair, id);
        step(learnt.tokens.len())?;
    }
    Ok(learnt)
}

impl Learnt {
    fn spell(&self, (left, right): Pair) -> Vec<u8> {
        let part = |id: u32| self.tokens.get(id as usize).map_or(&[][..], Vec::as_slice);
        [part(left), part(right)].concat()
    }
}

impl Words {
    fn new(pieces: impl Iterator<Item = (impl AsRef<[u8]>, u64)>, alphabet: &[u8; 256]) -> Self {
        let mut words = Words {
            ids: Vec::new(),
            spans: Vec::new(),
            counts: Vec::new(),
        };
        for (piece, count) in pieces {
            let bytes = piece.as_ref();
            words.spans.push((words.ids.len(), bytes.len() as u32));
            words.counts.push(count);
            let ids = bytes.iter().map(|byte| u32::from(alphabet[usize::from(*byte)]));
            words.ids.extend(ids);
        }
        words
    }

    fn ids(&self, word: usize) -> &[u32] {
        let (start, len) = self.spans.get(word).copied().unwrap_or_default();
        self.ids.get(start..start + len as usize).unwrap_or_default()
    }
}

impl Pairs {
    fn count(words: &Words) -> Self {
        let mut pairs = Pairs::default();
        for (word, count) in words.counts.iter().enumerate() {
            for neighbours in words.ids(word).windows(2) {
                if let [left, right] = neighbours {
                    pairs.add((*left, *right), *count, word as u32);
                }
            }
        }
        pairs.queue = pairs
            .counts
            .iter()
            .map(|(pair, count)| (*count, Reverse(*pair)))
            .collect();
        pairs
    }

    fn add(&mut self, pair: Pair, count: u64, word: u32) {
        *self.counts.entry(pair).or_default() += count;
        let words = self.words.entry(pair).or_default();
        if words.last() != Some(&word) {
            words.push(word);
        }
    }

    fn remove(&mut self, pair: Pair, count: u64) {
        if let Some(left) = self.counts.get_mut(&pair) {
            *left = left.saturating_sub(count);
        }
    }

    /// The commonest pair. Queue entries may be out of date: those are put back with their present count.
    fn pop(&mut self, min_frequency: u64) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let present = self.counts.get(&pair).copied().unwrap_or(0);
            if present == count && count >= min_frequency.max(1) {
                return Some(pair);
            }
            if present < count && present > 0 {
                self.queue.push((present, Reverse(pair)));
            } else if present == count {
                return None;
            }
            // A larger present count has an entry of its own.
        }
        None
    }

    /// Replaces every occurrence of `pair` by `id` and brings the counts of its neighbours up to date.
    fn merge(&mut self, words: &mut Words, pair: Pair, id: u32) {
        self.counts.remove(&pair);
        let mut fresh = Vec::new();
        for word in self.words.remove(&pair).unwrap_or_default() {
            self.merge_word(words, word, pair, id, &mut fresh);
        }
        fresh.sort_unstable();
        fresh.dedup();
        for pair in fresh {
            let count = self.counts.get(&pair).copied().unwrap_or(0);
            if count > 0 {
                self.queue.push((count, Reverse(pair)));
            }
        }
    }

    fn merge_word(
        &mut self,
        words: &mut Words,
        word: u32,
        (left, right): Pair,
        id: u32,
        fresh: &mut Vec<Pair>,
    ) {
        let count = words.counts.get(word as usize).copied().unwrap_or(0);
        let Some((start, len)) = words.spans.get_mut(word as usize) else {
            return;
        };
        let Some(ids) = words.ids.get_mut(*start..*start + *len as usize) else {
            return;
        };
        let (mut read, mut written) = (0, 0);
        while read < ids.len() {
            let here = ids[read];
            let next = ids.get(read + 1).copied();
            if here != left || next != Some(right) {
                ids[written] = here;
                (read, written) = (read + 1, written + 1);
                continue;
            }
            // What lies before is already merged, what lies behind is not yet: its turn comes.
            if written > 0 {
                let before = ids[written - 1];
                self.remove((before, left), count);
                self.add((before, id), count, word);
                fresh.push((before, id));
            }
            if let Some(behind) = ids.get(read + 2).copied() {
                self.remove((right, behind), count);
                self.add((id, behind), count, word);
                fresh.push((id, behind));
            }
            ids[written] = id;
            (read, written) = (read + 2, written + 1);
        }
        *len = written as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alphabet() -> [u8; 256] {
        std::array::from_fn(|byte| byte as u8)
    }

    /// The textbook: count every pair anew before each merge.
    fn naive(pieces: &[(String, u64)], vocab_size: usize, min_frequency: u64) -> Learnt {
        let mut words: Vec<(Vec<u32>, u64)> = pieces
            .iter()
            .map(|(piece, count)| (piece.bytes().map(u32::from).collect(), *count))
            .collect();
        let mut learnt = Learnt {
            tokens: (0..=255).map(|byte| vec![byte]).collect(),
            merges: Vec::new(),
        };
        while learnt.tokens.len() < vocab_size {
            let mut counts: AHashMap<Pair, u64> = AHashMap::new();
            for (ids, count) in &words {
                for pair in ids.windows(2) {
                    *counts.entry((pair[0], pair[1])).or_default() += count;
                }
            }
            let best = counts
                .into_iter()
                .map(|(pair, count)| (count, Reverse(pair)))
                .max();
            let Some((_, Reverse(pair))) = best.filter(|(count, _)| *count >= min_frequency.max(1)) else {
                break;
            };
            let token = learnt.spell(pair);
            let id = learnt
                .tokens
                .iter()
                .position(|known| *known == token)
                .unwrap_or(learnt.tokens.len()) as u32;
            if id as usize == learnt.tokens.len() {
                learnt.tokens.push(token);
            }
            if !learnt.merges.contains(&pair) {
                learnt.merges.push(pair);
            }
            for (ids, _) in &mut words {
                let mut merged = Vec::new();
                for next in ids.iter().copied() {
                    // A token just made must not be taken for the left half of another.
                    if next == pair.1 && merged.last() == Some(&(pair.0, false)) {
                        merged.pop();
                        merged.push((id, true));
                    } else {
                        merged.push((next, false));
                    }
                }
                *ids = merged.into_iter().map(|(id, _)| id).collect();
            }
        }
        learnt
    }

    fn learn_all(pieces: &[(String, u64)], vocab_size: usize, min_frequency: u64) -> Learnt {
        learn(
            pieces.iter().map(|(piece, count)| (piece, *count)),
            &alphabet(),
            vocab_size,
            min_frequency,
            |_| Ok(()),
        )
        .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn equals_the_textbook(
            pieces in prop::collection::vec(("[abc]{1,12}", 1u64..20), 1..25), tokens in 0usize..60, min_frequency in 0u64..6,
        ) {
            prop_assert_eq!(learn_all(&pieces, 256 + tokens, min_frequency), naive(&pieces, 256 + tokens, min_frequency));
        }

        #[test]
        fn the_order_of_pieces_does_not_matter(pieces in prop::collection::vec(("[ab]{1,9}", 1u64..5), 1..20)) {
            let backwards: Vec<_> = pieces.iter().rev().cloned().collect();
            prop_assert_eq!(learn_all(&pieces, 400, 1), learn_all(&backwards, 400, 1));
        }
    }

    #[test]
    fn counts_beyond_32_bits_are_exact() {
        let pieces = [
            ("ab".into(), u64::from(u32::MAX)),
            ("cd".into(), u64::from(u32::MAX) + 1),
            ("ef".into(), 1 << 60),
        ];
        let learnt = learn_all(&pieces, 259, 1);
        assert_eq!(
            learnt.tokens[256..],
            [b"ef".to_vec(), b"cd".to_vec(), b"ab".to_vec()]
        );
    }
}
