//! Reading `.txt`, `.md`, `.json` and `.jsonl` files into a corpus.
//!
//! A broken document is never lost silently: with [`OnBad::Skip`] it is recorded with its place and reason, with
//! [`OnBad::Fail`] it ends the reading. A byte order mark is accepted and dropped.

use crate::corpus::CorpusWriter;
use crate::progress::{Meter, Progress};
use crate::{Error, Result};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The whole file is one document.
    Text,
    /// A list of strings or of objects with `text`, or one such object.
    Json,
    /// One string or one object with `text` a line.
    JsonLines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBad {
    Skip,
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub place: String,
    pub reason: String,
}

/// What came of one file. `rejects` holds the first [`FileReport::MAX_REJECTS`] of `num_rejected`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReport {
    pub documents: u64,
    pub text_bytes: u64,
    pub empty: u64,
    pub num_rejected: u64,
    pub rejects: Vec<Reject>,
}

impl FileReport {
    pub const MAX_REJECTS: usize = 20;
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Adds the documents of one file to the corpus.
pub fn read_file(
    path: &Path,
    format: Format,
    source: u32,
    on_bad: OnBad,
    writer: &mut CorpusWriter,
    progress: &mut Progress,
) -> Result<FileReport> {
    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    let total = file
        .metadata()
        .map_err(|error| Error::io("read", path, error))?
        .len();
    let mut sink = Sink {
        path,
        source,
        on_bad,
        writer,
        report: FileReport::default(),
        meter: Meter::new(progress, total),
    };
    match format {
        Format::Text => read_text(file, &mut sink)?,
        Format::Json => read_json(file, &mut sink)?,
        Format::JsonLines => read_json_lines(file, &mut sink)?,
    }
    sink.meter.finish()?;
    Ok(sink.report)
}

/// Where documents and complaints of one file go.
struct Sink<'a, 'b, 'c> {
    path: &'a Path,
    source: u32,
    on_bad: OnBad,
    writer: &'a mut CorpusWriter,
    report: FileReport,
    meter: Meter<'b, 'c>,
}

impl Sink<'_, '_, '_> {
    fn accept(&mut self, text: &str) -> Result<()> {
        match self.writer.push(text, self.source)? {
            Some(text_bytes) => {
                self.report.documents += 1;
                self.report.text_bytes += text_bytes;
            }
            None => self.report.empty += 1,
        }
        Ok(())
    }

    fn reject(&mut self, place: String, reason: String) -> Result<()> {
        if self.on_bad == OnBad::Fail {
            return Err(Error::BadDocument {
                file: self.path.to_path_buf(),
                place,
                reason,
            });
        }
        self.record(place, reason);
        Ok(())
    }

    fn reject_bytes(&mut self, offset: u64, hint: &'static str) -> Result<()> {
        if self.on_bad == OnBad::Fail {
            return Err(Error::NotUtf8 {
                file: self.path.to_path_buf(),
                offset,
                hint,
            });
        }
        self.record(format!("byte {offset}"), format!("not UTF-8{hint}"));
        Ok(())
    }

    fn record(&mut self, place: String, reason: String) {
        self.report.num_rejected += 1;
        if self.report.rejects.len() < FileReport::MAX_REJECTS {
            self.report.rejects.push(Reject { place, reason });
        }
    }

    fn io(&self, error: std::io::Error) -> Error {
        Error::io("read", self.path, error)
    }
}

fn read_text(mut file: File, sink: &mut Sink) -> Result<()> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| sink.io(error))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => sink.accept(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => sink.reject_bytes(error.valid_up_to() as u64, encoding_hint(&bytes)),
    }
}

fn encoding_hint(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        " (it looks like UTF-16)"
    } else {
        ""
    }
}

