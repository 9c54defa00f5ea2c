//! Training a byte-level BPE tokenizer on a stream of documents: counting their pieces, learning merges, writing
//! tokenizer.json.

use crate::bpe::{self, Goal, LearnOptions, Learnt, NUM_GROUPS};
use crate::pieces::{Limits, PieceCounts, Reading};
use crate::pretokenize::{LLAMA3_REGEX, byte_alphabet};
use crate::progress::{Meter, Progress};
use crate::threads::thread_pool;
use crate::{Error, Result};
use ahash::AHashSet;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Entries learnt: 256 bytes and vocab_size - 256 merges. Special tokens come on top.
    pub vocab_size: usize,
    /// Their ids are vocab_size, vocab_size + 1, ...
    pub special_tokens: Vec<String>,
    /// The special token that the post-processor puts in front.
    pub bos_token: String,
    /// A pair seen less often than this is never merged.
    pub min_frequency: u64,
    /// Where the reading stops; documents come in a shuffled order, so what was read is a sample.
    pub limits: Limits,
    pub balance: Balance,
    /// 0: one for each core.
    pub num_threads: usize,
}

/// How much each group of documents (a language, code) has to say in what is learnt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Balance {
    /// As much as it has text.
    Natural,
    /// As if its share of the text were its weight. A group of weight 0 is not learnt from.
    Weighted([f64; NUM_GROUPS]),
    /// Whatever brings the groups nearest to one number of characters a token: see [`Goal::Parity`].
    Parity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainReport {
    pub reading: Reading,
    /// Text there was to read.
    pub total_text_bytes: u64,
}

/// Binary places behind the point in counts that are scaled: text of up to 2^47 bytes can be counted.
const SCALE_BITS: u32 = 16;

/// Learns a tokenizer from `documents`, each with the number of its group, and writes `tokenizer.json`.
///
/// `total_text_bytes`: size of all documents, for the progress and the report.
pub fn train<T: AsRef<str> + Sync>(
    documents: impl Iterator<Item = Result<(T, u8)>>,
    total_text_bytes: u64,
    options: &TrainOptions,
    out_path: &Path,
    progress: &mut Progress,
) -> Result<TrainReport> {
    check_options(options)?;
    let pool = thread_pool(options.num_threads)?;
    // Learning the merges is the second half of the work.
    let expected_bytes = total_text_bytes.min(options.limits.max_text_bytes);
    let mut meter = Meter::new(progress, 2 * expected_bytes);
    let mut counts = PieceCounts::new(options.balance != Balance::Natural);
    let reading = counts.read(documents, options.limits, &pool, |done| {
        meter.tick(done.min(expected_bytes))
    })?;
    let learnt = learn_merges(counts, &reading, options, &pool, |num_tokens| {
        let learnt_bytes = u128::from(expected_bytes) * num_tokens as u128 / options.vocab_size as u128;
        meter.tick(expected_bytes + learnt_bytes as u64)
    })?;
    let tokenizer = assemble(&learnt, options, out_path)?;
    write_atomically(out_path, tokenizer.as_bytes())?;
    meter.finish()?;
    Ok(TrainReport {
        reading,
        total_text_bytes,
    })
}

fn check_options(options: &TrainOptions) -> Result<()> {
    let wrong = |name, expected: &str, got: String| Error::Argument {
        name,
        expected: expected.into(),
        got,
    };
    if options.vocab_size < 256 || options.vocab_size > 1 << 24 {
        return Err(wrong(
            "tokenizer.vocab_size",
            "256 (one entry a byte) or more",
            options.vocab_size.to_string(),
        ));
    }
    let distinct: AHashSet<&String> = options.special_tokens.iter().collect();
    if distinct.len() != options.special_tokens.len() || distinct.iter().any(|token| token.is_empty()) {
        return Err(wrong(
            "tokenizer.special_tokens",
            "distinct strings that are not empty",
            format!("{:?}", options.special_tokens),
        ));
    }
    if !distinct.contains(&options.bos_token) {
        return Err(wrong(
            "tokenizer.bos_token",
            "one of the special tokens",
            options.bos_token.clone(),
        ));
    }
    if let Balance::Weighted(weights) = options.balance
        && !weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
    {
        return Err(wrong(
            "tokenizer.balance",
            "weights of 0 or more",
            format!("{weights:?}"),
        ));
    }
    Ok(())
}

