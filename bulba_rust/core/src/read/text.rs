//! Plain text: the whole file is one document; a longer one than [`MAX_TEXT_BYTES`] is several.

use super::input::Input;
use super::{Flow, MAX_TEXT_BYTES, Output};
use memchr::memmem;

pub(super) fn read(input: &mut Input, output: &mut Output) -> Flow<()> {
    let mut text = Vec::new();
    loop {
        let offset = input.offset() - text.len() as u64;
        while text.len() <= MAX_TEXT_BYTES {
            let bytes = input.fill()?;
            if bytes.is_empty() {
                break;
            }
            text.extend_from_slice(bytes);
            let count = bytes.len();
            input.consume(count);
        }
        let end = match text.get(..MAX_TEXT_BYTES) {
            Some(longest) if text.len() > MAX_TEXT_BYTES => cut(longest),
            _ => text.len(),
        };
        let document = text.get(..end).unwrap_or_default();
        match input.text(document, offset)? {
            Ok(document) => output.accept(&document)?,
            Err(problem) => output.reject_bytes(None, problem)?,
        }
        text.drain(..end);
        if text.is_empty() {
            return Ok(());
        }
        output.report.num_cuts += 1;
    }
}

/// Where to cut a text: after the last blank line of its second half, or else after its last line end, or else after
/// its last space, or else between two characters.
pub(super) fn cut(text: &[u8]) -> usize {
    let half = text.len() / 2;
    let second_half = text.get(half..).unwrap_or_default();
    let blank_lines = [b"\n\n".as_slice(), b"\n\r\n"];
    let after_blank_line = blank_lines
        .iter()
        .filter_map(|blank| memmem::rfind(second_half, blank).map(|at| half + at + blank.len()));
    after_blank_line
        .max()
        .or_else(|| memchr::memrchr(b'\n', text).map(|at| at + 1))
        .or_else(|| memchr::memrchr(b' ', text).map(|at| at + 1))
        .unwrap_or_else(|| {
            let continued = text.iter().rev().take_while(|&&byte| byte & 0xc0 == 0x80).count();
            // In UTF-8 the byte before those begins the character, which is left to the next part whole or not.
            text.len() - if continued < 4 { continued + 1 } else { 0 }
        })
}
