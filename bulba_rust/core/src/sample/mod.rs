//! The sampler: batches of a token file in an order that is a pure function of (seed, place).
//!
//! The order is over units. `Chunked`: a unit is a row of contiguous tokens. `Packed`: a row of whole documents.
//! `Bucketed`: a micro-batch of rows of one of a few shapes. What the units hold is fixed; [`order`] says which one
//! comes at which place, so any step is reached at once and neither ranks nor accumulation change the sequence.

mod buckets;
mod build;
mod chunked;
mod deal;
mod options;
mod order;
mod pack;
mod plan;
mod rows;
#[cfg(test)]
mod tests;
mod turns;

pub use options::{Mode, Options, Piece, Shape};
pub use rows::{IGNORE, Rows};

use crate::progress::Progress;
use crate::token_file::{Token, TokenFile, Tokens};
use crate::{Error, Result};
use chunked::Chunked;
use order::{Order, Pool, Unit};
use plan::{Key, Plan, PlanPiece};
use std::ops::Range;
use std::sync::Arc;

enum Units {
    Chunked(Chunked),
    /// With the first unit of each pool.
    Planned(Plan, Vec<u64>),
}

pub struct Sampler {
    file: Arc<TokenFile>,
    shape: Shape,
    units: Units,
    pools: Vec<Pool>,
    order: Order,
    num_threads: usize,
    padding: i64,
}

/// Fewer tokens are not worth another thread: they take 40 microseconds.
const TOKENS_PER_THREAD: u64 = 1 << 16;

impl Sampler {
    /// `progress` hears of the making of a plan, which the first start of `Packed` and `Bucketed` needs.
    pub fn open(file: Arc<TokenFile>, options: &Options, progress: &mut Progress) -> Result<Self> {
        check("data.seq_len", options.seq_len)?;
        check("rows of a micro-batch", options.rows)?;
        let (units, pools) = match options.mode {
            Mode::Chunked => open_chunked(&file, options)?,
            _ => open_plan(&file, options, progress)?,
        };
        let order = match (&options.weights, options.seed) {
            (None, seed) => {
                let units = pools
                    .iter()
                    .fold(0u64, |sum, pool| sum.saturating_add(pool.units));
                Order::of_one_pool(units, seed)
            }
            (Some(weights), Some(seed)) => {
                let names: Vec<&str> = file.sources().iter().map(|source| source.name.as_str()).collect();
                Order::weighted(&pools, weights, seed, &names)?
            }
            (Some(_), None) => {
                let expected = "none without a seed, where units come in the order of the file";
                return Err(Error::Argument {
                    name: "data.weights",
                    expected: expected.into(),
                    got: "some".into(),
                });
            }
        };
        let meta = &file.header().meta;
        Ok(Sampler {
            padding: i64::from(meta.pad_id.or(meta.eos_id).unwrap_or(0)),
            shape: match &units {
                Units::Chunked(_) => Shape {
                    rows: 1,
                    length: options.seq_len,
                },
                Units::Planned(plan, _) => plan.longest_shape(),
            },
            num_threads: options.num_threads.max(1),
            units,
            pools,
            order,
            file,
        })
    }

    pub fn file(&self) -> &Arc<TokenFile> {
        &self.file
    }

    /// Units of one pass through everything.
    pub fn num_units(&self) -> u64 {
        self.pools
            .iter()
            .fold(0, |sum, pool| sum.saturating_add(pool.units))
    }

    /// Targets of one pass through everything.
    pub fn num_targets(&self) -> u64 {
        self.pools
            .iter()
            .fold(0, |sum, pool| sum.saturating_add(pool.targets))
    }

    /// Room for tokens in one pass through everything; what is not a target is padding.
    pub fn num_slots(&self) -> u64 {
        match &self.units {
            Units::Chunked(_) => self.num_units() * self.shape.length,
            Units::Planned(plan, _) => plan.counts().slots,
        }
    }

    /// Every shape that a unit can have, ascending by length.
    pub fn shapes(&self) -> &[Shape] {
        match &self.units {
            Units::Chunked(_) => std::slice::from_ref(&self.shape),
            Units::Planned(plan, _) => &plan.counts().shapes,
        }
    }

    /// Rows and length of the unit at a place.
    pub fn shape(&self, place: u64) -> Shape {
        match (&self.units, self.unit(place)) {
            (Units::Planned(plan, firsts), Some(unit)) => plan.shape(planned(firsts, unit)),
            _ => self.shape,
        }
    }

