//! Applying learnt merges to a piece: again and again the neighbours whose pair ranks lowest become one token, the
//! leftmost of equals first (Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword
//! Units", 2016).

use crate::bpe::Pair;
use crate::pair_ranks::{ID_LIMIT, NEVER, PairRanks};
use crate::symbols::Symbols;
use crate::vocabulary::Token;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Pieces up to this long are scanned for the lowest rank before each merge; longer ones keep a heap.
const SCANNED_BYTES: usize = u64::BITS as usize;

pub struct Merges {
    pair_ranks: PairRanks,
    symbols: Symbols,
}

impl Merges {
    /// `bytes`: the id of each byte. `merges`: pairs in the order of their ranks and what they make, all of `tokens`,
    /// which are spelt in bytes. None if there are more merges or larger ids than the tables can hold.
    pub fn new(bytes: [u32; 256], tokens: &[Token], merges: &[(Pair, u32)]) -> Option<Self> {
        let ids = tokens.iter().map(|(_, id)| id).chain(&bytes);
        let merged = merges
            .iter()
            .flat_map(|((left, right), made)| [left, right, made]);
        if ids.chain(merged).any(|id| *id >= ID_LIMIT) {
            return None;
        }
        let pair_ranks = PairRanks::new(merges)?;
        let symbols = Symbols::new(bytes, tokens, merges, &pair_ranks);
        Some(Merges { pair_ranks, symbols })
    }

    /// The tokens of `piece` go behind `out`.
    pub fn apply(&self, piece: &[u8], out: &mut Vec<u32>) {
        if piece.len() <= SCANNED_BYTES {
            self.scan(piece, out);
        } else {
            self.queue(piece, out);
        }
    }

    fn scan(&self, piece: &[u8], out: &mut Vec<u32>) {
        let mut symbols = [0; SCANNED_BYTES];
        let len = self.symbols.of(piece, &mut symbols);
        let symbols = &symbols[..len];
        let mut ids = [0; SCANNED_BYTES];
        for (id, symbol) in ids.iter_mut().zip(symbols) {
            *id = self.symbols.id(*symbol);
        }
        let mut ranks = [NO_RANK; SCANNED_BYTES];
        for (at, pair) in symbols.windows(2).enumerate() {
            ranks[at] = placed(self.symbols.rank(pair[0], pair[1]), at);
        }
        let ranks = &mut ranks[..len.next_multiple_of(8)];
        // A bit for the place of each token; a merge clears that of its right half.
        let mut tokens = u64::MAX.checked_shr((SCANNED_BYTES - len) as u32).unwrap_or(0);
        loop {
            let lowest = ranks.iter().copied().fold(NO_RANK, i32::min);
            if lowest == NO_RANK {
                break;
            }
            let at = lowest as usize % SCANNED_BYTES;
            let made = self.pair_ranks.made(lowest as u32 / SCANNED_BYTES as u32);
            ids[at] = made;
            if let Some(right) = place_above(tokens, at) {
                tokens ^= 1 << right;
                ranks[right] = NO_RANK;
            }
            ranks[at] = match place_above(tokens, at) {
                Some(next) => placed(self.pair_ranks.rank(made, ids[next]), at),
                None => NO_RANK,
            };
            if let Some(before) = place_below(tokens, at) {
                ranks[before] = placed(self.pair_ranks.rank(ids[before], made), before);
            }
        }
        while tokens != 0 {
            out.push(ids[tokens.trailing_zeros() as usize]);
            tokens &= tokens - 1;
        }
    }

    /// In time n log n: a run of 100 000 letters is one piece.
    fn queue(&self, piece: &[u8], out: &mut Vec<u32>) {
        let mut symbols = vec![0; piece.len()];
        let count = self.symbols.of(piece, &mut symbols);
        symbols.truncate(count);
        let mut chain = Chain::new(symbols.iter().map(|symbol| self.symbols.id(*symbol)));
        let rank =
            |chain: &Chain, left: usize, right: usize| match (chain.ids.get(left), chain.ids.get(right)) {
                (Some(left), Some(right)) => self.pair_ranks.rank(*left, *right),
                _ => NEVER,
            };
        let mut queue: BinaryHeap<Reverse<(u32, usize)>> = (0..chain.ids.len())
            .map(|at| Reverse((rank(&chain, at, at + 1), at)))
            .filter(|Reverse((rank, _))| *rank != NEVER)
            .collect();
        while let Some(Reverse((lowest, at))) = queue.pop() {
            // Entries are not taken back when a neighbour merges: what the pair is now decides.
            if chain.ids[at] == GONE || rank(&chain, at, chain.next[at]) != lowest {
                continue;
            }
            chain.join(at, self.pair_ranks.made(lowest));
            for (left, right) in [(chain.before[at], at), (at, chain.next[at])] {
                let rank = rank(&chain, left, right);
                if rank != NEVER {
                    queue.push(Reverse((rank, left)));
                }
            }
        }
        out.extend(chain.ids.iter().filter(|id| **id != GONE));
    }
}

/// Larger than every rank with its place.
const NO_RANK: i32 = i32::MAX;

/// A rank and the place of the left token in one number: the lowest is what merges next.
#[inline]
fn placed(rank: u32, at: usize) -> i32 {
    if rank == NEVER {
        NO_RANK
    } else {
        (rank as usize * SCANNED_BYTES + at) as i32
    }
}

