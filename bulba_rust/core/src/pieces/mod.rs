//! Counting the distinct pieces of a stream of documents, in a table of bounded size.
//!
//! Threads count chunks of text on their own and add the sums to shards that all share, so the table is held once,
//! whatever their number. Whether it is full is asked between batches of chunks, and the answer depends on the pieces
//! alone, so where the reading stops does not depend on the threads.

mod counts;

use crate::bpe::{NUM_GROUPS, Piece};
use crate::pretokenize::Pretokenizer;
use crate::{Error, Result};
use ahash::{AHashMap, RandomState};
use counts::{LongCounts, LongKey, ShortCounts, ShortPiece};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Text that one thread counts at a time.
const CHUNK_BYTES: usize = 128 << 10;
/// Text between two looks at the size of the table.
const BATCH_BYTES: usize = 8 << 20;
const NUM_SHARDS: usize = 64;
/// No shard comes near the 4 GiB of text that it can address.
const MAX_MEMORY_BYTES: u64 = 1 << 37;
/// A longer piece is counted as pieces of this length.
const MAX_PIECE_BYTES: usize = 1 << 20;

/// What ended the reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoppedBy {
    End,
    MaxTextBytes,
    MaxMemoryBytes,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_text_bytes: u64,
    /// For the table of distinct pieces: 64 bytes a piece, or 60 and twice its text if that is over 15 bytes. The
    /// table takes no more than this and what one batch of text adds; learning takes about three times as much again.
    pub max_memory_bytes: u64,
}

/// How much was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub documents: u64,
    pub text_bytes: u64,
    /// Bytes of text by group.
    pub group_bytes: [u64; NUM_GROUPS],
    pub distinct_pieces: u64,
    pub stopped_by: StoppedBy,
}

/// How often each piece occurs: in all, or in each group of documents.
pub struct PieceCounts {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    by_group: bool,
}

/// Some of the pieces.
#[derive(Default)]
struct Shard {
    short: ShortCounts,
    long: LongCounts,
}

impl PieceCounts {
    pub fn new(by_group: bool) -> Self {
        PieceCounts {
            hasher: RandomState::new(),
            shards: (0..NUM_SHARDS).map(|_| Mutex::default()).collect(),
            by_group,
        }
    }

    /// Reads documents, each with its group, until their end or a limit; `step` hears how many bytes were read.
    pub fn read<T: AsRef<str> + Sync>(
        &mut self,
        documents: impl Iterator<Item = Result<(T, u8)>>,
        limits: Limits,
        pool: &rayon::ThreadPool,
        mut step: impl FnMut(u64) -> Result<()>,
    ) -> Result<Reading> {
        let mut reader = Reader {
            pretokenizer: Pretokenizer::new()?,
            limits,
            pool,
            counts: self,
            reading: Reading {
                documents: 0,
                text_bytes: 0,
                group_bytes: [0; NUM_GROUPS],
                distinct_pieces: 0,
                stopped_by: StoppedBy::End,
            },
        };
        let (mut pending, mut pending_bytes) = (Vec::new(), 0);
        for document in documents {
            let (text, group) = document?;
            if usize::from(group) >= NUM_GROUPS {
                return Err(Error::Argument {
                    name: "group",
                    expected: format!("a number below {NUM_GROUPS}"),
                    got: group.to_string(),
                });
            }
            pending_bytes += text.as_ref().len();
            pending.push((text, group));
            if pending_bytes >= BATCH_BYTES {
                reader.read_all(&pending, &mut step)?;
                (pending, pending_bytes) = (Vec::new(), 0);
            }
            if reader.reading.stopped_by != StoppedBy::End {
                break;
            }
        }
        reader.read_all(&pending, &mut step)?;
        let mut reading = reader.reading;
        reading.distinct_pieces = self.shards_mut().map(|shard| shard.num_pieces()).sum();
        Ok(reading)
    }

    fn shards_mut(&mut self) -> impl Iterator<Item = &mut Shard> {
        let shards = self.shards.iter_mut();
        shards.map(|shard| shard.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the counts of a chunk into the shards and empties it.
    fn add_chunk(&self, chunk: &mut ChunkCounts, number: usize) {
        for (piece, count) in chunk.short.drain() {
            chunk.sums[shard_of(piece.hash())].short.push((piece, count));
        }
        for ((piece, group), count) in chunk.long.drain() {
            for part in piece.chunks(MAX_PIECE_BYTES) {
                let hash = self.hasher.hash_one((part, group));
                let key = LongKey {
                    hash: hash as u32,
                    group,
                };
                chunk.sums[shard_of(hash)].long.push((key, part, count));
            }
        }
        // Threads begin at different shards so as not to wait for each other.
        for turn in 0..NUM_SHARDS {
            let index = (number + turn) % NUM_SHARDS;
            let mut shard = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
            shard.add_all(&mut chunk.sums[index]);
        }
    }

    /// The pieces in lists of about the same length, at least `num_lists` and enough for 32 bits to address the bytes
    /// of each, counts multiplied by the factor of their group.
    pub fn pieces(&mut self, num_lists: usize, factors: &[u64; NUM_GROUPS]) -> Vec<Vec<Piece<'_>>> {
        let memory_bytes: u64 = self.shards_mut().map(|shard| shard.memory_bytes()).sum();
        let num_lists = num_lists.max((memory_bytes >> 31) as usize + 1);
        let mut lists: Vec<Vec<Piece>> = (0..num_lists).map(|_| Vec::new()).collect();
        for (index, shard) in self.shards_mut().enumerate() {
            let list = &mut lists[index % num_lists];
            list.reserve_exact(shard.num_pieces() as usize);
            list.extend(shard.pieces().map(|piece| Piece {
                count: piece.count * factors[usize::from(piece.group)],
                ..piece
            }));
        }
        lists
    }
}

impl Shard {
    fn num_pieces(&self) -> u64 {
        (self.short.len() + self.long.len()) as u64
    }

