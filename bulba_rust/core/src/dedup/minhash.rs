//! The signature of a text: what is kept of its 5-grams to find near duplicates by.
//!
//! Every one of `NUM_BINS` bins draws one 5-gram at random, and two texts draw the same one with probability J, the
//! Jaccard index of their sets, as in MinHash (Broder, 1997). Here each 5-gram is thrown into one bin and the smallest
//! hash in a bin wins; bins that stay empty go on to further rounds, and last to a MinHash of their own (fast
//! similarity sketching: Dahlgaard, Knudsen and Thorup, 2017). A long text costs one throw for each 5-gram where
//! MinHash costs `NUM_BINS`, and unlike one-permutation hashing no bin borrows from another.
//!
//! A band is `ROWS_PER_BAND` bins. Two texts become candidates when one of their `NUM_BANDS` bands is equal, which
//! happens with probability 1 - (1 - J^6)^20: 0.918 at J = 0.7, 0.998 at 0.8, 0.9999997 at 0.9, and 0.27 at 0.5.

use super::shingle::for_each_shingle;
use crate::permutation::mix;

pub const NUM_BANDS: usize = 20;
const ROWS_PER_BAND: usize = 6;
const NUM_BINS: usize = NUM_BANDS * ROWS_PER_BAND;
/// A bin without a draw. No draw is as large.
const EMPTY: u64 = u64::MAX;
/// Rounds in which every 5-gram is thrown again, before the bins still empty draw from all of them.
const NUM_ROUNDS: usize = 8;
/// 5-grams held for later rounds before repeated ones are put out.
const MAX_HELD: usize = 1 << 16;
const BAND_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// One key for each band. Plain numbers, to be stored as they are; the same on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u64; NUM_BANDS]);

impl Signature {
    /// Of a text of fewer than five words: it has no near duplicates.
    pub const NONE: Self = Signature([0; NUM_BANDS]);
}

/// Signs one text after another, in the same memory.
pub struct Signer {
    bins: [u64; NUM_BINS],
    held: Vec<u64>,
    round_keys: [u64; NUM_ROUNDS],
    bin_keys: [u32; NUM_BINS],
}

impl Default for Signer {
    fn default() -> Self {
        Self::new()
    }
}

impl Signer {
    pub fn new() -> Self {
        Signer {
            bins: [EMPTY; NUM_BINS],
            held: Vec::new(),
            round_keys: std::array::from_fn(|round| mix(round as u64 + 1)),
            bin_keys: std::array::from_fn(|bin| mix(bin as u64 + 1001) as u32),
        }
    }

    pub fn sign(&mut self, text: &str) -> Signature {
        self.bins.fill(EMPTY);
        self.held.clear();
        let mut num_empty = NUM_BINS;
        for_each_shingle(text, |hash| {
            num_empty -= usize::from(throw(&mut self.bins, hash, 0));
            if num_empty > 0 {
                if self.held.len() == MAX_HELD {
                    self.held.sort_unstable();
                    self.held.dedup();
                }
                self.held.push(hash);
            }
        });
        if self.held.is_empty() {
            return Signature::NONE;
        }
        // Which bin draws in which round must not depend on the text: only so do two texts draw alike.
        for (round, key) in (1..).zip(self.round_keys) {
            if num_empty > 0 {
                for hash in &self.held {
                    let hash = (hash ^ key).wrapping_mul(key | 1);
                    num_empty -= usize::from(throw(&mut self.bins, hash, round));
                }
            }
        }
        if num_empty > 0 {
            self.fill_empty_bins();
        }
        self.band_keys()
    }

    fn fill_empty_bins(&mut self) {
        let (mut empty, mut num_empty) = ([0; NUM_BINS], 0);
        for (number, bin) in self.bins.iter().enumerate() {
            // Without a branch: which bins are empty cannot be predicted.
            if let Some(slot) = empty.get_mut(num_empty) {
                *slot = number;
            }
            num_empty += usize::from(*bin == EMPTY);
        }
        let empty = empty.get(..num_empty).unwrap_or_default();
        let (mut keys, mut draws) = ([0; NUM_BINS], [u32::MAX; NUM_BINS]);
        for (key, number) in keys.iter_mut().zip(empty) {
            *key = self.bin_keys.get(*number).copied().unwrap_or_default();
        }
        for hash in &self.held {
            let hash = (hash >> 32) as u32;
            for (draw, key) in draws.iter_mut().zip(&keys).take(num_empty) {
                *draw = (*draw).min((hash ^ key).wrapping_mul(key | 1));
            }
        }
        for (number, draw) in empty.iter().zip(draws) {
            if let Some(bin) = self.bins.get_mut(*number) {
                *bin = ((NUM_ROUNDS as u64 + 1) << 32) | u64::from(draw);
            }
        }
    }

    fn band_keys(&self) -> Signature {
        let mut keys = [0; NUM_BANDS];
        for ((band, key), rows) in (1..).zip(&mut keys).zip(self.bins.chunks_exact(ROWS_PER_BAND)) {
            // The number of the band comes first: equal rows of different bands are not an equal band.
            let polynomial = |sum: u64, row: &u64| sum.wrapping_add(*row).wrapping_mul(BAND_FACTOR);
            *key = mix(rows.iter().fold(band << 48, polynomial));
        }
        Signature(keys)
    }
}