    fn unit(&self, place: u64) -> Option<Unit> {
        self.order.unit(place)
    }

    /// Fills `rows` with the units first..first + count, which must have one shape, and returns how many targets
    /// count. Nothing but an id of the vocabulary gets into the inputs.
    pub fn fill(&self, first: u64, count: u64, rows: Rows) -> Result<u64> {
        let mut places = places(first, count)?;
        let shape = self.shape(first);
        let size = count.checked_mul(shape.rows * shape.length);
        if !size.is_some_and(|size| rows.all_hold(size)) {
            return Err(Error::Argument {
                name: "inputs, targets, positions, documents",
                expected: format!("{} rows of {}", count.saturating_mul(shape.rows), shape.length),
                got: format!("{} values", rows.len()),
            });
        }
        if self.shapes().len() > 1 && places.any(|place| self.shape(place) != shape) {
            let (expected, got) = ("units of one shape".into(), format!("{count} of several"));
            return Err(Error::Argument {
                name: "count",
                expected,
                got,
            });
        }
        let threads = (rows.len() as u64 / TOKENS_PER_THREAD).min(self.num_threads as u64);
        match self.file.tokens() {
            Tokens::U16(tokens) => self.fill_parts(tokens, first, count, shape, rows, threads),
            Tokens::U32(tokens) => self.fill_parts(tokens, first, count, shape, rows, threads),
        }
    }

    fn fill_parts<T: Token>(
        &self,
        tokens: &[T],
        first: u64,
        count: u64,
        shape: Shape,
        rows: Rows,
        threads: u64,
    ) -> Result<u64> {
        let size = (shape.rows * shape.length) as usize;
        if threads > 1 && count > 1 {
            let half = count / 2;
            let Some((head, tail)) = rows.split_at(half as usize * size) else {
                return Ok(0);
            };
            let (head, tail) = rayon::join(
                || self.fill_parts(tokens, first, half, shape, head, threads / 2),
                || {
                    self.fill_parts(
                        tokens,
                        first + half,
                        count - half,
                        shape,
                        tail,
                        threads - threads / 2,
                    )
                },
            );
            return Ok(head? + tail?);
        }
        if self.file.is_at_random() {
            self.ask_ahead(first..first + count)?;
        }
        let (mut rest, mut num_targets) = (rows, 0);
        for place in first..first + count {
            let Some((unit, later)) = rest.split_at(size) else {
                break;
            };
            num_targets += self.fill_unit(tokens, place, shape, unit)?;
            rest = later;
        }
        Ok(num_targets)
    }

