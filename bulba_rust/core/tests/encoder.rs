//! Text to ids and back, against the `tokenizers` crate.

#[path = "../../fuzz/checks/encoder.rs"]
mod check;

use check::{Check, definition};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

static LEARNT: LazyLock<Check> = LazyLock::new(|| Check::learnt("encoder-test"));

/// A check of the learnt model after a change of its definition.
fn changed(change: impl FnOnce(&mut Value)) -> Check {
    let folder = tempfile::tempdir().unwrap();
    let mut definition = definition();
    change(&mut definition);
    Check::new(&definition, &folder.path().join("tokenizer.json"))
}

/// Text of everything that is treated apart somewhere: letters of the fast paths and next to them, marks that compose
/// and move, all white space, contractions, digits, punctuation, emoji, and the borders of UTF-8 lengths.
const HOSTILE: &str = concat!(
    "([абвгдеіоўїґёЯЎ]{1,9}|[a-zA-Z]{1,9}| [а-яіў]{1,14}| [a-z]{1,9}|[\u{400}-\u{530}]{1,4}",
    "|[аоеіуўйА][\u{300}-\u{338}]{1,3}|[\u{483}-\u{489}]|[\u{1100}-\u{11ff}]{1,3}|[가-힣]|[क-ह]\u{93c}",
    "|[ \t\r\n\u{b}\u{a0}\u{85}\u{1680}\u{2000}-\u{200d}\u{2028}\u{202f}\u{3000}\u{feff}]{1,7}|[ ]{1,20}|\r\n",
    "|['’ʼ](?i:s|t|re|ve|m|ll|d|ſ|S|RE|l|r)?|[0-9]{1,12}|[٠-٩½Ⅷ²߀]|[!-/:-@_`{-~№§$€—«»…]{1,5}",
    "|👩‍🚀|🇧🇾|[\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}\u{0}]|<\\|end_of_text\\|>|.){0,40}"
);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn ids_pieces_and_text_are_those_of_the_crate(text in HOSTILE) {
        LEARNT.text(&text);
    }

    #[test]
    fn any_characters_are_encoded_as_the_crate_does(text in any::<String>()) {
        LEARNT.text(&text);
    }
}

#[test]
fn seeds_of_the_fuzzer_still_hold() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/encoder");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        LEARNT.text(&String::from_utf8_lossy(
            &std::fs::read(seed.unwrap().path()).unwrap(),
        ));
        count += 1;
    }
    assert!(count > 20);
}

#[test]
fn every_variant_of_the_pipeline_is_encoded_as_the_crate_does() {
    type Change = fn(&mut Value);
    let variants: [(&str, Change); 7] = [
        ("merges only", |definition| {
            definition["model"]["ignore_merges"] = json!(false)
        }),
        ("no normalizer", |definition| {
            definition["normalizer"] = Value::Null
        }),
        ("merges as strings", |definition| {
            for merge in definition["model"]["merges"].as_array_mut().unwrap() {
                *merge = json!(format!(
                    "{} {}",
                    merge[0].as_str().unwrap(),
                    merge[1].as_str().unwrap()
                ));
            }
        }),
        ("merges in another order", |definition| {
            definition["model"]["merges"].as_array_mut().unwrap().reverse();
        }),
        ("a merge twice", |definition| {
            let merges = definition["model"]["merges"].as_array_mut().unwrap();
            merges.push(merges[3].clone());
        }),
        ("a byte without an id", |definition| {
            let merges = definition["model"]["merges"].as_array_mut().unwrap();
            merges.retain(|merge| !merge.to_string().contains('R'));
            definition["model"]["vocab"]
                .as_object_mut()
                .unwrap()
                .retain(|token, _| !token.contains('R'));
        }),
        ("the regex of GPT-2", |definition| {
            definition["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        }),
    ];
    let texts = [
        "Прывітанне, як маешся? Зноў жа: п'яць, п’яць, ПРЫВІТАННЕ, перапрацоўваць, сёлы-вёскі, мілы мілы",
        "It's RARE that we'll see 12345 things — don't you think?\n\n\n    x = 1;\t\t\r\n  ",
        "оооооооаааао оаоаоа ооооо дородного жыцця жыццё а\u{301}б е\u{308}ж и\u{306}",
        &"шыракаплечы".repeat(30),
    ];
    for (name, change) in variants {
        let check = changed(change);
        for text in texts {
            let ids = check.encoder.encode(text).unwrap();
            assert_eq!(ids, check.reference_ids(text), "{name}: {text}");
        }
    }
}

#[test]
fn a_cache_that_overflows_gives_the_same_ids() {
    // Far more distinct words than there are places, each seen three times.
    let words: String = (0..150_000u32)
        .map(|number| {
            let letters = number.wrapping_mul(2_654_435_761).to_string();
            let word: String = letters
                .bytes()
                .map(|digit| "абвгдежзік".chars().nth((digit - b'0').into()).unwrap())
                .collect();
            format!(" {word}{}", if number % 3 == 0 { "доўгі" } else { "" })
        })
        .collect();
    let first = LEARNT.encoder.encode(&words).unwrap();
    assert_eq!(LEARNT.encoder.encode(&words).unwrap(), first);
    assert_eq!(LEARNT.encoder.encode(&words).unwrap(), first);
    assert_eq!(first, LEARNT.reference_ids(&words));
}

#[test]
fn threads_beyond_the_number_of_cores_encode_alike() {
    let text = "Рэвы і стогны, дарогі ды вёскі; it's 2024. ".repeat(50);
    let expected = LEARNT.encoder.encode(&text).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| assert_eq!(LEARNT.encoder.encode(&text).unwrap(), expected));
        }
    });
}

#[test]
fn one_piece_of_a_hundred_thousand_letters_takes_no_time() {
    for run in ["о", "ab", "не", "ў", "é", " ", "!", "х\u{301}", "\u{301}\u{323}"] {
        LEARNT.text(&run.repeat(50_000));
    }
}

#[test]
fn ids_go_behind_what_is_there() {
    let mut ids = vec![7, 8];
    LEARNT.encoder.encode_into("мілы кут", &mut ids).unwrap();
    LEARNT.encoder.encode_into("", &mut ids).unwrap();
    assert_eq!(ids[..2], [7, 8]);
    assert_eq!(ids[2..], LEARNT.reference_ids("мілы кут"));
}

#[test]
fn special_tokens_have_no_bytes_and_unknown_ids_are_named() {
    let (encoder, end_of_text) = (&LEARNT.encoder, 700);
    assert_eq!(encoder.vocab_size(), 701);
    assert_eq!(encoder.decode(&[end_of_text]).unwrap(), b"");
    let error = encoder.decode(&[701]).unwrap_err().to_string();
    assert_eq!(
        error,
        "argument token id: expected an entry of the vocabulary of 701 that stands for bytes, got 701"
    );
}
