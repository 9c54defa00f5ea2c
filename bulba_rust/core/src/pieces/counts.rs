//! Hash tables of counted pieces: short ones as numbers, longer ones as text.

use crate::bpe::Piece;

/// Up to 15 bytes followed by zeros; the last byte is their number, with the group in its upper half. Most pieces are
/// so short, and are compared as one number.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ShortPiece([u8; 16]);

impl ShortPiece {
    const MAX_BYTES: usize = 15;

    pub fn at(text: &[u8], start: usize, len: usize, group: u8) -> Option<Self> {
        if len > Self::MAX_BYTES {
            return None;
        }
        let mut bytes = [0; 16];
        match text
            .get(start..start + 16)
            .and_then(|window| window.try_into().ok())
        {
            Some(window) => bytes = (u128::from_le_bytes(window) & ((1 << (8 * len)) - 1)).to_le_bytes(),
            None => bytes[..len].copy_from_slice(text.get(start..start + len)?),
        }
        bytes[Self::MAX_BYTES] = len as u8 | group << 4;
        Some(ShortPiece(bytes))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0[..usize::from(self.0[Self::MAX_BYTES] & 15)]
    }

    pub fn group(&self) -> u8 {
        self.0[Self::MAX_BYTES] >> 4
    }

    pub fn hash(&self) -> u64 {
        let key = u128::from_le_bytes(self.0);
        let (low, high) = (
            key as u64 ^ 0x9e37_79b9_7f4a_7c15,
            (key >> 64) as u64 ^ 0xd6e8_feb8_6659_fd93,
        );
        let product = u128::from(low) * u128::from(high);
        product as u64 ^ (product >> 64) as u64
    }
}

/// A hash table with linear probing; a count of 0 is a free slot.
#[derive(Default)]
pub struct ShortCounts {
    slots: Vec<(ShortPiece, u64)>,
    num_pieces: usize,
}

impl ShortCounts {
    /// The most memory that a piece takes: a slot of 24 bytes in a table that is three eighths full.
    const PIECE_BYTES: u64 = 64;

    pub fn len(&self) -> usize {
        self.num_pieces
    }

    /// An upper bound that depends on the pieces alone.
    pub fn memory_bytes(&self) -> u64 {
        Self::PIECE_BYTES * self.num_pieces as u64
    }

    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let taken = self.slots.iter().filter(|(_, count)| *count > 0);
        taken.map(|(piece, count)| Piece {
            bytes: piece.bytes(),
            count: *count,
            group: piece.group(),
        })
    }

    pub fn add(&mut self, piece: ShortPiece, more: u64) {
        if 4 * (self.num_pieces + 1) > 3 * self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = piece.hash() as usize & mask;
        loop {
            let (known, count) = &mut self.slots[at];
            if *known == piece {
                *count += more;
                return;
            }
            if *count == 0 {
                (*known, *count) = (piece, more);
                self.num_pieces += 1;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// What was counted; the table is empty afterwards.
    pub fn drain(&mut self) -> impl Iterator<Item = (ShortPiece, u64)> {
        self.num_pieces = 0;
        let slots = self.slots.iter_mut().map(std::mem::take);
        slots.filter(|(_, count)| *count > 0)
    }

    /// Doubles the number of slots, a power of two.
    fn grow(&mut self) {
        let num_slots = (2 * self.slots.len()).max(64);
        let slots = std::mem::replace(&mut self.slots, vec![Default::default(); num_slots]);
        self.num_pieces = 0;
        for (piece, count) in slots {
            if count > 0 {
                self.add(piece, count);
            }
        }
    }
}

/// Longer pieces: their text back to back, and a hash table of their numbers.
#[derive(Default)]
pub struct LongCounts {
    text: Vec<u8>,
    entries: Vec<LongEntry>,
    /// Numbers of entries plus one, found by linear probing; 0 is a free slot.
    slots: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LongKey {
    pub hash: u32,
    pub group: u8,
}

struct LongEntry {
    start: u32,
    len: u32,
    key: LongKey,
    count: u64,
}

impl LongCounts {
    /// The most memory that a piece takes beside its text: room for two entries of 24 bytes, and slots.
    const PIECE_BYTES: u64 = 60;

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// An upper bound that depends on the pieces alone.
    pub fn memory_bytes(&self) -> u64 {
        Self::PIECE_BYTES * self.entries.len() as u64 + 2 * self.text.len() as u64
    }

    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.entries.iter().map(|entry| Piece {
            bytes: &self.text[entry.start as usize..][..entry.len as usize],
            count: entry.count,
            group: entry.key.group,
        })
    }

    pub fn add(&mut self, key: LongKey, piece: &[u8], more: u64) {
        if 4 * (self.entries.len() + 1) > 3 * self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = key.hash as usize & mask;
        while let Some(number) = self.slots[at].checked_sub(1) {
            let entry = &mut self.entries[number as usize];
            if entry.key == key && &self.text[entry.start as usize..][..entry.len as usize] == piece {
                entry.count += more;
                return;
            }
            at = (at + 1) & mask;
        }
        self.entries.push(LongEntry {
            start: self.text.len() as u32,
            len: piece.len() as u32,
            key,
            count: more,
        });
        self.text.extend_from_slice(piece);
        self.slots[at] = self.entries.len() as u32;
    }

    /// Doubles the number of slots, a power of two.
    fn grow(&mut self) {
        let num_slots = (2 * self.slots.len()).max(64);
        self.slots = vec![0; num_slots];
        for (number, entry) in (1..).zip(&self.entries) {
            let mut at = entry.key.hash as usize & (num_slots - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (num_slots - 1);
            }
            self.slots[at] = number;
        }
    }
}
