//! The lengths of bucketed rows, chosen so that the padding is least.

/// At most this many shapes: each one is compiled and captured on its own.
pub const MAX_LENGTHS: usize = 8;
/// There are at most this many lengths to choose from.
const CANDIDATES: u64 = 128;
/// From 128 on lengths are multiples of this, as kernels like them.
const MULTIPLE: u64 = 8;

/// At most eight ascending lengths for pieces of `histogram[n]` times length n, the last one the longest length.
///
/// Dynamic programming over the candidate lengths: the least padding with the k-th length at candidate j is the least
/// over i < j of that with k - 1 lengths up to i, and the padding of all pieces between i and j to j.
pub fn choose_lengths(histogram: &[u64]) -> Vec<u32> {
    let longest = histogram.len().saturating_sub(1) as u64;
    let step = match longest {
        0..CANDIDATES => 1,
        _ => longest.div_ceil(CANDIDATES).next_multiple_of(MULTIPLE),
    };
    let mut candidates: Vec<u64> = (1..longest.div_ceil(step)).map(|number| number * step).collect();
    candidates.push(longest);
    // below[j]: how many pieces are not longer than candidate j - 1.
    let mut below = vec![0u64];
    let mut from = 1;
    for candidate in &candidates {
        let to = *candidate as usize + 1;
        let here: u64 = histogram.get(from..to).unwrap_or_default().iter().sum();
        below.push(below.last().copied().unwrap_or_default() + here);
        from = to;
    }
    let cost = |after: usize, last: usize| -> f64 {
        let (low, high) = (below.get(after), below.get(last));
        let length = candidates.get(last - 1).copied().unwrap_or_default();
        (high.copied().unwrap_or_default() - low.copied().unwrap_or_default()) as f64 * length as f64
    };
    // For each number of lengths and each candidate: (least tokens, where the length before lies).
    let mut table: Vec<Vec<(f64, usize)>> = vec![
        (0..=candidates.len())
            .map(|last| match last {
                0 => (0.0, 0),
                _ => (f64::INFINITY, 0),
            })
            .collect(),
    ];
    for number in 0..MAX_LENGTHS {
        let row = (0..=candidates.len()).map(|last| {
            let before = table
                .get(number)
                .map_or(&[][..], Vec::as_slice)
                .iter()
                .take(last)
                .enumerate();
            let totals = before.map(|(after, (tokens, _))| (tokens + cost(after, last), after));
            totals
                .min_by(|one, other| one.0.total_cmp(&other.0))
                .unwrap_or((f64::INFINITY, 0))
        });
        let row = row.collect();
        table.push(row);
    }
    let mut lengths = Vec::new();
    let mut last = candidates.len();
    let total = |number: usize| {
        table
            .get(number)
            .and_then(|row| row.last())
            .map_or(f64::INFINITY, |cell| cell.0)
    };
    let mut number = (1..=MAX_LENGTHS)
        .min_by(|one, other| total(*one).total_cmp(&total(*other)))
        .unwrap_or(1);
    while number > 0 && last > 0 {
        lengths.extend(candidates.get(last - 1).map(|length| *length as u32));
        last = table
            .get(number)
            .and_then(|row| row.get(last))
            .map_or(0, |cell| cell.1);
        number -= 1;
    }
    lengths.reverse();
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(histogram: &[u64], lengths: &[u32]) -> u64 {
        let padded =
            |length: usize| u64::from(*lengths.iter().find(|padded| **padded as usize >= length).unwrap());
        (1..histogram.len())
            .map(|length| histogram[length] * padded(length))
            .sum()
    }

    /// The least tokens over every choice of up to `number` lengths with the longest among them.
    fn exhaustive(histogram: &[u64], number: usize) -> u64 {
        let longest = histogram.len() as u32 - 1;
        (0..1u32 << (longest - 1))
            .filter(|chosen| chosen.count_ones() < number as u32)
            .map(|chosen| {
                let lengths: Vec<u32> = (1..longest)
                    .filter(|length| chosen >> (length - 1) & 1 == 1)
                    .chain([longest])
                    .collect();
                tokens(histogram, &lengths)
            })
            .min()
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_other_lengths_pad_less(counts in prop::collection::vec(prop_oneof![Just(0u64), 0u64..100], 1..13)) {
            let histogram: Vec<u64> = std::iter::once(0).chain(counts).collect();
            let lengths = choose_lengths(&histogram);
            prop_assert!(lengths.len() <= MAX_LENGTHS && lengths.is_sorted());
            prop_assert_eq!(lengths.last().copied(), Some(histogram.len() as u32 - 1));
            prop_assert_eq!(tokens(&histogram, &lengths), exhaustive(&histogram, MAX_LENGTHS));
        }
    }

    #[test]
    fn long_lengths_are_multiples() {
        let histogram: Vec<u64> = std::iter::once(0)
            .chain((1..=2000).map(|length| 10_000 / length))
            .collect();
        let lengths = choose_lengths(&histogram);
        assert_eq!(lengths.len(), MAX_LENGTHS);
        assert!(
            lengths.iter().all(|length| length % 16 == 0 || *length == 2000),
            "{lengths:?}"
        );
    }
}
