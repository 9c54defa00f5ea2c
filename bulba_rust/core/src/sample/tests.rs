//! Every mode against slow and obvious references.

use super::*;
use crate::token_file::tests::{quiet, write_sources};
use proptest::prelude::*;
use std::collections::HashSet;

#[derive(Debug, PartialEq, Eq, Clone, Default)]
struct Filled {
    inputs: Vec<i64>,
    targets: Vec<i64>,
    positions: Vec<i32>,
    documents: Vec<i32>,
    num_targets: u64,
}

impl Filled {
    fn of(size: usize) -> Self {
        Filled {
            inputs: vec![77; size],
            targets: vec![77; size],
            positions: vec![77; size],
            documents: vec![77; size],
            num_targets: 0,
        }
    }

    fn rows(&mut self) -> Rows<'_> {
        Rows {
            inputs: &mut self.inputs,
            targets: &mut self.targets,
            positions: Some(&mut self.positions),
            documents: Some(&mut self.documents),
        }
    }
}

fn fill(sampler: &Sampler, first: u64, count: u64) -> Filled {
    let shape = sampler.shape(first);
    let mut filled = Filled::of((count * shape.rows * shape.length) as usize);
    filled.num_targets = sampler.fill(first, count, filled.rows()).unwrap();
    filled
}

fn options(mode: Mode, seq_len: u64, seed: Option<u64>) -> Options {
    Options {
        mode,
        seq_len,
        seed,
        weights: None,
        rows: 4,
        num_threads: 1,
    }
}

/// A token file of these lengths of documents, by source; every token is its own place, so that it can be told.
fn numbered(folder: &tempfile::TempDir, lengths: &[Vec<usize>]) -> Arc<TokenFile> {
    let mut next = 0;
    let mut document = |length: &usize| {
        next += *length as u32;
        (next - *length as u32..next).collect::<Vec<u32>>()
    };
    let sources: Vec<Vec<Vec<u32>>> = lengths
        .iter()
        .map(|source| source.iter().map(&mut document).collect())
        .collect();
    let path = folder.path().join("train.bin");
    write_sources(&path, 70_000, &sources);
    let file = TokenFile::open(&path, None).unwrap();
    // Half of the files are read as those are that do not fit into memory.
    Arc::new(if next % 2 == 0 { file.at_random() } else { file })
}

fn lengths() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let length = prop_oneof![4 => 1usize..12, 1 => 1usize..80];
    prop::collection::vec(prop::collection::vec(length, 0..30), 1..4)
}

fn open(file: &Arc<TokenFile>, options: &Options) -> Option<Sampler> {
    Sampler::open(file.clone(), options, &mut quiet()).ok()
}

fn targets_of(lengths: &[Vec<usize>]) -> u64 {
    lengths.iter().flatten().map(|length| *length as u64 - 1).sum()
}

/// One row of contiguous tokens the slow way: token by token, from the list of documents.
fn naive_chunk(file: &TokenFile, row: u64, seq_len: u64) -> Filled {
    let num_tokens = file.header().num_tokens;
    let (mut filled, mut padding) = (Filled::default(), None);
    let start = row * seq_len;
    for at in start..start + seq_len {
        if at + 1 >= num_tokens {
            let own = *padding.get_or_insert(filled.documents.last().map_or(0, |last| last + 1));
            filled.inputs.push(1);
            filled.targets.push(IGNORE);
            filled.positions.push(0);
            filled.documents.push(own);
            continue;
        }
        let begins = |token: u64| file.offsets().contains(&token);
        let fresh = at == start || begins(at);
        filled.inputs.push(at as i64);
        filled
            .targets
            .push(if begins(at + 1) { IGNORE } else { at as i64 + 1 });
        filled.num_targets += u64::from(!begins(at + 1));
        let position = if fresh {
            0
        } else {
            filled.positions.last().unwrap() + 1
        };
        let number = filled.documents.last().map_or(0, |last| last + i32::from(fresh));
        filled.positions.push(position);
        filled.documents.push(number);
    }
    filled
}

