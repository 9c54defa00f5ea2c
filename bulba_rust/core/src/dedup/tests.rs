//! `find_duplicates` against an obvious search over all pairs, and what must not change its result.

use super::shingle::tests::jaccard;
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// Documents as they will come from files.
struct Texts(Vec<String>);

impl Documents for Texts {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn hash(&self, document: u32) -> Result<u64> {
        Ok(xxh3_64(self.0[document as usize].as_bytes()))
    }

    fn signature(&self, document: u32) -> Result<Signature> {
        Ok(Signer::new().sign(&self.0[document as usize]))
    }

    fn text(&self, document: u32) -> Result<&str> {
        Ok(&self.0[document as usize])
    }
}

/// The same, but every hash and every band collides, so that every pair is looked at.
struct AllCollide(Texts);

impl Documents for AllCollide {
    fn len(&self) -> u32 {
        self.0.len()
    }

    fn hash(&self, _: u32) -> Result<u64> {
        Ok(7)
    }

    fn signature(&self, _: u32) -> Result<Signature> {
        Ok(Signature(std::array::from_fn(|band| band as u64)))
    }

    fn text(&self, document: u32) -> Result<&str> {
        self.0.text(document)
    }
}

fn find(documents: &dyn Documents, options: &DedupOptions) -> Duplicates {
    let folder = tempfile::tempdir().unwrap();
    let found = find_duplicates(documents, options, folder.path(), &mut |_, _| Ok(())).unwrap();
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "work files are left");
    found
}

fn options(min_jaccard: f64) -> DedupOptions {
    DedupOptions {
        min_jaccard: Some(min_jaccard),
        ..DedupOptions::default()
    }
}

fn find_in(texts: &[String], min_jaccard: f64) -> Duplicates {
    find(&Texts(texts.to_vec()), &options(min_jaccard))
}

fn kept(texts: &[String], found: &Duplicates) -> Vec<String> {
    let dropped: HashMap<u32, &Duplicate> = found
        .dropped
        .iter()
        .map(|dropped| (dropped.document, dropped))
        .collect();
    let is_kept = |document: &usize| !dropped.contains_key(&(*document as u32));
    (0..texts.len())
        .filter(is_kept)
        .map(|document| texts[document].clone())
        .collect()
}

/// What each document repeats, by the rule, when all pairs are looked at: the kept documents that it is near to, or
/// the one that it is a copy of.
fn all_pairs(texts: &[String], min_jaccard: f64) -> Vec<(Option<Kind>, Vec<u32>)> {
    let mut results: Vec<(Option<Kind>, Vec<u32>)> = Vec::new();
    for (document, text) in texts.iter().enumerate() {
        let result = match texts[..document].iter().position(|other| other == text) {
            Some(first) if results[first].0.is_none() => (Some(Kind::Exact), vec![first as u32]),
            Some(first) => results[first].clone(),
            None => {
                let is_near = |other: &usize| {
                    results[*other].0.is_none() && jaccard(text, &texts[*other]) >= min_jaccard
                };
                let near: Vec<u32> = (0..document).filter(is_near).map(|other| other as u32).collect();
                ((!near.is_empty()).then_some(Kind::Near), near)
            }
        };
        results.push(result);
    }
    results
}

/// Texts of few words, so that many are equal or near, and some too short to be near to any.
fn small_texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("([абв] ){3,9}", 0..16)
}

/// Longer texts in groups: each a copy of one of a few, with words added at its ends, in other cases and signs.
fn grouped_texts() -> impl Strategy<Value = Vec<String>> {
    let edit = (0..6u64, 0..8usize, 0..8usize, any::<bool>());
    prop::collection::vec(edit, 1..40).prop_map(|edits| {
        let text = |(group, before, after, shout): (u64, usize, usize, bool)| {
            let word = |place: usize| format!("{:x}", crate::permutation::mix_pair(group, place as u64));
            let words: Vec<String> = (10 - before..80 + after).map(word).collect();
            if shout {
                words.join(", ").to_uppercase()
            } else {
                words.join(" ")
            }
        };
        edits.into_iter().map(text).collect()
    })
}

