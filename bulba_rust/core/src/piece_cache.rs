//! The tokens of pieces met before, in bounded memory.
//!
//! Natural text repeats itself: nine pieces in ten were met shortly before. A piece of up to 31 bytes is its own key,
//! held beside its tokens. The table is far larger than the processor's cache, so [`PieceCache::find`] only asks for
//! the memory; by the time [`PieceCache::tokens`] reads it, other pieces have been found and it is there.

/// Words of 8 bytes in the key of a short and of a long piece; the last byte of a key is the length.
const SHORT: usize = 2;
const LONG: usize = 4;

const SHORT_SETS: usize = 1 << 16;
const LONG_SETS: usize = 1 << 15;

/// From this bit up the first id of an entry holds the number of ids.
const COUNT_SHIFT: u32 = 24;
const _: () = assert!(crate::pair_ranks::ID_LIMIT <= 1 << COUNT_SHIFT);

/// 12 MiB.
pub struct PieceCache {
    short: Table<SHORT>,
    long: Table<LONG>,
}

/// A piece, and where it is in the table if it is there.
#[derive(Clone, Copy, Default)]
pub struct Found {
    pub start: usize,
    pub end: usize,
    key: [u64; LONG],
    set: usize,
}

impl PieceCache {
    pub fn new() -> Self {
        PieceCache {
            short: Table::new(SHORT_SETS),
            long: Table::new(LONG_SETS),
        }
    }

    /// The place of the piece `text[start..end]`.
    #[inline]
    pub fn find(&self, text: &[u8], start: usize, end: usize) -> Found {
        let len = end - start;
        let (mut key, mut set) = ([0; LONG], 0);
        if len < 8 * SHORT {
            let short = load::<16, SHORT>(text, start, len);
            set = self.short.find(&short);
            [key[0], key[1]] = short;
        } else if len < 8 * LONG {
            key = load::<32, LONG>(text, start, len);
            set = self.long.find(&key);
        }
        Found { start, end, key, set }
    }

    /// The tokens of a piece go behind `out`: those kept, or those that `make` puts there.
    #[inline]
    pub fn tokens(&mut self, piece: &Found, out: &mut Vec<u32>, make: impl FnOnce(&mut Vec<u32>)) {
        let (len, key) = (piece.end - piece.start, &piece.key);
        if len < 8 * SHORT {
            self.short.tokens(piece.set, [key[0], key[1]], out, make);
        } else if len < 8 * LONG {
            self.long.tokens(piece.set, *key, out, make);
        } else {
            make(out);
        }
    }
}

/// The key, which is never 0 for a piece, and two ids a word.
type Entry<const WORDS: usize> = [[u64; WORDS]; 2];

/// Sets of two entries. A new piece takes the second place of its set; the first is for the last that was met twice, so
/// that words seen once do not drive out common ones.
struct Table<const WORDS: usize> {
    sets: Vec<Set<WORDS>>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Set<const WORDS: usize>([Entry<WORDS>; 2]);

impl<const WORDS: usize> Table<WORDS> {
    /// `num_sets` is a power of two.
    fn new(num_sets: usize) -> Self {
        Table {
            sets: vec![Set([[[0; WORDS]; 2]; 2]); num_sets],
        }
    }

    #[inline]
    fn find(&self, key: &[u64; WORDS]) -> usize {
        let set = hash(key) as usize & (self.sets.len() - 1);
        // A set is one line of 64 bytes or two.
        let Set([first, second]) = &self.sets[set];
        prefetch(first);
        if WORDS > SHORT {
            prefetch(second);
        }
        set
    }

    #[inline]
    fn tokens(
        &mut self,
        set: usize,
        key: [u64; WORDS],
        out: &mut Vec<u32>,
        make: impl FnOnce(&mut Vec<u32>),
    ) {
        let Set([first, second]) = &mut self.sets[set];
        if first[0] == key {
            give(&first[1], out);
        } else if second[0] == key {
            give(&second[1], out);
            std::mem::swap(first, second);
        } else {
            let start = out.len();
            make(out);
            keep(second, key, &out[start..]);
        }
    }
}

/// The ids of an entry go behind `out`.
#[inline]
fn give(ids: &[u64], out: &mut Vec<u32>) {
    let start = out.len();
    // All places of the entry are copied: a fixed number of words takes no call.
    out.extend_from_slice(bytemuck::cast_slice(ids));
    let first = &mut out[start];
    let count = *first >> COUNT_SHIFT;
    *first %= 1 << COUNT_SHIFT;
    out.truncate(start + count as usize);
}

/// Nothing is kept if there are more ids than an entry holds.
fn keep<const WORDS: usize>([known, kept]: &mut Entry<WORDS>, key: [u64; WORDS], ids: &[u32]) {
    let kept: &mut [u32] = bytemuck::cast_slice_mut(kept);
    if let Some(kept) = kept.get_mut(..ids.len())
        && !ids.is_empty()
    {
        kept.copy_from_slice(ids);
        kept[0] |= (ids.len() as u32) << COUNT_SHIFT;
        *known = key;
    }
}

/// Asks the processor to bring `entry` near. It saves a seventh of the time of encoding.
#[inline]
fn prefetch<const WORDS: usize>(entry: &Entry<WORDS>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and cannot fault; SSE is part of every x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(entry).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = entry;
}

/// `len` bytes from `start`, filled up with zeros, and their number in the last byte.
#[inline]
fn load<const BYTES: usize, const WORDS: usize>(text: &[u8], start: usize, len: usize) -> [u64; WORDS] {
    let rest = text.get(start..).unwrap_or_default();
    let mut end_of_text = [0; BYTES];
    let bytes = rest.first_chunk::<BYTES>().unwrap_or_else(|| {
        end_of_text[..rest.len()].copy_from_slice(rest);
        &end_of_text
    });
    let mut key = [0; WORDS];
    for ((word, bytes), mask) in key.iter_mut().zip(bytes.as_chunks::<8>().0).zip(&MASKS[len]) {
        *word = u64::from_le_bytes(*bytes) & mask;
    }
    key[WORDS - 1] |= (len as u64) << 56;
    key
}

/// For each length the bits of the words that belong to it.
static MASKS: [[u64; LONG]; 8 * LONG] = {
    let mut masks = [[0; LONG]; 8 * LONG];
    let mut len = 0;
    while len < masks.len() {
        let mut byte = 0;
        while byte < len {
            masks[len][byte / 8] |= 0xff << (byte % 8 * 8);
            byte += 1;
        }
        len += 1;
    }
    masks
};

/// Products of the words folded to 64 bits, in the manner of wyhash.
#[inline]
fn hash(key: &[u64]) -> u64 {
    const SECRETS: [u64; 2] = [0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9];
    key.as_chunks::<2>().0.iter().fold(0, |hash: u64, [low, high]| {
        let product = u128::from(hash ^ low ^ SECRETS[0]) * u128::from(high ^ SECRETS[1]);
        product as u64 ^ (product >> 64) as u64
    })
}
