//! Learning the merges of a byte-level BPE from counted pieces.
//!
//! The commonest pair of neighbouring tokens becomes a token, over and over (Sennrich, Haddow and Birch, "Neural
//! Machine Translation of Rare Words with Subword Units", 2016). Among equals the pair of the lowest ids is first, so
//! the result depends on the counts alone. Counts are exact in 64 bits. The trainer of the `tokenizers` crate orders
//! pairs alike.
//!
//! No two pairs spell the same token, so every merge makes a new one: how the bytes of a token were cut at any time
//! before it was made depends on these bytes alone, as no token reaches across its ends. Wherever they would make the
//! same token later, they were cut alike when it was made, and became it then.
//!
//! `part.rs` holds the text and the places of pairs, `pairs.rs` the counts and the order of pairs; this file decides
//! what is merged.

mod pairs;
mod part;

use crate::{Error, Result};
use pairs::{PairKey, PairMap, Pairs, pair_ids, pair_key};
pub use part::Piece;
use part::{Around, Cell, Merge, Part, add_counts};
use rayon::prelude::*;

pub type Pair = (u32, u32);

/// What was learnt: tokens by id, as bytes, and the merges in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    pub tokens: Vec<Vec<u8>>,
    pub merges: Vec<Pair>,
}

/// Groups of text that [`Goal::Parity`] tells apart.
pub const NUM_GROUPS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The commonest pair of all text is next.
    Commonest,
    /// The commonest pair of the group with the most tokens a character is next (Foroutan et al., "Parity-Aware
    /// Byte-Pair Encoding", 2025).
    Parity,
}

#[derive(Clone, Copy, Debug)]
pub struct LearnOptions<'a> {
    /// The id of each byte, 0 to 255 in some order.
    pub alphabet: &'a [u8; 256],
    pub vocab_size: usize,
    /// A pair that occurs less often is never merged.
    pub min_frequency: u64,
    pub goal: Goal,
}

/// What decides the time a training takes and not what it learns.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    /// How far a threshold falls. A small number keeps fewer pairs and surveys the text more often.
    threshold_divisor: u64,
    /// A power of two.
    sketch_len: usize,
    /// A merge of fewer places is done by one thread.
    min_parallel_places: usize,
}

const TUNING: Tuning = Tuning {
    threshold_divisor: 64,
    sketch_len: 1 << 17,
    min_parallel_places: 1 << 13,
};

/// Learns merges until there are `vocab_size` tokens or no pair occurs `min_frequency` times.
///
/// Each list of `pieces` is worked on by one thread of `pool`; how they are dealt out does not change the result.
/// `step` hears the number of tokens after every merge and may stop the learning with its error.
pub fn learn(
    pieces: Vec<Vec<Piece>>,
    options: &LearnOptions,
    pool: &rayon::ThreadPool,
    step: impl FnMut(usize) -> Result<()>,
) -> Result<Learnt> {
    learn_tuned(pieces, options, pool, TUNING, step)
}

fn learn_tuned(
    pieces: Vec<Vec<Piece>>,
    options: &LearnOptions,
    pool: &rayon::ThreadPool,
    tuning: Tuning,
    step: impl FnMut(usize) -> Result<()>,
) -> Result<Learnt> {
    match (options.vocab_size <= u16::MAX_IDS, options.goal) {
        (true, Goal::Commonest) => Learner::<u16, 1>::new(pieces, options, pool, tuning)?.learn(step),
        (false, Goal::Commonest) => Learner::<u32, 1>::new(pieces, options, pool, tuning)?.learn(step),
        (true, Goal::Parity) => Learner::<u16, NUM_GROUPS>::new(pieces, options, pool, tuning)?.learn(step),
        (false, Goal::Parity) => Learner::<u32, NUM_GROUPS>::new(pieces, options, pool, tuning)?.learn(step),
    }
}

