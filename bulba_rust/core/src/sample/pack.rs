//! Packing pieces of documents into rows, by best-fit decreasing, without looking at single pieces.
//!
//! From the longest to the shortest, each piece goes into the row with the least free space that still holds it, or
//! opens a row (Ding et al., "Fewer Truncations Improve Language Modeling", 2024, arXiv 2404.10830). Pieces of one length
//! are alike, so whole groups of rows of one pattern take them at once: the result is that of packing piece by piece,
//! the work and the memory depend on the number of lengths only. A piece is known by its length and its place among
//! the pieces of that length.

/// Rows of one pattern: the rows from `shift` on of a node.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Length of its rows, and how much of it is free.
    pub capacity: u32,
    pub free: u32,
    pub count: u64,
    node: Option<usize>,
    shift: u64,
}

/// What was added last to some rows; a chain of nodes is a pattern.
#[derive(Clone, Copy, Debug)]
struct Node {
    before: Option<usize>,
    /// Row r of this node was row r + shift of the node before.
    shift: u64,
    /// Row r got `times` pieces of this length, from place first + r * times on.
    length: u32,
    times: u64,
    first: u64,
    num_pieces: u64,
}

#[derive(Debug)]
pub struct Packing {
    nodes: Vec<Node>,
    pub groups: Vec<Group>,
}

impl Packing {
    /// `histogram[n]` pieces of length n, in rows of one of the `capacities` (ascending; the last one holds every
    /// piece) with at most `max_pieces` pieces. A row is opened with the smallest capacity that holds its first piece.
    pub fn new(histogram: &[u64], capacities: &[u32], max_pieces: u64) -> Self {
        let mut packer = Packer {
            nodes: Vec::new(),
            done: Vec::new(),
            open: Buckets::new(histogram.len()),
            max_pieces,
        };
        for (length, count) in histogram.iter().enumerate().skip(1).rev() {
            let place = capacities.partition_point(|capacity| (*capacity as usize) < length);
            let capacity = capacities.get(place).copied().unwrap_or(length as u32);
            packer.place(length as u32, *count, capacity);
        }
        let mut groups = packer.done;
        groups.extend(packer.open.groups.into_iter().flatten());
        Packing {
            nodes: packer.nodes,
            groups,
        }
    }

    /// Writes the pieces of row `row` of a group into `pieces`, the longest first: (length, place).
    pub fn row(&self, group: &Group, row: u64, pieces: &mut Vec<(u32, u64)>) {
        pieces.clear();
        let (mut next, mut row) = (group.node, row + group.shift);
        while let Some(node) = next.and_then(|place| self.nodes.get(place)) {
            let first = node.first + row * node.times;
            pieces.extend(
                (first..first + node.times)
                    .rev()
                    .map(|place| (node.length, place)),
            );
            row += node.shift;
            next = node.before;
        }
        pieces.reverse();
    }
}

/// Pieces in each row of a node.
fn num_pieces(nodes: &[Node], node: Option<usize>) -> u64 {
    node.and_then(|place| nodes.get(place))
        .map_or(0, |node| node.num_pieces)
}

struct Packer {
    nodes: Vec<Node>,
    /// Groups that take no further piece.
    done: Vec<Group>,
    open: Buckets,
    max_pieces: u64,
}

impl Packer {
    /// Places all pieces of one length.
    fn place(&mut self, length: u32, mut count: u64, capacity: u32) {
        let mut first = 0;
        while count > 0 {
            let fresh = Group {
                capacity,
                free: capacity,
                count: u64::MAX,
                node: None,
                shift: 0,
            };
            let group = self.open.take(length as usize).unwrap_or(fresh);
            // A row that took one piece has the least space of all that fit, so it takes the next ones too.
            let held = num_pieces(&self.nodes, group.node);
            let times = u64::from(group.free / length).min(self.max_pieces - held);
            let whole = group.count.min(count / times);
            let rest = if whole < group.count {
                count - whole * times
            } else {
                0
            };
            self.add(&group, 0, whole, length, times, first);
            self.add(
                &group,
                whole,
                u64::from(rest > 0),
                length,
                rest,
                first + whole * times,
            );
            let used = whole + u64::from(rest > 0);
            if group.node.is_some() && used < group.count {
                self.open.put(Group {
                    count: group.count - used,
                    shift: group.shift + used,
                    ..group
                });
            }
            first += whole * times + rest;
            count -= whole * times + rest;
        }
    }

    /// Gives `times` pieces to each of `count` rows of a group, from its row `skip` on.
    fn add(&mut self, group: &Group, skip: u64, count: u64, length: u32, times: u64, first: u64) {
        if count == 0 {
            return;
        }
        let num_pieces = num_pieces(&self.nodes, group.node) + times;
        let shift = group.shift + skip;
        self.nodes.push(Node {
            before: group.node,
            shift,
            length,
            times,
            first,
            num_pieces,
        });
        let free = group.free - length * times as u32;
        let group = Group {
            free,
            count,
            node: Some(self.nodes.len() - 1),
            shift: 0,
            ..*group
        };
        if num_pieces < self.max_pieces && free > 0 {
            self.open.put(group);
        } else {
            self.done.push(group);
        }
    }
}

