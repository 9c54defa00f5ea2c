use super::*;
use ahash::AHashMap;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::sync::LazyLock;

static POOL: LazyLock<rayon::ThreadPool> =
    LazyLock::new(|| rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap());

fn alphabet() -> [u8; 256] {
    std::array::from_fn(|byte| byte as u8)
}

/// A piece, its count, its group.
type Counted = (String, u64, u8);

struct Naive {
    words: Vec<(Vec<u32>, u64, usize)>,
    characters: [u64; NUM_GROUPS],
}

impl Naive {
    /// How often each pair occurs, counted anew.
    fn pairs(&self, group: Option<usize>) -> AHashMap<Pair, u64> {
        let mut counts = AHashMap::new();
        for (ids, count, _) in self
            .words
            .iter()
            .filter(|word| group.is_none_or(|group| word.2 == group))
        {
            for pair in ids.windows(2) {
                *counts.entry((pair[0], pair[1])).or_default() += count;
            }
        }
        counts
    }

    fn best_pair(&self, group: Option<usize>, min_frequency: u64) -> Option<Pair> {
        let pairs = self
            .pairs(group)
            .into_iter()
            .filter(|(_, count)| *count >= min_frequency.max(1));
        pairs
            .map(|(pair, count)| (count, Reverse(pair)))
            .max()
            .map(|(_, Reverse(pair))| pair)
    }

    /// The best pair of the group with the most tokens a character that has one.
    fn parity_pair(&self, min_frequency: u64) -> Option<Pair> {
        let mut groups: Vec<usize> = (0..NUM_GROUPS)
            .filter(|group| self.characters[*group] > 0)
            .collect();
        let tokens = |group: usize| -> u64 {
            let words = self.words.iter().filter(|word| word.2 == group);
            words.map(|(ids, count, _)| ids.len() as u64 * count).sum()
        };
        // A stable sort: among equals the first group.
        groups.sort_by(|a, b| (tokens(*b) * self.characters[*a]).cmp(&(tokens(*a) * self.characters[*b])));
        groups
            .into_iter()
            .find_map(|group| self.best_pair(Some(group), min_frequency))
    }

