//! JSON: a list of strings or of objects with `text`, or one such object. Elements are cut out of the file one at a
//! time, so that a list may be of any length. Broken JSON ends the reading: where the next element begins is not known.

use super::input::Input;
use super::json_lines::too_long;
use super::{Flow, MAX_RECORD_BYTES, Output, Problem, Stop};
use memchr::{memchr_iter, memchr2, memrchr};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

pub(super) fn read(input: &mut Input, output: &mut Output) -> Flow<()> {
    let mut file = Elements::new(input);
    match file.next_byte()? {
        Some(b'[') => file.consume(1),
        Some(b'"') => {
            let reason = "a string where a list or an object with `text` should be";
            return output.reject("top level".into(), reason.into());
        }
        _ => return file.give("top level", |_| None, output),
    }
    if file.next_byte()? == Some(b']') {
        file.consume(1);
    } else {
        read_list(&mut file, output)?;
    }
    match file.next_byte()? {
        None => Ok(()),
        Some(_) => Err(file.broken("trailing characters".into(), file.line)),
    }
}

fn read_list(file: &mut Elements, output: &mut Output) -> Flow<()> {
    for number in 1u64.. {
        let mut scan = Scan::default();
        file.give(&format!("element {number}"), |bytes| scan.end(bytes), output)?;
        let next = file.next_byte()?;
        file.consume(1);
        match next {
            Some(b',') => drop(file.next_byte()?),
            Some(b']') => break,
            Some(_) => return Err(file.broken("a closing brace too many".into(), file.line)),
            None => return Err(file.broken("the list is not closed".into(), file.line)),
        }
    }
    Ok(())
}

/// Walks over a JSON file and knows the line it is in.
struct Elements<'i, 'a, 'b> {
    input: &'i mut Input<'a, 'b>,
    element: Vec<u8>,
    /// Of the next byte, from 1.
    line: usize,
    column: usize,
}

impl<'i, 'a, 'b> Elements<'i, 'a, 'b> {
    fn new(input: &'i mut Input<'a, 'b>) -> Self {
        Elements {
            input,
            element: Vec::new(),
            line: 1,
            column: 1,
        }
    }

    /// Skips white space; None at the end of the file.
    fn next_byte(&mut self) -> Flow<Option<u8>> {
        loop {
            let bytes = self.input.fill()?;
            let space = bytes.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
            let next = bytes.get(space).copied();
            let at_end = bytes.is_empty();
            self.consume(space);
            if next.is_some() || at_end {
                return Ok(next);
            }
        }
    }

    fn consume(&mut self, count: usize) {
        let bytes = self.input.buffered().get(..count).unwrap_or_default();
        self.line += memchr_iter(b'\n', bytes).count();
        self.column = match memrchr(b'\n', bytes) {
            Some(at) => bytes.len() - at,
            None => self.column + bytes.len(),
        };
        self.input.consume(count);
    }

    /// Takes one element, up to where `end` finds its end or to the end of the file, and passes it on.
    fn give(
        &mut self,
        place: &str,
        mut end: impl FnMut(&[u8]) -> Option<usize>,
        output: &mut Output,
    ) -> Flow<()> {
        let (line, column, offset) = (self.line, self.column, self.input.offset());
        self.element.clear();
        let mut fits = true;
        loop {
            let bytes = self.input.fill()?;
            let found = end(bytes);
            let part = found.and_then(|at| bytes.get(..at)).unwrap_or(bytes);
            fits = fits && self.element.len() + part.len() <= MAX_RECORD_BYTES;
            if fits {
                self.element.extend_from_slice(part);
            } else {
                self.element = Vec::new();
            }
            let (count, last) = (part.len(), found.is_some() || bytes.is_empty());
            self.consume(count);
            if last {
                break;
            }
        }
        if !fits {
            return output.reject(place.into(), too_long());
        }
        let text = match self.input.text(&self.element, offset)? {
            Ok(text) => text,
            Err(problem) => return output.reject_bytes(None, problem),
        };
        match parse_item(&text) {
            Ok(Item::Text(text)) => output.accept(&text),
            Ok(Item::Bad(reason)) => output.reject(place.into(), reason),
            Err(error) => {
                // The piece ends where the element does, not the file.
                let cause = if error.is_eof() {
                    "a value breaks off".into()
                } else {
                    message(&error)
                };
                let before = if error.line() == 1 { column - 1 } else { 0 };
                let reason = format!("{cause} at column {}", before + error.column());
                Err(self.broken(reason, line + error.line().saturating_sub(1)))
            }
        }
    }

    fn broken(&self, reason: String, line: usize) -> Stop {
        Stop::Refused {
            place: Some(format!("line {line}")),
            problem: Problem::Other {
                offset: self.input.offset(),
                reason: format!("broken JSON, {reason}"),
            },
        }
    }
}

/// Looks for the end of a list element, over any number of pieces.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Where the comma or the bracket after the element is.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
                self.in_string = bytes.get(at) != Some(&b'"');
                self.escaped = self.in_string;
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'[' | b'{' => self.depth += 1,
                    b',' | b']' | b'}' if self.depth == 0 => return Some(at),
                    b']' | b'}' => self.depth -= 1,
                    _ => {}
                }
            }
            at += 1;
        }
        None
    }
}

/// serde_json counts lines inside what it was given; its message alone means something to the user.
pub(super) fn message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => message,
    }
}

pub(super) fn parse_item(json: &str) -> serde_json::Result<Item> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let item = ItemSeed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(item)
}

/// One element: its text, or why it has none.
pub(super) enum Item {
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
