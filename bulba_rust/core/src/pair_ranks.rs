//! The rank of each pair of tokens that merges, and what it makes.

use crate::bpe::Pair;

/// Bits of an id and of a rank: a pair and its rank share 64 bits.
const ID_BITS: u32 = 21;
const RANK_BITS: u32 = 22;

/// Ids are below.
pub const ID_LIMIT: u32 = (1 << ID_BITS) - 1;
const MAX_MERGES: usize = 1 << RANK_BITS;

/// The rank of a pair that never merges.
pub const NEVER: u32 = u32::MAX;

/// No pair looks like this, as ids stay below [`ID_LIMIT`].
const EMPTY: u64 = u64::MAX;

/// Pairs that share a line of the processor's cache.
const LINE: usize = 8;

/// A hash table of lines, at most half full. A look-up reads one line, all of it: most pairs asked for do not merge, and
/// a search that may stop anywhere in a line is a branch that no processor foresees.
pub struct PairRanks {
    /// The pair in the upper bits, its rank in the lower; a line fills up from its start.
    lines: Vec<[u64; LINE]>,
    shift: u32,
    /// The token that the merge of each rank makes.
    made: Vec<u32>,
}

impl PairRanks {
    /// `merges` are in the order of their ranks, with the token they make. Of a pair given twice the last counts, as
    /// in the `tokenizers` crate. None if there are more merges than the table can hold. Ids are below [`ID_LIMIT`].
    pub fn new(merges: &[(Pair, u32)]) -> Option<Self> {
        if merges.len() > MAX_MERGES {
            return None;
        }
        let num_lines = (2 * merges.len() / LINE).next_power_of_two().max(2);
        let mut table = PairRanks {
            lines: vec![[EMPTY; LINE]; num_lines],
            shift: 64 - num_lines.trailing_zeros(),
            made: merges.iter().map(|(_, made)| *made).collect(),
        };
        for (rank, ((left, right), _)) in (0u64..).zip(merges) {
            table.insert(key(*left, *right), rank);
        }
        Some(table)
    }

    fn insert(&mut self, key: u64, rank: u64) {
        let mut line = self.line(key);
        loop {
            let held = self.lines[line]
                .iter_mut()
                .find(|held| **held >> RANK_BITS == key || **held == EMPTY);
            if let Some(slot) = held {
                *slot = key << RANK_BITS | rank;
                return;
            }
            line = (line + 1) % self.lines.len();
        }
    }

    /// [`NEVER`] if the pair does not merge.
    #[inline]
    pub fn rank(&self, left: u32, right: u32) -> u32 {
        let key = key(left, right);
        let mut line = self.line(key);
        loop {
            let held = &self.lines[line];
            let rank = held.iter().fold(NEVER, |rank, held| {
                if held >> RANK_BITS == key {
                    (held % (1 << RANK_BITS)) as u32
                } else {
                    rank
                }
            });
            if rank != NEVER || held[LINE - 1] == EMPTY {
                return rank;
            }
            line = (line + 1) % self.lines.len();
        }
    }

    /// The token that the merge of a rank makes.
    #[inline]
    pub fn made(&self, rank: u32) -> u32 {
        self.made[rank as usize]
    }

    /// Where the search for `key` starts.
    #[inline]
    fn line(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}
