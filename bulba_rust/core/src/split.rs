//! Which documents train, which validate, and in what order the training documents are written.
//!
//! The side of a document depends on its text and the seed alone, so equal texts always land together and adding
//! files moves nothing. Documents of one source lie together, in a seeded random order.

use crate::corpus::{Corpus, Dropped};
use crate::permutation::{Permutation, mix_pair};
use crate::{Error, Result};
use std::ops::Range;

#[derive(Clone, Debug)]
pub struct SplitOptions {
    pub val_frac: f64,
    pub seed: u64,
}

/// Domain separation of the seed: the side and the orders must not be correlated.
const SIDE: u64 = 1;
const ORDER: u64 = 3;
const SAMPLE: u64 = 4;

pub struct Split {
    /// Documents in the order of the corpus, so those of one source lie together.
    train: Vec<u32>,
    /// The part of `train` of each source that has one, with its permutation.
    sources: Vec<(Range<usize>, Permutation)>,
    val: Vec<u32>,
    seed: u64,
}

impl Split {
    pub fn new(corpus: &Corpus, dropped: &Dropped, options: &SplitOptions) -> Result<Self> {
        check(options)?;
        let key = |hash: u64| mix_pair(mix_pair(options.seed, SIDE), hash);
        let mut extremes: Option<(u64, u64)> = None;
        for document in kept(corpus, dropped) {
            let key = key(corpus.record(document)?.hash);
            let (low, high) = extremes.unwrap_or((key, key));
            extremes = Some((low.min(key), high.max(key)));
        }
        let threshold = threshold(extremes, options.val_frac)?;
        let mut split = Split {
            train: Vec::new(),
            sources: Vec::new(),
            val: Vec::new(),
            seed: options.seed,
        };
        let mut source = None;
        for document in kept(corpus, dropped) {
            if key(corpus.record(document)?.hash) < threshold {
                split.val.push(document);
                continue;
            }
            let its_source = corpus.source(document)?;
            if source.is_some_and(|source| source != its_source) {
                split.close_source();
            }
            source = Some(its_source);
            split.train.push(document);
        }
        split.close_source();
        Ok(split)
    }

    /// Ends the source whose documents were pushed last.
    fn close_source(&mut self) {
        let start = self.sources.last().map_or(0, |(documents, _)| documents.end);
        let count = (self.train.len() - start) as u64;
        let order = Permutation::new(count, self.seed, mix_pair(ORDER, self.sources.len() as u64));
        self.sources.push((start..self.train.len(), order));
    }

    /// Training documents as they are written: source after source.
    pub fn train(&self) -> impl Iterator<Item = u32> + '_ {
        self.sources.iter().flat_map(|(documents, order)| {
            let members = self.train.get(documents.clone()).unwrap_or_default();
            (0..order.len()).filter_map(|place| members.get(order.get(place) as usize).copied())
        })
    }

    /// Training documents of all sources mixed: any beginning of it is a fair sample.
    pub fn sample(&self) -> impl Iterator<Item = u32> + '_ {
        let order = Permutation::new(self.train.len() as u64, self.seed, SAMPLE);
        (0..order.len()).filter_map(move |place| self.train.get(order.get(place) as usize).copied())
    }

    pub fn num_train(&self) -> u64 {
        self.train.len() as u64
    }

    /// Validation documents in the order of the corpus.
    pub fn val(&self) -> &[u32] {
        &self.val
    }
}

fn kept<'a>(corpus: &Corpus, dropped: &'a Dropped) -> impl Iterator<Item = u32> + 'a {
    (0..corpus.len()).filter(|document| !dropped.contains(*document))
}

fn check(options: &SplitOptions) -> Result<()> {
    if options.val_frac > 0.0 && options.val_frac < 1.0 {
        return Ok(());
    }
    Err(Error::Argument {
        name: "data.val_frac",
        expected: "a fraction above 0 and below 1".into(),
        got: options.val_frac.to_string(),
    })
}