/// Where the pieces of a unit lie, read from what was filled; checks everything that holds for each.
fn pieces_of(filled: &Filled, shape: Shape) -> Vec<(u64, u64, u64)> {
    let length = shape.length as usize;
    let mut pieces: Vec<(u64, u64, u64)> = Vec::new();
    for row in 0..shape.rows as usize {
        let mut own = 0;
        for at in row * length..(row + 1) * length {
            let fresh = at == row * length || filled.documents[at] != filled.documents[at - 1];
            if fresh {
                assert_eq!(filled.documents[at], own, "documents of a row count up");
                own += 1;
            }
            if filled.targets[at] == IGNORE {
                assert_eq!((filled.inputs[at], filled.positions[at]), (1, 0), "padding");
                assert!(
                    fresh || filled.targets[at - 1] == IGNORE,
                    "padding is a document of its own"
                );
                continue;
            }
            if fresh {
                pieces.push((row as u64, (at - row * length) as u64, 0));
            }
            let (_, column, count) = pieces.last_mut().unwrap();
            assert_eq!(filled.targets[at], filled.inputs[at] + 1);
            assert_eq!(
                filled.positions[at] as u64, *count,
                "positions restart at each piece"
            );
            assert_eq!(*column + *count, (at - row * length) as u64, "padding comes last");
            *count += 1;
        }
    }
    pieces
}

