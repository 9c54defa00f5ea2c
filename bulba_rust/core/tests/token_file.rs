//! Token files of arbitrary bytes.

#[path = "../../fuzz/checks/token_file.rs"]
mod check;

#[test]
fn seeds_of_the_fuzzer_still_hold() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/token_file");
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        let bytes = std::fs::read(seed.unwrap().path()).unwrap();
        check::check(&bytes, &folder.path().join("tokens.bin"));
        count += 1;
    }
    assert!(count > 5);
}
