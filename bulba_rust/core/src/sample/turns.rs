//! Whose turn it is: which source each unit comes from, so that every source keeps its share at any time.
//!
//! Shares are rounded to counts in a period of 65,536 units, and the turns of a period are dealt by Tijdeman's
//! solution of the chairman assignment problem (Discrete Mathematics 32, 1980): after any number n of units, source i
//! with share s has had n * s turns, give or take less than one. The period repeats, so a turn is found in O(1).

const PERIOD: u64 = 1 << 16;

/// With more sources their counts in a period would no longer be near their shares.
pub const MAX_SOURCES: usize = 1024;

#[derive(Clone, Debug)]
pub struct Turns {
    /// The source whose turn it is at each place of the period.
    sources: Vec<u16>,
    /// How many turns that source has had before, in this period.
    ranks: Vec<u32>,
    /// Turns of each source in a period.
    counts: Vec<u64>,
}

impl Turns {
    /// `shares` are at least 0 and sum up to 1; there are at most [`MAX_SOURCES`].
    pub fn new(shares: &[f64]) -> Self {
        let counts = round(shares);
        let present = counts.iter().filter(|count| **count > 0).count() as i64;
        let slack = (2 * present - 2).max(1);
        let (mut sources, mut ranks) = (Vec::new(), Vec::new());
        let mut given = vec![0i64; counts.len()];
        for turn in 1..=PERIOD as i64 {
            // Behind by at least 1 / slack, all in units of 1 / PERIOD; of these the one whose turn is due first.
            let mut chosen: Option<(usize, i64, i64)> = None;
            for (source, (count, given)) in counts.iter().zip(&given).enumerate() {
                let count = *count as i64;
                let behind = count * turn - PERIOD as i64 * given;
                let due = slack * (PERIOD as i64 - behind);
                if slack * behind >= PERIOD as i64
                    && count > 0
                    && chosen.is_none_or(|(_, first, rate)| (due - PERIOD as i64) * rate < first * count)
                {
                    chosen = Some((source, due - PERIOD as i64, count));
                }
            }
            let source = chosen.map_or(0, |(source, ..)| source);
            sources.push(source as u16);
            if let Some(given) = given.get_mut(source) {
                ranks.push(*given as u32);
                *given += 1;
            }
        }
        Turns {
            sources,
            ranks,
            counts,
        }
    }

    /// The source of unit `number`, and how many units of that source came before.
    pub fn get(&self, number: u64) -> (usize, u64) {
        let place = (number % PERIOD) as usize;
        let source = usize::from(self.sources.get(place).copied().unwrap_or_default());
        let rank = u64::from(self.ranks.get(place).copied().unwrap_or_default());
        (
            source,
            number / PERIOD * self.counts.get(source).copied().unwrap_or_default() + rank,
        )
    }
}

/// Counts that sum up to PERIOD: each share rounded down, but not to nothing, and what is left to the largest rests.
fn round(shares: &[f64]) -> Vec<u64> {
    let total: f64 = shares.iter().sum();
    let exact: Vec<f64> = shares.iter().map(|share| share / total * PERIOD as f64).collect();
    let mut counts: Vec<u64> = exact
        .iter()
        .map(|count| if *count > 0.0 { (*count as u64).max(1) } else { 0 })
        .collect();
    let rest = |counts: &[u64], place: usize| -> f64 {
        exact.get(place).copied().unwrap_or_default() - counts.get(place).copied().unwrap_or_default() as f64
    };
    while counts.iter().sum::<u64>() != PERIOD {
        let more = counts.iter().sum::<u64>() < PERIOD;
        let places = (0..counts.len())
            .filter(|place| counts.get(*place).is_some_and(|count| *count > u64::from(!more)));
        let order = |one: &usize, other: &usize| rest(&counts, *one).total_cmp(&rest(&counts, *other));
        let place = if more {
            places.max_by(order)
        } else {
            places.min_by(order)
        };
        match place.and_then(|place| counts.get_mut(place)) {
            Some(count) if more => *count += 1,
            Some(count) => *count -= 1,
            None => break,
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn shares_hold_at_any_time(
            weights in prop::collection::vec(prop_oneof![Just(0.0), 0.001f64..1.0, Just(1e-9)], 1..40), from in 0u64..1 << 40,
        ) {
            let total: f64 = weights.iter().sum();
            prop_assume!(total > 0.0);
            let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
            let turns = Turns::new(&shares);
            let mut had = vec![0u64; shares.len()];
            let first: Vec<u64> = (0..shares.len()).map(|source| {
                (from..from + 2 * PERIOD).map(|number| turns.get(number)).find(|turn| turn.0 == source).map_or(0, |turn| turn.1)
            }).collect();
            for number in from..from + 70_000 {
                let (source, index) = turns.get(number);
                prop_assert!(shares[source] > 0.0);
                prop_assert_eq!(index, first[source] + had[source]);
                had[source] += 1;
                if number % 64 == 0 {
                    for (source, share) in shares.iter().enumerate() {
                        // Any window: less than two turns off, and the rounding of the share.
                        let expected = (number + 1 - from) as f64 * share;
                        let rounding = (number + 1 - from) as f64 * (2 + shares.len()) as f64 / PERIOD as f64;
                        prop_assert!((had[source] as f64 - expected).abs() < 2.0 + rounding);
                    }
                }
            }
        }
    }

    #[test]
    fn one_large_and_many_small_sources() {
        // Where dealing by the largest remainder gives the large one a dozen turns in a row.
        let shares: Vec<f64> = std::iter::once(0.5).chain([0.01; 50]).collect();
        let turns = Turns::new(&shares);
        let mut large = 0i64;
        for number in 0..PERIOD {
            large += i64::from(turns.get(number).0 == 0);
            assert!((2 * large - number as i64 - 1).abs() <= 2);
        }
    }

    #[test]
    fn the_most_sources_all_have_their_turn() {
        let turns = Turns::new(&vec![1.0 / MAX_SOURCES as f64; MAX_SOURCES]);
        let seen: std::collections::HashSet<_> = (0..MAX_SOURCES as u64)
            .map(|number| turns.get(number).0)
            .collect();
        assert_eq!(seen.len(), MAX_SOURCES);
    }
}