/// What the counts of each group are multiplied by so that its share of the text is its weight; 1 << SCALE_BITS
/// stands for once.
///
/// Integers decide everything behind the rounding of the weights to 20 bits, so every machine learns the same.
fn scale_factors(group_bytes: &[u64; NUM_GROUPS], weights: &[f64; NUM_GROUPS]) -> Result<[u64; NUM_GROUPS]> {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let shares = std::array::from_fn::<u128, NUM_GROUPS, _>(|group| {
        let share = weights[group] / largest * f64::from(1 << 20);
        if group_bytes[group] == 0 || share.is_nan() {
            return 0;
        }
        share.ceil() as u128
    });
    let all_shares: u128 = shares.iter().sum();
    if all_shares == 0 {
        return Err(Error::Argument {
            name: "tokenizer.balance",
            expected: "a weight above 0 for a group that has text".into(),
            got: format!("{weights:?} for {group_bytes:?} bytes"),
        });
    }
    let all_bytes: u128 = shares
        .iter()
        .zip(group_bytes)
        .filter(|(share, _)| **share > 0)
        .map(|(_, bytes)| u128::from(*bytes))
        .sum();
    Ok(std::array::from_fn(|group| {
        let share = shares[group];
        if share == 0 {
            return 0;
        }
        let factor = ((share * all_bytes) << SCALE_BITS) / (all_shares * u128::from(group_bytes[group]));
        factor.max(1) as u64
    }))
}

fn learn_merges(
    mut counts: PieceCounts,
    reading: &Reading,
    options: &TrainOptions,
    pool: &rayon::ThreadPool,
    step: impl FnMut(usize) -> Result<()>,
) -> Result<Learnt> {
    let (factors, min_frequency, goal) = match options.balance {
        Balance::Natural => ([1; NUM_GROUPS], options.min_frequency, Goal::Commonest),
        Balance::Parity => ([1; NUM_GROUPS], options.min_frequency, Goal::Parity),
        Balance::Weighted(weights) => (
            scale_factors(&reading.group_bytes, &weights)?,
            options.min_frequency << SCALE_BITS,
            Goal::Commonest,
        ),
    };
    let learn_options = LearnOptions {
        alphabet: &byte_ids(),
        vocab_size: options.vocab_size,
        min_frequency,
        goal,
    };
    let pieces = counts.pieces(pool.current_num_threads(), &factors);
    let learnt = bpe::learn(pieces, &learn_options, pool, step)?;
    if learnt.tokens.len() < options.vocab_size {
        return Err(Error::TooFewMerges {
            asked: options.vocab_size,
            supported: learnt.tokens.len(),
            text_bytes: reading.text_bytes,
        });
    }
    Ok(learnt)
}

/// The id of each byte: its place in the byte alphabet in the order of code points, as the `tokenizers` crate has it.
fn byte_ids() -> [u8; 256] {
    let alphabet = byte_alphabet();
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|byte| alphabet[usize::from(*byte)]);
    let mut ids = [0; 256];
    for (id, byte) in bytes.into_iter().enumerate() {
        ids[usize::from(byte)] = id as u8;
    }
    ids
}

/// A tokenizer.json, its fields in the order of the `tokenizers` crate.
#[derive(Serialize)]
struct TokenizerFile<'a> {
    version: &'a str,
    truncation: Value,
    padding: Value,
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    #[serde(flatten)]
    settings: Value,
    vocab: Vocabulary<'a>,
    merges: Vec<(&'a str, &'a str)>,
}

/// Tokens by id, written as an object from token to id.
struct Vocabulary<'a>(&'a [String]);

impl Serialize for Vocabulary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map((0u32..).zip(self.0).map(|(id, token)| (token, id)))
    }
}