fn read_json_lines(file: File, sink: &mut Sink) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut offset) = (Vec::new(), 0u64);
    for number in 1u64.. {
        line.clear();
        let read = reader
            .read_until(b'\n', &mut line)
            .map_err(|error| sink.io(error))?;
        if read == 0 {
            break;
        }
        let body = if number == 1 {
            line.strip_prefix(BOM).unwrap_or(&line)
        } else {
            &line
        };
        match std::str::from_utf8(body) {
            Ok(body) if body.trim().is_empty() => {}
            Ok(body) => {
                let found = parse_item(body)
                    .unwrap_or_else(|error| Item::Bad(format!("broken JSON, {}", column_only(&error))));
                match found {
                    Item::Text(text) => sink.accept(&text)?,
                    Item::Bad(reason) => sink.reject(format!("line {number}"), reason)?,
                }
            }
            Err(error) => {
                let bad = offset + (line.len() - body.len() + error.valid_up_to()) as u64;
                sink.reject(
                    format!("line {number}"),
                    format!("not UTF-8 at byte {bad}{}", encoding_hint(body)),
                )?;
            }
        }
        offset += read as u64;
        sink.meter.tick(offset)?;
    }
    Ok(())
}

/// serde_json counts lines inside the one line it was given; only its column means anything to the user.
fn column_only(error: &serde_json::Error) -> String {
    error
        .to_string()
        .replace(&format!(" at line {} column ", error.line()), " at column ")
}

fn parse_item(line: &str) -> serde_json::Result<Item> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let item = ItemSeed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(item)
}

fn read_json(file: File, sink: &mut Sink) -> Result<()> {
    if let Some(offset) = first_invalid_utf8(sink.path)? {
        return sink.reject_bytes(offset, "");
    }
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let head = reader.fill_buf().map_err(|error| sink.io(error))?;
    if head.starts_with(BOM) {
        reader.consume(BOM.len());
    }
    let mut top = Top {
        number: 0,
        fault: None,
        sink,
    };
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let parsed = (&mut top)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    if let Some(fault) = top.fault {
        return Err(fault);
    }
    match parsed {
        Ok(()) => Ok(()),
        Err(error) if error.is_io() => Err(sink.io(error.into())),
        Err(error) => {
            let before = match sink.report.documents {
                0 => String::new(),
                count => format!("; the {count} documents before it were kept, the rest was not read"),
            };
            sink.reject(
                format!("line {}", error.line()),
                format!("broken JSON, {error}{before}"),
            )
        }
    }
}

/// The offset of the first byte that is not UTF-8, reading in pieces.
fn first_invalid_utf8(path: &Path) -> Result<Option<u64>> {
    let mut file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    let mut buffer = vec![0u8; 1 << 20];
    let (mut kept, mut offset) = (0usize, 0u64);
    loop {
        let read = file
            .read(buffer.get_mut(kept..).unwrap_or_default())
            .map_err(|error| Error::io("read", path, error))?;
        let filled = buffer.get(..kept + read).unwrap_or_default();
        let valid = match std::str::from_utf8(filled) {
            Ok(_) => filled.len(),
            Err(error) if error.error_len().is_some() || read == 0 => {
                return Ok(Some(offset + error.valid_up_to() as u64));
            }
            Err(error) => error.valid_up_to(),
        };
        if read == 0 {
            return Ok(None);
        }
        let end = kept + read;
        buffer.copy_within(valid..end, 0);
        kept = end - valid;
        offset += valid as u64;
    }
}

/// One element: its text, or why it has none.
enum Item {
    Text(String),
    Bad(String),
}

struct ItemSeed;

