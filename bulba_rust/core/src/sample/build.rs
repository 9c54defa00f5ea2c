//! Making a plan: which pieces lie in which row, and which rows in which unit.
//!
//! Twice through the document offsets: once to count pieces by length, once to list them. While a source is planned,
//! 8 bytes are held for each of its pieces.

use super::buckets::choose_lengths;
use super::deal::{Deal, Row};
use super::pack::Packing;
use super::plan::{Counts, Key, PIECES, PlanPiece, ROWS, SPANS, TARGETS, UNIT_SHAPES, UNITS, header};
use super::{Mode, Shape};
use crate::progress::{Meter, Progress};
use crate::regions::RegionsWriter;
use crate::token_file::TokenFile;
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// In bucketed mode a row holds one piece, or a few short ones where they would leave much of it empty.
const MAX_PIECES_BUCKETED: u64 = 4;

pub struct Builder<'a> {
    file: &'a TokenFile,
    key: Key,
    /// Ascending by length.
    shapes: Vec<Shape>,
    max_pieces: u64,
}

impl<'a> Builder<'a> {
    pub fn new(file: &'a TokenFile, key: &Key) -> Result<Self> {
        let micro_batch = key.rows.saturating_mul(key.seq_len);
        if file.header().num_tokens >= 1 << 40 || key.seq_len >= 1 << 24 || micro_batch >= 1 << 32 {
            return Err(Error::Argument {
                name: "data.mode",
                expected:
                    "chunked for 2^40 tokens, a data.seq_len of 2^24 or a micro-batch of 2^32 tokens, or more"
                        .into(),
                got: key.mode.name().into(),
            });
        }
        let mut builder = Builder {
            file,
            key: *key,
            shapes: Vec::new(),
            max_pieces: u64::MAX,
        };
        let lengths = match key.mode {
            Mode::Bucketed => {
                builder.max_pieces = MAX_PIECES_BUCKETED;
                choose_lengths(&builder.histogram(0..file.header().num_documents)?)
            }
            _ => vec![key.seq_len as u32],
        };
        let shape = |length: u32| {
            let length = u64::from(length);
            let rows = if key.mode == Mode::Bucketed {
                (micro_batch / length).max(1)
            } else {
                1
            };
            Shape { rows, length }
        };
        builder.shapes = lengths.into_iter().map(shape).collect();
        Ok(builder)
    }

    /// How many pieces there are of each length from 0 to seq_len.
    fn histogram(&self, documents: Range<u64>) -> Result<Vec<u64>> {
        let mut histogram = vec![0; self.key.seq_len as usize + 1];
        for document in documents {
            let tokens = self.file.document(document)?;
            let inputs = (tokens.end - tokens.start).saturating_sub(1);
            for (length, count) in [
                (self.key.seq_len, inputs / self.key.seq_len),
                (inputs % self.key.seq_len, 1),
            ] {
                if length > 0
                    && let Some(slot) = histogram.get_mut(length as usize)
                {
                    *slot += count;
                }
            }
        }
        Ok(histogram)
    }

    fn sources(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let spans = self.file.spans();
        spans
            .iter()
            .zip(spans.iter().skip(1))
            .map(|(first, last)| *first..*last)
    }

    fn pack(&self, histogram: &[u64]) -> Packing {
        let lengths: Vec<u32> = self.shapes.iter().map(|shape| shape.length as u32).collect();
        Packing::new(histogram, &lengths, self.max_pieces)
    }

    pub fn write(&self, path: &Path, progress: &mut Progress) -> Result<()> {
        let mut counts = Counts {
            shapes: self.shapes.clone(),
            ..Counts::default()
        };
        for source in self.sources() {
            let histogram = self.histogram(source)?;
            let packing = self.pack(&histogram);
            self.count(
                &Deal::new(&packing, &self.shapes, counts.sources),
                &histogram,
                &mut counts,
            );
        }
        if counts.units == 0 {
            return Err(Error::TooSmall {
                file: self.file.path().to_path_buf(),
                num_tokens: self.file.header().num_tokens,
                seq_len: self.key.seq_len,
                needed: 2,
            });
        }
        let regions = counts.regions(self.key.mode).ok_or_else(|| {
            Error::io(
                "write",
                path,
                std::io::Error::from(std::io::ErrorKind::FileTooLarge),
            )
        })?;
        let mut writer = PlanWriter {
            file: RegionsWriter::create(path, &regions)?,
            mode: self.key.mode,
            meter: Meter::new(progress, counts.pieces),
            units: 0,
            rows: 0,
            pieces: 0,
        };
        writer.begin()?;
        for (number, source) in self.sources().enumerate() {
            self.write_source(number as u64, source, &mut writer)?;
        }
        writer.meter.finish()?;
        writer.file.finish(&regions, |list_checksum| {
            header(&self.key, &counts, &regions, list_checksum)
        })
    }

