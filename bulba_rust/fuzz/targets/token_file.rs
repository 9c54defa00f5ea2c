//! Token files of arbitrary bytes are read or refused.
#![no_main]

#[path = "../checks/token_file.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("bulba-fuzz-{}.bin", std::process::id()));
    check::check(bytes, &path);
});