impl<'de> DeserializeSeed<'de> for ItemSeed {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Item, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn not_text(what: &str) -> Item {
    Item::Bad(format!(
        "{what} where a string or an object with `text` should be"
    ))
}

impl<'de> Visitor<'de> for ItemSeed {
    type Value = Item;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a string or an object with `text`")
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Item, E> {
        Ok(Item::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> std::result::Result<Item, E> {
        Ok(Item::Text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Item, A::Error> {
        let mut found = Item::Bad("an object without `text`".into());
        while let Some(key) = map.next_key::<String>()? {
            if key == "text" {
                found = match map.next_value_seed(ItemSeed)? {
                    Item::Text(text) => Item::Text(text),
                    Item::Bad(_) => Item::Bad("`text` is not a string".into()),
                };
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Item, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(not_text("a list"))
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Item, E> {
        Ok(not_text("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Item, E> {
        Ok(not_text("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Item, E> {
        Ok(not_text("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Item, E> {
        Ok(not_text("a number"))
    }

    fn visit_unit<E>(self) -> std::result::Result<Item, E> {
        Ok(not_text("null"))
    }
}

/// The top level of a `.json` file: a list is taken element by element, anything else is one item.
struct Top<'s, 'a, 'b, 'c> {
    number: u64,
    /// serde can only carry its own errors; ours wait here.
    fault: Option<Error>,
    sink: &'s mut Sink<'a, 'b, 'c>,
}

impl Top<'_, '_, '_, '_> {
    fn take<E: serde::de::Error>(&mut self, item: Item, place: String) -> std::result::Result<(), E> {
        let taken = match item {
            Item::Text(text) => self.sink.accept(&text),
            Item::Bad(reason) => self.sink.reject(place, reason),
        };
        taken
            .and_then(|()| self.sink.meter.tick(self.sink.report.text_bytes))
            .map_err(|fault| {
                self.fault = Some(fault);
                E::custom("stopped")
            })
    }
}

impl<'de> DeserializeSeed<'de> for &mut Top<'_, '_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Top<'_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a list of strings or of objects with `text`, or one object with `text`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        while let Some(item) = list.next_element_seed(ItemSeed)? {
            self.number += 1;
            let place = format!("element {}", self.number);
            self.take(item, place)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<(), A::Error> {
        let item = ItemSeed.visit_map(map)?;
        self.take(item, "top level".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Corpus;
    use proptest::prelude::*;

    fn read(name: &str, bytes: &[u8], format: Format, on_bad: OnBad) -> Result<(FileReport, Vec<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let stem = folder.path().join("corpus");
        let mut writer = CorpusWriter::create(&stem).unwrap();
        let report = read_file(&path, format, 0, on_bad, &mut writer, &mut |_, _| Ok(()))?;
        writer.finish().unwrap();
        let texts = match Corpus::open(&stem) {
            Ok(corpus) => (0..corpus.len())
                .map(|document| corpus.text(document).unwrap().to_owned())
                .collect(),
            Err(_) => Vec::new(),
        };
        Ok((report, texts))
    }

    fn kept(name: &str, bytes: &[u8], format: Format) -> (FileReport, Vec<String>) {
        read(name, bytes, format, OnBad::Skip).unwrap()
    }

    proptest! {
        #[test]
        fn json_and_jsonl_give_back_the_documents(
            texts in prop::collection::vec(any::<String>(), 0..12), as_object: bool, pretty: bool, bom: bool,
        ) {
            let items: Vec<serde_json::Value> = texts.iter().map(|text| {
                if as_object {
                    serde_json::json!({"id": 1, "text": text, "more": {"text": [1, {"text": 2}]}})
                } else {
                    serde_json::json!(text)
                }
            }).collect();
            let expected: Vec<String> = texts.iter().filter(|text| !text.trim().is_empty())
                .map(|text| crate::corpus::normalize(text).into_owned()).collect();
            let list = if pretty { serde_json::to_string_pretty(&items) } else { serde_json::to_string(&items) }.unwrap();
            let lines: String = items.iter().map(|item| format!("{item}\n")).collect();
            for (body, format) in [(list, Format::Json), (lines, Format::JsonLines)] {
                let mut bytes = if bom { BOM.to_vec() } else { Vec::new() };
                bytes.extend(body.as_bytes());
                let (report, found) = kept("file", &bytes, format);
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(report.num_rejected, 0);
                prop_assert_eq!(report.documents + report.empty, texts.len() as u64);
            }
        }

        #[test]
        fn random_bytes_never_panic_and_fail_agrees_with_skip(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::Text, Format::Json, Format::JsonLines] {
                let (report, _) = kept("file", &bytes, format);
                let strict = read("file", &bytes, format, OnBad::Fail);
                prop_assert_eq!(report.num_rejected > 0, strict.is_err());
            }
        }
    }

    #[test]
    fn a_broken_line_is_named_and_the_others_are_kept() {
        let body = "\"one\"\n{\"text\": \"two\"\n\n{\"txt\": 3}\n{\"text\": 4}\n[5]\r\n\"six\"".as_bytes();
        let (report, texts) = kept("a.jsonl", body, Format::JsonLines);
        assert_eq!(texts, ["one", "six"]);
        let places: Vec<_> = report
            .rejects
            .iter()
            .map(|reject| reject.place.as_str())
            .collect();
        assert_eq!(places, ["line 2", "line 4", "line 5", "line 6"]);
        assert!(
            report.rejects[0].reason.contains("column"),
            "{:?}",
            report.rejects[0]
        );
        assert!(report.rejects[1].reason.contains("without `text`"));
        let error = read("a.jsonl", body, Format::JsonLines, OnBad::Fail)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a.jsonl, line 2") && error.contains("data.on_bad=skip"),
            "{error}"
        );
    }

    #[test]
    fn text_that_is_not_utf8_is_named_with_its_offset() {
        let (report, texts) = kept("a.txt", b"abc\xff\xfe", Format::Text);
        assert!(texts.is_empty());
        assert_eq!(report.rejects[0].place, "byte 3");
        let error = read("a.txt", b"abc\xff", Format::Text, OnBad::Fail)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("not UTF-8 at byte 3") && error.contains("data.on_bad=skip"),
            "{error}"
        );
        let error = read("a.txt", b"\xff\xfea\0", Format::Text, OnBad::Fail)
            .unwrap_err()
            .to_string();
        assert!(error.contains("UTF-16"), "{error}");
    }

    #[test]
    fn a_line_that_is_not_utf8_costs_only_that_line() {
        let (report, texts) = kept("a.jsonl", b"\"one\"\n\"tw\xe9\"\n\"three\"\n", Format::JsonLines);
        assert_eq!(texts, ["one", "three"]);
        assert_eq!(report.rejects[0].place, "line 2");
        assert!(
            report.rejects[0].reason.contains("byte 9"),
            "{:?}",
            report.rejects[0]
        );
    }

    #[test]
    fn a_json_file_that_breaks_off_keeps_what_came_before_and_says_so() {
        let (report, texts) = kept("a.json", b"[\"one\",\n \"two\",\n \"thr", Format::Json);
        assert_eq!(texts, ["one", "two"]);
        assert_eq!(report.num_rejected, 1);
        assert_eq!(report.rejects[0].place, "line 3");
        assert!(
            report.rejects[0]
                .reason
                .contains("2 documents before it were kept")
        );
    }

    #[test]
    fn json_of_another_shape_is_rejected() {
        for body in [
            "3",
            "\"alone\"",
            "{\"data\": []}",
            "null",
            "[1]",
            "[[\"a\"]]",
            "{\"text\": null}",
            "",
        ] {
            let (report, texts) = kept("a.json", body.as_bytes(), Format::Json);
            assert!(texts.is_empty() && report.num_rejected == 1, "{body}: {report:?}");
        }
        assert_eq!(kept("a.json", b"{\"text\": \"one\"}", Format::Json).1, ["one"]);
    }

    #[test]
    fn invalid_utf8_is_found_across_buffer_edges() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for at in [(1 << 20) - 2, (1 << 20) - 1, 1 << 20, (1 << 20) + 1] {
            let mut bytes = vec![b'a'; at];
            bytes.extend("ў€🥔".as_bytes());
            bytes.extend(vec![b'b'; 1 << 20]);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(first_invalid_utf8(&path).unwrap(), None);
            let end = bytes.len() as u64;
            bytes.push(0xd0);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(first_invalid_utf8(&path).unwrap(), Some(end));
        }
    }

    #[test]
    fn only_the_first_rejects_are_kept_but_all_are_counted() {
        let (report, _) = kept("a.jsonl", "{}\n".repeat(50).as_bytes(), Format::JsonLines);
        assert_eq!(
            (report.num_rejected, report.rejects.len()),
            (50, FileReport::MAX_REJECTS)
        );
    }
}