    fn memory_bytes(&self) -> u64 {
        self.short.memory_bytes() + self.long.memory_bytes()
    }

    fn add_all(&mut self, sums: &mut Sums) {
        for (piece, count) in sums.short.drain(..) {
            self.short.add(piece, count);
        }
        for (key, piece, count) in sums.long.drain(..) {
            self.long.add(key, piece, count);
        }
    }

    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.short.pieces().chain(self.long.pieces())
    }
}

/// The low bits of a hash place a piece within its shard.
fn shard_of(hash: u64) -> usize {
    (hash >> 48) as usize % NUM_SHARDS
}

struct Reader<'a> {
    pretokenizer: Pretokenizer,
    limits: Limits,
    pool: &'a rayon::ThreadPool,
    counts: &'a mut PieceCounts,
    reading: Reading,
}

impl Reader<'_> {
    fn read_all<T: AsRef<str>>(
        &mut self,
        documents: &[(T, u8)],
        mut step: impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        for (text, group) in documents {
            let mut rest = text.as_ref();
            self.reading.documents += u64::from(!rest.is_empty() && self.is_within_limits());
            while !rest.is_empty() && self.is_within_limits() {
                let (chunk, behind) = rest.split_at(chunk_end(rest, CHUNK_BYTES));
                rest = behind;
                self.reading.text_bytes += chunk.len() as u64;
                self.reading.group_bytes[usize::from(*group)] += chunk.len() as u64;
                batch_bytes += chunk.len();
                batch.push((chunk, *group));
                if batch_bytes >= BATCH_BYTES {
                    self.count(&batch);
                    step(self.reading.text_bytes)?;
                    (batch, batch_bytes) = (Vec::new(), 0);
                }
            }
        }
        self.count(&batch);
        step(self.reading.text_bytes)
    }

    /// Called before more text is read, so a limit met exactly at the end is none.
    fn is_within_limits(&mut self) -> bool {
        if self.reading.text_bytes >= self.limits.max_text_bytes {
            self.reading.stopped_by = StoppedBy::MaxTextBytes;
        }
        self.reading.stopped_by == StoppedBy::End
    }

    fn count(&mut self, batch: &[(&str, u8)]) {
        let (counts, pretokenizer) = (&*self.counts, &self.pretokenizer);
        self.pool.install(|| {
            let chunks = batch.par_iter().enumerate();
            chunks.for_each_init(ChunkCounts::default, |chunk, (number, (text, group))| {
                chunk.count(text, if counts.by_group { *group } else { 0 }, pretokenizer);
                counts.add_chunk(chunk, number);
            });
        });
        let memory_bytes: u64 = self.counts.shards_mut().map(|shard| shard.memory_bytes()).sum();
        if memory_bytes >= self.limits.max_memory_bytes.min(MAX_MEMORY_BYTES) {
            self.reading.stopped_by = StoppedBy::MaxMemoryBytes;
        }
    }
}

/// A place to cut behind at least `min_bytes` where a piece ends whatever lies around: between a letter and a space,
/// or between a line break and something else than white space. The end, if there is none.
fn chunk_end(text: &str, min_bytes: usize) -> usize {
    let is_letter = |letter: char| letter.is_ascii_alphabetic() || ('\u{400}'..='\u{481}').contains(&letter);
    let is_end = |place: &usize| {
        let (before, behind) = text.split_at_checked(*place).unwrap_or_default();
        match (before.chars().next_back(), behind.chars().next()) {
            (Some('\n'), Some(next)) => !next.is_whitespace(),
            (Some(letter), Some(' ')) => is_letter(letter),
            _ => false,
        }
    };
    (min_bytes.max(1)..text.len()).find(is_end).unwrap_or(text.len())
}

/// The pieces of one chunk of text.
struct ChunkCounts<'t> {
    short: ShortCounts,
    long: AHashMap<(&'t [u8], u8), u64>,
    /// The same counts by shard, on their way there.
    sums: [Sums<'t>; NUM_SHARDS],
}

/// Counts of a chunk that belong to one shard.
#[derive(Default)]
struct Sums<'t> {
    short: Vec<(ShortPiece, u64)>,
    long: Vec<(LongKey, &'t [u8], u64)>,
}

impl Default for ChunkCounts<'_> {
    fn default() -> Self {
        ChunkCounts {
            short: ShortCounts::default(),
            long: AHashMap::default(),
            sums: std::array::from_fn(|_| Sums::default()),
        }
    }
}

impl<'t> ChunkCounts<'t> {
    fn count(&mut self, text: &'t str, group: u8, pretokenizer: &Pretokenizer) {
        let bytes = text.as_bytes();
        let mut start = 0;
        // Pieces follow one another without a gap.
        for piece in pretokenizer.pieces(text) {
            match ShortPiece::at(bytes, start, piece.len(), group) {
                Some(short) => self.short.add(short, 1),
                None => *self.long.entry((piece.as_bytes(), group)).or_default() += 1,
            }
            start += piece.len();
        }
    }
}

#[cfg(test)]
mod tests;
