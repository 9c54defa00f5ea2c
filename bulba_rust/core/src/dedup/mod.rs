//! Which documents repeat an earlier one, word for word or nearly.
//!
//! Two phases, because documents are read shard by shard. While they are read, each is signed ([`Signer`]) and its
//! [`Signature`] and hash are stored. Then [`find_duplicates`] looks at all of them together.
//!
//! The rule. Documents are taken in order, and the first of several is kept:
//! - A document whose text equals that of an earlier one shares the fate of the first of them: it is an exact copy of
//!   that one if it was kept, and otherwise a near duplicate of whatever that one is a near duplicate of.
//! - Any other document is dropped if the Jaccard index of its 5-grams of words with those of an earlier kept document
//!   is at least `min_jaccard`. So what is dropped always has such a kept document; but one whose near duplicate was
//!   itself dropped stays if it is not near the one that was kept.
//!
//! Which pairs are looked at is decided by the signatures, see `minhash.rs`, `links.rs` and `near.rs`. The result does
//! not depend on the number of threads or on the memory.
//!
//! Memory, besides `memory_bytes`: 4 bytes for each document, at most 48 more for each dropped one, and 8 for each word
//! of the texts under comparison.

mod exact;
mod jaccard;
mod links;
mod minhash;
mod near;
mod shingle;
mod sort;
#[cfg(test)]
mod tests;

pub use minhash::{NUM_BANDS, Signature, Signer};

use crate::progress::{Meter, Progress};
use crate::threads::thread_pool;
use crate::{Error, Result};
use bytemuck::Pod;
use rayon::ThreadPool;
use sort::Sorter;
use std::path::Path;

/// What is stored of the documents, numbered from 0 in the order in which they are kept.
pub trait Documents: Sync {
    fn len(&self) -> u32;
    /// Of the text: equal for equal texts. Different texts with one hash only cost time.
    fn hash(&self, document: u32) -> Result<u64>;
    /// As [`Signer::sign`] made it.
    fn signature(&self, document: u32) -> Result<Signature>;
    fn text(&self, document: u32) -> Result<&str>;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Clone, Copy, Debug)]
pub struct DedupOptions {
    /// Near duplicates have at least this Jaccard index; None looks for exact copies only. The signatures are made
    /// for 0.8: of pairs at 0.7 one in thirteen is missed, at 0.6 two in five.
    pub min_jaccard: Option<f64>,
    /// For sorting; what does not fit goes through files in the work folder.
    pub memory_bytes: usize,
    /// 0: one for each core.
    pub num_threads: usize,
}