/// The text of tokenizer.json: the learnt model inside the fixed Llama-3 pipeline.
fn assemble(learnt: &Learnt, options: &TrainOptions, out_path: &Path) -> Result<String> {
    let fault = |reason: String| Error::Tokenizer {
        file: out_path.to_path_buf(),
        reason,
    };
    let alphabet = byte_alphabet();
    let spell = |token: &Vec<u8>| token.iter().map(|byte| alphabet[usize::from(*byte)]).collect();
    let tokens: Vec<String> = learnt.tokens.iter().map(spell).collect();
    if let Some(token) = options.special_tokens.iter().find(|token| tokens.contains(token)) {
        return Err(fault(format!(
            "the special token {token:?} is also an ordinary entry of the vocabulary: choose another name for it"
        )));
    }
    let added_tokens = (options.vocab_size..)
        .zip(&options.special_tokens)
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true
            })
        });
    let bos = &options.bos_token;
    let bos_place = options.special_tokens.iter().position(|token| token == bos);
    let bos_id = options.vocab_size + bos_place.unwrap_or(0);
    let file = TokenizerFile {
        version: "1.0",
        truncation: Value::Null,
        padding: Value::Null,
        added_tokens: added_tokens.collect(),
        normalizer: json!({"type": "NFC"}),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3_REGEX}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
        ]}),
        post_processor: json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": bos, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}
            ],
            "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}
        }),
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: Model {
            settings: json!({
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true
            }),
            vocab: Vocabulary(&tokens),
            merges: learnt
                .merges
                .iter()
                .map(|(left, right)| (tokens[*left as usize].as_str(), tokens[*right as usize].as_str()))
                .collect(),
        },
    };
    serde_json::to_string_pretty(&file).map_err(|error| fault(error.to_string()))
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| Error::io("write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::StoppedBy;
    use proptest::prelude::*;

    fn options(vocab_size: usize, balance: Balance) -> TrainOptions {
        TrainOptions {
            vocab_size,
            special_tokens: vec!["<s>".into()],
            bos_token: "<s>".into(),
            min_frequency: 1,
            limits: Limits {
                max_text_bytes: u64::MAX,
                max_memory_bytes: u64::MAX,
            },
            balance,
            num_threads: 2,
        }
    }

    fn train_on(documents: &[(String, u8)], options: &TrainOptions) -> Result<(TrainReport, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let total = documents.iter().map(|(text, _)| text.len() as u64).sum();
        let stream = documents.iter().map(|(text, group)| Ok((text, *group)));
        let report = train(stream, total, options, &path, &mut |_, _| Ok(()))?;
        Ok((report, std::fs::read_to_string(path).unwrap()))
    }

    /// Words of letters that a linear congruential generator draws, the first letters most often.
    fn text(alphabet: &str, num_bytes: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        let mut state = 1u64;
        let mut draw = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as usize % below
        };
        let mut text = String::new();
        while text.len() < num_bytes {
            let last = draw(letters.len()) + 1;
            let letter = letters[draw(last)];
            if text.len() + letter.len_utf8() > num_bytes || draw(6) == 0 {
                text.push(' ');
            } else {
                text.push(letter);
            }
        }
        text
    }

    #[test]
    fn weights_count_as_repetitions_do() {
        let texts = [text("abcde", 4000), text("ijklmn", 4000), text("vwxyz", 4000)];
        let documents: Vec<(String, u8)> = texts.into_iter().zip(1..).collect();
        let mut repeated = documents.clone();
        repeated.push(documents[2].clone());
        let weights = [0.0, 0.5, 0.5, 1.0, 0.0, 7.0];
        let weighted = train_on(&documents, &options(300, Balance::Weighted(weights))).unwrap();
        let natural = train_on(&repeated, &options(300, Balance::Natural)).unwrap();
        assert_eq!(weighted.1, natural.1);
        assert_ne!(
            weighted.1,
            train_on(&documents, &options(300, Balance::Natural)).unwrap().1
        );
        assert_eq!(weighted.0.reading.group_bytes, [0, 4000, 4000, 4000, 0, 0]);
        assert_eq!(
            (weighted.0.total_text_bytes, natural.0.total_text_bytes),
            (12_000, 16_000)
        );
    }

    #[test]
    fn a_group_of_weight_0_is_not_learnt_from() {
        let documents = [(text("abcde", 4000), 1), (text("vwxyz", 100_000), 2)];
        let one_sided = Balance::Weighted([1.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
        let weighted = train_on(&documents, &options(280, one_sided)).unwrap();
        let natural = train_on(&documents[..1], &options(280, Balance::Natural)).unwrap();
        assert_eq!(weighted.1, natural.1);
    }

    #[test]
    fn parity_serves_a_small_group_as_well_as_a_large_one() {
        let documents = [(text("абвгдеж", 10_000), 1), (text("vwxyz", 100_000), 2)];
        let path = tempfile::tempdir().unwrap().keep().join("tokenizer.json");
        let tokens = |balance: Balance| -> Vec<f64> {
            std::fs::write(&path, train_on(&documents, &options(340, balance)).unwrap().1).unwrap();
            let encoder = crate::encoder::Encoder::open(&path).unwrap();
            let per_character = |(text, _): &(String, u8)| {
                encoder.encode(text).unwrap().len() as f64 / text.chars().count() as f64
            };
            documents.iter().map(per_character).collect()
        };
        let (natural, parity) = (tokens(Balance::Natural), tokens(Balance::Parity));
        assert!(
            parity[0] < natural[0] && parity[1] > natural[1],
            "{natural:?} {parity:?}"
        );
        assert!(
            (parity[0] - parity[1]).abs() < (natural[0] - natural[1]).abs() / 4.0,
            "{natural:?} {parity:?}"
        );
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_crate_reads_what_is_written() {
        let documents = [(text("abcde", 4000), 1)];
        let (_, written) = train_on(&documents, &options(300, Balance::Natural)).unwrap();
        let written: Value = serde_json::from_str(&written).unwrap();
        let tokenizer: tokenizers::Tokenizer = written.to_string().parse().unwrap();
        let again: Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
        assert_eq!(written, again);
    }

    #[test]
    fn a_limit_is_reported() {
        let documents: Vec<(String, u8)> = (0..5).map(|_| (text("abcde", 1000), 1)).collect();
        let mut options = options(260, Balance::Natural);
        options.limits.max_text_bytes = 2000;
        let (report, _) = train_on(&documents, &options).unwrap();
        assert_eq!(report.reading.stopped_by, StoppedBy::MaxTextBytes);
        assert_eq!((report.reading.documents, report.reading.text_bytes), (2, 2000));
        assert_eq!(report.total_text_bytes, 5000);
    }

    #[test]
    fn weights_that_leave_nothing_are_refused() {
        let documents = [(text("abcde", 1000), 1)];
        for weights in [[0.0; NUM_GROUPS], [1.0, 0.0, 1.0, 1.0, 1.0, 1.0]] {
            let error = train_on(&documents, &options(260, Balance::Weighted(weights))).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains("tokenizer.balance: expected a weight above 0 for a group that has text"),
                "{message}"
            );
        }
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            let error =
                train_on(&documents, &options(260, Balance::Weighted([wrong; NUM_GROUPS]))).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("tokenizer.balance: expected weights of 0 or more")
            );
        }
    }

    proptest! {
        #[test]
        fn shares_of_the_scaled_text_are_the_weights(
            group_bytes in prop::array::uniform6(prop_oneof![Just(0u64), 1..1u64 << 44]),
            weights in prop::array::uniform6(prop_oneof![Just(0.0), 0.01..100.0f64]),
        ) {
            let Ok(factors) = scale_factors(&group_bytes, &weights) else {
                prop_assert!(group_bytes.iter().zip(&weights).all(|(bytes, weight)| *bytes == 0 || *weight == 0.0));
                return Ok(());
            };
            let scaled: Vec<f64> = factors.iter().zip(&group_bytes).map(|(factor, bytes)| *factor as f64 * *bytes as f64).collect();
            let has_text = |group: usize| if group_bytes[group] > 0 { weights[group] } else { 0.0 };
            let all_weights: f64 = (0..NUM_GROUPS).map(has_text).sum();
            let all_scaled: f64 = scaled.iter().sum();
            prop_assert!(all_scaled < 2f64.powi(63));
            for group in 0..NUM_GROUPS {
                // A group of which there is far too much has a factor of few bits.
                let rounding = 1e-4 + if factors[group] > 0 { 1.0 / factors[group] as f64 } else { 0.0 };
                let (share, weight) = (scaled[group] / all_scaled, has_text(group) / all_weights);
                prop_assert!((share - weight).abs() <= rounding * weight.max(share) + 1e-4, "{share} {weight}");
            }
        }
    }
}
