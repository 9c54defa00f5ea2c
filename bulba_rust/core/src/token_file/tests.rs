//! What is written is read, and what was changed is refused.

use super::*;
use crate::regions::{BLOCK_BYTES, HEADER_BYTES, HEADER_CHECKSUM_AT};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

pub fn quiet() -> impl FnMut(u64, u64) -> Result<()> {
    |_, _| Ok(())
}

/// Sources named a, b, c ... with two input files each.
pub fn meta(vocab_size: u32, num_sources: usize) -> Meta {
    let source = |number: u8| Source {
        name: char::from(b'a' + number).to_string(),
        files: vec![format!("{number}.txt"), format!("кніга {number}.txt")],
    };
    Meta {
        vocab_size,
        tokenizer_fingerprint: [7; 32],
        bos_id: Some(0),
        eos_id: Some(1),
        pad_id: None,
        sources: (0..num_sources as u8).map(source).collect(),
    }
}

pub fn write_sources(path: &Path, vocab_size: u32, sources: &[Vec<Vec<u32>>]) -> Header {
    let num_documents = sources.iter().map(Vec::len).sum::<usize>() as u64;
    let mut writer = TokenFileWriter::create(path, meta(vocab_size, sources.len()), num_documents).unwrap();
    for (source, documents) in sources.iter().enumerate() {
        for (number, document) in documents.iter().enumerate() {
            let origin = (2 * source + number % 2) as u32;
            writer.push(document, origin, (number % 6) as u8, 5).unwrap();
        }
    }
    writer.finish().unwrap()
}

fn ids(file: &TokenFile) -> Vec<u32> {
    match file.tokens() {
        Tokens::U16(tokens) => tokens.iter().map(|id| u32::from(*id)).collect(),
        Tokens::U32(tokens) => tokens.to_vec(),
    }
}

fn refusal(path: &Path, bytes: &[u8]) -> String {
    std::fs::write(path, bytes).unwrap();
    let error = TokenFile::open(path, None)
        .and_then(|file| file.verify(&mut quiet()))
        .err();
    error.unwrap().to_string()
}

pub fn sources() -> impl Strategy<Value = Vec<Vec<Vec<u32>>>> {
    let document = prop::collection::vec(0u32..300, 1..20);
    prop::collection::vec(prop::collection::vec(document, 0..12), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn first_above_is_where_halving_ends(
        steps in prop::collection::vec(prop_oneof![0u64..20, Just(0), 0u64..1 << 40], 0..300), value in 0u64..1 << 45, near: prop::sample::Index,
    ) {
        let list: Vec<u64> = steps.iter().scan(0, |sum, step| { *sum += step; Some(*sum) }).collect();
        for value in [value, 0, list.get(near.index(list.len().max(1))).copied().unwrap_or(7)] {
            prop_assert_eq!(guess_first_above(&list, value), list.partition_point(|other| *other <= value));
        }
        let mut broken = list.clone();
        broken.reverse();
        prop_assert!(guess_first_above(&broken, value) <= list.len());
    }

    #[test]
    fn what_is_written_is_read(sources in sources(), wide: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        let header = write_sources(&path, if wide { 65_537 } else { 65_536 }, &sources);
        let file = TokenFile::open(&path, Some(&[7; 32])).unwrap();
        file.verify(&mut quiet()).unwrap();
        prop_assert_eq!(file.header(), &header);
        prop_assert_eq!(header.token_bytes, if wide { 4 } else { 2 });
        prop_assert_eq!(ids(&file), sources.concat().concat());
        prop_assert_eq!(file.header().text_bytes, 5 * sources.concat().len() as u64);
        let mut document = 0;
        for (source, documents) in sources.iter().enumerate() {
            prop_assert_eq!(file.spans()[source], document as u64);
            for (number, one) in documents.iter().enumerate() {
                prop_assert_eq!(file.source_of(document as u64), source);
                let names = [format!("{source}.txt"), format!("кніга {source}.txt")];
                prop_assert_eq!(file.origin(file.origins()[document]), Some((source, &*names[number % 2])));
                prop_assert_eq!(file.languages()[document], (number % 6) as u8);
                let (start, stop) = (file.offsets()[document], file.offsets()[document + 1]);
                prop_assert_eq!(stop - start, one.len() as u64);
                prop_assert_eq!(file.document_at(start), document as u64);
                prop_assert_eq!(file.document_at(stop - 1), document as u64);
                document += 1;
            }
        }
        prop_assert_eq!(file.origin(2 * sources.len() as u32), None);
    }

    #[test]
    fn raw_tokens_make_the_same_bytes(sources in sources(), wide: bool) {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("train.bin"), folder.path().join("copy.bin"));
        write_sources(&path, if wide { 65_537 } else { 300 }, &sources);
        rewrite(&TokenFile::open(&path, None).unwrap(), &copy);
        prop_assert_eq!(std::fs::read(path).unwrap(), std::fs::read(copy).unwrap());
    }
}