/// Groups by their free space, with a bit for each space that some group has.
struct Buckets {
    groups: Vec<Vec<Group>>,
    bits: Vec<u64>,
}

impl Buckets {
    fn new(len: usize) -> Self {
        Buckets {
            groups: vec![Vec::new(); len],
            bits: vec![0; len.div_ceil(64)],
        }
    }

    fn put(&mut self, group: Group) {
        let free = group.free as usize;
        if let (Some(groups), Some(word)) = (self.groups.get_mut(free), self.bits.get_mut(free / 64)) {
            groups.push(group);
            *word |= 1 << (free % 64);
        }
    }

    /// Removes a group with the least free space from `least` on.
    fn take(&mut self, least: usize) -> Option<Group> {
        let mut mask = u64::MAX << (least % 64);
        for (number, word) in self.bits.iter_mut().enumerate().skip(least / 64) {
            let found = *word & mask;
            mask = u64::MAX;
            if found != 0 {
                let groups = self
                    .groups
                    .get_mut(64 * number + found.trailing_zeros() as usize)?;
                let group = groups.pop();
                if groups.is_empty() {
                    *word &= !(found & found.wrapping_neg());
                }
                return group;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Rows as (capacity, lengths), piece by piece.
    fn naive(histogram: &[u64], capacities: &[u32], max_pieces: u64) -> Vec<(u32, Vec<u32>)> {
        let mut rows: Vec<(u32, Vec<u32>)> = Vec::new();
        for length in (1..histogram.len() as u32).rev() {
            for _ in 0..histogram[length as usize] {
                let free = |row: &(u32, Vec<u32>)| row.0 - row.1.iter().sum::<u32>();
                let fits =
                    |row: &&mut (u32, Vec<u32>)| free(row) >= length && (row.1.len() as u64) < max_pieces;
                match rows.iter_mut().filter(fits).min_by_key(|row| free(row)) {
                    Some(row) => row.1.push(length),
                    None => rows.push((
                        *capacities.iter().find(|capacity| **capacity >= length).unwrap(),
                        vec![length],
                    )),
                }
            }
        }
        rows
    }

    fn frees(rows: impl Iterator<Item = (u32, u32)>) -> Vec<(u32, u32)> {
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable();
        rows
    }

    proptest! {
        #[test]
        fn packs_as_piece_by_piece(counts in prop::collection::vec(0u64..12, 1..40)) {
            let histogram: Vec<u64> = std::iter::once(0).chain(counts).collect();
            let longest = histogram.len() as u32 - 1;
            let packing = Packing::new(&histogram, &[longest], u64::MAX);
            let expected = naive(&histogram, &[longest], u64::MAX);
            let groups = packing.groups.iter();
            prop_assert_eq!(
                frees(groups.flat_map(|group| (0..group.count).map(|_| (group.capacity, group.free)))),
                frees(expected.iter().map(|row| (row.0, row.0 - row.1.iter().sum::<u32>())))
            );
        }

        #[test]
        fn every_piece_is_in_one_row_that_holds_it(
            counts in prop::collection::vec(0u64..30, 4..60), cuts in prop::collection::vec(1u32..60, 0..7), max_pieces in 1u64..6,
        ) {
            let histogram: Vec<u64> = std::iter::once(0).chain(counts).collect();
            let longest = histogram.len() as u32 - 1;
            let mut capacities: Vec<u32> = cuts.into_iter().filter(|cut| *cut < longest).chain([longest]).collect();
            capacities.sort_unstable();
            capacities.dedup();
            let packing = Packing::new(&histogram, &capacities, max_pieces);
            let (mut seen, mut pieces) = (HashSet::new(), Vec::new());
            for group in &packing.groups {
                for row in 0..group.count {
                    packing.row(group, row, &mut pieces);
                    let used: u32 = pieces.iter().map(|piece| piece.0).sum();
                    prop_assert_eq!(used + group.free, group.capacity);
                    prop_assert!(capacities.contains(&group.capacity));
                    prop_assert!((1..=max_pieces).contains(&(pieces.len() as u64)));
                    prop_assert!(pieces.is_sorted_by_key(|piece| std::cmp::Reverse(piece.0)));
                    for piece in &pieces {
                        prop_assert!(piece.1 < histogram[piece.0 as usize]);
                        prop_assert!(seen.insert(*piece), "{:?} twice", piece);
                    }
                }
            }
            prop_assert_eq!(seen.len() as u64, histogram.iter().sum::<u64>());
        }
    }

    #[test]
    fn a_million_rows_take_as_long_as_ten() {
        let histogram = [0, 1 << 40, 1 << 41, 1 << 42, 1 << 39];
        let packing = Packing::new(&histogram, &[4], u64::MAX);
        let rows: u64 = packing.groups.iter().map(|group| group.count).sum();
        let pieces: u64 = histogram
            .iter()
            .zip(0..)
            .map(|(count, length)| count * length)
            .sum();
        // Rows of 4, 3 + 1 and 2 + 2; the threes without a one stay alone.
        let alone = (1 << 42) - (1 << 40);
        assert_eq!(rows * 4 - pieces, alone);
    }
}
