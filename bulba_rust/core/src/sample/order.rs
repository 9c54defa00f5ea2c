//! Which unit comes at which place of a run: a pure function of (seed, place) in O(1), without state.
//!
//! Units lie in pools. Without weights there is one pool; place p lies in epoch p / units at p % units, and a keyed
//! permutation of that epoch gives the unit. With weights each source is a pool with epochs of its own, and
//! [`Turns`] says whose turn it is. Without a seed place p is unit p.

use super::turns::{MAX_SOURCES, Turns};
use crate::permutation::{Permutation, mix_pair};
use crate::{Error, Result};

/// How many units a pool has, and how many targets they hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub units: u64,
    pub targets: u64,
}

/// A unit by its pool and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    pub pool: usize,
    pub index: u64,
}

pub struct Order {
    /// The units of each pool.
    units: Vec<u64>,
    seed: Option<u64>,
    turns: Option<Turns>,
}

impl Order {
    /// One pool of `units`, in its own order without a seed.
    pub fn of_one_pool(units: u64, seed: Option<u64>) -> Self {
        Order {
            units: vec![units],
            seed,
            turns: None,
        }
    }

    /// A pool for each source, where `weights` are the shares of the targets, up to a factor. `names` for messages.
    pub fn weighted(pools: &[Pool], weights: &[f64], seed: u64, names: &[&str]) -> Result<Self> {
        check_weights(pools, weights, names)?;
        // A source whose units hold fewer targets needs more of them for the same share.
        let rates = weights
            .iter()
            .zip(pools)
            .map(|(weight, pool)| match pool.targets {
                0 => 0.0,
                targets => weight * pool.units as f64 / targets as f64,
            });
        let rates: Vec<f64> = rates.collect();
        let total: f64 = rates.iter().sum();
        let shares: Vec<f64> = rates.iter().map(|rate| rate / total).collect();
        Ok(Order {
            units: pools.iter().map(|pool| pool.units).collect(),
            seed: Some(seed),
            turns: Some(Turns::new(&shares)),
        })
    }

    /// The unit at a place; `None` behind the last unit where there is no seed.
    pub fn unit(&self, place: u64) -> Option<Unit> {
        let (pool, place) = self.turns.as_ref().map_or((0, place), |turns| turns.get(place));
        let units = self.units.get(pool).copied().unwrap_or_default();
        let Some(seed) = self.seed else {
            return (place < units).then_some(Unit { pool, index: place });
        };
        let epoch = place.checked_div(units)?;
        let permutation = Permutation::new(units, mix_pair(seed, pool as u64), epoch);
        Some(Unit {
            pool,
            index: permutation.get(place % units),
        })
    }
}