    fn replace(&mut self, pair: Pair, id: u32) {
        for (ids, _, _) in &mut self.words {
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
}

/// The textbook: count every pair anew before each merge.
fn naive(pieces: &[Counted], vocab_size: usize, min_frequency: u64, goal: Goal) -> Learnt {
    let mut characters = [0; NUM_GROUPS];
    for (piece, count, group) in pieces {
        characters[usize::from(*group)] += piece.chars().count() as u64 * count;
    }
    let words = pieces.iter().map(|(piece, count, group)| {
        (
            piece.bytes().map(u32::from).collect(),
            *count,
            usize::from(*group),
        )
    });
    let mut naive = Naive {
        words: words.collect(),
        characters,
    };
    let mut learnt = Learnt::new(&alphabet());
    while learnt.tokens.len() < vocab_size {
        let pair = match goal {
            Goal::Commonest => naive.best_pair(None, min_frequency),
            Goal::Parity => naive.parity_pair(min_frequency),
        };
        let Some(pair) = pair else { break };
        let token = learnt.spell(pair_key(pair.0, pair.1));
        assert!(!learnt.tokens.contains(&token), "two pairs spell {token:?}");
        learnt.tokens.push(token);
        learnt.merges.push(pair);
        naive.replace(pair, learnt.tokens.len() as u32 - 1);
    }
    learnt
}

#[derive(Clone, Copy, Debug)]
struct Way {
    num_parts: usize,
    tuning: Tuning,
    wide: bool,
}

const USUAL: Way = Way {
    num_parts: 2,
    tuning: TUNING,
    wide: false,
};

/// Every way that the same may be computed in: parts, thresholds so near that the text is surveyed over and over,
/// sketches in which all pairs collide, all merges in parallel, wide cells.
fn ways() -> impl Strategy<Value = Way> {
    let lengths = prop_oneof![Just(1), Just(2), Just(64), Just(1 << 12)];
    let places = prop_oneof![Just(0), Just(3), Just(usize::MAX)];
    (1usize..5, 2u64..70, lengths, places, any::<bool>()).prop_map(
        |(num_parts, threshold_divisor, sketch_len, min_parallel_places, wide)| Way {
            num_parts,
            tuning: Tuning {
                threshold_divisor,
                sketch_len,
                min_parallel_places,
            },
            wide,
        },
    )
}

fn learn_in(way: Way, pieces: &[Counted], vocab_size: usize, min_frequency: u64, goal: Goal) -> Learnt {
    let alphabet = alphabet();
    let options = LearnOptions {
        alphabet: &alphabet,
        vocab_size,
        min_frequency,
        goal,
    };
    let mut parts = vec![Vec::new(); way.num_parts];
    for (index, (piece, count, group)) in pieces.iter().enumerate() {
        parts[index % way.num_parts].push(Piece {
            bytes: piece.as_bytes(),
            count: *count,
            group: *group,
        });
    }
    let (pool, tuning) = (&*POOL, way.tuning);
    let learnt = match (way.wide, goal) {
        (false, _) => learn_tuned(parts, &options, pool, tuning, |_| Ok(())),
        (true, Goal::Commonest) => Learner::<u32, 1>::new(parts, &options, pool, tuning)
            .unwrap()
            .learn(|_| Ok(())),
        (true, Goal::Parity) => Learner::<u32, NUM_GROUPS>::new(parts, &options, pool, tuning)
            .unwrap()
            .learn(|_| Ok(())),
    };
    learnt.unwrap()
}

fn pieces(letters: &'static str, max_count: u64) -> impl Strategy<Value = Vec<Counted>> {
    prop::collection::vec((letters, 1..max_count, 0..NUM_GROUPS as u8), 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn equals_the_textbook(
        pieces in pieces("[abc]{1,12}", 20), tokens in 0usize..60, min_frequency in 0u64..6, way in ways(),
    ) {
        let vocab_size = 256 + tokens;
        let goal = Goal::Commonest;
        prop_assert_eq!(
            learn_in(way, &pieces, vocab_size, min_frequency, goal), naive(&pieces, vocab_size, min_frequency, goal)
        );
    }

    /// Long runs of few letters overlap with themselves.
    #[test]
    fn equals_the_textbook_on_runs(pieces in pieces("[ab]{1,40}", 4), way in ways()) {
        let goal = Goal::Commonest;
        prop_assert_eq!(learn_in(way, &pieces, 600, 1, goal), naive(&pieces, 600, 1, goal));
    }

    #[test]
    fn parity_equals_the_slow_way(
        pieces in pieces("[abгў]{1,12}", 20), tokens in 0usize..60, min_frequency in 0u64..6, way in ways(),
    ) {
        let vocab_size = 256 + tokens;
        let goal = Goal::Parity;
        prop_assert_eq!(
            learn_in(way, &pieces, vocab_size, min_frequency, goal), naive(&pieces, vocab_size, min_frequency, goal)
        );
    }
}

/// Letters by a linear congruential generator.
fn letters(seed: u64, alphabet: &str, len: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut state = seed;
    let draws = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        alphabet[(state >> 33) as usize % alphabet.len()]
    });
    draws.take(len).collect()
}

#[test]
fn counts_beyond_32_bits_are_exact() {
    let pieces = [
        ("ab".into(), u64::from(u32::MAX), 0),
        ("cd".into(), u64::from(u32::MAX) + 1, 0),
        ("ef".into(), 1 << 60, 0),
    ];
    let learnt = learn_in(USUAL, &pieces, 259, 1, Goal::Commonest);
    assert_eq!(
        learnt.tokens[256..],
        [b"ef".to_vec(), b"cd".to_vec(), b"ab".to_vec()]
    );
}

#[test]
fn a_piece_of_a_megabyte_is_learnt_from_like_any_other() {
    let pieces = [(letters(0, "abcd", 1_000_000), 1, 0)];
    let learnt = learn_in(USUAL, &pieces, 3000, 2, Goal::Commonest);
    assert_eq!(learnt.tokens.len(), 3000);
    let slow = naive(&pieces, 270, 2, Goal::Commonest);
    assert_eq!(learnt.merges[..14], slow.merges);
}
