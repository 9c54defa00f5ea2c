//! UTF-16 as a stream of UTF-8.

use std::io::{self, Read};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub fn name(self) -> &'static str {
        match self {
            Order::Little => "UTF-16LE",
            Order::Big => "UTF-16BE",
        }
    }

    fn unit(self, pair: [u8; 2]) -> u16 {
        match self {
            Order::Little => u16::from_le_bytes(pair),
            Order::Big => u16::from_be_bytes(pair),
        }
    }

    /// Whether the beginning of a file without a byte order mark certainly is text in this order: Latin or Cyrillic
    /// letters, signs and white space, nothing else.
    pub fn fits(self, head: &[u8]) -> bool {
        let mut units = head.chunks_exact(2).map(|pair| match *pair {
            [first, second] => self.unit([first, second]),
            _ => 0,
        });
        let text = |unit| matches!(unit, 0x09 | 0x0a | 0x0d | 0x20..=0x7e | 0xa0..=0x17f | 0x301 | 0x400..=0x52f | 0x2010..=0x2044 | 0x20ac | 0x2116);
        head.len() >= 16 && head.contains(&0) && units.all(text)
    }
}

/// Bytes that stand for no character become a byte that is not UTF-8, so that only their document is lost.
const DAMAGE: u8 = 0xff;

pub(super) struct Utf16<R> {
    source: R,
    order: Order,
    raw: Vec<u8>,
    text: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<R: Read> Utf16<R> {
    pub fn new(source: R, order: Order) -> Self {
        Utf16 {
            source,
            order,
            raw: Vec::new(),
            text: Vec::new(),
            given: 0,
            ended: false,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.text.clear();
        self.given = 0;
        let read = self.source.by_ref().take(1 << 16).read_to_end(&mut self.raw)?;
        self.ended = read == 0;
        let mut units = Vec::with_capacity(self.raw.len() / 2);
        for pair in self.raw.chunks_exact(2) {
            if let [first, second] = *pair {
                units.push(self.order.unit([first, second]));
            }
        }
        // The first half of a character waits for the second.
        let half = |unit: &u16| (0xd800..0xdc00).contains(unit);
        if !self.ended && units.last().is_some_and(half) {
            units.pop();
        }
        for character in char::decode_utf16(units.iter().copied()) {
            match character {
                Ok(character) => self
                    .text
                    .extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                Err(_) => self.text.push(DAMAGE),
            }
        }
        self.raw.drain(..2 * units.len());
        if self.ended && !self.raw.is_empty() {
            self.raw.clear();
            self.text.push(DAMAGE);
        }
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.text.len() && !self.ended {
            self.refill()?;
        }
        let rest = self.text.get(self.given..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.given += count;
        Ok(count)
    }
}
