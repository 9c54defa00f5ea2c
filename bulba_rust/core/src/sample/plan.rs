//! The plan of packed and bucketed rows: a file beside the token file, mapped into memory. `docs/format.md` specifies it.
//!
//! A document of n + 1 tokens has n inputs, each with the next token as its target. It is cut into pieces: full rows,
//! and a rest if there is one. Units hold rows, rows hold pieces, and a piece is its first token and its length.

use super::build::Builder;
use super::order::Pool;
use super::{Mode, Shape};
use crate::mapping::Mapping;
use crate::progress::Progress;
use crate::regions::{Fields, Regions, header_checksums, seal};
use crate::token_file::TokenFile;
use crate::{Error, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"BULBAPLN";
/// Raised whenever the same token file would give another plan, so that older ones are made again.
const VERSION: u32 = 1;
const LENGTH_BITS: u32 = 24;
const MAX_SHAPES: usize = 8;

/// The regions of the body, in their order.
pub const SPANS: usize = 0;
pub const TARGETS: usize = 1;
pub const UNITS: usize = 2;
pub const UNIT_SHAPES: usize = 3;
pub const ROWS: usize = 4;
pub const PIECES: usize = 5;

/// What a plan is made from and must be made again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub mode: Mode,
    pub seq_len: u64,
    /// Rows of a micro-batch of the longest shape; a unit is one row in packed mode whatever this says.
    pub rows: u64,
    pub token_file: u64,
}

impl Key {
    fn path(&self, token_file: &Path) -> PathBuf {
        let mut name = token_file.file_name().unwrap_or_default().to_os_string();
        name.push(match self.mode {
            Mode::Bucketed => format!(".bucketed-{}x{}.plan", self.seq_len, self.rows),
            _ => format!(".packed-{}.plan", self.seq_len),
        });
        token_file.with_file_name(name)
    }
}

/// A piece of a document: inputs first_token..first_token + length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanPiece {
    pub first_token: u64,
    pub length: u64,
}

impl PlanPiece {
    pub fn from_bits(bits: u64) -> Self {
        PlanPiece {
            first_token: bits >> LENGTH_BITS,
            length: bits & ((1 << LENGTH_BITS) - 1),
        }
    }

    pub fn to_bits(self) -> u64 {
        self.first_token << LENGTH_BITS | self.length
    }
}

/// How much there is of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sources: u64,
    pub units: u64,
    pub rows: u64,
    pub pieces: u64,
    /// Room for tokens in all units, padding included.
    pub slots: u64,
    pub shapes: Vec<Shape>,
}

impl Counts {
    pub fn regions(&self, mode: Mode) -> Option<Regions> {
        let listed = if mode == Mode::Packed {
            None
        } else {
            Some(self.units)
        };
        Regions::new(&[
            self.sources.checked_add(1)?.checked_mul(8)?,
            self.sources.checked_mul(8)?,
            listed.map_or(Some(0), |units| units.checked_add(1)?.checked_mul(8))?,
            listed.unwrap_or(0),
            self.rows.checked_add(1)?.checked_mul(8)?,
            self.pieces.checked_mul(8)?,
        ])
    }
}

pub fn header(key: &Key, counts: &Counts, regions: &Regions, list_checksum: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((key.mode as u32).to_le_bytes());
    let fields = [
        key.seq_len,
        key.rows,
        key.token_file,
        counts.sources,
        counts.units,
        counts.rows,
        counts.pieces,
    ];
    for value in fields
        .into_iter()
        .chain([counts.slots, counts.shapes.len() as u64])
    {
        bytes.extend(value.to_le_bytes());
    }
    let shapes = counts
        .shapes
        .iter()
        .chain(std::iter::repeat(&Shape { rows: 0, length: 0 }));
    for shape in shapes.take(MAX_SHAPES) {
        bytes.extend((shape.rows as u32).to_le_bytes());
        bytes.extend((shape.length as u32).to_le_bytes());
    }
    for value in regions.positions().chain([list_checksum]) {
        bytes.extend(value.to_le_bytes());
    }
    seal(bytes)
}

fn read_header(bytes: &[u8]) -> Option<(Key, Counts, Regions, u64)> {
    let mut fields = Fields { bytes, at: 0 };
    let (expected, got) = header_checksums(bytes);
    if fields.take() != MAGIC || fields.u32() != VERSION || expected != got {
        return None;
    }
    let mode = if fields.u32() == Mode::Packed as u32 {
        Mode::Packed
    } else {
        Mode::Bucketed
    };
    let key = Key {
        mode,
        seq_len: fields.u64(),
        rows: fields.u64(),
        token_file: fields.u64(),
    };
    let mut counts = Counts {
        sources: fields.u64(),
        units: fields.u64(),
        rows: fields.u64(),
        pieces: fields.u64(),
        slots: fields.u64(),
        shapes: Vec::new(),
    };
    let num_shapes = fields.u64();
    for number in 0..MAX_SHAPES as u64 {
        let shape = Shape {
            rows: u64::from(fields.u32()),
            length: u64::from(fields.u32()),
        };
        if number < num_shapes {
            counts.shapes.push(shape);
        }
    }
    let regions = counts.regions(mode)?;
    let fits = regions.positions().all(|position| position == fields.u64());
    (fits && regions.end() == bytes.len() as u64).then(|| (key, counts, regions, fields.u64()))
}

