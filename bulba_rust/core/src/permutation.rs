//! A keyed permutation of 0..n in O(1) memory and O(1) expected time per value.
//!
//! A balanced Feistel network over the smallest even number of bits that holds n, with cycle walking: values that
//! fall outside 0..n are permuted again (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
//! The domain is less than four times n, so fewer than four walks are expected. Not cryptographic.

const ROUNDS: usize = 8;

#[derive(Clone, Debug)]
pub struct Permutation {
    len: u64,
    half_bits: u32,
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
    mix(mix(first.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ second.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

impl Permutation {
    /// A permutation of 0..len that depends on (seed, epoch) only.
    pub fn new(len: u64, seed: u64, epoch: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let key = mix_pair(seed, epoch);
        let mut keys = [0; ROUNDS];
        for (round, slot) in keys.iter_mut().enumerate() {
            *slot = mix_pair(key, round as u64);
        }
        Permutation {
            len,
            half_bits: bits.div_ceil(2).max(1),
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
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
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