proptest! {
    #[test]
    fn follows_the_rule_when_all_pairs_are_candidates(
        texts in small_texts(),
        min_jaccard in prop::sample::select(vec![0.2, 0.5, 0.8, 1.0]),
    ) {
        let found = find(&AllCollide(Texts(texts.clone())), &options(min_jaccard));
        let expected = all_pairs(&texts, min_jaccard);
        let mut dropped = found.dropped.iter();
        for (document, (kind, of)) in expected.iter().enumerate() {
            let Some(kind) = kind else { continue };
            let got = dropped.next().unwrap();
            prop_assert_eq!(got.document, document as u32);
            prop_assert_eq!(got.kind, *kind);
            prop_assert!(of.contains(&got.of), "{} of {}, not of one of {:?}", document, got.of, of);
            prop_assert_eq!(got.jaccard, if *kind == Kind::Exact { 1.0 } else { jaccard(&texts[document], &texts[got.of as usize]) });
        }
        prop_assert_eq!(dropped.next(), None);
        let num_kind = |kind| expected.iter().filter(|(got, _)| *got == Some(kind)).count() as u64;
        prop_assert_eq!((found.num_exact, found.num_near), (num_kind(Kind::Exact), num_kind(Kind::Near)));
    }

    #[test]
    fn what_is_dropped_is_near_and_nothing_very_near_is_kept(texts in grouped_texts()) {
        let found = find_in(&texts, 0.8);
        for duplicate in &found.dropped {
            let [text, of] = [duplicate.document, duplicate.of].map(|document| &texts[document as usize]);
            prop_assert!(duplicate.of < duplicate.document);
            prop_assert!(found.dropped.iter().all(|dropped| dropped.document != duplicate.of), "of a dropped one");
            prop_assert_eq!(duplicate.kind == Kind::Exact, text == of);
            prop_assert!(duplicate.jaccard >= 0.8);
            prop_assert_eq!(duplicate.jaccard, jaccard(text, of).max(f64::from(u8::from(text == of))));
        }
        let kept = kept(&texts, &found);
        for (number, text) in kept.iter().enumerate() {
            for other in &kept[..number] {
                prop_assert!(jaccard(text, other) < 0.95, "{text}\nand {other}\nare both kept");
            }
        }
    }

    #[test]
    fn exact_copies_change_nothing_else(texts in grouped_texts(), small in small_texts(), chosen: prop::sample::Index) {
        let texts = [texts, small].concat();
        let found = find_in(&texts, 0.8);
        let twice = [texts.clone(), texts.clone()].concat();
        prop_assert_eq!(kept(&twice, &find_in(&twice, 0.8)), kept(&texts, &found));

        let mut with_one = texts.clone();
        with_one.push(chosen.get(&texts).clone());
        let mut found_with_one = find_in(&with_one, 0.8);
        let copy = found_with_one.dropped.pop().unwrap();
        prop_assert_eq!(copy.document as usize, texts.len());
        prop_assert_eq!(&found_with_one.dropped, &found.dropped);
    }

    #[test]
    fn neither_threads_nor_memory_change_the_result(texts in grouped_texts(), memory_bytes in 1usize..2000) {
        let expected = find(&Texts(texts.clone()), &DedupOptions { num_threads: 1, ..options(0.8) });
        let tight = DedupOptions { num_threads: 3, memory_bytes, ..options(0.8) };
        prop_assert_eq!(find(&Texts(texts), &tight), expected);
    }
}

/// Words that only texts of one key have.
fn words(key: u64, count: u64) -> impl Iterator<Item = String> {
    (0..count).map(move |place| format!("{:x} ", crate::permutation::mix_pair(key, place) >> 32))
}

/// A template makes three quarters of every document; the second half are near copies of the first, in its order.
#[test]
fn a_template_in_all_documents_takes_linear_work_and_hides_no_copy() {
    let half = 1500;
    let text = |number: u64| {
        let end = words(number, number / half);
        words(u64::MAX, 100)
            .chain(words(number % half, 30))
            .chain(end)
            .collect()
    };
    let found = find_in(&(0..2 * half).map(text).collect::<Vec<String>>(), 0.8);
    let pairs: Vec<_> = found
        .dropped
        .iter()
        .map(|duplicate| (duplicate.document, duplicate.of))
        .collect();
    let half = half as u32;
    assert_eq!(
        pairs,
        (0..half)
            .map(|number| (half + number, number))
            .collect::<Vec<_>>()
    );
    assert!(
        found.num_compared <= 16 * 2 * u64::from(half),
        "{}",
        found.num_compared
    );
}

#[test]
fn thousands_of_copies_of_one_are_compared_with_that_one_only() {
    let text = |number: u64| words(u64::MAX, 100).chain(words(number, 1)).collect();
    let found = find_in(&(0..3000).map(text).collect::<Vec<String>>(), 0.8);
    assert_eq!((found.num_near, found.num_compared), (2999, 2999));
    assert!(found.dropped.iter().all(|duplicate| duplicate.of == 0));
}

#[test]
fn exact_copies_alone_can_be_asked_for() {
    let texts = ["а б в г ґ д", "а б в г ґ д", "А б в г ґ д", "кот", "кот", "Кот"].map(String::from);
    let exact = DedupOptions {
        min_jaccard: None,
        ..DedupOptions::default()
    };
    let found = find(&Texts(texts.to_vec()), &exact);
    let pairs: Vec<_> = found
        .dropped
        .iter()
        .map(|duplicate| (duplicate.document, duplicate.of))
        .collect();
    assert_eq!(pairs, [(1, 0), (4, 3)]);
    let found = find_in(&texts, 1.0);
    let kinds: Vec<_> = found
        .dropped
        .iter()
        .map(|duplicate| (duplicate.document, duplicate.kind))
        .collect();
    assert_eq!(kinds, [(1, Kind::Exact), (2, Kind::Near), (4, Kind::Exact)]);
}

#[test]
fn samples_are_spread_and_prefer_near_ones() {
    let duplicate = |document: u32| Duplicate {
        document,
        of: 0,
        kind: if document.is_multiple_of(3) {
            Kind::Near
        } else {
            Kind::Exact
        },
        jaccard: 1.0,
    };
    let duplicates = Duplicates {
        dropped: (1..=30).map(duplicate).collect(),
        num_exact: 20,
        num_near: 10,
        num_compared: 0,
    };
    let sampled = |count| {
        duplicates
            .samples(count)
            .iter()
            .map(|sample| sample.document)
            .collect::<Vec<_>>()
    };
    assert_eq!(sampled(5), [3, 9, 15, 21, 27]);
    assert_eq!(sampled(12), [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 1, 16]);
    assert_eq!(sampled(100).len(), 30);
    assert_eq!(Duplicates::default().samples(20), []);
}

#[test]
fn faults_are_one_sentence_and_progress_can_stop_it() {
    let texts = Texts(vec!["а б в г ґ д".into(); 3]);
    let folder = tempfile::tempdir().unwrap();
    for wrong in [0.0, 1.5, f64::NAN] {
        let error = find_duplicates(&texts, &options(wrong), folder.path(), &mut |_, _| Ok(())).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("argument min_jaccard: expected a number above 0 and at most 1, got {wrong}")
        );
    }
    let stopped = find_duplicates(&texts, &options(0.8), folder.path(), &mut |_, _| {
        Err(Error::Interrupted)
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
}
