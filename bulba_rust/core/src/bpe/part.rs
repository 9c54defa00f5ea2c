//! A share of the pieces as tokens laid over their bytes, and the places of pairs in it.
//!
//! Every byte of a piece has a cell. A token's id stands in the cells of its first and last byte, cells between are
//! GONE, and an EDGE lies before and behind every piece. So a token's neighbours are found without a search and a
//! merge writes four cells, however long the piece. Each thread has a part of its own.

use super::pairs::{PairKey, PairMap, Pairs, hash_pair, pair_ids, pair_key};
use std::cmp::Reverse;

/// A piece of text, and how often it occurs.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'t> {
    pub bytes: &'t [u8],
    pub count: u64,
    /// The group of text that it was counted in.
    pub group: u8,
}

/// A token id, or EDGE or GONE. Narrow cells fit twice as much text into a cache.
pub trait Cell: Copy + Eq + Send + Sync {
    const EDGE: Self;
    const GONE: Self;
    /// Ids are below this number.
    const MAX_IDS: usize;
    fn new(id: u32) -> Self;
    fn id(self) -> u32;
}

macro_rules! impl_cell {
    ($word:ty) => {
        impl Cell for $word {
            const EDGE: Self = <$word>::MAX;
            const GONE: Self = <$word>::MAX - 1;
            const MAX_IDS: usize = (<$word>::MAX - 1) as usize;
            fn new(id: u32) -> Self {
                id as $word
            }
            fn id(self) -> u32 {
                self as u32
            }
        }
    };
}
impl_cell!(u16);
impl_cell!(u32);

/// Pieces of one group with one count, up to the start of the next run.
struct Run {
    start: u32,
    group: usize,
    count: u64,
}

/// The tokens found on one side of a token.
#[derive(Default)]
pub struct Side<const G: usize> {
    found: Vec<Neighbour<G>>,
    ids: Vec<u32>,
}

/// How often by group, in how many places, and which list takes those places (0: none).
#[derive(Clone, Copy)]
struct Neighbour<const G: usize> {
    counts: [u64; G],
    num_places: u32,
    slot: u32,
}

impl<const G: usize> Neighbour<G> {
    const NONE: Self = Neighbour {
        counts: [0; G],
        num_places: 0,
        slot: 0,
    };
}

impl<const G: usize> Side<G> {
    fn reset(&mut self, num_tokens: usize) {
        for id in self.ids.drain(..) {
            self.found[id as usize] = Neighbour::NONE;
        }
        self.found.resize(num_tokens, Neighbour::NONE);
    }

    fn entry(&mut self, id: u32) -> &mut Neighbour<G> {
        let neighbour = &mut self.found[id as usize];
        if neighbour.num_places == 0 {
            self.ids.push(id);
        }
        neighbour
    }

    fn add(&mut self, id: u32, run: &Run) {
        let neighbour = self.entry(id);
        neighbour.num_places += 1;
        neighbour.counts[run.group] += run.count;
    }

    fn add_all(&mut self, other: &Self) {
        for id in &other.ids {
            let more = &other.found[*id as usize];
            let neighbour = self.entry(*id);
            neighbour.num_places += more.num_places;
            add_counts(&mut neighbour.counts, &more.counts);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u64; G])> {
        self.ids.iter().map(|id| (*id, &self.found[*id as usize].counts))
    }
}

pub fn add_counts<const G: usize>(into: &mut [u64; G], from: &[u64; G]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += from;
    }
}

/// What stands around the occurrences of a token.
pub struct Around<const G: usize> {
    pub left: Side<G>,
    pub right: Side<G>,
    /// Occurrences that follow one another.
    pub itself: [u64; G],
    /// Occurrences.
    pub total: [u64; G],
}

impl<const G: usize> Around<G> {
    pub fn new() -> Self {
        Around {
            left: Side::default(),
            right: Side::default(),
            itself: [0; G],
            total: [0; G],
        }
    }

    pub fn reset(&mut self, num_tokens: usize) {
        self.left.reset(num_tokens);
        self.right.reset(num_tokens);
        self.itself = [0; G];
        self.total = [0; G];
    }