impl Default for DedupOptions {
    fn default() -> Self {
        DedupOptions {
            min_jaccard: Some(0.8),
            memory_bytes: 256 << 20,
            num_threads: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Exact,
    Near,
}

/// A dropped document and the kept one, before it, that it repeats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Duplicate {
    pub document: u32,
    pub of: u32,
    pub kind: Kind,
    /// Of these two texts; 1 for an exact copy.
    pub jaccard: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Duplicates {
    /// In the order of the documents.
    pub dropped: Vec<Duplicate>,
    pub num_exact: u64,
    pub num_near: u64,
    /// Pairs whose Jaccard index was needed.
    pub num_compared: u64,
}

impl Duplicates {
    /// At most `count` of the dropped documents, near duplicates first, spread evenly over the corpus.
    pub fn samples(&self, count: usize) -> Vec<Duplicate> {
        let spread = |kind: Kind, num_kind: u64, count: usize| {
            let step = (num_kind as usize).div_ceil(count.max(1)).max(1);
            let of_kind = self
                .dropped
                .iter()
                .filter(move |duplicate| duplicate.kind == kind);
            of_kind.step_by(step).take(count).copied()
        };
        let mut samples: Vec<_> = spread(Kind::Near, self.num_near, count).collect();
        samples.extend(spread(Kind::Exact, self.num_exact, count - samples.len()));
        samples
    }

    /// `of`: for every document the first of its copies, or the kept one that it is near to, or itself.
    /// `near`: the documents dropped for a near one, in order; their copies are not among them.
    fn new(of: &[u32], near: &[Duplicate], num_compared: u64) -> Self {
        let find_near = |document: u32| {
            let place = near.binary_search_by_key(&document, |duplicate| duplicate.document);
            place.ok().and_then(|place| near.get(place)).copied()
        };
        let mut duplicates = Duplicates {
            num_compared,
            ..Duplicates::default()
        };
        for (document, of) in (0..).zip(of.iter().copied()) {
            if of == document {
                continue;
            }
            let exact = Duplicate {
                document,
                of,
                kind: Kind::Exact,
                jaccard: 1.0,
            };
            let near = find_near(document).or_else(|| {
                Some(Duplicate {
                    document,
                    ..find_near(of)?
                })
            });
            duplicates.num_near += u64::from(near.is_some());
            duplicates.num_exact += u64::from(near.is_none());
            duplicates.dropped.push(near.unwrap_or(exact));
        }
        duplicates
    }
}

/// Finds what the rule at the head of this module drops. Work files are written to `work_folder`, which must exist,
/// and removed: 240 bytes a document, and 8 for each of its links (none as a rule, 320 at most). Progress counts every
/// document once in each of five passes.
pub fn find_duplicates(
    documents: &dyn Documents,
    options: &DedupOptions,
    work_folder: &Path,
    progress: &mut Progress,
) -> Result<Duplicates> {
    if let Some(min_jaccard) = options.min_jaccard
        && !(min_jaccard > 0.0 && min_jaccard <= 1.0)
    {
        return Err(Error::Argument {
            name: "min_jaccard",
            expected: "a number above 0 and at most 1".into(),
            got: min_jaccard.to_string(),
        });
    }
    let space = Space {
        pool: thread_pool(options.num_threads)?,
        folder: work_folder,
        memory_bytes: options.memory_bytes,
    };
    let mut passes = Passes::new(progress, documents.len());
    let mut of = exact::find_first_copies(documents, &space, &mut passes)?;
    let (near, num_compared) = match options.min_jaccard {
        Some(min_jaccard) => near::find_near(documents, min_jaccard, &space, &mut passes, &mut of)?,
        None => Default::default(),
    };
    passes.meter.finish()?;
    Ok(Duplicates::new(&of, &near, num_compared))
}

/// Where the work is done.
struct Space<'a> {
    pool: ThreadPool,
    folder: &'a Path,
    memory_bytes: usize,
}

impl Space<'_> {
    /// Sorts at most `max_records` in a share of the memory.
    fn sorter<T: Pod + Ord + Send>(&self, share: usize, max_records: usize) -> Sorter<'_, T> {
        Sorter::new(&self.pool, self.folder, self.memory_bytes / share, max_records)
    }
}

/// How far the passes over all documents are.
struct Passes<'a, 'b> {
    meter: Meter<'a, 'b>,
    num_documents: u64,
    finished: u64,
}

impl<'a, 'b> Passes<'a, 'b> {
    const NUM_PASSES: u64 = 5;

    fn new(progress: &'a mut Progress<'b>, num_documents: u32) -> Self {
        let num_documents = u64::from(num_documents);
        Passes {
            meter: Meter::new(progress, Self::NUM_PASSES * num_documents),
            num_documents,
            finished: 0,
        }
    }

    /// Documents go by faster than the clock is read.
    fn tick(&mut self, document: u64) -> Result<()> {
        if document.is_multiple_of(256) {
            self.report(document)?;
        }
        Ok(())
    }

    fn report(&mut self, document: u64) -> Result<()> {
        self.meter.tick(self.finished + document)
    }

    fn finish_pass(&mut self) {
        self.finished += self.num_documents;
    }
}
