//! The pairs that are worth following: how often each occurs, and which is next.
//!
//! A pair's count is complete when the pair comes into being and only falls afterwards. So a pair below the threshold
//! of the moment is not kept at all, and while the commonest pair kept is above the threshold, it is the commonest of
//! all. When none is left above it, the threshold is lowered and the text is surveyed again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Two token ids in one word; the order of keys is the order of (left, right).
pub type PairKey = u64;

pub fn pair_key(left: u32, right: u32) -> PairKey {
    u64::from(left) << 32 | u64::from(right)
}

pub fn pair_ids(key: PairKey) -> (u32, u32) {
    ((key >> 32) as u32, key as u32)
}

/// One multiplication, its halves folded: keys come from here alone, nobody crafts them to collide.
#[derive(Default)]
pub struct PairHasher(u64);

impl Hasher for PairHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = hash_pair(key);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub fn hash_pair(key: PairKey) -> u64 {
    let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

pub type PairMap<V> = HashMap<PairKey, V, BuildHasherDefault<PairHasher>>;

/// Counts in each of the `G` groups of text, and a queue for each group.
pub struct Pairs<const G: usize> {
    counts: PairMap<[u64; G]>,
    queues: [BinaryHeap<(u64, Reverse<PairKey>)>; G],
    /// A pair is kept if it occurs this often in any group.
    thresholds: [u64; G],
    /// No threshold is lowered further.
    floor: u64,
}

impl<const G: usize> Pairs<G> {
    pub fn new(min_frequency: u64) -> Self {
        Pairs {
            counts: PairMap::default(),
            queues: std::array::from_fn(|_| BinaryHeap::new()),
            thresholds: [u64::MAX; G],
            floor: min_frequency.max(1),
        }
    }

    /// Whether every pair of the group that may be merged is kept.
    pub fn is_complete(&self, group: usize) -> bool {
        self.thresholds[group] <= self.floor
    }

    /// Lowers the threshold of a group whose queue is empty, and that of any other if its pairs have become rare.
    ///
    /// `largest`: no pair occurs more often, by group.
    pub fn lower_thresholds(&mut self, empty: usize, largest: [u64; G], divisor: u64) {
        for (group, (threshold, largest)) in self.thresholds.iter_mut().zip(largest).enumerate() {
            let lowered = if group == empty {
                largest.min(*threshold)
            } else {
                largest
            } / divisor;
            *threshold = lowered.min(*threshold).max(self.floor);
        }
    }

    pub fn is_worth_keeping(&self, counts: &[u64; G]) -> bool {
        counts
            .iter()
            .zip(&self.thresholds)
            .any(|(count, threshold)| count >= threshold)
    }

    pub fn is_kept(&self, key: PairKey) -> bool {
        self.counts.contains_key(&key)
    }

    pub fn clear(&mut self) {
        self.counts.clear();
        self.queues.iter_mut().for_each(BinaryHeap::clear);
    }

    /// Keeps a pair that is worth it.
    pub fn insert(&mut self, key: PairKey, counts: [u64; G]) {
        for ((queue, count), threshold) in self.queues.iter_mut().zip(counts).zip(self.thresholds) {
            if count >= threshold {
                queue.push((count, Reverse(key)));
            }
        }
        self.counts.insert(key, counts);
    }

    /// Takes occurrences away, if the pair is kept.
    pub fn reduce(&mut self, key: PairKey, by: &[u64; G]) {
        if let Some(counts) = self.counts.get_mut(&key) {
            for (count, by) in counts.iter_mut().zip(by) {
                *count = count.saturating_sub(*by);
            }
        }
    }

    /// Takes the commonest pair of a group out; none if no pair reaches its threshold.
    pub fn pop(&mut self, group: usize) -> Option<PairKey> {
        while let Some((queued, Reverse(key))) = self.queues[group].pop() {
            // Entries may be out of date: counts fall.
            let Some(counts) = self.counts.get(&key) else {
                continue;
            };
            let present = counts[group];
            if present == queued {
                self.counts.remove(&key);
                return Some(key);
            }
            if present >= self.thresholds[group] {
                self.queues[group].push((present, Reverse(key)));
            } else if !self.is_worth_keeping(counts) {
                self.counts.remove(&key);
            }
        }
        None
    }
}
