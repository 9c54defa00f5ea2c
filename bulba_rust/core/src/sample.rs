//! Samples: fixed rows of a token file, in an order that is a pure function of (seed, sample number).
//!
//! Row r of length T reads tokens[r*T ..= r*T+T]: T inputs and, one further, T targets. Sample s of a seeded run lies
//! in epoch s / rows at place s % rows, and a keyed permutation of that epoch gives its row; no state is kept, so a
//! resume needs one integer. Without a seed sample s is row s, the last row is padded and rows beyond it are padding.

use crate::permutation::Permutation;
use crate::token_file::{TokenFile, Tokens};
use crate::{Error, Result};

/// The target that a loss must leave out.
pub const IGNORE: i64 = -100;

/// What one call fills: each slice is [count, seq_len], row by row.
pub struct Rows<'a> {
    pub inputs: &'a mut [i64],
    pub targets: &'a mut [i64],
    /// Distance to the start of the document, or of the row if the document began before it.
    pub positions: &'a mut [i32],
    /// 0, 1, 2, ... within each row; padding has a number of its own.
    pub documents: &'a mut [i32],
}

trait Token: Copy {
    fn id(self) -> i64;
}

impl Token for u16 {
    fn id(self) -> i64 {
        i64::from(self)
    }
}

impl Token for u32 {
    fn id(self) -> i64 {
        i64::from(self)
    }
}

impl TokenFile {
    /// Full rows, the ones that training sees.
    pub fn rows(&self, seq_len: u64) -> Result<u64> {
        check_seq_len(seq_len)?;
        match self.header().num_tokens.saturating_sub(1) / seq_len {
            0 => Err(self.too_small(seq_len, seq_len + 1)),
            rows => Ok(rows),
        }
    }

    /// All rows, the last one padded if need be: the ones that an evaluation sees.
    pub fn eval_rows(&self, seq_len: u64) -> Result<u64> {
        check_seq_len(seq_len)?;
        match self.header().num_tokens.saturating_sub(1).div_ceil(seq_len) {
            0 => Err(self.too_small(seq_len, 2)),
            rows => Ok(rows),
        }
    }

    fn too_small(&self, seq_len: u64, needed: u64) -> Error {
        Error::TooSmall {
            file: self.path().to_path_buf(),
            num_tokens: self.header().num_tokens,
            seq_len,
            needed,
        }
    }

    /// The rows of samples first .. first + count.
    fn order(&self, seq_len: u64, seed: Option<u64>) -> Result<Order> {
        Ok(match seed {
            None => {
                self.eval_rows(seq_len)?;
                Order::Natural
            }
            Some(seed) => {
                let rows = self.rows(seq_len)?;
                Order::Shuffled {
                    seed,
                    rows,
                    epoch: 0,
                    permutation: Permutation::new(rows, seed, 0),
                }
            }
        })
    }

    /// Fills `rows` with samples first .. first + count and returns the number of targets that count.
    pub fn fill(&self, first: u64, count: u64, seq_len: u64, seed: Option<u64>, rows: Rows) -> Result<u64> {
        let mut order = self.order(seq_len, seed)?;
        let wanted = count.checked_mul(seq_len).filter(|size| {
            [
                rows.inputs.len(),
                rows.targets.len(),
                rows.positions.len(),
                rows.documents.len(),
            ]
            .iter()
            .all(|len| *len as u64 == *size)
        });
        if wanted.is_none() {
            return Err(Error::Argument {
                name: "inputs, targets, positions, documents",
                expected: format!("{count} rows of {seq_len}"),
                got: format!("{} values", rows.inputs.len()),
            });
        }
        let width = seq_len as usize;
        let chunks = rows
            .inputs
            .chunks_exact_mut(width)
            .zip(rows.targets.chunks_exact_mut(width))
            .zip(rows.positions.chunks_exact_mut(width))
            .zip(rows.documents.chunks_exact_mut(width));
        let mut num_targets = 0;
        for (sample, (((inputs, targets), positions), documents)) in (first..).zip(chunks) {
            let row = Rows {
                inputs,
                targets,
                positions,
                documents,
            };
            let number = order.row(sample);
            num_targets += match self.tokens() {
                Tokens::U16(tokens) => self.fill_row(tokens, number, row)?,
                Tokens::U32(tokens) => self.fill_row(tokens, number, row)?,
            };
        }
        Ok(num_targets)
    }

