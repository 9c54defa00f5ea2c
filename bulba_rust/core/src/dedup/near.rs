//! Near duplicates: linked documents, confirmed by their Jaccard index.
//!
//! The kept documents that the links of a document lead to are its candidates, those of most links first, for pairs
//! that are more alike share more buckets, and the earlier of two with equally many. It is compared with one after
//! another until one is near, with `MAX_COMPARED` at most; so the work is linear in the number of documents.

use super::jaccard::Comparer;
use super::links::{Link, document_of, earlier_of, find_links, take_block};
use super::{Documents, Duplicate, Kind, Passes, Space};
use crate::Result;
use rayon::prelude::*;
use std::cmp::Reverse;

const MAX_COMPARED: usize = 16;
/// Documents that all threads compare before they are decided one by one.
const BLOCK_DOCUMENTS: usize = 512;

/// Drops documents in `of`, where so far copies point at the first of their text and all others at themselves.
/// Returns what it dropped, in order, and how many pairs were compared.
pub(super) fn find_near(
    documents: &dyn Documents,
    min_jaccard: f64,
    space: &Space,
    passes: &mut Passes,
    of: &mut [u32],
) -> Result<(Vec<Duplicate>, u64)> {
    let comparison = Comparison {
        documents,
        min_jaccard,
    };
    let mut links = find_links(documents, space, passes, of)?.peekable();
    let mut comparer = Comparer::default();
    let (mut near, mut num_compared) = (Vec::new(), 0);
    while links.peek().is_some() {
        let block = take_block(&mut links, BLOCK_DOCUMENTS)?;
        let by_document: Vec<&[Link]> = block
            .chunk_by(|a, b| document_of(*a) == document_of(*b))
            .collect();
        // As if all of the block were kept, which most are. Where that is wrong, more is compared below.
        let guess = |comparer: &mut Comparer, links: &&[Link]| comparison.run(comparer, links, of, &[]);
        let guesses: Result<Vec<Compared>> = space.pool.install(|| {
            let guesses = by_document.par_iter().map_init(Comparer::default, guess);
            guesses.collect()
        });
        for (links, known) in by_document.into_iter().zip(guesses?) {
            let compared = comparison.run(&mut comparer, links, of, &known)?;
            num_compared += compared.len() as u64;
            if let Some(duplicate) = comparison.verdict(links, &compared) {
                if let Some(of) = of.get_mut(duplicate.document as usize) {
                    *of = duplicate.of;
                }
                near.push(duplicate);
            }
        }
        passes.report(block.last().map_or(0, |link| document_of(*link).into()))?;
    }
    Ok((near, num_compared))
}

/// Candidates and their Jaccard index with one document.
type Compared = Vec<(u32, f64)>;

struct Comparison<'a> {
    documents: &'a dyn Documents,
    min_jaccard: f64,
}

impl Comparison<'_> {
    /// Compares the document of the links with its candidates up to the first near one, but for those `known`.
    fn run(
        &self,
        comparer: &mut Comparer,
        links: &[Link],
        of: &[u32],
        known: &[(u32, f64)],
    ) -> Result<Compared> {
        let mut compared = Compared::new();
        let mut is_set = false;
        for candidate in candidates(links, of) {
            let jaccard = match known.iter().find(|(other, _)| *other == candidate) {
                Some((_, jaccard)) => *jaccard,
                None => {
                    if let Some(link) = links.first()
                        && !is_set
                    {
                        comparer.set(self.documents.text(document_of(*link))?);
                        is_set = true;
                    }
                    comparer.jaccard(self.documents.text(candidate)?)
                }
            };
            compared.push((candidate, jaccard));
            if jaccard >= self.min_jaccard {
                break;
            }
        }
        Ok(compared)
    }

    fn verdict(&self, links: &[Link], compared: &[(u32, f64)]) -> Option<Duplicate> {
        let (of, jaccard) = *compared.last()?;
        (jaccard >= self.min_jaccard).then_some(Duplicate {
            document: document_of(*links.first()?),
            of,
            kind: Kind::Near,
            jaccard,
        })
    }
}

fn candidates(links: &[Link], of: &[u32]) -> impl Iterator<Item = u32> {
    let kept = |link: &Link| of.get(earlier_of(*link) as usize).copied();
    let mut kept: Vec<u32> = links.iter().filter_map(kept).collect();
    kept.sort_unstable();
    let mut candidates: Vec<(Reverse<usize>, u32)> = kept
        .chunk_by(u32::eq)
        .filter_map(|links| Some((Reverse(links.len()), *links.first()?)))
        .collect();
    candidates.sort_unstable();
    candidates
        .into_iter()
        .map(|(_, candidate)| candidate)
        .take(MAX_COMPARED)
}
