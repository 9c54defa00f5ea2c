//! Everything of Bulba that touches bytes: reading text, the corpus file, the tokenizer, token files and
//! the order and packing of samples. No Python here and no panics: every fault a user can cause is an [`Error`].
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)
)]

pub mod bpe;
pub mod corpus;
pub mod encode;
pub mod encoder;
pub mod error;
pub mod permutation;
pub mod pretokenize;
pub mod progress;
pub mod read;
pub mod sample;
pub mod split;
pub mod token_file;
pub mod tokenizer;

pub use error::{Error, Result};
