use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::LazyLock;

static PRETOKENIZER: LazyLock<Pretokenizer> = LazyLock::new(|| Pretokenizer::new().unwrap());

const NO_LIMITS: Limits = Limits {
    max_text_bytes: u64::MAX,
    max_memory_bytes: u64::MAX,
};

fn pool(num_threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(num_threads)
        .build()
        .unwrap()
}

type Counted = BTreeMap<(u8, String), u64>;

fn read_counts(
    documents: &[(String, u8)],
    limits: Limits,
    by_group: bool,
    num_threads: usize,
) -> (Reading, PieceCounts) {
    let mut counts = PieceCounts::new(by_group);
    let stream = documents.iter().map(|(text, group)| Ok((text, *group)));
    let reading = counts
        .read(stream, limits, &pool(num_threads), |_| Ok(()))
        .unwrap();
    (reading, counts)
}

fn read(documents: &[(String, u8)], by_group: bool, num_threads: usize) -> (Reading, Counted) {
    let (reading, mut counts) = read_counts(documents, NO_LIMITS, by_group, num_threads);
    let lists = counts.pieces(num_threads, &[1; NUM_GROUPS]);
    assert_eq!(lists.len(), num_threads);
    let mut counted = Counted::new();
    for piece in lists.into_iter().flatten() {
        let text = String::from_utf8(piece.bytes.to_vec()).unwrap();
        assert_eq!(counted.insert((piece.group, text), piece.count), None);
    }
    assert_eq!(reading.distinct_pieces, counted.len() as u64);
    (reading, counted)
}

fn count_slowly(documents: &[(String, u8)], by_group: bool) -> Counted {
    let mut counted = Counted::new();
    for (text, group) in documents {
        for piece in PRETOKENIZER.pieces(text) {
            *counted
                .entry((if by_group { *group } else { 0 }, piece.to_owned()))
                .or_default() += 1;
        }
    }
    counted
}

/// Texts of many short and long words, with digits, breaks and spaces between them.
fn documents() -> impl Strategy<Value = Vec<(String, u8)>> {
    let text = "([абвгд]{1,3}|[а-яў]{6,20}|[0-9]{1,4}|[ \n\t\u{a0}.!]){0,80}";
    prop::collection::vec((text, 0..NUM_GROUPS as u8), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn every_piece_is_counted(documents in documents(), by_group in any::<bool>(), num_threads in 1usize..5) {
        let (reading, counted) = read(&documents, by_group, num_threads);
        prop_assert_eq!(counted, count_slowly(&documents, by_group));
        let group_bytes = std::array::from_fn(|group| {
            let texts = documents.iter().filter(|document| usize::from(document.1) == group);
            texts.map(|(text, _)| text.len() as u64).sum()
        });
        prop_assert_eq!(reading.group_bytes, group_bytes);
        prop_assert_eq!(reading.text_bytes, group_bytes.iter().sum::<u64>());
        prop_assert_eq!(reading.documents, documents.iter().filter(|(text, _)| !text.is_empty()).count() as u64);
        prop_assert_eq!(reading.stopped_by, StoppedBy::End);
    }

    #[test]
    fn pieces_end_where_chunks_do(
        text in "([ \t\r\n\u{a0}\u{2009}\u{85}]|['’]|[sStTrReE]|[абвўѓ ]|\u{301}|[0-9]|[!№_]|👩‍🚀){0,60}", min_bytes in 0usize..20,
    ) {
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(chunk_end(rest, min_bytes));
            pieces.extend(PRETOKENIZER.pieces(chunk));
            rest = behind;
        }
        prop_assert_eq!(pieces, PRETOKENIZER.pieces(&text).collect::<Vec<_>>());
    }
}

/// Several batches of words that never come back.
fn endless_words() -> Vec<(String, u8)> {
    let numbers = 0..1_500_000u32;
    let words: Vec<String> = numbers.map(|number| format!(" {}", spell(number))).collect();
    let mut documents: Vec<(String, u8)> = words.chunks(1000).map(|words| (words.concat(), 1)).collect();
    // One document of several chunks and batches.
    let lines: Vec<String> = words.iter().map(|word| format!("щ{}\n", word.trim())).collect();
    documents.push((lines.concat(), 2));
    documents
}

fn spell(number: u32) -> String {
    let letter = |shift: u32| char::from(b'a' + (number >> shift & 15) as u8);
    [0, 4, 8, 12, 16, 20].map(letter).iter().collect()
}

#[test]
fn a_full_table_ends_the_reading_wherever_the_threads_are() {
    let documents = endless_words();
    let total: u64 = documents.iter().map(|(text, _)| text.len() as u64).sum();
    for max_memory_bytes in [1, 90_000_000] {
        let limits = Limits {
            max_memory_bytes,
            ..NO_LIMITS
        };
        let (reading, _) = read_counts(&documents, limits, false, 1);
        assert_eq!(reading.stopped_by, StoppedBy::MaxMemoryBytes);
        assert!(reading.text_bytes < total && reading.text_bytes >= BATCH_BYTES as u64);
        // A table is overfilled by what one batch brings at most.
        assert!(
            reading.distinct_pieces * 64
                <= max_memory_bytes + (BATCH_BYTES + 2 * CHUNK_BYTES) as u64 * 64 / 7
        );
        assert_eq!(read_counts(&documents, limits, false, 3).0, reading);
    }
    assert_eq!(read_counts(&documents, NO_LIMITS, false, 2).0.text_bytes, total);
}

#[test]
fn the_reading_ends_with_the_chunk_that_meets_the_limit() {
    let documents: Vec<(String, u8)> = (0..100).map(|_| ("адзін два тры\n".repeat(10_000), 3)).collect();
    let total: u64 = documents.iter().map(|(text, _)| text.len() as u64).sum();
    let limit = |max_text_bytes| Limits {
        max_text_bytes,
        ..NO_LIMITS
    };
    for max_text_bytes in [1, 1_000_000, total / 2, total - 1_000_000] {
        let (reading, _) = read_counts(&documents, limit(max_text_bytes), false, 2);
        assert_eq!(reading.stopped_by, StoppedBy::MaxTextBytes);
        let overshoot = reading.text_bytes - max_text_bytes;
        assert!(overshoot < CHUNK_BYTES as u64 + 100, "{reading:?}");
        assert_eq!(
            reading.documents,
            reading.text_bytes.div_ceil(documents[0].0.len() as u64)
        );
    }
    assert_eq!(
        read_counts(&documents, limit(total), false, 2).0.stopped_by,
        StoppedBy::End
    );
}

#[test]
fn a_piece_of_many_megabytes_is_counted_in_parts() {
    let documents = [("ж".repeat(3 * MAX_PIECE_BYTES / 4), 0)];
    let (_, counted) = read(&documents, false, 1);
    let half = "ж".repeat(MAX_PIECE_BYTES / 2);
    let quarter = "ж".repeat(MAX_PIECE_BYTES / 4);
    assert_eq!(counted, Counted::from([((0, half), 1), ((0, quarter), 1)]));
}

#[test]
fn a_group_without_a_number_is_refused() {
    let stream = [Ok(("text", NUM_GROUPS as u8))].into_iter();
    let error = PieceCounts::new(true)
        .read(stream, NO_LIMITS, &pool(1), |_| Ok(()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "argument group: expected a number below 6, got 6"
    );
}
