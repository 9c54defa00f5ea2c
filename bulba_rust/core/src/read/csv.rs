//! CSV: a header row with a column `text`, one document a row. Fields are divided by commas, semicolons or tabs,
//! whichever the header row shows, and may be quoted and then span lines (RFC 4180).

use super::input::Input;
use super::json_lines::too_long;
use super::{Flow, MAX_RECORD_BYTES, Output, Problem, Stop};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

const COLUMN: &[u8] = b"text";
const MAX_FIELDS: usize = 1 << 16;

pub(super) fn read(input: &mut Input, output: &mut Output) -> Flow<()> {
    let mut rows = Rows::new(delimiter(input));
    let header = rows.next(input)?;
    let columns: Vec<&[u8]> = rows.fields().map(<[u8]>::trim_ascii).collect();
    let Some(column) = columns.iter().position(|&name| name == COLUMN) else {
        let names: Vec<_> = columns.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let reason = match header {
            Found::Row => format!(
                "there is no column `text` in the header row, only {}: rename the one that holds the text",
                names.join(", ")
            ),
            _ => "there is no header row with a column `text`".into(),
        };
        return Err(rows.refuse(reason));
    };
    let num_fields = columns.len();
    loop {
        match rows.next(input)? {
            Found::End => return Ok(()),
            Found::TooLong => output.reject(rows.place(), too_long())?,
            Found::Unclosed => output.reject(rows.place(), "a quote that is not closed".into())?,
            Found::Row if rows.num_fields != num_fields => {
                let count = rows.num_fields;
                let reason = format!("{count} fields where the header row has {num_fields}");
                output.reject(rows.place(), reason)?;
            }
            Found::Row => match input.text(rows.field(column), rows.offset)? {
                Ok(text) => output.accept(&text)?,
                Err(Problem::NotUtf8 { hint, .. }) => {
                    output.reject(rows.place(), format!("`text` is not UTF-8{hint}"))?;
                }
                Err(problem) => output.reject_bytes(Some(rows.place()), problem)?,
            },
        }
    }
}

/// The delimiter that finds the column `text`, or else the one that finds most columns.
fn delimiter(input: &mut Input) -> u8 {
    let tabs = input
        .path()
        .to_string_lossy()
        .to_ascii_lowercase()
        .contains(".tsv");
    let head = input.look_ahead();
    let columns = |delimiter: u8| {
        let (mut fields, mut ends) = (vec![0; head.len() + 1], vec![0; MAX_FIELDS]);
        let (_, _, _, num_fields) = reader(delimiter).read_record(head, &mut fields, &mut ends);
        let spans = std::iter::once(0)
            .chain(ends.iter().copied())
            .zip(ends.iter().copied());
        let mut names = spans
            .take(num_fields)
            .map(|(start, end)| fields.get(start..end).unwrap_or_default());
        (names.any(|name| name.trim_ascii() == COLUMN), num_fields)
    };
    // Of equals the last one is taken; a lone column `text` may hold any of the three.
    let order = if tabs { b";,\t" } else { b";\t," };
    order
        .iter()
        .copied()
        .max_by_key(|&delimiter| columns(delimiter))
        .unwrap_or(b',')
}

fn reader(delimiter: u8) -> Reader {
    ReaderBuilder::new().delimiter(delimiter).build()
}

enum Found {
    End,
    Row,
    TooLong,
    Unclosed,
}

/// One row at a time, the last one read.
struct Rows {
    reader: Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    num_fields: usize,
    /// Of the row, and of what follows it.
    line: u64,
    next_line: u64,
    offset: u64,
}

impl Rows {
    fn new(delimiter: u8) -> Self {
        Rows {
            reader: reader(delimiter),
            fields: vec![0; 1 << 16],
            ends: vec![0; 64],
            num_fields: 0,
            line: 1,
            next_line: 1,
            offset: 0,
        }
    }

    fn field(&self, index: usize) -> &[u8] {
        let end = |index| self.ends.get(index).copied().unwrap_or(0);
        let start = index.checked_sub(1).map_or(0, end);
        self.fields.get(start..end(index)).unwrap_or_default()
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.num_fields).map(|index| self.field(index))
    }

    fn place(&self) -> String {
        format!("line {}", self.line)
    }

    fn refuse(&self, reason: String) -> Stop {
        Stop::Refused {
            place: Some(self.place()),
            problem: Problem::Other {
                offset: self.offset,
                reason,
            },
        }
    }

    /// Moves past bytes of the input and counts their lines.
    fn consume(&mut self, input: &mut Input, count: usize) {
        let bytes = input.buffered().get(..count).unwrap_or_default();
        self.next_line += memchr::memchr_iter(b'\n', bytes).count() as u64;
        input.consume(count);
    }

    fn next(&mut self, input: &mut Input) -> Flow<Found> {
        loop {
            let bytes = input.fill()?;
            let line_ends = bytes.iter().take_while(|byte| b"\r\n".contains(byte)).count();
            if bytes.is_empty() {
                return Ok(Found::End);
            }
            if line_ends == 0 {
                break;
            }
            self.consume(input, line_ends);
        }
        (self.line, self.offset) = (self.next_line, input.offset());
        let (mut used, mut fits) = (0, true);
        self.num_fields = 0;
        loop {
            let bytes = input.fill()?;
            let at_end = bytes.is_empty();
            // A line end after the last byte ends a row, unless a quote is open.
            let (result, taken, written, ended) = self.reader.read_record(
                if at_end { b"\n" } else { bytes },
                self.fields.get_mut(used..).unwrap_or_default(),
                self.ends.get_mut(self.num_fields..).unwrap_or_default(),
            );
            if !at_end {
                self.consume(input, taken);
            }
            used += written;
            self.num_fields += ended;
            match result {
                ReadRecordResult::InputEmpty if at_end => return Ok(Found::Unclosed),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if used < MAX_RECORD_BYTES => self.fields.resize(2 * used, 0),
                ReadRecordResult::OutputEndsFull if self.num_fields < MAX_FIELDS => {
                    self.ends.resize(2 * self.num_fields, 0);
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (used, self.num_fields, fits) = (0, 0, false);
                }
                ReadRecordResult::Record if fits => return Ok(Found::Row),
                ReadRecordResult::Record => return Ok(Found::TooLong),
                ReadRecordResult::End => return Ok(Found::End),
            }
        }
    }
}