/// Documents with a key below the returned value validate. At least one distinct text stays on each side.
fn threshold(extremes: Option<(u64, u64)>, val_frac: f64) -> Result<u64> {
    let (lowest, highest) = extremes.unwrap_or((0, 0));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    use crate::corpus::ShardRef;
    use crate::dedup::{Duplicate, Duplicates, Kind};
    use crate::shard::tests::write;

    /// Texts in shards of their source, which must not fall.
    fn corpus(texts: &[(String, u32)]) -> (tempfile::TempDir, Corpus) {
        let folder = tempfile::tempdir().unwrap();
        let mut refs = Vec::new();
        for (number, shard) in texts.chunk_by(|one, next| one.1 == next.1).enumerate() {
            let one = folder.path().join(number.to_string());
            write(
                &one,
                &shard
                    .iter()
                    .map(|(text, _)| (text.clone(), 0))
                    .collect::<Vec<_>>(),
            );
            refs.push(ShardRef {
                folder: one,
                source: shard[0].1,
                first_origin: number as u32,
            });
        }
        let corpus = Corpus::open(&refs).unwrap();
        (folder, corpus)
    }

    fn split(corpus: &Corpus, val_frac: f64, seed: u64) -> Result<Split> {
        Split::new(
            corpus,
            &Dropped::new(corpus.len(), &Duplicates::default()),
            &SplitOptions { val_frac, seed },
        )
    }

    proptest! {
        #[test]
        fn equal_texts_share_a_side_and_none_is_lost(
            numbers in prop::collection::vec((0u32..30, 0u32..3), 2..200), val_frac in 0.001f64..0.999, seed: u64,
        ) {
            let mut texts: Vec<_> = numbers.iter().map(|(number, source)| (format!("text {number}"), *source)).collect();
            texts.sort_by_key(|(_, source)| *source);
            let distinct: HashSet<_> = numbers.iter().map(|(number, _)| number).collect();
            let (_folder, corpus) = corpus(&texts);
            let split = match split(&corpus, val_frac, seed) {
                Ok(split) => split,
                Err(error) => {
                    prop_assert_eq!(distinct.len(), 1, "{}", error);
                    return Ok(());
                }
            };
            let train: Vec<_> = split.train().collect();
            prop_assert!(!train.is_empty() && !split.val().is_empty());
            prop_assert_eq!(train.len() as u64, split.num_train());
            let sorted = |mut documents: Vec<u32>| { documents.sort_unstable(); documents };
            let all = sorted(train.iter().chain(split.val()).copied().collect());
            prop_assert_eq!(all, (0..texts.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(sorted(split.sample().collect()), sorted(train.clone()));
            let side = |documents: &[u32]| -> HashSet<String> {
                documents.iter().map(|&document| corpus.text(document).unwrap().to_owned()).collect()
            };
            prop_assert!(side(&train).is_disjoint(&side(split.val())));
            // Documents of one source lie together.
            for documents in [&train[..], split.val()] {
                let sources: Vec<_> = documents.iter().map(|&document| corpus.source(document).unwrap()).collect();
                prop_assert!(sources.is_sorted());
            }
        }
    }

    #[test]
    fn dropped_documents_are_on_no_side() {
        let texts: Vec<_> = (0..50).map(|number| (format!("text {number}"), 0)).collect();
        let (_folder, corpus) = corpus(&texts);
        let copies = (0..50).step_by(3).map(|document| Duplicate {
            document,
            of: 1,
            kind: Kind::Exact,
            jaccard: 1.0,
        });
        let duplicates = Duplicates {
            dropped: copies.collect(),
            ..Duplicates::default()
        };
        let dropped = Dropped::new(corpus.len(), &duplicates);
        let split = Split::new(
            &corpus,
            &dropped,
            &SplitOptions {
                val_frac: 0.3,
                seed: 1,
            },
        )
        .unwrap();
        let seen: HashSet<_> = split.train().chain(split.val().iter().copied()).collect();
        assert_eq!(seen, (0..50).filter(|document| document % 3 != 0).collect());
    }

    #[test]
    fn adding_documents_moves_none_of_the_old_ones() {
        let texts: Vec<_> = (0..400).map(|number| (format!("text {number}"), 0)).collect();
        let val = |count: usize| -> HashSet<u32> {
            let (_folder, corpus) = corpus(&texts[..count]);
            split(&corpus, 0.1, 5).unwrap().val().iter().copied().collect()
        };
        assert!(val(200).is_subset(&val(400)));
    }

    #[test]
    fn the_beginning_of_a_sample_holds_every_source() {
        let texts: Vec<_> = (0..300)
            .map(|number| (format!("text {number}"), number / 100))
            .collect();
        let (_folder, corpus) = corpus(&texts);
        let first: HashSet<_> = split(&corpus, 0.1, 5)
            .unwrap()
            .sample()
            .take(30)
            .map(|document| corpus.source(document).unwrap())
            .collect();
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn impossible_options_are_named() {
        let (_folder, corpus) = corpus(&[("a".into(), 0), ("b".into(), 0)]);
        for val_frac in [0.0, 1.0, f64::NAN] {
            let error = split(&corpus, val_frac, 0).err().unwrap();
            assert!(error.to_string().contains("data.val_frac"), "{error}");
        }
    }
}
