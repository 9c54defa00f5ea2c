//! Which documents train, which validate, and in what order the training documents are written.
//!
//! The side of a document depends on its text and the seed alone, so equal texts always land together and adding
//! files moves nothing. `weight` of a source is how many times each of its training documents appears in one pass.

use crate::corpus::Corpus;
use crate::permutation::{Permutation, mix_pair};
use crate::{Error, Result};

#[derive(Clone, Debug)]
pub struct SplitOptions {
    pub val_frac: f64,
    pub seed: u64,
    /// One weight per source; sources beyond the list weigh 1.
    pub weights: Vec<f64>,
}

/// Domain separation of the seed: the side, the repeats and the order must not be correlated.
const SIDE: u64 = 1;
const REPEAT: u64 = 2;
const ORDER: u64 = 3;

pub struct Split {
    entries: Vec<u32>,
    order: Permutation,
    val: Vec<u32>,
}

impl Split {
    pub fn new(corpus: &Corpus, options: &SplitOptions) -> Result<Self> {
        check(options)?;
        let num_documents = corpus.len();
        let mut keys = Vec::with_capacity(num_documents);
        for document in 0..num_documents {
            keys.push(mix_pair(mix_pair(options.seed, SIDE), corpus.hash(document)?));
        }
        let threshold = threshold(&keys, options.val_frac)?;
        let (mut entries, mut val) = (Vec::new(), Vec::new());
        for (document, key) in keys.into_iter().enumerate() {
            if key < threshold {
                val.push(document as u32);
                continue;
            }
            let source = corpus.source(document)? as usize;
            let weight = options.weights.get(source).copied().unwrap_or(1.0);
            for _ in 0..repeats(weight, options.seed, document as u64) {
                entries.push(document as u32);
            }
        }
        if entries.is_empty() {
            return Err(Error::Split(format!(
                "no document is left to train on after the weights {:?}: raise a source's weight or add text",
                options.weights
            )));
        }
        let order = Permutation::new(entries.len() as u64, options.seed, ORDER);
        Ok(Split { entries, order, val })
    }

    /// Training documents in the order of the stream; a document of weight 2 occurs twice.
    pub fn train(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        (0..self.entries.len()).map(|place| {
            let entry = self.order.get(place as u64) as usize;
            self.entries.get(entry).copied().unwrap_or_default()
        })
    }

    /// Validation documents in the order of the corpus.
    pub fn val(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.val.iter().copied()
    }
}

fn check(options: &SplitOptions) -> Result<()> {
    if !(options.val_frac > 0.0 && options.val_frac < 1.0) {
        return Err(Error::Argument {
            name: "data.val_frac",
            expected: "a fraction above 0 and below 1".into(),
            got: options.val_frac.to_string(),
        });
    }
    for weight in &options.weights {
        if !(*weight > 0.0 && *weight <= 1000.0) {
            return Err(Error::Argument {
                name: "weight of a source",
                expected: "a number above 0 and at most 1000".into(),
                got: weight.to_string(),
            });
        }
    }
    Ok(())
}

/// Documents with a key below the returned value validate. At least one distinct text stays on each side.
fn threshold(keys: &[u64], val_frac: f64) -> Result<u64> {
    let lowest = keys.iter().copied().min().unwrap_or(0);
    let highest = keys.iter().copied().max().unwrap_or(0);
    if lowest == highest {
        return Err(Error::Split(
            "the sources hold only one distinct document, and validation needs one that training does not see: \
             add at least one more document (a .txt file is one document; use .jsonl to hold many)"
                .into(),
        ));
    }
    // 2^64 as f64: val_frac is below 1, so the product fits.
    let wanted = (val_frac * 18_446_744_073_709_551_616.0) as u64;
    Ok(wanted.clamp(lowest + 1, highest))
}

