//! The 5-grams of words that near duplicates are compared by.
//!
//! A word is a maximal run of letters and digits, in lower case and without accents that combine (stress marks) and
//! soft hyphens; everything else only separates words. So copies that differ in case, spacing, punctuation or markup
//! signs have the same 5-grams. A 5-gram is a 64-bit hash: a polynomial over the hashes of its words, rolled from one
//! word to the next, then mixed.

use crate::permutation::mix;
use std::sync::LazyLock;

/// Words in a 5-gram. A text of fewer words has none.
pub const NUM_WORDS: usize = 5;

const LETTER_FACTOR: u64 = 0x9fb2_1c65_1e98_df25;
const WORD_FACTOR: u64 = 0xd6e8_feb8_6659_fd93;
/// What the oldest word of a full window weighs once the next one has come in.
const OLDEST_FACTOR: u64 = WORD_FACTOR.wrapping_pow(NUM_WORDS as u32);

/// Below this code point UTF-8 takes at most two bytes: Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic.
const TABLE_LEN: usize = 0x800;
static LOWER: LazyLock<Box<[u16; TABLE_LEN]>> = LazyLock::new(|| {
    let mut table = Box::new([0; TABLE_LEN]);
    for (code, lower) in (0..).zip(table.iter_mut()) {
        // Not one of them has a lower case outside the basic plane.
        *lower = char::from_u32(code).map_or(SEPARATOR, lower_case) as u16;
    }
    table
});

const SEPARATOR: u32 = 0;
const PASSED_OVER: u32 = 1;

/// The code point in lower case.
fn lower_case(letter: char) -> u32 {
    match letter {
        '\u{300}'..='\u{36f}' | '\u{ad}' => PASSED_OVER,
        // A letter to Unicode, but others write the same word with ' or ’.
        'ʼ' => SEPARATOR,
        _ if letter.is_alphanumeric() => letter.to_lowercase().next().map_or(SEPARATOR, u32::from),
        _ => SEPARATOR,
    }
}

/// Calls `visit` with the hash of every 5-gram of words, in order; repeated ones come again.
#[inline]
pub fn for_each_shingle(text: &str, mut visit: impl FnMut(u64)) {
    let table = &**LOWER;
    let (mut window, mut word) = (Window::default(), 0u64);
    for letter in text.chars() {
        let lower = match table.get(letter as usize) {
            Some(lower) => u32::from(*lower),
            None => lower_case(letter),
        };
        if lower > PASSED_OVER {
            word = (word ^ u64::from(lower)).wrapping_mul(LETTER_FACTOR);
        } else if lower == SEPARATOR && word != 0 {
            window.push(word, &mut visit);
            word = 0;
        }
    }
    if word != 0 {
        window.push(word, &mut visit);
    }
}

/// The last words, and their polynomial.
#[derive(Default)]
struct Window {
    words: [u64; NUM_WORDS],
    sum: u64,
    num_words: usize,
}

impl Window {
    #[inline]
    fn push(&mut self, word: u64, visit: &mut impl FnMut(u64)) {
        // The low bits of a product depend on few letters.
        let word = word ^ (word >> 32);
        let oldest = self.words[0];
        self.words.rotate_left(1);
        self.words[NUM_WORDS - 1] = word;
        self.sum = self
            .sum
            .wrapping_mul(WORD_FACTOR)
            .wrapping_add(word)
            .wrapping_sub(oldest.wrapping_mul(OLDEST_FACTOR));
        self.num_words += 1;
        if self.num_words >= NUM_WORDS {
            visit(mix(self.sum));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    /// The same 5-grams as words, found without tables or rolling.
    pub fn five_grams(text: &str) -> Vec<Vec<String>> {
        let kept: String = text
            .chars()
            .filter(|letter| !('\u{300}'..='\u{36f}').contains(letter) && *letter != '\u{ad}')
            .map(|letter| if letter == 'ʼ' { '\'' } else { letter })
            .collect();
        let first_lower = |letter: char| letter.to_lowercase().next().unwrap();
        let words: Vec<String> = kept
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(|word| word.chars().map(first_lower).collect())
            .collect();
        words.windows(NUM_WORDS).map(<[String]>::to_vec).collect()
    }

    /// From the definition.
    pub fn jaccard(first: &str, second: &str) -> f64 {
        let sets = [first, second].map(|text| five_grams(text).into_iter().collect::<HashSet<_>>());
        let num_all = sets[0].union(&sets[1]).count();
        sets[0].intersection(&sets[1]).count() as f64 / num_all.max(1) as f64
    }

    fn shingles(text: &str) -> Vec<u64> {
        let mut hashes = Vec::new();
        for_each_shingle(text, |hash| hashes.push(hash));
        hashes
    }

    proptest! {
        #[test]
        fn hashes_are_equal_where_the_words_are(text in "([абАБїйі́’ʼaZ0]{1,2}[ ,.\n-]{1,2}){0,40}|.{0,60}") {
            let (expected, got) = (five_grams(&text), shingles(&text));
            prop_assert_eq!(expected.len(), got.len());
            let mut hash_of = HashMap::new();
            for (words, hash) in expected.iter().zip(&got) {
                prop_assert_eq!(*hash_of.entry(words.clone()).or_insert(*hash), *hash);
            }
            let distinct: HashSet<_> = got.iter().collect();
            prop_assert_eq!(distinct.len(), hash_of.len());
        }
    }

    #[test]
    fn copies_in_other_spelling_have_the_same_shingles() {
        let plain = shingles("м'яч і п'ять зай\u{306}ців скачуть, а м'яч — ні: він не заєць");
        let other =
            shingles("**М’ЯЧ** і пʼя\u{301}ть «зай\u{306}ців»\nска\u{ad}чуть а м'яч ні\tвін не заєць...");
        assert_eq!(plain.len(), 10);
        assert_eq!(plain, other);
    }
}