/// The next set bit.
#[inline]
fn place_above(bits: u64, at: usize) -> Option<usize> {
    let above = bits >> at >> 1;
    (above != 0).then(|| at + 1 + above.trailing_zeros() as usize)
}

/// The set bit before.
#[inline]
fn place_below(bits: u64, at: usize) -> Option<usize> {
    (bits & ((1 << at) - 1))
        .checked_ilog2()
        .map(|place| place as usize)
}

/// The id of a token that has become the right half of another; no token has it.
const GONE: u32 = u32::MAX;

/// Tokens by place, linked both ways. A place outside stands for "none".
struct Chain {
    ids: Vec<u32>,
    next: Vec<usize>,
    before: Vec<usize>,
}

impl Chain {
    fn new(ids: impl Iterator<Item = u32>) -> Self {
        let ids: Vec<u32> = ids.collect();
        Chain {
            next: (1..=ids.len()).collect(),
            before: (0..ids.len()).map(|at| at.wrapping_sub(1)).collect(),
            ids,
        }
    }

    /// The token at `at` and the next become `id`.
    fn join(&mut self, at: usize, id: u32) {
        let right = self.next[at];
        let after = self.next[right];
        self.ids[at] = id;
        self.ids[right] = GONE;
        self.next[at] = after;
        if let Some(before) = self.before.get_mut(after) {
            *before = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretokenize::byte_alphabet;
    use proptest::prelude::*;
    use tokenizers::Model;
    use tokenizers::models::bpe::BPE;

    /// Parts of letters, some of which are each other's neighbours in the text below.
    const PARTS: [u8; 11] = [0xd0, 0xd1, 0xb0, 0xbe, 0x81, 0x91, b' ', b'a', 0xd2, 0xe2, 0x80];

    fn spell(token: &[u8]) -> String {
        token
            .iter()
            .map(|byte| byte_alphabet()[usize::from(*byte)])
            .collect()
    }

    /// A model of random merges: `draws` name the halves among the tokens that exist by then.
    struct Draft {
        tokens: Vec<Vec<u8>>,
        merges: Vec<(usize, usize, usize)>,
    }

    impl Draft {
        fn new(draws: &[(usize, usize)]) -> Self {
            let mut draft = Draft {
                tokens: (0..=255).map(|byte| vec![byte]).collect(),
                merges: Vec::new(),
            };
            for (left, right) in draws {
                let choose = |draw: usize| match draw % (2 * PARTS.len() + draft.tokens.len() - 256) {
                    part if part < 2 * PARTS.len() => usize::from(PARTS[part / 2]),
                    token => token - 2 * PARTS.len() + 256,
                };
                let (left, right) = (choose(*left), choose(*right));
                let merged = [&draft.tokens[left][..], &draft.tokens[right]].concat();
                let known = draft.tokens.iter().position(|token| *token == merged);
                if known.is_none() {
                    draft.tokens.push(merged);
                }
                draft
                    .merges
                    .push((left, right, known.unwrap_or(draft.tokens.len() - 1)));
            }
            draft
        }

        fn ours(&self) -> Merges {
            let tokens: Vec<Token> = (0..)
                .zip(&self.tokens)
                .map(|(id, token)| (token[..].into(), id))
                .collect();
            let merges: Vec<(Pair, u32)> = self
                .merges
                .iter()
                .map(|(left, right, made)| ((*left as u32, *right as u32), *made as u32))
                .collect();
            Merges::new(std::array::from_fn(|byte| byte as u32), &tokens, &merges).unwrap()
        }

        fn reference(&self) -> BPE {
            let spelt: Vec<String> = self.tokens.iter().map(|token| spell(token)).collect();
            let merges = self.merges.iter();
            BPE::new(
                spelt.iter().cloned().zip(0..).collect(),
                merges
                    .map(|(left, right, _)| (spelt[*left].clone(), spelt[*right].clone()))
                    .collect(),
            )
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        /// In whatever order the merges rank, even a part above the whole.
        #[test]
        fn random_merges_apply_as_in_the_crate(
            draws in prop::collection::vec((any::<usize>(), any::<usize>()), 0..60),
            swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..60),
            texts in prop::collection::vec("[аосёяё aѐҀ—]{1,30}|[ао]{30,90}|[аосё ]{1,6}", 1..12),
        ) {
            let mut draft = Draft::new(&draws);
            for (one, other) in swaps.iter().filter(|_| !draws.is_empty()) {
                draft.merges.swap(one.index(draws.len()), other.index(draws.len()));
            }
            let (ours, reference) = (draft.ours(), draft.reference());
            for text in texts {
                let mut ids = Vec::new();
                ours.apply(text.as_bytes(), &mut ids);
                let expected: Vec<u32> =
                    reference.tokenize(&spell(text.as_bytes())).unwrap().iter().map(|token| token.id).collect();
                prop_assert_eq!(ids, expected);
            }
        }
    }

    #[test]
    fn ids_beyond_the_tables_are_refused() {
        let bytes = std::array::from_fn(|byte| byte as u32);
        let fits = |token: u32, made: u32| {
            Merges::new(bytes, &[(Box::from(*b"ab"), token)], &[((0, 1), made)]).is_some()
        };
        assert!(fits(256, 256));
        assert!(!fits(ID_LIMIT, 256));
        assert!(!fits(256, ID_LIMIT));
    }
}