    /// Has the system read everything for some units at once, instead of page after page as they are filled.
    fn ask_ahead(&self, places: Range<u64>) -> Result<()> {
        let units: Vec<Unit> = places.filter_map(|place| self.unit(place)).collect();
        match &self.units {
            Units::Chunked(chunked) => units.iter().for_each(|unit| chunked.will_need(&self.file, *unit)),
            Units::Planned(plan, firsts) => {
                for pieces in [false, true] {
                    units
                        .iter()
                        .for_each(|unit| plan.will_need(planned(firsts, *unit), pieces));
                }
                for unit in units {
                    for pieces in plan.rows(planned(firsts, unit))? {
                        for piece in pieces? {
                            let PlanPiece { first_token, length } = PlanPiece::from_bits(*piece);
                            self.file.will_need(first_token..first_token + length + 1);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn fill_unit<T: Token>(&self, tokens: &[T], place: u64, shape: Shape, rows: Rows) -> Result<u64> {
        let Some(unit) = self.unit(place) else {
            rows.pad(self.padding, 0);
            return Ok(0);
        };
        match &self.units {
            Units::Chunked(chunked) => chunked.fill(&self.file, tokens, unit, rows, self.padding),
            Units::Planned(plan, firsts) => {
                let (mut rest, mut num_targets) = (rows, 0);
                for pieces in plan.rows(planned(firsts, unit))? {
                    let Some((row, later)) = rest.split_at(shape.length as usize) else {
                        return Err(plan.damaged("a unit holds more rows than its shape"));
                    };
                    num_targets += self.fill_row(tokens, plan, pieces?, row)?;
                    rest = later;
                }
                rest.pad(self.padding, 0);
                Ok(num_targets)
            }
        }
    }

    fn fill_row<T: Token>(&self, tokens: &[T], plan: &Plan, pieces: &[u64], row: Rows) -> Result<u64> {
        let vocab_size = i64::from(self.file.header().meta.vocab_size);
        let (mut rest, mut num_targets, mut document) = (row, 0, 0);
        for piece in pieces {
            let PlanPiece { first_token, length } = PlanPiece::from_bits(*piece);
            let window = tokens.get(first_token as usize..(first_token + length + 1) as usize);
            let (Some(window), Some((mut here, later))) = (window, rest.split_at(length as usize)) else {
                return Err(plan.damaged("a piece lies outside its row or the tokens"));
            };
            if here.fill_tokens(window) >= vocab_size {
                self.file.check_ids(window, first_token)?;
            }
            here.mark(0, length as usize, document);
            (rest, num_targets, document) = (later, num_targets + length, document + 1);
        }
        rest.pad(self.padding, document);
        Ok(num_targets)
    }

    /// What [`Sampler::fill`] returns, without reading a token.
    pub fn count_targets(&self, first: u64, count: u64) -> Result<u64> {
        let mut num_targets = 0;
        for unit in places(first, count)?.filter_map(|place| self.unit(place)) {
            num_targets += match &self.units {
                Units::Chunked(chunked) => chunked.count_targets(&self.file, unit),
                Units::Planned(plan, firsts) => {
                    let mut inputs = 0;
                    for pieces in plan.rows(planned(firsts, unit))? {
                        inputs += pieces?
                            .iter()
                            .map(|piece| PlanPiece::from_bits(*piece).length)
                            .sum::<u64>();
                    }
                    inputs
                }
            };
        }
        Ok(num_targets)
    }

    /// Where the tokens of the unit at a place come from, row by row.
    pub fn pieces(&self, place: u64) -> Result<Vec<Piece>> {
        let Some(unit) = self.unit(place) else {
            return Ok(Vec::new());
        };
        let (plan, unit) = match &self.units {
            Units::Chunked(chunked) => return Ok(chunked.pieces(&self.file, unit)),
            Units::Planned(plan, firsts) => (plan, planned(firsts, unit)),
        };
        let mut list = Vec::new();
        for (row, pieces) in (0..).zip(plan.rows(unit)?) {
            let mut column = 0;
            for piece in pieces? {
                let PlanPiece { first_token, length } = PlanPiece::from_bits(*piece);
                let document = self.file.document_at(first_token);
                list.push(Piece {
                    row,
                    column,
                    length,
                    document,
                    first_token,
                });
                column += length;
            }
        }
        Ok(list)
    }

    /// Reads the whole plan, if there is one, and compares its checksums.
    pub fn verify(&self) -> Result<()> {
        match &self.units {
            Units::Chunked(_) => Ok(()),
            Units::Planned(plan, _) => plan.verify(),
        }
    }
}

fn open_chunked(file: &TokenFile, options: &Options) -> Result<(Units, Vec<Pool>)> {
    let chunked = match (options.seed, &options.weights) {
        (Some(_), Some(_)) => Chunked::by_source(file, options.seq_len),
        (Some(_), None) => Chunked::full(file, options.seq_len)?,
        (None, _) => Chunked::natural(file, options.seq_len)?,
    };
    let pools = chunked.pools(file);
    Ok((Units::Chunked(chunked), pools))
}

fn open_plan(file: &TokenFile, options: &Options, progress: &mut Progress) -> Result<(Units, Vec<Pool>)> {
    let key = Key {
        mode: options.mode,
        seq_len: options.seq_len,
        rows: if options.mode == Mode::Bucketed {
            options.rows
        } else {
            1
        },
        token_file: file.header().checksum,
    };
    let plan = Plan::open_or_build(file, &key, progress)?;
    let (mut firsts, pools): (Vec<u64>, Vec<Pool>) = plan.pools().into_iter().unzip();
    if options.weights.is_none() {
        firsts = vec![0];
    }
    Ok((Units::Planned(plan, firsts), pools))
}

/// The number of a unit in its plan.
fn planned(firsts: &[u64], unit: Unit) -> u64 {
    let first = firsts.get(unit.pool).copied().unwrap_or_default();
    first.saturating_add(unit.index)
}

fn places(first: u64, count: u64) -> Result<Range<u64>> {
    let end = first.checked_add(count).ok_or_else(|| Error::Argument {
        name: "first",
        expected: "a number of a unit".into(),
        got: first.to_string(),
    });
    Ok(first..end?)
}

fn check(name: &'static str, value: u64) -> Result<()> {
    if (1..=i32::MAX as u64).contains(&value) {
        return Ok(());
    }
    Err(Error::Argument {
        name,
        expected: "at least 1".into(),
        got: value.to_string(),
    })
}
