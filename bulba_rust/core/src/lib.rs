//! Everything of Bulba that touches bytes: reading and cleaning text, the tokenizer, token files and the
//! order and packing of samples; and rounding to half precision. No Python here and no panics: every fault a user can cause is an [`Error`].
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)
)]

pub mod bpe;
mod character_class;
pub mod clean;
pub mod corpus;
pub mod dedup;
pub mod encode;
pub mod encoder;
pub mod error;
pub mod half_precision;
pub mod language;
mod llama3;
pub mod mapping;
mod merges;
mod nfc;
mod pair_ranks;
pub mod permutation;
mod piece_cache;
pub mod pieces;
pub mod pretokenize;
pub mod progress;
pub mod read;
pub mod regions;
pub mod sample;
pub mod shard;
pub mod split;
mod symbols;
mod thread_slots;
pub mod threads;
pub mod token_file;
pub mod tokenizer;
mod vocabulary;

pub use error::{Error, Result};
