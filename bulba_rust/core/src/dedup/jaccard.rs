//! The Jaccard index of two texts: of all 5-grams that they have, the share that both have.

use super::shingle::for_each_shingle;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Compares one text with several others, one after another, in the same memory.
#[derive(Default)]
pub struct Comparer {
    /// Its 5-grams, and the number of the last text that has them.
    seen_in: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    /// 5-grams that only the other text has.
    others: Vec<u64>,
    num_texts: u32,
}

impl Comparer {
    /// Sets the text that others are compared with from now on.
    pub fn set(&mut self, text: &str) {
        self.seen_in.clear();
        self.num_texts = 0;
        for_each_shingle(text, |hash| {
            self.seen_in.insert(hash, 0);
        });
    }

    /// From 0 to 1; 0 if neither text has five words.
    pub fn jaccard(&mut self, other: &str) -> f64 {
        self.num_texts += 1;
        self.others.clear();
        let mut num_common = 0usize;
        for_each_shingle(other, |hash| match self.seen_in.get_mut(&hash) {
            Some(number) if *number == self.num_texts => {}
            Some(number) => {
                *number = self.num_texts;
                num_common += 1;
            }
            None => self.others.push(hash),
        });
        self.others.sort_unstable();
        self.others.dedup();
        let num_all = self.seen_in.len() + self.others.len();
        num_common as f64 / num_all.max(1) as f64
    }
}

/// A 5-gram is a good hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::shingle::tests::jaccard;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_the_index_of_the_sets(
            first in "([аб] ){0,30}",
            others in prop::collection::vec("([аб] ){0,30}", 0..5),
            second in "([аб] ){0,30}",
        ) {
            let mut comparer = Comparer::default();
            for text in [&first, &second] {
                comparer.set(text);
                for other in &others {
                    prop_assert_eq!(comparer.jaccard(other), jaccard(text, other));
                }
            }
        }
    }
}
