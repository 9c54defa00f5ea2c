//! What must hold of every file: opening, verifying and sampling it give a result or an error, never a panic.
//! Shared by the fuzz target and the tests of bulba-core.

use bulba_core::Result;
use bulba_core::regions::{HEADER_CHECKSUM_AT, header_checksums};
use bulba_core::sample::{Mode, Options, Rows, Sampler};
use bulba_core::token_file::TokenFile;
use std::path::Path;
use std::sync::Arc;

/// Writes `bytes` to `path` as a token file; the checksum of the header is put right, or nearly all would end there.
pub fn check(bytes: &[u8], path: &Path) {
    let mut bytes = bytes.to_vec();
    let (checksum, _) = header_checksums(&bytes);
    if let Some(place) = bytes.get_mut(HEADER_CHECKSUM_AT..HEADER_CHECKSUM_AT + 8) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    std::fs::write(path, &bytes).expect("a file for the bytes");
    let Ok(file) = TokenFile::open(path, None) else {
        return;
    };
    let _ = file.verify(&mut |_, _| Ok(()));
    let file = Arc::new(file);
    for document in 0..file.header().num_documents.min(20) {
        let _ = file.document(document);
        let _ = file.origin(file.source_of(document) as u32);
    }
    for (seq_len, seed, weights) in [
        (1, None, None),
        (3, Some(1), None),
        (4, Some(2), Some(vec![1.0; file.sources().len()])),
    ] {
        let options = Options {
            mode: Mode::Chunked,
            seq_len,
            seed,
            weights,
            rows: 2,
            num_threads: 1,
        };
        let _ = sample(&file, &options);
    }
}

fn sample(file: &Arc<TokenFile>, options: &Options) -> Result<()> {
    let sampler = Sampler::open(file.clone(), options, &mut |_, _| Ok(()))?;
    let count = sampler.num_units().min(16);
    let len = (count * options.seq_len) as usize;
    let (mut inputs, mut targets) = (vec![0; len], vec![0; len]);
    let (mut positions, mut documents) = (vec![0; len], vec![0; len]);
    for first in [0, sampler.num_units() - count] {
        let rows = Rows {
            inputs: &mut inputs,
            targets: &mut targets,
            positions: Some(&mut positions),
            documents: Some(&mut documents),
        };
        let filled = sampler.fill(first, count, rows);
        let vocab_size = i64::from(file.header().meta.vocab_size);
        if filled.is_ok() {
            assert!(
                inputs.iter().all(|id| (0..vocab_size).contains(id)),
                "ids outside the vocabulary"
            );
        }
        let _ = sampler.count_targets(first, count);
        for place in first..first + count {
            let _ = sampler.pieces(place);
        }
    }
    Ok(())
}