    pub fn add_all(&mut self, other: &Self) {
        self.left.add_all(&other.left);
        self.right.add_all(&other.right);
        add_counts(&mut self.itself, &other.itself);
        add_counts(&mut self.total, &other.total);
    }
}

/// The pair that becomes a token.
#[derive(Clone, Copy)]
pub struct Merge {
    pub key: PairKey,
    pub id: u32,
}

pub struct Part<C, const G: usize> {
    cells: Vec<C>,
    runs: Vec<Run>,
    /// Where each kept pair stands, or stood before one of its tokens was merged.
    places: PairMap<Vec<u32>>,
    /// Where the newest token stands.
    newest: Vec<u32>,
    pub around: Around<G>,
    /// Size of the text by group.
    pub num_bytes: [u64; G],
    pub num_characters: [u64; G],
}

impl<C: Cell, const G: usize> Part<C, G> {
    pub fn new(mut pieces: Vec<Piece>, alphabet: &[u8; 256]) -> Self {
        pieces.retain(|piece| !piece.bytes.is_empty() && piece.count > 0);
        // Equal counts side by side make few runs.
        pieces.sort_unstable_by_key(|piece| (piece.group, Reverse(piece.count)));
        let num_cells = pieces.iter().map(|piece| piece.bytes.len() + 1).sum::<usize>() + 1;
        let mut cells = Vec::with_capacity(num_cells);
        let mut runs: Vec<Run> = Vec::new();
        let (mut num_bytes, mut num_characters) = ([0; G], [0; G]);
        cells.push(C::EDGE);
        for Piece { bytes, count, group } in pieces {
            let group = usize::from(group) % G;
            if runs
                .last()
                .is_none_or(|run| (run.group, run.count) != (group, count))
            {
                runs.push(Run {
                    start: cells.len() as u32,
                    group,
                    count,
                });
            }
            let ids = bytes.iter().map(|byte| u32::from(alphabet[usize::from(*byte)]));
            cells.extend(ids.map(C::new));
            cells.push(C::EDGE);
            // Every character has one byte that does not continue another.
            let continuing = bytes.iter().filter(|byte| **byte & 0xc0 == 0x80).count();
            num_bytes[group] += bytes.len() as u64 * count;
            num_characters[group] += (bytes.len() - continuing) as u64 * count;
        }
        Part {
            cells,
            runs,
            places: PairMap::default(),
            newest: Vec::new(),
            around: Around::new(),
            num_bytes,
            num_characters,
        }
    }

    pub fn num_places(&self, key: PairKey) -> usize {
        self.places.get(&key).map_or(0, Vec::len)
    }

    /// Calls `each` with the place, the pair and the run of all neighbours.
    fn for_each_pair(&self, lengths: &[u32], mut each: impl FnMut(u32, PairKey, &Run)) {
        let mut runs = self.runs.iter().peekable();
        let Some(mut run) = runs.next() else { return };
        let mut before: Option<(usize, u32)> = None;
        let mut place = 1;
        while let Some(cell) = self.cells.get(place) {
            if *cell == C::EDGE {
                before = None;
                place += 1;
                continue;
            }
            let id = cell.id();
            if let Some((start, left)) = before {
                each(start as u32, pair_key(left, id), run);
            } else if let Some(next) = runs.next_if(|next| next.start as usize == place) {
                run = next;
            }
            before = Some((place, id));
            place += lengths[id as usize] as usize;
        }
    }

    /// Upper bounds of the counts of all pairs: pairs of one hash share a place in `sketch`, a power of two long.
    pub fn sketch(&self, lengths: &[u32], sketch: &mut [[u64; G]]) {
        let mask = sketch.len() - 1;
        self.for_each_pair(lengths, |_, key, run| {
            sketch[hash_pair(key) as usize & mask][run.group] += run.count;
        });
    }