struct Learner<'a, C, const G: usize> {
    options: &'a LearnOptions<'a>,
    pool: &'a rayon::ThreadPool,
    tuning: Tuning,
    parts: Vec<Part<C, G>>,
    pairs: Pairs<G>,
    /// Around the newest token, in all parts.
    around: Around<G>,
    /// Bytes of each token.
    lengths: Vec<u32>,
    /// Characters and tokens of the text by group.
    num_characters: [u64; G],
    num_tokens: [u64; G],
}

impl<'a, C: Cell, const G: usize> Learner<'a, C, G> {
    fn new(
        pieces: Vec<Vec<Piece>>,
        options: &'a LearnOptions<'a>,
        pool: &'a rayon::ThreadPool,
        tuning: Tuning,
    ) -> Result<Self> {
        let num_cells = |part: &Vec<Piece>| part.iter().map(|piece| piece.bytes.len() + 1).sum::<usize>() + 1;
        if pieces.iter().any(|part| num_cells(part) > u32::MAX as usize) {
            return Err(Error::Argument {
                name: "tokenizer.max_memory_bytes",
                expected: "so little that the distinct pieces of one thread are less than 4 GiB".into(),
                got: "more text than that".into(),
            });
        }
        let parts: Vec<Part<C, G>> = pool.install(|| {
            let parts = pieces.into_par_iter();
            parts.map(|part| Part::new(part, options.alphabet)).collect()
        });
        let (mut num_characters, mut num_tokens) = ([0; G], [0; G]);
        for part in &parts {
            add_counts(&mut num_characters, &part.num_characters);
            add_counts(&mut num_tokens, &part.num_bytes);
        }
        Ok(Learner {
            options,
            pool,
            tuning,
            parts,
            pairs: Pairs::new(options.min_frequency),
            around: Around::new(),
            lengths: vec![1; 256],
            num_characters,
            num_tokens,
        })
    }

    fn learn(mut self, mut step: impl FnMut(usize) -> Result<()>) -> Result<Learnt> {
        let mut learnt = Learnt::new(self.options.alphabet);
        while learnt.tokens.len() < self.options.vocab_size {
            let Some(key) = self.next_pair() else {
                break;
            };
            let id = learnt.tokens.len() as u32;
            learnt.tokens.push(learnt.spell(key));
            learnt.merges.push(pair_ids(key));
            self.merge(Merge { key, id });
            step(learnt.tokens.len())?;
        }
        Ok(learnt)
    }

    /// The pair to merge next; none if no pair occurs often enough.
    fn next_pair(&mut self) -> Option<PairKey> {
        let mut done = [false; G];
        while let Some(group) = self.worst_group(&done) {
            match self.pairs.pop(group) {
                Some(key) => return Some(key),
                None if self.pairs.is_complete(group) => done[group] = true,
                None => self.survey(group),
            }
        }
        None
    }

    /// The group with the most tokens a character; among equals the first.
    fn worst_group(&self, done: &[bool; G]) -> Option<usize> {
        let tokens_by_characters = |group: usize, other: usize| {
            u128::from(self.num_tokens[group]) * u128::from(self.num_characters[other])
        };
        (0..G)
            .filter(|group| !done[*group] && self.num_characters[*group] > 0)
            .reduce(|worst, group| {
                let is_worse = tokens_by_characters(group, worst) > tokens_by_characters(worst, group);
                if is_worse { group } else { worst }
            })
    }

