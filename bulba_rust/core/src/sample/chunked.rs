//! Rows of contiguous tokens. Row r of a stretch reads the tokens r * T to r * T + T: T inputs and, one further, T
//! targets, so that neighbouring rows share one token. A target that begins another document is left out.

use super::Piece;
use super::order::{Pool, Unit};
use super::rows::{IGNORE, Rows};
use crate::token_file::{Token, TokenFile};
use crate::{Error, Result};
use std::ops::Range;

pub struct Chunked {
    seq_len: u64,
    /// The tokens of each pool, and how many rows are cut from them.
    stretches: Vec<(Range<u64>, u64)>,
}

impl Chunked {
    /// All rows of the file, the last one padded: what an evaluation sees.
    pub fn natural(file: &TokenFile, seq_len: u64) -> Result<Self> {
        let num_tokens = file.header().num_tokens;
        match num_tokens.saturating_sub(1).div_ceil(seq_len) {
            0 => Err(too_small(file, seq_len, 2)),
            rows => Ok(Chunked {
                seq_len,
                stretches: vec![(0..num_tokens, rows)],
            }),
        }
    }

    /// The full rows of the file: what training sees without weights.
    pub fn full(file: &TokenFile, seq_len: u64) -> Result<Self> {
        let num_tokens = file.header().num_tokens;
        match num_tokens.saturating_sub(1) / seq_len {
            0 => Err(too_small(file, seq_len, seq_len + 1)),
            rows => Ok(Chunked {
                seq_len,
                stretches: vec![(0..num_tokens, rows)],
            }),
        }
    }

    /// The full rows of each source; the only row of a source smaller than one is padded.
    pub fn by_source(file: &TokenFile, seq_len: u64) -> Self {
        let token = |document: u64| file.offsets().get(document as usize).copied().unwrap_or_default();
        let spans = file.spans().iter().zip(file.spans().iter().skip(1));
        let stretches = spans.map(|(first, last)| {
            let (start, end) = (token(*first), token(*last));
            let targets = end.saturating_sub(start).saturating_sub(1);
            (
                start..end.max(start),
                (targets / seq_len).max(u64::from(targets > 0)),
            )
        });
        Chunked {
            seq_len,
            stretches: stretches.collect(),
        }
    }

    pub fn pools(&self, file: &TokenFile) -> Vec<Pool> {
        let stretches = self.stretches.iter();
        let pool = |(tokens, rows): &(Range<u64>, u64)| {
            let used = (rows * self.seq_len).min((tokens.end - tokens.start).saturating_sub(1));
            let begun = |token: u64| file.offsets().partition_point(|offset| *offset <= token) as u64;
            let crossings = begun(tokens.start + used).saturating_sub(begun(tokens.start));
            Pool {
                units: *rows,
                targets: used.saturating_sub(crossings),
            }
        };
        stretches.map(pool).collect()
    }

    /// First token and number of inputs of a row.
    fn window(&self, unit: Unit) -> (u64, u64) {
        let tokens = self
            .stretches
            .get(unit.pool)
            .map_or(0..0, |(tokens, _)| tokens.clone());
        let start = tokens
            .start
            .saturating_add(unit.index.saturating_mul(self.seq_len))
            .min(tokens.end);
        (start, self.seq_len.min((tokens.end - start).saturating_sub(1)))
    }

    pub fn will_need(&self, file: &TokenFile, unit: Unit) {
        let (start, used) = self.window(unit);
        file.will_need(start..start + used + 1);
    }

    pub fn fill<T: Token>(
        &self,
        file: &TokenFile,
        tokens: &[T],
        unit: Unit,
        row: Rows,
        padding: i64,
    ) -> Result<u64> {
        let (start, used) = self.window(unit);
        let window = tokens
            .get(start as usize..(start + used + 1) as usize)
            .unwrap_or_default();
        let Some((mut row, rest)) = row.split_at(used as usize) else {
            return Ok(0);
        };
        if row.fill_tokens(window) >= i64::from(file.header().meta.vocab_size) {
            file.check_ids(window, start)?;
        }
        let (mut document, mut crossings) = (0, 0);
        for piece in Pieces::new(file, start, used) {
            let (from, to) = (piece.column as usize, (piece.column + piece.length) as usize);
            row.mark(from, to, document);
            if piece.crosses
                && let Some(target) = row.targets.get_mut(to - 1)
            {
                *target = IGNORE;
                crossings += 1;
            }
            document += 1;
        }
        rest.pad(padding, document);
        Ok(used - crossings)
    }

    pub fn count_targets(&self, file: &TokenFile, unit: Unit) -> u64 {
        let (start, used) = self.window(unit);
        used - Pieces::new(file, start, used)
            .filter(|piece| piece.crosses)
            .count() as u64
    }

    pub fn pieces(&self, file: &TokenFile, unit: Unit) -> Vec<Piece> {
        let (start, used) = self.window(unit);
        let pieces = Pieces::new(file, start, used);
        let piece = |piece: Stretch| Piece {
            row: 0,
            column: piece.column,
            length: piece.length,
            document: piece.document,
            first_token: start + piece.column,
        };
        pieces.map(piece).collect()
    }
}

fn too_small(file: &TokenFile, seq_len: u64, needed: u64) -> Error {
    Error::TooSmall {
        file: file.path().to_path_buf(),
        num_tokens: file.header().num_tokens,
        seq_len,
        needed,
    }
}

/// The part of a document that lies in a row.
struct Stretch {
    document: u64,
    column: u64,
    length: u64,
    /// The token after it begins another document.
    crosses: bool,
}

/// The documents of the tokens start..start + used. Broken offsets give wrong pieces, but all of them within the row.
struct Pieces<'a> {
    start: u64,
    used: u64,
    column: u64,
    document: u64,
    ends: std::slice::Iter<'a, u64>,
}

impl<'a> Pieces<'a> {
    fn new(file: &'a TokenFile, start: u64, used: u64) -> Self {
        let next = file.first_offset_after(start);
        let ends = file.offsets().get(next..).unwrap_or_default().iter();
        Pieces {
            start,
            used,
            column: 0,
            document: (next as u64).saturating_sub(1),
            ends,
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Stretch;

    fn next(&mut self) -> Option<Stretch> {
        while self.column < self.used {
            let end = self
                .ends
                .next()
                .map_or(u64::MAX, |end| end.saturating_sub(self.start));
            let (column, document) = (self.column, self.document);
            self.column = end.clamp(column, self.used);
            self.document += 1;
            if self.column > column {
                return Some(Stretch {
                    document,
                    column,
                    length: self.column - column,
                    crosses: end <= self.used,
                });
            }
        }
        None
    }
}
