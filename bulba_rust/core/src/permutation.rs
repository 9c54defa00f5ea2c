//! A keyed permutation of 0..n in O(1) memory and O(1) expected time per value.
//!
//! A Feistel network over pairs (left, right) with left below a and right below b, where a is the square root of n
//! rounded up and a * b is hardly above n: each round adds a keyed hash of one part to the other, modulo its size.
//! Values that fall outside 0..n are permuted again (cycle walking: Black and Rogaway, "Ciphers with Arbitrary Finite
//! Domains", 2002), which fewer than one in a values needs. Not cryptographic.

const ROUNDS: usize = 8;
/// The golden ratio in 64 bits, the step of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Debug)]
pub struct Permutation {
    len: u64,
    left_len: u64,
    right_len: u64,
    keys: [u64; ROUNDS],
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every input bit reaches every output bit.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// One number out of two, for keys.
pub fn mix_pair(first: u64, second: u64) -> u64 {
    mix(mix(first.wrapping_add(STEP)) ^ second.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

impl Permutation {
    /// A permutation of 0..len that depends on (seed, epoch) only.
    pub fn new(len: u64, seed: u64, epoch: u64) -> Self {
        let mut key = mix_pair(seed, epoch);
        let mut keys = [0; ROUNDS];
        for slot in &mut keys {
            key = key.wrapping_add(STEP);
            *slot = mix(key);
        }
        let left_len = len.saturating_sub(1).isqrt() + 1;
        Permutation {
            len,
            left_len,
            right_len: len.div_ceil(left_len).max(1),
            keys,
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The image of `index`, which must be below `len`.
    pub fn get(&self, index: u64) -> u64 {
        debug_assert!(index < self.len);
        let mut value = self.network(index);
        while value >= self.len {
            value = self.network(value);
        }
        value
    }

    fn network(&self, value: u64) -> u64 {
        let (mut left, mut right) = (value / self.right_len, value % self.right_len);
        for keys in self.keys.as_chunks::<2>().0 {
            left = add(left, mix(right ^ keys[0]), self.left_len);
            right = add(right, mix(left ^ keys[1]), self.right_len);
        }
        left * self.right_len + right
    }
}

/// value + hash modulo `len`, the hash taken as a fraction of 2^64.
fn add(value: u64, hash: u64, len: u64) -> u64 {
    let sum = value + ((u128::from(hash) * u128::from(len)) >> 64) as u64;
    if sum >= len { sum - len } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_a_bijection(len in 1u64..3000, seed: u64, epoch: u64) {
            let permutation = Permutation::new(len, seed, epoch);
            let mut seen = vec![false; len as usize];
            for index in 0..len {
                let image = permutation.get(index) as usize;
                prop_assert!(!seen[image]);
                seen[image] = true;
            }
        }

        #[test]
        fn stays_inside_huge_domains(len in (1u64 << 40)..(1u64 << 62), seed: u64, index: u64) {
            let permutation = Permutation::new(len, seed, 0);
            prop_assert!(permutation.get(index % len) < len);
        }
    }

    /// Over many seeds every index must reach every place equally often, for small n too (chi-square, 5 sigma).
    #[test]
    fn is_uniform_over_seeds() {
        for len in [2u64, 3, 5, 8, 17] {
            let seeds = 20_000u64;
            let mut counts = vec![0f64; (len * len) as usize];
            for seed in 0..seeds {
                let permutation = Permutation::new(len, seed, 7);
                for index in 0..len {
                    counts[(index * len + permutation.get(index)) as usize] += 1.0;
                }
            }
            let expected = seeds as f64 / len as f64;
            let chi_square: f64 = counts
                .iter()
                .map(|count| (count - expected).powi(2) / expected)
                .sum();
            // Rows and columns sum up to the number of seeds, so the cells vary less than independent ones.
            let chi_square = chi_square * (len - 1) as f64 / len as f64;
            let freedom = ((len - 1) * (len - 1)) as f64;
            assert!(
                chi_square < freedom + 5.0 * (2.0 * freedom).sqrt(),
                "n={len}: chi-square {chi_square} with {freedom} degrees of freedom"
            );
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch| {
            let permutation = Permutation::new(1000, seed, epoch);
            (0..1000).map(|index| permutation.get(index)).collect::<Vec<_>>()
        };
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        assert_eq!(order(1, 0), order(1, 0));
    }
}