fn repeats(weight: f64, seed: u64, document: u64) -> u64 {
    let whole = weight.floor();
    let draw = mix_pair(mix_pair(seed, REPEAT), document) as f64 / 18_446_744_073_709_551_616.0;
    whole as u64 + u64::from(draw < weight - whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::CorpusWriter;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn corpus(texts: &[(String, u32)]) -> (tempfile::TempDir, Corpus) {
        let folder = tempfile::tempdir().unwrap();
        let stem = folder.path().join("corpus");
        let mut writer = CorpusWriter::create(&stem).unwrap();
        for (text, source) in texts {
            writer.push(text, *source).unwrap();
        }
        writer.finish().unwrap();
        let corpus = Corpus::open(&stem).unwrap();
        (folder, corpus)
    }

    fn options(val_frac: f64, seed: u64, weights: &[f64]) -> SplitOptions {
        SplitOptions {
            val_frac,
            seed,
            weights: weights.to_vec(),
        }
    }

    proptest! {
        #[test]
        fn equal_texts_share_a_side_and_none_is_lost(
            numbers in prop::collection::vec(0u32..30, 2..200), val_frac in 0.001f64..0.999, seed: u64,
        ) {
            let texts: Vec<_> = numbers.iter().map(|number| (format!("text {number}"), 0)).collect();
            let distinct: HashSet<_> = numbers.iter().collect();
            let (_folder, corpus) = corpus(&texts);
            let split = match Split::new(&corpus, &options(val_frac, seed, &[])) {
                Ok(split) => split,
                Err(error) => {
                    prop_assert_eq!(distinct.len(), 1, "{}", error);
                    return Ok(());
                }
            };
            let train: Vec<_> = split.train().collect();
            let val: Vec<_> = split.val().collect();
            prop_assert!(!train.is_empty() && !val.is_empty());
            let mut all: Vec<_> = train.iter().chain(&val).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..texts.len() as u32).collect::<Vec<_>>());
            let side = |documents: &[u32]| -> HashSet<String> {
                documents.iter().map(|&document| corpus.text(document as usize).unwrap().to_owned()).collect()
            };
            prop_assert!(side(&train).is_disjoint(&side(&val)));
        }
    }

    #[test]
    fn adding_documents_moves_none_of_the_old_ones() {
        let texts: Vec<_> = (0..400).map(|number| (format!("text {number}"), 0)).collect();
        let val = |count: usize| -> HashSet<u32> {
            let (_folder, corpus) = corpus(&texts[..count]);
            Split::new(&corpus, &options(0.1, 5, &[]))
                .unwrap()
                .val()
                .collect()
        };
        assert!(val(200).is_subset(&val(400)));
    }

    #[test]
    fn weights_set_how_often_a_document_occurs() {
        let texts: Vec<_> = (0..4000u32)
            .map(|number| (format!("text {number}"), number % 3))
            .collect();
        let (_folder, corpus) = corpus(&texts);
        let split = Split::new(&corpus, &options(0.1, 5, &[1.0, 2.5, 0.25])).unwrap();
        let mut times: HashMap<u32, u32> = HashMap::new();
        for document in split.train() {
            *times.entry(document).or_default() += 1;
        }
        assert!(times.iter().all(|(document, times)| match document % 3 {
            0 => *times == 1,
            1 => (2..=3).contains(times),
            _ => *times == 1,
        }));
        let total = |source: u32| {
            times
                .iter()
                .filter(|(doc, _)| *doc % 3 == source)
                .map(|(_, times)| *times)
                .sum::<u32>()
        };
        let (once, often, rarely) = (f64::from(total(0)), f64::from(total(1)), f64::from(total(2)));
        assert!((often / once - 2.5).abs() < 0.2 && (rarely / once - 0.25).abs() < 0.05);
    }

    #[test]
    fn impossible_options_are_named() {
        let (_folder, corpus) = corpus(&[("a".into(), 0), ("b".into(), 0)]);
        for (val_frac, weight, name) in [
            (0.0, 1.0, "data.val_frac"),
            (1.0, 1.0, "data.val_frac"),
            (f64::NAN, 1.0, "data.val_frac"),
            (0.5, -1.0, "weight"),
            (0.5, f64::NAN, "weight"),
        ] {
            let error = Split::new(&corpus, &options(val_frac, 0, &[weight]))
                .err()
                .unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
