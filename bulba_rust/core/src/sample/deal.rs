//! Dealing the packed rows of a source out to units, each of one shape.
//!
//! Rows that do not fill a unit of their shape are taken apart, and their pieces packed into rows of the longest shape
//! again, so that only the last unit of that shape has rows to spare.

use super::Shape;
use super::pack::{Group, Packing};
use crate::permutation::{Permutation, mix_pair};

/// Which rows meet in a unit is the same in every run.
const MEETING: u64 = 0x6d69_6372_6f62_6174;

/// The pieces of a row: (length, place among the pieces of that length).
pub type Row = Vec<(u32, u64)>;

pub struct Deal<'a> {
    packing: &'a Packing,
    shapes: &'a [Shape],
    /// By shape: its groups, each with the number of rows up to its end.
    groups: Vec<Vec<(&'a Group, u64)>>,
    /// Rows of the longest shape, from pieces that were left over.
    leftovers: Vec<Row>,
    key: u64,
}

impl<'a> Deal<'a> {
    /// `shapes` ascending by length; `source` so that sources are shuffled differently.
    pub fn new(packing: &'a Packing, shapes: &'a [Shape], source: u64) -> Self {
        let of_shape = |shape: &Shape| {
            let groups = packing
                .groups
                .iter()
                .filter(|group| u64::from(group.capacity) == shape.length);
            let mut end = 0;
            let groups = groups.map(|group| {
                end += group.count;
                (group, end)
            });
            groups.collect()
        };
        let groups = shapes.iter().map(of_shape).collect();
        let mut deal = Deal {
            packing,
            shapes,
            groups,
            leftovers: Vec::new(),
            key: mix_pair(MEETING, source),
        };
        deal.leftovers = deal.pack_leftovers();
        deal
    }

    fn own_rows(&self, shape: usize) -> u64 {
        self.groups
            .get(shape)
            .and_then(|groups| groups.last())
            .map_or(0, |(_, end)| *end)
    }

    fn is_last(&self, shape: usize) -> bool {
        shape + 1 == self.shapes.len()
    }

    fn rows_per_unit(&self, shape: usize) -> u64 {
        self.shapes.get(shape).map_or(1, |shape| shape.rows)
    }

    /// Rows that come in units of this shape.
    pub fn num_rows(&self, shape: usize) -> u64 {
        let own = self.own_rows(shape);
        match self.is_last(shape) {
            true => own + self.leftovers.len() as u64,
            false => own - own % self.rows_per_unit(shape),
        }
    }

    pub fn num_units(&self, shape: usize) -> u64 {
        self.num_rows(shape).div_ceil(self.rows_per_unit(shape))
    }

    fn pack_leftovers(&self) -> Vec<Row> {
        if self.shapes.len() == 1 {
            return Vec::new();
        }
        let longest = self.shapes.last().map_or(0, |shape| shape.length as usize);
        let mut by_length: Vec<Vec<u64>> = vec![Vec::new(); longest + 1];
        let mut row = Row::new();
        for shape in (0..self.shapes.len()).filter(|shape| !self.is_last(*shape)) {
            for number in self.num_rows(shape)..self.own_rows(shape) {
                self.row(shape, number, &mut row);
                for (length, place) in &row {
                    by_length
                        .get_mut(*length as usize)
                        .into_iter()
                        .for_each(|places| places.push(*place));
                }
            }
        }
        let histogram: Vec<u64> = by_length.iter().map(|places| places.len() as u64).collect();
        let packing = Packing::new(&histogram, &[longest as u32], u64::MAX);
        let mut rows = Vec::new();
        for group in &packing.groups {
            for number in 0..group.count {
                packing.row(group, number, &mut row);
                let known = row.iter().filter_map(|(length, number)| {
                    Some((*length, *by_length.get(*length as usize)?.get(*number as usize)?))
                });
                rows.push(known.collect());
            }
        }
        rows
    }

    /// Writes the row at a place in the order of the units into `row`. Rows are shuffled where several meet in a unit.
    pub fn row(&self, shape: usize, place: u64, row: &mut Row) {
        row.clear();
        let own = self.own_rows(shape);
        let total = if self.is_last(shape) {
            own + self.leftovers.len() as u64
        } else {
            own
        };
        let number = match self.rows_per_unit(shape) {
            1 => place,
            _ => Permutation::new(total, self.key, shape as u64).get(place),
        };
        if let Some(leftover) = number.checked_sub(own) {
            row.extend(self.leftovers.get(leftover as usize).into_iter().flatten());
            return;
        }
        let groups = self.groups.get(shape).map_or(&[][..], Vec::as_slice);
        if let Some((group, end)) = groups.get(groups.partition_point(|(_, end)| *end <= number)) {
            self.packing.row(group, number + group.count - end, row);
        }
    }
}