    /// Notes the places of all pairs that may be worth keeping, and returns their counts.
    pub fn survey(&mut self, lengths: &[u32], sketch: &[[u64; G]], pairs: &Pairs<G>) -> PairMap<[u64; G]> {
        let worth: Vec<bool> = sketch
            .iter()
            .map(|bounds| pairs.is_worth_keeping(bounds))
            .collect();
        let mask = worth.len() - 1;
        let mut found: PairMap<([u64; G], Vec<u32>)> = PairMap::default();
        self.places = PairMap::default();
        self.for_each_pair(lengths, |place, key, run| {
            if worth[hash_pair(key) as usize & mask] {
                let (counts, places) = found.entry(key).or_insert_with(|| ([0; G], Vec::new()));
                counts[run.group] += run.count;
                places.push(place);
            }
        });
        let mut sums = PairMap::default();
        for (key, (counts, places)) in found {
            sums.insert(key, counts);
            self.places.insert(key, places);
        }
        sums
    }

    pub fn keep_only(&mut self, pairs: &Pairs<G>) {
        self.places.retain(|key, _| pairs.is_kept(*key));
    }

    /// The number of the run that a place at or behind `from` is in: most often it is near.
    fn run_at(&self, place: u32, from: usize) -> usize {
        let mut from = from;
        let mut step = 1;
        while self.runs.get(from + step).is_some_and(|run| run.start <= place) {
            from += step;
            step *= 2;
        }
        let end = (from + step).min(self.runs.len());
        from + self.runs[from..end].partition_point(|run| run.start <= place) - 1
    }

    /// Puts the token of `merge` where its pair stands and finds what is around it.
    pub fn replace(&mut self, merge: Merge, lengths: &[u32]) {
        self.newest.clear();
        self.around.reset(lengths.len());
        let places = self.places.remove(&merge.key).unwrap_or_default();
        let (left, right) = pair_ids(merge.key);
        let (left_len, right_len) = (lengths[left as usize] as usize, lengths[right as usize] as usize);
        let (left, right, id) = (C::new(left), C::new(right), C::new(merge.id));
        let mut run = 0;
        for start in places {
            let place = start as usize;
            let middle = place + left_len;
            let end = middle + right_len;
            if self.cells[place] != left || self.cells[middle] != right {
                continue;
            }
            self.cells[middle - 1] = C::GONE;
            self.cells[middle] = C::GONE;
            self.cells[place] = id;
            self.cells[end - 1] = id;
            self.newest.push(start);
            run = self.run_at(start, run);
            let Run { group, count, .. } = &self.runs[run];
            self.around.total[*group] += count;
            let before = self.cells[place - 1];
            if before != C::EDGE && before != id {
                self.around.left.add(before.id(), &self.runs[run]);
            }
            let behind = self.cells[end];
            if behind == left && self.cells[end + left_len] == right {
                // The next occurrence, which does not meet its neighbour as it was.
                self.around.itself[*group] += count;
            } else if behind != C::EDGE {
                self.around.right.add(behind.id(), &self.runs[run]);
            }
        }
    }

    /// Notes the places of the pairs `born` with the newest token.
    pub fn note_places(&mut self, id: u32, born: &[PairKey], lengths: &[u32]) {
        // Lists by slot; nothing is noted in the first.
        let mut lists: Vec<(PairKey, Vec<u32>)> = vec![(0, Vec::new())];
        let mut itself = 0;
        for key in born {
            let slot = lists.len() as u32;
            let (left, right) = pair_ids(*key);
            let neighbour = match (left == id, right == id) {
                (true, true) => {
                    itself = slot;
                    lists.push((*key, Vec::new()));
                    continue;
                }
                (true, false) => &mut self.around.right.found[right as usize],
                _ => &mut self.around.left.found[left as usize],
            };
            if neighbour.num_places > 0 {
                neighbour.slot = slot;
                lists.push((*key, Vec::with_capacity(neighbour.num_places as usize)));
            }
        }
        let (cell, length) = (C::new(id), lengths[id as usize]);
        let mut note = |slot: u32, place: u32| {
            if slot > 0 {
                lists[slot as usize].1.push(place);
            }
        };
        for place in &self.newest {
            let before = self.cells[*place as usize - 1];
            if before == cell {
                note(itself, place - length);
            } else if before != C::EDGE {
                let slot = self.around.left.found[before.id() as usize].slot;
                note(slot, place - lengths[before.id() as usize]);
            }
            let behind = self.cells[(place + length) as usize];
            if behind != C::EDGE && behind != cell {
                note(self.around.right.found[behind.id() as usize].slot, *place);
            }
        }
        self.places.extend(lists.into_iter().skip(1));
    }
}