    /// Looks for pairs that reach a lower threshold, for a group of which none is left.
    fn survey(&mut self, group: usize) {
        let (lengths, sketch_len) = (&self.lengths, self.tuning.sketch_len);
        let sketches = self.parts.par_iter().map(|part| {
            let mut sketch = vec![[0; G]; sketch_len];
            part.sketch(lengths, &mut sketch);
            sketch
        });
        let add = |mut into: Vec<[u64; G]>, from: Vec<[u64; G]>| {
            into.iter_mut()
                .zip(&from)
                .for_each(|(into, from)| add_counts(into, from));
            into
        };
        let sketch = self
            .pool
            .install(|| sketches.reduce_with(add))
            .unwrap_or_default();
        let mut largest = [0; G];
        for bounds in &sketch {
            for (largest, bound) in largest.iter_mut().zip(bounds) {
                *largest = (*largest).max(*bound);
            }
        }
        self.pairs.clear();
        self.pairs
            .lower_thresholds(group, largest, self.tuning.threshold_divisor);
        let pairs = &self.pairs;
        let surveys: Vec<PairMap<[u64; G]>> = self.pool.install(|| {
            let parts = self.parts.par_iter_mut();
            parts.map(|part| part.survey(lengths, &sketch, pairs)).collect()
        });
        let mut sums = PairMap::default();
        for (key, counts) in surveys.into_iter().flatten() {
            add_counts(sums.entry(key).or_insert([0; G]), &counts);
        }
        for (key, counts) in sums {
            if self.pairs.is_worth_keeping(&counts) {
                self.pairs.insert(key, counts);
            }
        }
        let pairs = &self.pairs;
        self.pool
            .install(|| self.parts.par_iter_mut().for_each(|part| part.keep_only(pairs)));
    }

    /// Replaces every occurrence of a pair by its token and brings the counts of pairs up to date.
    fn merge(&mut self, merge: Merge) {
        let (left, right) = pair_ids(merge.key);
        self.lengths
            .push(self.lengths[left as usize] + self.lengths[right as usize]);
        let num_places = self.parts.iter().map(|part| part.num_places(merge.key)).sum();
        self.each_part(num_places, |part, lengths| part.replace(merge, lengths));
        self.around.reset(self.lengths.len());
        for part in &self.parts {
            self.around.add_all(&part.around);
        }
        for (before, counts) in self.around.left.iter() {
            self.pairs.reduce(pair_key(before, left), counts);
        }
        for (behind, counts) in self.around.right.iter() {
            self.pairs.reduce(pair_key(right, behind), counts);
        }
        self.pairs.reduce(pair_key(right, left), &self.around.itself);
        for (tokens, merged) in self.num_tokens.iter_mut().zip(&self.around.total) {
            *tokens -= merged;
        }
        self.keep_pairs_of(merge.id, num_places);
    }

    /// Keeps the pairs of the newest token that are worth it.
    fn keep_pairs_of(&mut self, id: u32, num_places: usize) {
        let left = self
            .around
            .left
            .iter()
            .map(|(other, counts)| (pair_key(other, id), counts));
        let right = self
            .around
            .right
            .iter()
            .map(|(other, counts)| (pair_key(id, other), counts));
        let itself = [(pair_key(id, id), &self.around.itself)];
        let mut born = Vec::new();
        for (key, counts) in left.chain(right).chain(itself) {
            if self.pairs.is_worth_keeping(counts) {
                self.pairs.insert(key, *counts);
                born.push(key);
            }
        }
        if !born.is_empty() {
            self.each_part(num_places, |part, lengths| part.note_places(id, &born, lengths));
        }
    }

    fn each_part(&mut self, num_places: usize, work: impl Fn(&mut Part<C, G>, &[u32]) + Sync) {
        let lengths = &self.lengths;
        let (work, parts) = (&work, &mut self.parts);
        if num_places < self.tuning.min_parallel_places {
            parts.iter_mut().for_each(|part| work(part, lengths));
        } else {
            self.pool
                .install(|| parts.par_iter_mut().for_each(|part| work(part, lengths)));
        }
    }
}

impl Learnt {
    fn new(alphabet: &[u8; 256]) -> Self {
        let mut tokens = vec![Vec::new(); 256];
        for (byte, id) in (0..=255).zip(alphabet) {
            tokens[usize::from(*id)] = vec![byte];
        }
        Learnt {
            tokens,
            merges: Vec::new(),
        }
    }

    fn spell(&self, key: PairKey) -> Vec<u8> {
        let (left, right) = pair_ids(key);
        [
            self.tokens[left as usize].as_slice(),
            self.tokens[right as usize].as_slice(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests;
