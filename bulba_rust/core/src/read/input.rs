//! The bytes of a file, buffered, and their text.

use super::encoding::{Reading, Verdict, convert, count_utf8, judge};
use super::open::{Packing, open};
use super::utf16::{Order, Utf16};
use super::{Flow, Problem, Stop};
use crate::progress::{Meter, Progress};
use crate::{Error, Result};
use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::rc::Rc;

/// How much is read at once, and how far the recognition of an encoding looks ahead.
const BUFFER_BYTES: usize = 1 << 20;

/// Lines with letters beyond ASCII that are enough to judge by.
const SAMPLE_BYTES: usize = 1 << 16;

/// So many characters beyond ASCII make a file UTF-8 for good.
const UTF8_CHARACTERS: u64 = 8;

/// So many stray bytes with no certain reading are another encoding, not damage.
const FOREIGN_BYTES: u64 = 64;

/// What the file is in. It is decided at the first text beyond ASCII and kept.
enum State {
    Unknown { utf8_characters: u64 },
    Utf8,
    Utf16(Order),
    Converted(&'static Reading),
}

pub(super) struct Input<'a, 'b> {
    path: &'a Path,
    packing: Packing,
    reader: Box<dyn Read>,
    done_bytes: Rc<Cell<u64>>,
    meter: Meter<'a, 'b>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Of `buffer[start]` in the unpacked file.
    offset: u64,
    /// Reading ended here; said once everything before it was taken.
    fault: Option<io::Error>,
    state: State,
}

/// What [`Input::take_until`] found.
pub(super) enum Taken {
    Nothing,
    Whole,
    TooLong,
}

impl<'a, 'b> Input<'a, 'b> {
    pub fn open(path: &'a Path, progress: &'a mut Progress<'b>) -> Result<Self> {
        let opened = open(path)?;
        Ok(Input {
            path,
            packing: opened.packing,
            reader: opened.reader,
            done_bytes: opened.done_bytes,
            meter: Meter::new(progress, opened.total_bytes),
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            offset: 0,
            fault: None,
            state: State::Unknown { utf8_characters: 0 },
        })
    }

    pub fn finish(&mut self) -> Result<()> {
        self.meter.finish()
    }

    pub fn path(&self) -> &Path {
        self.path
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn encoding(&self) -> &'static str {
        match self.state {
            State::Unknown { .. } | State::Utf8 => "UTF-8",
            State::Utf16(order) => order.name(),
            State::Converted(reading) => reading.name(),
        }
    }

    /// What was read and not yet consumed.
    pub fn buffered(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The next bytes; none at the end of the file.
    pub fn fill(&mut self) -> Flow<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.read_once();
            self.meter.tick(self.done_bytes.get())?;
            if self.end == 0
                && let Some(fault) = self.fault.take()
            {
                return Err(self.stop(fault));
            }
        }
        Ok(self.buffered())
    }

    /// As much of what follows as the buffer holds.
    pub fn look_ahead(&mut self) -> &[u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < self.buffer.len() && self.read_once() > 0 {}
        self.buffered()
    }

    fn read_once(&mut self) -> usize {
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        while self.fault.is_none() {
            match self.reader.read(room) {
                Ok(count) => {
                    self.end += count;
                    return count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.fault = Some(error),
            }
        }
        0
    }

    fn stop(&self, fault: io::Error) -> Stop {
        if self.packing == Packing::Plain || fault.raw_os_error().is_some() {
            return Stop::Fatal(Error::io("read", self.path, fault));
        }
        let name = self.packing.name();
        let reason = if breaks_off(&fault) {
            format!("the {name} breaks off")
        } else {
            format!("the {name} is broken ({fault})")
        };
        let problem = Problem::Other {
            offset: self.offset,
            reason,
        };
        let place = format!("after byte {} of the unpacked text", self.offset);
        Stop::Refused {
            place: Some(place),
            problem,
        }
    }

    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    /// Takes everything up to and with the byte, or up to the end of the file, into the emptied `record`.
    /// Of what is longer than `max_bytes` nothing is kept.
    pub fn take_until(&mut self, byte: u8, record: &mut Vec<u8>, max_bytes: usize) -> Flow<Taken> {
        record.clear();
        let mut taken = Taken::Nothing;
        loop {
            let bytes = self.fill()?;
            if bytes.is_empty() {
                return Ok(taken);
            }
            let found = memchr::memchr(byte, bytes);
            let part = found.and_then(|at| bytes.get(..=at)).unwrap_or(bytes);
            if matches!(taken, Taken::TooLong) || record.len() + part.len() > max_bytes {
                record.clear();
                taken = Taken::TooLong;
            } else {
                record.extend_from_slice(part);
                taken = Taken::Whole;
            }
            let count = part.len();
            self.consume(count);
            if found.is_some() {
                return Ok(taken);
            }
        }
    }

    /// Byte order marks, UTF-16, and files that are no text at all.
    pub fn recognise_start(&mut self) -> Flow<()> {
        let head = self.look_ahead();
        let packed = match head {
            [0x1f, 0x8b, ..] => Some(("gzip", ".gz")),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(("zstd", ".zst")),
            _ => None,
        };
        if let Some((name, extension)) = packed {
            return Err(self.refuse(
                0,
                format!("this is a {name} archive: let its name end in {extension}"),
            ));
        }
        let order = match head {
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
                return Err(self.refuse(0, "this is UTF-32: convert it to UTF-8".into()));
            }
            [0xff, 0xfe, ..] => Some((Order::Little, 2)),
            [0xfe, 0xff, ..] => Some((Order::Big, 2)),
            _ => {
                let start = head.get(..SAMPLE_BYTES.min(head.len() & !1)).unwrap_or_default();
                let mut orders = [Order::Little, Order::Big].into_iter();
                orders.find(|order| order.fits(start)).map(|order| (order, 0))
            }
        };
        if let Some((order, mark_bytes)) = order {
            self.read_as_utf16(order, mark_bytes);
        } else if head.starts_with(b"\xef\xbb\xbf") {
            self.consume(3);
            self.state = State::Utf8;
        } else if let Some(at) = memchr::memchr(0, head.get(..SAMPLE_BYTES).unwrap_or(head)) {
            return Err(self.refuse(
                at as u64,
                "a zero byte, so this is a binary file and no text".into(),
            ));
        }
        Ok(())
    }

