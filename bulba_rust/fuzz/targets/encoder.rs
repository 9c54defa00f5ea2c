//! Ids, pieces and decoded text of arbitrary text, against the `tokenizers` crate.
#![no_main]

#[path = "../checks/encoder.rs"]
mod check;

use check::Check;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static LEARNT: LazyLock<Check> = LazyLock::new(|| Check::learnt("fuzz"));

fuzz_target!(|bytes: &[u8]| {
    LEARNT.text(&String::from_utf8_lossy(bytes));
});