    /// Adds what a source will take.
    fn count(&self, deal: &Deal, histogram: &[u64], counts: &mut Counts) {
        counts.sources += 1;
        counts.pieces += histogram.iter().sum::<u64>();
        for (place, shape) in self.shapes.iter().enumerate() {
            counts.rows += deal.num_rows(place);
            counts.units += deal.num_units(place);
            counts.slots += deal.num_units(place) * shape.rows * shape.length;
        }
    }

    fn write_source(&self, number: u64, source: Range<u64>, writer: &mut PlanWriter) -> Result<()> {
        let histogram = self.histogram(source.clone())?;
        let targets: u64 = histogram
            .iter()
            .zip(0..)
            .map(|(count, length)| count * length)
            .sum();
        let packing = self.pack(&histogram);
        let deal = Deal::new(&packing, &self.shapes, number);
        let sorted = Sorted::new(self, &histogram, source)?;
        let mut row = Row::new();
        for (shape, Shape { rows, .. }) in self.shapes.iter().enumerate() {
            for place in 0..deal.num_rows(shape) {
                deal.row(shape, place, &mut row);
                writer.write_row(row.iter().map(|(length, place)| sorted.get(*length, *place)))?;
                if (place + 1) % rows == 0 || place + 1 == deal.num_rows(shape) {
                    writer.end_unit(shape as u8)?;
                }
            }
        }
        writer.end_source(targets)
    }
}

/// The pieces of a source in the order of their lengths, equal ones in the order of the file.
struct Sorted {
    pieces: Vec<u64>,
    /// Where each length begins.
    starts: Vec<u64>,
}

impl Sorted {
    fn new(builder: &Builder, histogram: &[u64], source: Range<u64>) -> Result<Self> {
        let mut end = 0;
        let starts = histogram.iter().map(|count| {
            end += count;
            end - count
        });
        let starts: Vec<u64> = starts.collect();
        let (mut next, mut pieces) = (starts.clone(), vec![0; end as usize]);
        for document in source {
            let tokens = builder.file.document(document)?;
            let mut first_token = tokens.start;
            while first_token + 1 < tokens.end {
                let length = builder.key.seq_len.min(tokens.end - 1 - first_token);
                if let Some(place) = next.get_mut(length as usize)
                    && let Some(slot) = pieces.get_mut(*place as usize)
                {
                    *slot = PlanPiece { first_token, length }.to_bits();
                    *place += 1;
                }
                first_token += length;
            }
        }
        Ok(Sorted { pieces, starts })
    }

    fn get(&self, length: u32, place: u64) -> u64 {
        let start = self.starts.get(length as usize).copied().unwrap_or_default();
        self.pieces
            .get((start + place) as usize)
            .copied()
            .unwrap_or_default()
    }
}

struct PlanWriter<'a, 'b> {
    file: RegionsWriter,
    mode: Mode,
    meter: Meter<'a, 'b>,
    units: u64,
    rows: u64,
    pieces: u64,
}

impl PlanWriter<'_, '_> {
    fn begin(&mut self) -> Result<()> {
        self.file.write(SPANS, &0u64.to_le_bytes())?;
        self.file.write(ROWS, &0u64.to_le_bytes())?;
        match self.mode {
            Mode::Packed => Ok(()),
            _ => self.file.write(UNITS, &0u64.to_le_bytes()),
        }
    }

    fn write_row(&mut self, pieces: impl Iterator<Item = u64>) -> Result<()> {
        for piece in pieces {
            self.file.write(PIECES, &piece.to_le_bytes())?;
            self.pieces += 1;
        }
        self.rows += 1;
        self.file.write(ROWS, &self.pieces.to_le_bytes())
    }

    fn end_unit(&mut self, shape: u8) -> Result<()> {
        self.units += 1;
        if self.mode != Mode::Packed {
            self.file.write(UNITS, &self.rows.to_le_bytes())?;
            self.file.write(UNIT_SHAPES, &[shape])?;
        }
        self.meter.tick(self.pieces)
    }

    fn end_source(&mut self, targets: u64) -> Result<()> {
        self.file.write(SPANS, &self.units.to_le_bytes())?;
        self.file.write(TARGETS, &targets.to_le_bytes())
    }
}