    fn refuse(&self, offset: u64, reason: String) -> Stop {
        Stop::Refused {
            place: None,
            problem: Problem::Other { offset, reason },
        }
    }

    fn read_as_utf16(&mut self, order: Order, mark_bytes: usize) {
        self.consume(mark_bytes);
        let head = Cursor::new(self.buffered().to_vec());
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(Utf16::new(head.chain(rest), order));
        (self.start, self.end, self.offset) = (0, 0, 0);
        self.state = State::Utf16(order);
    }

    /// The text of a document that was taken out of the file at `offset`.
    pub fn text<'r>(
        &mut self,
        record: &'r [u8],
        offset: u64,
    ) -> Flow<std::result::Result<Cow<'r, str>, Problem>> {
        if let Some(at) = memchr::memchr(0, record) {
            return Ok(Err(Problem::Other {
                offset: offset + at as u64,
                reason: "a zero byte, which is no text".into(),
            }));
        }
        if matches!(self.state, State::Unknown { .. }) && !record.is_ascii() {
            self.recognise(record, offset)?;
        }
        if let State::Converted(reading) = self.state {
            if record.is_ascii() {
                return Ok(Ok(String::from_utf8_lossy(record)));
            }
            return Ok(convert(record, reading)
                .map(Cow::Owned)
                .map_err(|reason| Problem::Other { offset, reason }));
        }
        Ok(match simdutf8::compat::from_utf8(record) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) if matches!(self.state, State::Utf16(_)) => Err(Problem::Other {
                offset,
                reason: format!("damaged {}", self.encoding()),
            }),
            Err(error) => {
                let broken = record.get(error.valid_up_to()..).unwrap_or_default();
                Err(Problem::NotUtf8 {
                    offset: offset + error.valid_up_to() as u64,
                    hint: hint(&judge(&sample(broken, &[]))),
                })
            }
        })
    }

    /// Decides what the file is in, by the first record beyond ASCII and what follows it.
    fn recognise(&mut self, record: &[u8], offset: u64) -> Flow<()> {
        let State::Unknown { utf8_characters } = self.state else {
            return Ok(());
        };
        let sample = sample(record, self.look_ahead());
        let (characters, invalid) = count_utf8(&sample);
        if invalid == 0 || characters >= invalid {
            self.state = if characters >= UTF8_CHARACTERS {
                State::Utf8
            } else {
                State::Unknown {
                    utf8_characters: utf8_characters + count_utf8(record).0,
                }
            };
            return Ok(());
        }
        let verdict = judge(&sample);
        match verdict {
            Verdict::Certain(reading) if reading.converts() && utf8_characters == 0 => {
                self.state = State::Converted(reading);
                return Ok(());
            }
            Verdict::Unclear(_) if invalid < FOREIGN_BYTES => return Ok(()),
            _ => {}
        }
        let valid = std::str::from_utf8(record).map_or_else(|error| error.valid_up_to(), str::len);
        Err(Stop::Refused {
            place: None,
            problem: Problem::NotUtf8 {
                offset: offset + valid as u64,
                hint: hint(&verdict),
            },
        })
    }
}

/// Whether an archive was cut short; its reader may wrap that into errors of its own.
fn breaks_off(fault: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(fault);
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>() {
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => return true,
            Some(error) => cause = error.get_ref().map(|inner| inner as _),
            None => cause = error.source(),
        }
    }
    false
}

fn hint(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Certain(reading) => format!(" (it looks like {})", reading.name()),
        Verdict::Unclear(hint) => hint.clone(),
    }
}

/// The lines beyond ASCII of a record and of what follows it.
fn sample(record: &[u8], following: &[u8]) -> Vec<u8> {
    let mut sample = Vec::new();
    for line in record
        .split_inclusive(|&byte| byte == b'\n')
        .chain(following.split_inclusive(|&byte| byte == b'\n'))
    {
        if sample.len() >= SAMPLE_BYTES {
            break;
        }
        if let Some(first) = line.iter().position(|byte| !byte.is_ascii()) {
            // Of a long line, the part around its first letter beyond ASCII.
            let part = line.get(first.saturating_sub(64)..).unwrap_or_default();
            sample.extend_from_slice(part.get(..SAMPLE_BYTES).unwrap_or(part));
        }
    }
    sample
}