    fn fill_row<T: Token>(&self, tokens: &[T], number: u64, row: Rows) -> Result<u64> {
        let width = row.inputs.len();
        let start = number.saturating_mul(width as u64).min(tokens.len() as u64) as usize;
        let stop = (start + width + 1).min(tokens.len());
        let window = tokens.get(start..stop).unwrap_or_default();
        let used = window.len().saturating_sub(1);
        let mut largest = 0;
        for ((input, target), pair) in row
            .inputs
            .iter_mut()
            .zip(row.targets.iter_mut())
            .zip(window.windows(2))
        {
            if let [this, next] = pair {
                (*input, *target) = (this.id(), next.id());
                largest = largest.max(*input).max(*target);
            }
        }
        if largest >= i64::from(self.header().meta.vocab_size) {
            return Err(self.broken(
                self.token_offset(start as u64),
                "a token id",
                format!("below the vocabulary size {}", self.header().meta.vocab_size),
                largest.to_string(),
            ));
        }
        let crossings = self.mark_documents(start, used, row.targets, row.positions, row.documents);
        let meta = &self.header().meta;
        let padding = meta.pad_id.or(meta.eos_id).unwrap_or(0);
        let next_document = row
            .documents
            .get(..used)
            .and_then(<[i32]>::last)
            .map_or(0, |last| last + 1);
        fill_from(row.inputs, used, i64::from(padding));
        fill_from(row.targets, used, IGNORE);
        fill_from(row.positions, used, 0);
        fill_from(row.documents, used, next_document);
        Ok(used.saturating_sub(crossings) as u64)
    }

    /// Positions and document numbers of `used` tokens from `start`; the targets that lie in another document are
    /// struck out, and their number is returned.
    fn mark_documents(
        &self,
        start: usize,
        used: usize,
        targets: &mut [i64],
        positions: &mut [i32],
        documents: &mut [i32],
    ) -> usize {
        let offsets = self.offsets();
        let mut next = offsets.partition_point(|offset| *offset <= start as u64);
        let (mut place, mut document, mut crossings) = (0, 0, 0);
        while place < used {
            let end = match offsets.get(next) {
                Some(offset) => (offset.saturating_sub(start as u64) as usize).clamp(place, used),
                None => used,
            };
            for (position, slot) in positions.iter_mut().skip(place).take(end - place).enumerate() {
                *slot = position as i32;
            }
            if let Some(slots) = documents.get_mut(place..end) {
                slots.fill(document);
            }
            let crosses = offsets
                .get(next)
                .is_some_and(|offset| *offset == (start + end) as u64);
            // The very last offset is the end of the file: no document begins there, but no target lies there either.
            if end > place
                && crosses
                && let Some(target) = targets.get_mut(end - 1)
            {
                if *target != IGNORE {
                    crossings += 1;
                }
                *target = IGNORE;
            }
            if end > place {
                document += 1;
            }
            place = end;
            next += 1;
        }
        crossings
    }

    /// What [`TokenFile::fill`] returns, from the document offsets alone.
    pub fn count_targets(&self, first: u64, count: u64, seq_len: u64, seed: Option<u64>) -> Result<u64> {
        let mut order = self.order(seq_len, seed)?;
        let offsets = self.offsets();
        let last = self.header().num_tokens.saturating_sub(1);
        let mut num_targets = 0;
        for sample in (first..).take(count as usize) {
            let start = order.row(sample).saturating_mul(seq_len).min(last);
            let used = seq_len.min(last - start);
            let begun = |position: u64| offsets.partition_point(|offset| *offset <= position) as u64;
            num_targets += used.saturating_sub(begun(start + used).saturating_sub(begun(start)));
        }
        Ok(num_targets)
    }
}

fn check_seq_len(seq_len: u64) -> Result<()> {
    if (1..=i32::MAX as u64).contains(&seq_len) {
        return Ok(());
    }
    Err(Error::Argument {
        name: "data.seq_len",
        expected: "at least 1".into(),
        got: seq_len.to_string(),
    })
}