proptest! {
    // Each case writes and syncs files.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn chunks_equal_a_naive_reference(lengths in lengths(), seq_len in 1u64..20) {
        let folder = tempfile::tempdir().unwrap();
        let file = numbered(&folder, &lengths);
        let Some(sampler) = open(&file, &options(Mode::Chunked, seq_len, None)) else {
            prop_assert!(file.header().num_tokens <= 1);
            return Ok(());
        };
        for row in 0..sampler.num_units() {
            prop_assert_eq!(fill(&sampler, row, 1), naive_chunk(&file, row, seq_len));
        }
        let beyond = fill(&sampler, sampler.num_units(), 2);
        prop_assert_eq!(beyond.num_targets, 0);
        prop_assert!(beyond.targets.iter().all(|target| *target == IGNORE));
        // Every pair of neighbours inside a document is a target exactly once.
        prop_assert_eq!(fill(&sampler, 0, sampler.num_units()).num_targets, targets_of(&lengths));
        prop_assert_eq!(sampler.num_targets(), targets_of(&lengths));
    }

    #[test]
    fn planned_units_hold_every_target_once(
        lengths in lengths(), seq_len in 1u64..20, rows in 1u64..5, bucketed: bool, seed: u64, epoch in 0u64..3,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = numbered(&folder, &lengths);
        let mode = if bucketed { Mode::Bucketed } else { Mode::Packed };
        let Some(sampler) = open(&file, &Options { rows, ..options(mode, seq_len, Some(seed)) }) else {
            prop_assert_eq!(targets_of(&lengths), 0);
            return Ok(());
        };
        prop_assert!(sampler.shapes().len() <= 8);
        prop_assert!(sampler.shapes().is_sorted_by_key(|shape| shape.length));
        let (mut seen, mut slots) = (HashSet::new(), 0);
        for place in epoch * sampler.num_units()..(epoch + 1) * sampler.num_units() {
            let (filled, shape) = (fill(&sampler, place, 1), sampler.shape(place));
            prop_assert!(sampler.shapes().contains(&shape));
            prop_assert!(shape.rows * shape.length <= rows.max(1) * seq_len || shape.rows == 1);
            slots += shape.rows * shape.length;
            let pieces = pieces_of(&filled, shape);
            let listed = sampler.pieces(place).unwrap();
            prop_assert_eq!(&pieces, &listed.iter().map(|piece| (piece.row, piece.column, piece.length)).collect::<Vec<_>>());
            for piece in listed {
                let first = filled.inputs[(piece.row * shape.length + piece.column) as usize];
                prop_assert_eq!(first as u64, piece.first_token);
                let document = file.document(piece.document).unwrap();
                let inside = piece.first_token - document.start;
                // A document that fits is one piece; a longer one has full rows and a rest.
                prop_assert_eq!(inside % seq_len, 0);
                prop_assert_eq!(piece.length, seq_len.min(document.end - 1 - piece.first_token));
                for token in piece.first_token..piece.first_token + piece.length {
                    prop_assert!(seen.insert(token), "token {} twice", token);
                }
            }
            prop_assert_eq!(filled.num_targets, filled.targets.iter().filter(|target| **target != IGNORE).count() as u64);
            prop_assert_eq!(filled.num_targets, sampler.count_targets(place, 1).unwrap());
        }
        prop_assert_eq!(seen.len() as u64, targets_of(&lengths));
        prop_assert_eq!(sampler.num_targets(), targets_of(&lengths));
        prop_assert_eq!(sampler.num_slots(), slots);
        sampler.verify().unwrap();
        // The plan that lies there now gives the same as the one that was made.
        let again = open(&file, &Options { rows, ..options(mode, seq_len, Some(seed)) }).unwrap();
        prop_assert_eq!(fill(&again, 5, 1), fill(&sampler, 5, 1));
    }

    #[test]
    fn parts_of_a_run_are_one_sequence(
        lengths in lengths(), seq_len in 1u64..9, packed: bool, weighted: bool, seed: u64, first in 0u64..1 << 40, cut in 0u64..20,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = numbered(&folder, &lengths);
        let mode = if packed { Mode::Packed } else { Mode::Chunked };
        let weights = weighted.then(|| (0..lengths.len()).map(|source| 1.0 + source as f64).collect());
        let options = Options { weights, ..options(mode, seq_len, Some(seed)) };
        let Some(sampler) = open(&file, &options) else { return Ok(()) };
        let whole = fill(&sampler, first, 20);
        let (head, tail) = (fill(&sampler, first, cut), fill(&sampler, first + cut, 20 - cut));
        prop_assert_eq!(&whole.inputs, &[head.inputs, tail.inputs].concat());
        prop_assert_eq!(&whole.targets, &[head.targets, tail.targets].concat());
        prop_assert_eq!(&whole.positions, &[head.positions, tail.positions].concat());
        prop_assert_eq!(&whole.documents, &[head.documents, tail.documents].concat());
        prop_assert_eq!(whole.num_targets, head.num_targets + tail.num_targets);
        prop_assert_eq!(whole.num_targets, sampler.count_targets(first, 20).unwrap());
        // More threads, and no positions and documents.
        let Tokens::U32(tokens) = file.tokens() else { panic!("a vocabulary of 70000") };
        let mut other = Filled::of(whole.inputs.len());
        other.num_targets = sampler.fill_parts(tokens, first, 20, sampler.shape, other.rows(), 3).unwrap();
        prop_assert_eq!(&whole, &other);
        let rows = Rows { positions: None, documents: None, ..other.rows() };
        prop_assert_eq!(sampler.fill(first, 20, rows).unwrap(), whole.num_targets);
        prop_assert_eq!(whole, other);
    }

    #[test]
    fn an_epoch_of_chunks_sees_every_full_row_once(lengths in lengths(), seq_len in 1u64..8, seed: u64, epoch in 0u64..5) {
        let folder = tempfile::tempdir().unwrap();
        let file = numbered(&folder, &lengths);
        let Some(sampler) = open(&file, &options(Mode::Chunked, seq_len, Some(seed))) else { return Ok(()) };
        let rows = sampler.num_units();
        let mut seen: Vec<i64> = fill(&sampler, epoch * rows, rows).inputs;
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..(rows * seq_len) as i64).collect::<Vec<_>>());
    }

    #[test]
    fn weighted_sources_go_through_their_own_documents(lengths in lengths(), seq_len in 1u64..9, mode in 0usize..3, seed: u64) {
        let folder = tempfile::tempdir().unwrap();
        let file = numbered(&folder, &lengths);
        let targets: Vec<u64> = lengths.iter().map(|source| targets_of(std::slice::from_ref(source))).collect();
        let weights = targets.iter().map(|targets| f64::from(*targets > 0)).collect();
        let options = Options { weights: Some(weights), ..options(Mode::ALL[mode], seq_len, Some(seed)) };
        let Some(sampler) = open(&file, &options) else { return Ok(()) };
        let mut had = vec![0u64; lengths.len()];
        for place in 0..3 * sampler.num_units() {
            let pieces = sampler.pieces(place).unwrap();
            let sources: HashSet<usize> = pieces.iter().map(|piece| file.source_of(piece.document)).collect();
            prop_assert_eq!(sources.len(), 1, "a unit holds one source");
            had[sources.into_iter().next().unwrap()] += sampler.count_targets(place, 1).unwrap();
        }
        prop_assert!(had.iter().zip(&targets).all(|(had, targets)| (*had > 0) == (*targets > 0) || mode == 0));
    }
}