pub struct Plan {
    path: PathBuf,
    mode: Mode,
    counts: Counts,
    regions: Regions,
    list_checksum: u64,
    map: Mapping,
}

impl Plan {
    /// The plan beside the token file, made now if it is missing or belongs to another one.
    pub fn open_or_build(file: &TokenFile, key: &Key, progress: &mut Progress) -> Result<Self> {
        let path = key.path(file.path());
        let open = || {
            let mut plan = Plan::open(&path, key)?;
            // Beside a file that does not stay in memory the plan is read as that is.
            if file.is_at_random() {
                plan.map = plan.map.at_random();
            }
            Some(plan)
        };
        if let Some(plan) = open() {
            return Ok(plan);
        }
        Builder::new(file, key)?
            .write(&path, progress)
            .map_err(|error| match error {
                Error::Io { file, source, .. } => Error::PlanFolder { file, source },
                other => other,
            })?;
        open().ok_or_else(|| damaged(&path, "its header changed while it was read"))
    }

    /// `None` if there is no plan of this kind, whatever there is instead.
    fn open(path: &Path, key: &Key) -> Option<Self> {
        let map = Mapping::open(path).ok()?;
        let (got, counts, regions, list_checksum) = read_header(&map)?;
        let plan = Plan {
            path: path.to_path_buf(),
            mode: key.mode,
            counts,
            regions,
            list_checksum,
            map,
        };
        (got == *key).then_some(plan)
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn list(&self, region: usize) -> &[u64] {
        bytemuck::try_cast_slice(self.regions.get(&self.map, region)).unwrap_or_default()
    }

    fn range(&self, region: usize, place: u64) -> Option<Range<u64>> {
        let list = self.list(region);
        let (from, to) = (
            list.get(place as usize)?,
            list.get((place as usize).checked_add(1)?)?,
        );
        Some(*from..*to)
    }

    /// Units and targets of each source, and its first unit.
    pub fn pools(&self) -> Vec<(u64, Pool)> {
        let targets = self.list(TARGETS).iter().enumerate();
        let pool = |(source, targets): (usize, &u64)| {
            let units = self.range(SPANS, source as u64).unwrap_or(0..0);
            (
                units.start,
                Pool {
                    units: units.end.saturating_sub(units.start),
                    targets: *targets,
                },
            )
        };
        targets.map(pool).collect()
    }

    pub fn shape(&self, unit: u64) -> Shape {
        let tags = self.regions.get(&self.map, UNIT_SHAPES);
        let tag = tags.get(unit as usize).copied().unwrap_or_default();
        self.counts
            .shapes
            .get(usize::from(tag))
            .copied()
            .unwrap_or(self.longest_shape())
    }

    /// The last shape is the longest one.
    pub fn longest_shape(&self) -> Shape {
        self.counts
            .shapes
            .last()
            .copied()
            .unwrap_or(Shape { rows: 1, length: 1 })
    }

    /// The rows of a unit, each as its pieces.
    pub fn rows(&self, unit: u64) -> Result<impl Iterator<Item = Result<&[u64]>>> {
        let rows = match self.mode {
            Mode::Packed => Some(unit..unit + 1),
            _ => self.range(UNITS, unit),
        };
        let rows = rows.ok_or_else(|| damaged(&self.path, "a unit lies behind its end"))?;
        Ok(rows.map(|row| self.row(row)))
    }

    /// Begins to read the list of a unit's rows, then, called again, their pieces.
    pub fn will_need(&self, unit: u64, pieces: bool) {
        let rows = match self.mode {
            Mode::Packed => Some(unit..unit + 1),
            _ => self.range(UNITS, unit),
        };
        let Some(rows) = rows else { return };
        let entries = |region: usize, from: u64, to: u64| {
            let place =
                |entry: u64| self.regions.start(region).saturating_add(entry.saturating_mul(8)) as usize;
            self.map.will_need(place(from)..place(to));
        };
        if !pieces {
            return entries(ROWS, rows.start, rows.end.saturating_add(1));
        }
        if let (Some(first), Some(last)) = (
            self.range(ROWS, rows.start),
            self.range(ROWS, rows.end.saturating_sub(1)),
        ) {
            entries(PIECES, first.start, last.end);
        }
    }

    fn row(&self, row: u64) -> Result<&[u64]> {
        self.range(ROWS, row)
            .and_then(|pieces| self.list(PIECES).get(pieces.start as usize..pieces.end as usize))
            .ok_or_else(|| self.damaged("a row lies behind its end"))
    }

    /// Reads all of it and compares its checksums.
    pub fn verify(&self) -> Result<()> {
        self.map.read_in_order(true);
        let damage = self.regions.verify(&self.map, self.list_checksum, |_| Ok(()));
        self.map.read_in_order(false);
        damage?.map_or(Ok(()), |damage| {
            Err(self.damaged(&format!("{} at byte {} is wrong", damage.what, damage.offset)))
        })
    }

    pub fn damaged(&self, reason: &str) -> Error {
        damaged(&self.path, reason)
    }
}

fn damaged(path: &Path, reason: &str) -> Error {
    Error::Plan {
        file: path.to_path_buf(),
        reason: reason.into(),
    }
}