/// Throws a hash into its bin, where a draw of an earlier round beats it; true if the bin was empty.
#[inline]
fn throw(bins: &mut [u64; NUM_BINS], hash: u64, round: u64) -> bool {
    let bin = ((hash >> 32) * NUM_BINS as u64) >> 32;
    let draw = (round << 32) | (hash & 0xffff_ffff);
    match bins.get_mut(bin as usize) {
        Some(bin) => {
            let was_empty = *bin == EMPTY;
            *bin = draw.min(*bin);
            was_empty
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two texts of random words that differ in the last `num_own` of them, and the Jaccard index of their 5-grams.
    fn pair(num_words: usize, num_own: usize, seed: u64) -> ([String; 2], f64) {
        let word = |place: usize, text: u64| {
            let text = if place < num_words - num_own { 0 } else { text };
            format!("{:x} ", mix(mix(seed) ^ mix(text) ^ place as u64))
        };
        let texts = [1, 2].map(|text| (0..num_words).map(|place| word(place, text)).collect());
        let num_common = (num_words - num_own - 4) as f64;
        (texts, num_common / (num_common + 2.0 * num_own as f64))
    }

    /// The share of equal bins, and of pairs with an equal band.
    fn measure(num_words: usize, num_own: usize, num_pairs: u64) -> (f64, f64) {
        let mut signer = Signer::new();
        let (mut num_bins, mut num_candidates) = (0, 0);
        for seed in 0..num_pairs {
            let ([first, second], _) = pair(num_words, num_own, seed);
            let first_keys = signer.sign(&first).0;
            let first_bins = signer.bins;
            let second_keys = signer.sign(&second).0;
            num_bins += (0..NUM_BINS)
                .filter(|bin| first_bins[*bin] == signer.bins[*bin])
                .count();
            num_candidates += usize::from((0..NUM_BANDS).any(|band| first_keys[band] == second_keys[band]));
        }
        let num_pairs = num_pairs as f64;
        (
            num_bins as f64 / num_pairs / NUM_BINS as f64,
            num_candidates as f64 / num_pairs,
        )
    }

    /// Short texts fill their bins in every way there is, long ones in the first round.
    #[test]
    fn bins_are_equal_as_often_as_the_sets_are_alike() {
        for (num_words, num_own, num_pairs) in [
            (7, 1, 4000),
            (34, 10, 2000),
            (1504, 500, 200),
            (13, 1, 4000),
            (49, 5, 2000),
            (274, 30, 1000),
            (1804, 200, 200),
        ] {
            let (_, jaccard) = pair(num_words, num_own, 0);
            let (equal_bins, candidates) = measure(num_words, num_own, num_pairs);
            let sigma = (jaccard * (1.0 - jaccard) / (num_pairs as f64 * NUM_BINS as f64)).sqrt();
            assert!(
                (equal_bins - jaccard).abs() < 5.0 * sigma,
                "{num_words} words: {equal_bins} of the bins at J = {jaccard}"
            );
            let expected = 1.0 - (1.0 - jaccard.powi(6)).powi(20);
            let sigma = (expected * (1.0 - expected) / num_pairs as f64).sqrt();
            assert!(
                candidates > expected - 5.0 * sigma - 0.04 * (1.0 - expected),
                "{num_words} words: {candidates} of the pairs at J = {jaccard}, not {expected}"
            );
        }
    }

    #[test]
    fn a_signature_is_the_same_on_every_machine() {
        let text = "Хто там ідзе, хто там ідзе у агромністай такой грамадзе? — Беларусы.";
        let keys = Signer::new().sign(text).0;
        let all = keys.iter().fold(0, |sum, key| mix(sum ^ key));
        assert_eq!(
            (keys[0], all),
            (12_677_847_875_507_249_673, 7_682_414_969_639_668_385)
        );
    }

    proptest! {
        /// Of the set alone: 5-grams may come again, and what was signed before does not matter.
        #[test]
        fn a_signature_is_that_of_the_set(
            cycle in prop::collection::vec("[а-я]{1,3}", 5..40),
            before in "([а-я]{1,3} ){0,40}",
        ) {
            let mut signer = Signer::new();
            signer.sign(&before);
            let around = [cycle.as_slice(), &cycle[..4]].concat().join(" ");
            let expected = signer.sign(&around);
            prop_assert_ne!(expected, Signature::NONE);
            prop_assert_eq!(Signer::new().sign(&around), expected);
            let thrice = [&cycle[..], &cycle, &cycle, &cycle[..4]].concat().join(" ");
            prop_assert_eq!(signer.sign(&thrice), expected);
        }
    }

    #[test]
    fn one_sentence_a_million_times_is_signed_in_little_memory() {
        let mut signer = Signer::new();
        let expected = signer.sign(&"адзін радок зноў і зноў ".repeat(2));
        assert_eq!(signer.sign(&"адзін радок зноў і зноў ".repeat(50_000)), expected);
        assert!(signer.held.capacity() <= MAX_HELD);
    }

    #[test]
    fn four_words_have_no_signature() {
        assert_eq!(Signer::new().sign("раз, два, тры, чатыры!"), Signature::NONE);
        assert_eq!(Signer::new().sign(""), Signature::NONE);
        assert_ne!(Signer::new().sign("раз, два, тры, чатыры, пяць"), Signature::NONE);
    }
}