#[test]
fn a_corpus_smaller_than_a_row_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, &[vec![4]]);
    let said = |options: &Options| {
        Sampler::open(file.clone(), options, &mut quiet())
            .err()
            .unwrap()
            .to_string()
    };
    let error = said(&options(Mode::Chunked, 8, Some(1)));
    assert!(
        error.contains("4 tokens") && error.contains("needs 9") && error.contains("data.seq_len"),
        "{error}"
    );
    assert!(said(&options(Mode::Chunked, 0, None)).contains("data.seq_len"));
    let weights = Some(vec![1.0]);
    assert!(
        said(&Options {
            weights,
            ..options(Mode::Chunked, 2, None)
        })
        .contains("data.weights")
    );
    let units = |mode, seq_len, seed| open(&file, &options(mode, seq_len, seed)).unwrap().num_units();
    assert_eq!(
        (units(Mode::Chunked, 3, Some(1)), units(Mode::Chunked, 8, None)),
        (1, 1)
    );
    assert_eq!(
        (units(Mode::Packed, 8, Some(1)), units(Mode::Bucketed, 8, None)),
        (1, 1)
    );
    let file = numbered(&folder, &[vec![1, 1], vec![1]]);
    let error = Sampler::open(file, &options(Mode::Packed, 8, None), &mut quiet())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("needs 2"), "{error}");
}

#[test]
fn buffers_of_another_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, &[vec![9, 3]]);
    let sampler = open(&file, &options(Mode::Chunked, 2, None)).unwrap();
    let mut filled = Filled::of(4);
    let mut short = [0; 3];
    let rows = Rows {
        documents: Some(&mut short),
        ..filled.rows()
    };
    let error = sampler.fill(0, 2, rows).unwrap_err().to_string();
    assert!(error.contains("2 rows of 2"), "{error}");
    assert!(sampler.fill(0, u64::MAX, filled.rows()).is_err());
}

#[test]
fn units_of_several_shapes_are_refused_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, &[vec![5; 40], vec![9; 40]]);
    let sampler = open(&file, &options(Mode::Bucketed, 8, None)).unwrap();
    assert_eq!(
        sampler
            .shapes()
            .iter()
            .map(|shape| shape.length)
            .collect::<Vec<_>>(),
        [4, 8]
    );
    let change = (0..)
        .find(|place| sampler.shape(*place) != sampler.shape(place + 1))
        .unwrap();
    let mut filled = Filled::of(64);
    let error = sampler.fill(change, 2, filled.rows()).unwrap_err().to_string();
    assert!(error.contains("units of one shape"), "{error}");
    assert_eq!(
        fill(&sampler, 0, change + 1).num_targets,
        sampler.count_targets(0, change + 1).unwrap()
    );
}

fn plan_path(file: &TokenFile) -> std::path::PathBuf {
    file.path().with_file_name("train.bin.packed-8.plan")
}

