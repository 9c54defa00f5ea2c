//! What merging starts from: the bytes of a piece, and whole Cyrillic letters where that changes nothing.
//!
//! A letter of U+0400 to U+047F is two bytes, D0 or D1 and another. Merging pairs from the lowest rank up joins the two
//! unless a pair of lower rank takes one of them first: the second byte with what follows, or the first with what lies
//! before, as in " \xD0" or "о\xD0". Where neither exists the outcome is known, and the merge is saved.
//! This holds as long as no pair that the letter is part of ranks lower than the letter itself; else it is not used.

use crate::bpe::Pair;
use crate::pair_ranks::{NEVER, PairRanks};
use crate::vocabulary::Token;
use ahash::AHashMap;

/// The 256 bytes, then 128 letters.
const NUM_SYMBOLS: usize = 256 + 128;

pub struct Symbols {
    ids: [u32; NUM_SYMBOLS],
    /// The rank of each pair of symbols.
    ranks: Vec<u32>,
    /// The rank that joins the two bytes of each letter, [`NEVER`] if that must be left to merging.
    joined_at: [u32; 128],
    /// By D0 or D1 and the byte before it: the lowest rank that may join the two.
    taken_at: [[u32; 256]; 2],
}

impl Symbols {
    /// `bytes`: the id of each byte. `tokens` are those of the vocabulary that are spelt in bytes.
    pub fn new(bytes: [u32; 256], tokens: &[Token], merges: &[(Pair, u32)], pair_ranks: &PairRanks) -> Self {
        let last_bytes: AHashMap<u32, u8> = tokens
            .iter()
            .filter_map(|(token, id)| Some((*id, *token.last()?)))
            .collect();
        let mut taken_at = [[NEVER; 256]; 2];
        let mut first_use: AHashMap<u32, u32> = AHashMap::new();
        let mut first_use_left = first_use.clone();
        for (rank, ((left, right), _)) in (0u32..).zip(merges) {
            first_use_left.entry(*left).or_insert(rank);
            first_use.entry(*left).or_insert(rank);
            first_use.entry(*right).or_insert(rank);
            for (taken_at, lead) in taken_at.iter_mut().zip([0xd0, 0xd1]) {
                if *right == bytes[lead]
                    && let Some(last_byte) = last_bytes.get(left)
                {
                    let taken_at = &mut taken_at[usize::from(*last_byte)];
                    *taken_at = rank.min(*taken_at);
                }
            }
        }
        let mut symbols = Symbols {
            ids: [0; NUM_SYMBOLS],
            ranks: Vec::new(),
            joined_at: [NEVER; 128],
            taken_at,
        };
        symbols.ids[..256].copy_from_slice(&bytes);
        for letter in 0..128 {
            let (lead, tail) = (0xd0 + letter / 64, bytes[0x80 + letter % 64]);
            let rank = pair_ranks.rank(bytes[lead], tail);
            if rank == NEVER {
                continue;
            }
            let id = pair_ranks.made(rank);
            symbols.ids[256 + letter] = id;
            let is_later = |first_use: Option<&u32>| first_use.is_none_or(|first| *first > rank);
            if is_later(first_use.get(&id)) && is_later(first_use_left.get(&tail)) {
                symbols.joined_at[letter] = rank;
            }
        }
        symbols.ranks = symbols
            .ids
            .iter()
            .flat_map(|left| symbols.ids.iter().map(|right| pair_ranks.rank(*left, *right)))
            .collect();
        symbols
    }

    /// The symbols of `piece`, in the order of the text, to the start of `symbols`; their number.
    #[inline]
    pub fn of(&self, piece: &[u8], symbols: &mut [u16]) -> usize {
        let (mut at, mut count, mut before) = (0, 0, None);
        while let (Some(byte), Some(symbol)) = (piece.get(at), symbols.get_mut(count)) {
            *symbol = u16::from(*byte);
            let mut len = 1;
            if byte & 0xfe == 0xd0
                && let Some(tail) = piece.get(at + 1)
            {
                let letter = usize::from(byte & 1) << 6 | usize::from(tail & 0x3f);
                let taken_at = before.map_or(NEVER, |before| {
                    self.taken_at[usize::from(byte & 1)][usize::from(before)]
                });
                if self.joined_at[letter] < taken_at {
                    *symbol = 256 + letter as u16;
                    len = 2;
                }
            }
            at += len;
            count += 1;
            before = piece.get(at - 1).copied();
        }
        count
    }

    pub fn id(&self, symbol: u16) -> u32 {
        self.ids[usize::from(symbol)]
    }

    /// The rank of a pair of symbols.
    pub fn rank(&self, left: u16, right: u16) -> u32 {
        self.ranks[usize::from(left) * NUM_SYMBOLS + usize::from(right)]
    }
}
