//! JSON lines: one string or one object with `text` a line. A broken line costs only itself.

use super::input::{Input, Taken};
use super::json::{Item, message, parse_item};
use super::{Flow, MAX_RECORD_BYTES, Output};

pub(super) fn read(input: &mut Input, output: &mut Output) -> Flow<()> {
    let mut line = Vec::new();
    for number in 1u64.. {
        let place = || format!("line {number}");
        let offset = input.offset();
        match input.take_until(b'\n', &mut line, MAX_RECORD_BYTES)? {
            Taken::Nothing => break,
            Taken::TooLong => {
                output.reject(place(), too_long())?;
                continue;
            }
            Taken::Whole => {}
        }
        let text = match input.text(&line, offset)? {
            Ok(text) => text,
            Err(problem) => {
                output.reject_bytes(Some(place()), problem)?;
                continue;
            }
        };
        if text.trim().is_empty() {
            continue;
        }
        match parse_item(&text) {
            Ok(Item::Text(text)) => output.accept(&text)?,
            Ok(Item::Bad(reason)) => output.reject(place(), reason)?,
            Err(error) => {
                let reason = format!("broken JSON, {} at column {}", message(&error), error.column());
                output.reject(place(), reason)?;
            }
        }
    }
    Ok(())
}

pub(super) fn too_long() -> String {
    format!("longer than {} MiB", MAX_RECORD_BYTES >> 20)
}