#[test]
fn a_plan_is_kept_and_made_again_when_the_tokens_change() {
    let folder = tempfile::tempdir().unwrap();
    let packed = options(Mode::Packed, 8, None);
    let file = numbered(&folder, &[vec![5, 3, 9, 2]]);
    let expected = fill(&open(&file, &packed).unwrap(), 0, 1);
    let first = std::fs::read(plan_path(&file)).unwrap();
    let stays = || std::fs::metadata(plan_path(&file)).unwrap().modified().unwrap();
    let before = stays();
    assert_eq!(fill(&open(&file, &packed).unwrap(), 0, 1), expected);
    assert_eq!(stays(), before, "the second start finds it");
    for damage in [&first[..100], b"", &[&first[..], b"x"].concat()] {
        std::fs::write(plan_path(&file), damage).unwrap();
        assert_eq!(fill(&open(&file, &packed).unwrap(), 0, 1), expected);
        assert_eq!(
            std::fs::read(plan_path(&file)).unwrap(),
            first,
            "made again, the same"
        );
    }
    let file = numbered(&folder, &[vec![5, 3, 9, 4]]);
    let sampler = open(&file, &packed).unwrap();
    assert_eq!(sampler.num_targets(), 17);
    assert_ne!(std::fs::read(plan_path(&file)).unwrap(), first);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        2,
        "no leftovers"
    );
}

#[test]
fn where_no_plan_can_be_written_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, &[vec![5, 3]]);
    std::fs::create_dir(plan_path(&file)).unwrap();
    let packed = options(Mode::Packed, 8, None);
    let error = Sampler::open(file.clone(), &packed, &mut quiet())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("packed-8.plan") && error.contains("data.mode=chunked"),
        "{error}"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        2,
        "no leftovers"
    );
}

#[test]
fn a_stopped_plan_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, &[vec![5, 3]]);
    let mut stop = |_, _| Err(Error::Interrupted);
    assert!(matches!(
        Sampler::open(file, &options(Mode::Packed, 8, None), &mut stop),
        Err(Error::Interrupted)
    ));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A new file under the name of an old one; the old one, which may be mapped, stays as it is.
fn replace(path: &std::path::Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Whatever the bytes are, there are numbers or an error, and no panic.
#[test]
fn broken_bodies_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, &[vec![3, 4], vec![2, 19, 1]]);
    for (mode, name) in [
        (Mode::Chunked, "train.bin"),
        (Mode::Packed, "train.bin.packed-4.plan"),
        (Mode::Bucketed, "train.bin.bucketed-4x4.plan"),
    ] {
        open(&file, &options(mode, 4, None)).unwrap();
        let path = folder.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        for at in 256..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                replace(&path, &changed);
                let Ok(file) = TokenFile::open(file.path(), None) else {
                    continue;
                };
                let file = Arc::new(if flip == 0x80 { file.at_random() } else { file });
                for seed in [None, Some(1)] {
                    let Some(sampler) = open(&file, &options(mode, 4, seed)) else {
                        continue;
                    };
                    assert!(mode == Mode::Chunked || sampler.verify().is_err());
                    for place in 0..sampler.num_units().min(20) {
                        let shape = sampler.shape(place);
                        let mut filled = Filled::of((shape.rows * shape.length) as usize);
                        let _ = sampler.fill(place, 1, filled.rows());
                        let _ = (sampler.count_targets(place, 1), sampler.pieces(place));
                    }
                }
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn an_id_outside_the_vocabulary_never_gets_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = numbered(&folder, &[vec![9, 9]]);
    let path = file.path().to_path_buf();
    let mut bytes = std::fs::read(&path).unwrap();
    let tokens: Vec<u8> = (0u32..18).flat_map(u32::to_le_bytes).collect();
    let place = bytes
        .windows(tokens.len())
        .position(|window| window == tokens)
        .unwrap()
        + 4 * 17;
    bytes[place + 2] = 2;
    drop(file);
    std::fs::write(&path, &bytes).unwrap();
    let file = Arc::new(TokenFile::open(&path, None).unwrap());
    for mode in Mode::ALL {
        let sampler = open(&file, &options(mode, 4, None)).unwrap();
        let error = (0..sampler.num_units())
            .find_map(|place| {
                let shape = sampler.shape(place);
                let mut filled = Filled::of((shape.rows * shape.length) as usize);
                sampler.fill(place, 1, filled.rows()).err()
            })
            .unwrap()
            .to_string();
        assert!(error.contains(&format!("a token id at byte {place}")), "{error}");
        assert!(
            error.contains("below the vocabulary size 70000 but is 131089"),
            "{error}"
        );
    }
}