fn fill_from<T: Copy>(slice: &mut [T], start: usize, value: T) {
    if let Some(rest) = slice.get_mut(start..) {
        rest.fill(value);
    }
}

enum Order {
    Natural,
    Shuffled {
        seed: u64,
        rows: u64,
        epoch: u64,
        permutation: Permutation,
    },
}

impl Order {
    fn row(&mut self, sample: u64) -> u64 {
        match self {
            Order::Natural => sample,
            Order::Shuffled {
                seed,
                rows,
                epoch,
                permutation,
            } => {
                if sample / *rows != *epoch {
                    *epoch = sample / *rows;
                    *permutation = Permutation::new(*rows, *seed, *epoch);
                }
                permutation.get(sample % *rows)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_file::tests::write;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Eq, Clone, Default)]
    struct Filled {
        inputs: Vec<i64>,
        targets: Vec<i64>,
        positions: Vec<i32>,
        documents: Vec<i32>,
        num_targets: u64,
    }

    fn fill(file: &TokenFile, first: u64, count: u64, seq_len: u64, seed: Option<u64>) -> Filled {
        let size = (count * seq_len) as usize;
        let mut filled = Filled {
            inputs: vec![77; size],
            targets: vec![77; size],
            positions: vec![77; size],
            documents: vec![77; size],
            num_targets: 0,
        };
        let rows = Rows {
            inputs: &mut filled.inputs,
            targets: &mut filled.targets,
            positions: &mut filled.positions,
            documents: &mut filled.documents,
        };
        filled.num_targets = file.fill(first, count, seq_len, seed, rows).unwrap();
        filled
    }

    /// One row the slow way: token by token, from the list of documents.
    fn naive_row(documents: &[Vec<u32>], row: u64, seq_len: u64) -> Filled {
        let stream: Vec<(i64, usize)> = documents
            .iter()
            .enumerate()
            .flat_map(|(number, ids)| ids.iter().map(move |id| (i64::from(*id), number)))
            .collect();
        let (mut filled, mut padding) = (Filled::default(), None);
        let start = (row * seq_len) as usize;
        for at in start..start + seq_len as usize {
            if at + 1 >= stream.len() {
                let own = *padding.get_or_insert(filled.documents.last().map_or(0, |last| last + 1));
                filled.inputs.push(1);
                filled.targets.push(IGNORE);
                filled.positions.push(0);
                filled.documents.push(own);
                continue;
            }
            let ((id, document), (next, next_document)) = (stream[at], stream[at + 1]);
            let fresh = at == start || stream[at - 1].1 != document;
            filled.inputs.push(id);
            filled
                .targets
                .push(if next_document == document { next } else { IGNORE });
            filled.num_targets += u64::from(next_document == document);
            let position = if fresh {
                0
            } else {
                filled.positions.last().unwrap() + 1
            };
            let number = if at == start {
                0
            } else {
                filled.documents.last().unwrap() + i32::from(fresh)
            };
            filled.positions.push(position);
            filled.documents.push(number);
        }
        filled
    }

    fn documents() -> impl Strategy<Value = Vec<Vec<u32>>> {
        prop::collection::vec(prop::collection::vec(2u32..300, 1..12), 1..30)
    }

    fn open(documents: &[Vec<u32>], vocab_size: u32) -> (tempfile::TempDir, TokenFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        write(&path, vocab_size, documents);
        let file = TokenFile::open(&path, None).unwrap();
        (folder, file)
    }

    proptest! {
        #[test]
        fn rows_equal_a_naive_reference(documents in documents(), seq_len in 1u64..20, wide: bool) {
            let (_folder, file) = open(&documents, if wide { 70_000 } else { 300 });
            let tokens = documents.concat().len() as u64;
            let Ok(rows) = file.eval_rows(seq_len) else {
                prop_assert_eq!(tokens, 1);
                return Ok(());
            };
            for row in 0..rows {
                prop_assert_eq!(fill(&file, row, 1, seq_len, None), naive_row(&documents, row, seq_len));
            }
            let beyond = fill(&file, rows, 2, seq_len, None);
            prop_assert_eq!(beyond.num_targets, 0);
            prop_assert!(beyond.targets.iter().all(|target| *target == IGNORE));
            prop_assert_eq!(file.count_targets(rows, 2, seq_len, None).unwrap(), 0);
            // Every pair of neighbours inside a document is a target exactly once.
            let pairs: usize = documents.iter().map(|ids| ids.len() - 1).sum();
            prop_assert_eq!(fill(&file, 0, rows, seq_len, None).num_targets, pairs as u64);
        }

        #[test]
        fn chunking_changes_nothing_and_counting_agrees(
            documents in documents(), seq_len in 1u64..8, seed: u64, first in 0u64..50, cut in 0u64..20,
        ) {
            let (_folder, file) = open(&documents, 300);
            prop_assume!(file.rows(seq_len).is_ok());
            let whole = fill(&file, first, 20, seq_len, Some(seed));
            let (head, tail) = (fill(&file, first, cut, seq_len, Some(seed)), fill(&file, first + cut, 20 - cut, seq_len, Some(seed)));
            prop_assert_eq!(&whole.inputs, &[head.inputs, tail.inputs].concat());
            prop_assert_eq!(&whole.documents, &[head.documents, tail.documents].concat());
            prop_assert_eq!(whole.num_targets, head.num_targets + tail.num_targets);
            prop_assert_eq!(whole.num_targets, file.count_targets(first, 20, seq_len, Some(seed)).unwrap());
            prop_assert_eq!(whole.num_targets, whole.targets.iter().filter(|target| **target != IGNORE).count() as u64);
        }

        #[test]
        fn an_epoch_sees_every_full_row_once(documents in documents(), seq_len in 1u64..8, seed: u64, epoch in 0u64..5) {
            let (_folder, file) = open(&documents, 300);
            let Ok(rows) = file.rows(seq_len) else { return Ok(()) };
            let order = |seed: Option<u64>| {
                let mut seen: Vec<Vec<i64>> = fill(&file, if seed.is_none() { 0 } else { epoch * rows }, rows, seq_len, seed)
                    .inputs.chunks(seq_len as usize).map(<[i64]>::to_vec).collect();
                seen.sort();
                seen
            };
            prop_assert_eq!(order(Some(seed)), order(None));
        }
    }

    #[test]
    fn a_corpus_smaller_than_a_row_says_what_to_do() {
        let (_folder, file) = open(&[vec![0, 5, 6, 1]], 300);
        let error = file.rows(8).unwrap_err().to_string();
        assert!(
            error.contains("4 tokens") && error.contains("needs 9") && error.contains("data.seq_len"),
            "{error}"
        );
        assert!(file.rows(0).unwrap_err().to_string().contains("data.seq_len"));
        assert_eq!((file.rows(3).unwrap(), file.eval_rows(8).unwrap()), (1, 1));
    }

    #[test]
    fn buffers_of_another_size_are_refused() {
        let (_folder, file) = open(&[vec![0, 5, 6, 1]], 300);
        let (mut wide, mut narrow) = (vec![0i64; 4], vec![0i32; 4]);
        let (mut wide_2, mut narrow_2) = (vec![0i64; 4], vec![0i32; 3]);
        let rows = Rows {
            inputs: &mut wide,
            targets: &mut wide_2,
            positions: &mut narrow,
            documents: &mut narrow_2,
        };
        assert!(
            file.fill(0, 2, 2, None, rows)
                .unwrap_err()
                .to_string()
                .contains("2 rows of 2")
        );
    }

    #[test]
    fn broken_bodies_give_errors_or_numbers_but_no_panic() {
        let (folder, file) = open(&[vec![0, 5, 1], vec![0, 6, 7, 1], vec![0, 1]], 300);
        let path = folder.path().join("train.bin");
        let bytes = std::fs::read(file.path()).unwrap();
        for at in 256..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                std::fs::write(&path, &changed).unwrap();
                let Ok(file) = TokenFile::open(&path, None) else {
                    continue;
                };
                let mut buffers = (vec![0i64; 12], vec![0i64; 12], vec![0i32; 12], vec![0i32; 12]);
                let rows = Rows {
                    inputs: &mut buffers.0,
                    targets: &mut buffers.1,
                    positions: &mut buffers.2,
                    documents: &mut buffers.3,
                };
                let _ = file.fill(0, 3, 4, None, rows);
                let _ = file.count_targets(0, 3, 4, None);
            }
        }
    }
}