/// Writes what `file` holds once more.
fn rewrite(file: &TokenFile, copy: &Path) {
    let header = file.header();
    let mut writer = TokenFileWriter::create(copy, header.meta.clone(), header.num_documents).unwrap();
    let bytes: &[u8] = match file.tokens() {
        Tokens::U16(tokens) => bytemuck::cast_slice(tokens),
        Tokens::U32(tokens) => bytemuck::cast_slice(tokens),
    };
    let width = u64::from(header.token_bytes);
    for document in 0..header.num_documents as usize {
        let (start, stop) = (file.offsets()[document], file.offsets()[document + 1]);
        let tokens = &bytes[(start * width) as usize..(stop * width) as usize];
        let text_bytes = if document == 0 { header.text_bytes } else { 0 };
        writer
            .push_raw(
                tokens,
                file.origins()[document],
                file.languages()[document],
                text_bytes,
            )
            .unwrap();
    }
    assert_eq!(writer.finish().unwrap(), *header);
}

#[test]
fn the_writer_makes_the_golden_files() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/golden");
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            let file = TokenFile::open(&path, None).unwrap();
            file.verify(&mut quiet()).unwrap();
            let copy = folder.path().join("copy.bin");
            rewrite(&file, &copy);
            assert!(
                std::fs::read(&path).unwrap() == std::fs::read(copy).unwrap(),
                "{}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count >= 4, "{count} golden files");
}

fn fixture() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    write_sources(
        &path,
        300,
        &[vec![vec![0, 5, 1], vec![0, 6, 7, 1]], vec![], vec![vec![0, 9, 1]]],
    );
    let bytes = std::fs::read(&path).unwrap();
    (folder, path, bytes)
}

#[test]
fn every_changed_byte_is_found() {
    let (_folder, path, bytes) = fixture();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &changed).unwrap();
            let opened = TokenFile::open(&path, None);
            assert!(
                at >= HEADER_BYTES as usize || opened.is_err(),
                "byte {at} ^ {flip:02x}"
            );
            let verified = opened.and_then(|file| file.verify(&mut quiet()));
            assert!(verified.is_err(), "byte {at} ^ {flip:02x}");
        }
    }
}

#[test]
fn damage_is_named_by_its_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let mut writer = TokenFileWriter::create(&path, meta(300, 1), 40).unwrap();
    let document = [0, 5, 1].repeat(1 << 18);
    for _ in 0..40 {
        writer.push(&document, 0, 0, 1).unwrap();
    }
    writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = TokenFile::open(&path, None).unwrap();
    let start = file.regions.start(TOKENS);
    assert!(bytes.len() as u64 > 3 * BLOCK_BYTES);
    for (at, block) in [
        (start, 0),
        (start + BLOCK_BYTES - 1, 0),
        (start + BLOCK_BYTES, 1),
        (start + 3 * BLOCK_BYTES, 3),
    ] {
        let mut changed = bytes.clone();
        changed[at as usize] ^= 0x40;
        let message = refusal(&path, &changed);
        let expected = format!(
            "the checksum of the block at byte {} should",
            start + block * BLOCK_BYTES
        );
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (_folder, path, bytes) = fixture();
    for length in 0..bytes.len() {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(TokenFile::open(&path, None).is_err(), "{length} bytes");
    }
    let longer = [&bytes[..], b"x"].concat();
    let message = refusal(&path, &longer);
    assert!(message.contains("size of the file"), "{message}");
}

#[test]
fn foreign_files_and_tokenizers_are_named() {
    let (_folder, path, bytes) = fixture();
    let error = TokenFile::open(&path, Some(&[8; 32])).err().unwrap().to_string();
    assert!(
        error.contains("another tokenizer") && error.contains("0808") && error.contains("0707"),
        "{error}"
    );
    let message = refusal(&path, &[b'x'; 1000]);
    assert!(
        message.contains("BULBATOK") && message.contains("xxxxxxxx"),
        "{message}"
    );
    for version in [1u32, 3] {
        let mut other = bytes.clone();
        other[8..12].copy_from_slice(&version.to_le_bytes());
        let message = refusal(&path, &other);
        let expected = format!("has format version {version} at byte 8 and this Bulba reads version 2");
        assert!(
            message.contains(&expected) && message.contains("prepare the data again"),
            "{message}"
        );
    }
    let mut swapped = bytes.clone();
    swapped[8..12].reverse();
    assert!(refusal(&path, &swapped).contains("big-endian"));
    swapped[..8].reverse();
    assert!(refusal(&path, &swapped).contains("big-endian"));
}