fn check_weights(pools: &[Pool], weights: &[f64], names: &[&str]) -> Result<()> {
    let wrong = |expected: String, got: String| {
        Err(Error::Argument {
            name: "data.weights",
            expected,
            got,
        })
    };
    if weights.len() != pools.len() {
        let names = names.join(", ");
        return wrong(
            format!("one for each of the {} sources ({names})", pools.len()),
            weights.len().to_string(),
        );
    }
    if pools.len() > MAX_SOURCES {
        return wrong(format!("at most {MAX_SOURCES} sources"), pools.len().to_string());
    }
    let fits = weights.iter().all(|weight| (0.0..=1e12).contains(weight));
    if !fits || weights.iter().all(|weight| *weight == 0.0) {
        return wrong(
            "numbers from 0 to 1e12, not all of them 0".into(),
            format!("{weights:?}"),
        );
    }
    let idle = pools
        .iter()
        .zip(weights)
        .position(|(pool, weight)| pool.targets == 0 && *weight > 0.0);
    match idle {
        Some(source) => {
            let name = names.get(source).copied().unwrap_or_default();
            let got = weights.get(source).copied().unwrap_or_default();
            wrong(
                format!("0 for source {name}, which has no text to train on"),
                got.to_string(),
            )
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_has_every_unit_once(units in 1u64..500, seed: u64, epoch in 0u64..1 << 40) {
            let order = Order::of_one_pool(units, Some(seed));
            let mut seen: Vec<u64> = (0..units).map(|place| order.unit(epoch * units + place).unwrap().index).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..units).collect::<Vec<_>>());
            let natural = Order::of_one_pool(units, None);
            prop_assert_eq!(natural.unit(units - 1), Some(Unit { pool: 0, index: units - 1 }));
            prop_assert_eq!(natural.unit(units), None);
        }

        /// Units of 1000 targets on average, up to a half more or less, and sources of different averages.
        #[test]
        fn target_shares_keep_within_one_percent_over_ten_million(
            sources in prop::collection::vec((0.0f64..1.0, 1u64..3000, 300u64..3000), 1..12), seed: u64, from in 0u64..1 << 30,
        ) {
            let size = |unit: Unit, mean: u64| mean / 2 + crate::permutation::mix_pair(unit.index, unit.pool as u64) % (mean + 1);
            let total: f64 = sources.iter().map(|source| source.0).sum();
            prop_assume!(total > 0.01);
            let pools: Vec<Pool> = sources.iter().enumerate().map(|(pool, (_, units, mean))| {
                Pool { units: *units, targets: (0..*units).map(|index| size(Unit { pool, index }, *mean)).sum() }
            }).collect();
            let weights: Vec<f64> = sources.iter().map(|source| source.0).collect();
            let names: Vec<&str> = sources.iter().map(|_| "a").collect();
            let order = Order::weighted(&pools, &weights, seed, &names).unwrap();
            let (mut had, mut targets, mut place) = (vec![0u64; sources.len()], 0, from);
            while targets < 10_000_000 {
                let unit = order.unit(place).unwrap();
                had[unit.pool] += size(unit, sources[unit.pool].2);
                targets += size(unit, sources[unit.pool].2);
                place += 1;
            }
            for (had, weight) in had.iter().zip(&weights) {
                prop_assert!((*had as f64 / targets as f64 - weight / total).abs() < 0.01);
            }
        }
    }

    #[test]
    fn a_source_goes_through_all_its_units_before_it_repeats_one() {
        let pools = [
            Pool {
                units: 7,
                targets: 70,
            },
            Pool {
                units: 3,
                targets: 30,
            },
        ];
        let order = Order::weighted(&pools, &[0.25, 0.75], 5, &["a", "b"]).unwrap();
        let mut seen = [vec![], vec![]];
        for place in 0..400 {
            let unit = order.unit(place).unwrap();
            seen[unit.pool].push(unit.index);
        }
        assert_eq!((seen[0].len(), seen[1].len()), (100, 300));
        for (pool, units) in [(0, 7), (1, 3)] {
            for epoch in seen[pool].chunks_exact(units) {
                let mut epoch = epoch.to_vec();
                epoch.sort_unstable();
                assert_eq!(epoch, (0..units as u64).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn impossible_weights_are_named() {
        let pools = [
            Pool {
                units: 7,
                targets: 70,
            },
            Pool { units: 0, targets: 0 },
        ];
        for (weights, sentence) in [
            (vec![1.0], "one for each of the 2 sources (tales, code), got 1"),
            (vec![1.0, -1.0], "numbers from 0 to 1e12"),
            (vec![f64::NAN, 1.0], "numbers from 0 to 1e12"),
            (vec![0.0, 0.0], "not all of them 0"),
            (
                vec![1.0, 0.5],
                "0 for source code, which has no text to train on, got 0.5",
            ),
        ] {
            let error = Order::weighted(&pools, &weights, 0, &["tales", "code"])
                .err()
                .unwrap()
                .to_string();
            assert!(
                error.contains("data.weights") && error.contains(sentence),
                "{error}"
            );
        }
        assert!(Order::weighted(&pools, &[1.0, 0.0], 0, &["tales", "code"]).is_ok());
    }
}
