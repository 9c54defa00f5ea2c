//! Naive Bayes by script: the tables of `weights.rs`, laid out for quick look-up.

use super::markdown::slice;
use super::weights::{
    CYRILLIC_ENDINGS, CYRILLIC_LETTERS, CYRILLIC_WORDS, LATIN_ENDINGS, LATIN_LETTERS, LATIN_WORDS,
};
use std::collections::HashMap;
use std::sync::LazyLock;

/// What is read of a text is short enough for 32 bits.
pub fn add<const N: usize>(score: &mut [i32; N], weights: &[i8; N]) {
    for (sum, weight) in score.iter_mut().zip(weights) {
        *sum += i32::from(*weight);
    }
}

/// The first of the greatest.
pub fn best(score: &[i32]) -> usize {
    let greatest = score.iter().max();
    score
        .iter()
        .position(|value| Some(value) == greatest)
        .unwrap_or(0)
}

/// The weights of one script, for quick look-up.
pub struct Weights<const N: usize> {
    letters: Vec<[i8; N]>,
    words: HashMap<&'static str, [i8; N], ahash::RandomState>,
    endings: HashMap<&'static str, [i8; N], ahash::RandomState>,
}

impl<const N: usize> Weights<N> {
    const NONE: [i8; N] = [0; N];

    fn new(
        first_letter: usize,
        num_letters: usize,
        letters: &[(char, [i8; N])],
        words: &[(&'static str, [i8; N])],
        endings: &[(&'static str, [i8; N])],
    ) -> Self {
        let any = letters
            .iter()
            .find(|(letter, _)| *letter == '*')
            .map_or(Self::NONE, |(_, row)| *row);
        let mut table = vec![any; num_letters];
        for (letter, row) in letters {
            if let Some(place) = (*letter as usize)
                .checked_sub(first_letter)
                .and_then(|at| table.get_mut(at))
            {
                *place = *row;
            }
        }
        Weights {
            letters: table,
            words: words.iter().copied().collect(),
            endings: endings.iter().copied().collect(),
        }
    }

    /// The weights of the letter at `at` of the script's code points.
    pub fn letter(&self, at: usize) -> &[i8; N] {
        self.letters.get(at).unwrap_or(&Self::NONE)
    }

    /// The weights of a word, or those of its ending if it is long and not common.
    pub fn word(&self, word: &str, num_letters: usize) -> &[i8; N] {
        const ENDING_LETTERS: usize = 3;
        const MIN_LETTERS: usize = 5;
        if let Some(found) = self.words.get(word) {
            return found;
        }
        let from = word
            .char_indices()
            .rev()
            .nth(ENDING_LETTERS - 1)
            .map_or(0, |(at, _)| at);
        let ending = slice(word, from, word.len());
        match self.endings.get(ending) {
            Some(found) if num_letters >= MIN_LETTERS => found,
            _ => &Self::NONE,
        }
    }
}

pub struct Model {
    /// Of U+0400..U+0530.
    pub cyrillic: Weights<7>,
    /// Of U+0000..U+0250.
    pub latin: Weights<2>,
}

pub static MODEL: LazyLock<Model> = LazyLock::new(|| Model {
    cyrillic: Weights::new(
        0x400,
        0x130,
        &CYRILLIC_LETTERS,
        &CYRILLIC_WORDS,
        &CYRILLIC_ENDINGS,
    ),
    latin: Weights::new(0, 0x250, &LATIN_LETTERS, &LATIN_WORDS, &LATIN_ENDINGS),
});