/// Puts `change` into the body and mends every checksum, as a broken writer would.
fn consistent(file: &TokenFile, bytes: &[u8], at: u64, change: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at as usize..at as usize + change.len()].copy_from_slice(change);
    let list = file.regions.start(TOKENS + 1) as usize;
    for (block, slot) in (TABLE..=TOKENS).zip((list..).step_by(8)) {
        let (start, end) = (
            file.regions.start(block) as usize,
            file.regions.start(block + 1) as usize,
        );
        let digest = xxh3_64(&changed[start..end]);
        changed[slot..slot + 8].copy_from_slice(&digest.to_le_bytes());
    }
    let digest = xxh3_64(&changed[list..]);
    changed[176..184].copy_from_slice(&digest.to_le_bytes());
    let digest = xxh3_64(&changed[..HEADER_CHECKSUM_AT]);
    changed[HEADER_CHECKSUM_AT..HEADER_BYTES as usize].copy_from_slice(&digest.to_le_bytes());
    changed
}

#[test]
fn what_a_broken_writer_could_do_is_found() {
    let (_folder, path, bytes) = fixture();
    let file = TokenFile::open(&path, None).unwrap();
    let start = |region| file.regions.start(region);
    for (at, change, sentence) in [
        (
            start(TABLE),
            &b"["[..],
            "the table of sources at byte 256 should be JSON",
        ),
        (start(SPANS), &[1], "the spans of the sources"),
        (start(SPANS) + 8, &[3], "the spans of the sources"),
        (start(OFFSETS) + 8, &[0], "a document offset"),
        (start(ORIGINS), &[2], "an origin at byte"),
        (start(ORIGINS) + 8, &[1], "should be a file of source 2 but is 1"),
        (start(LANGUAGE_TAGS) + 2, &[6], "a language tag"),
        (start(TOKENS) + 2, &[0xff, 0xff], "a token id at byte"),
        (
            28,
            &[44, 1, 0, 0],
            "a special token at byte 28 should be below the vocabulary size 300 but is 300",
        ),
    ] {
        let message = refusal(&path, &consistent(&file, &bytes, at, change));
        assert!(message.contains(sentence), "{message} instead of {sentence}");
    }
    std::fs::write(&path, consistent(&file, &bytes, start(TOKENS), &[2])).unwrap();
    TokenFile::open(&path, None)
        .unwrap()
        .verify(&mut quiet())
        .unwrap();
}

#[test]
fn the_writer_refuses_what_no_reader_would_take() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let said = |result: Result<()>| result.unwrap_err().to_string();
    let outside = TokenFileWriter::create(&path, meta(1, 2), 2).map(drop);
    assert!(said(outside).contains("special token id: expected below the vocabulary size 1, got 1"));
    let mut writer = TokenFileWriter::create(&path, meta(300, 2), 2).unwrap();
    assert!(said(writer.push(&[300], 0, 0, 1)).contains("below the vocabulary size 300, got 300"));
    assert!(said(writer.push(&[70_000], 0, 0, 1)).contains("got 70000"));
    assert!(said(writer.push_raw(&[44, 1], 0, 0, 1)).contains("got 300"));
    assert!(said(writer.push_raw(&[1], 0, 0, 1)).contains("whole ids of 2 bytes, got 1 bytes"));
    assert!(said(writer.push(&[], 0, 0, 1)).contains("at least one token"));
    assert!(said(writer.push(&[1], 4, 0, 1)).contains("below the number of input files 4, got 4"));
    assert!(said(writer.push(&[1], 0, 6, 1)).contains("a tag below 6"));
    writer.push(&[0, 1], 2, 0, 1).unwrap();
    assert!(said(writer.push(&[1], 1, 0, 1)).contains("now of source 1 or later, got one of source 0"));
    assert!(!path.exists());
    assert!(
        writer
            .finish()
            .unwrap_err()
            .to_string()
            .contains("num_documents: expected 2, got 1")
    );
    let mut writer = TokenFileWriter::create(&path, meta(300, 2), 1).unwrap();
    writer.push(&[0, 1], 2, 0, 1).unwrap();
    assert!(said(writer.push(&[1], 3, 0, 1)).contains("one more than 1"));
    drop(writer);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}
