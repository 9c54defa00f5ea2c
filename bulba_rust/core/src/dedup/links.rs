//! Which earlier documents a document may be near to: those with an equal band key.
//!
//! Documents with an equal key make a bucket. A bucket can be huge, when a template or a notice stands in every
//! document of a site, so a document is not linked with all the earlier ones but with the first and with the last
//! `MAX_LINKS - 1` before it. A link to a document that was dropped leads on to the kept one that it repeats: thus
//! each member of a large group of near duplicates finds the kept one, at the latest through the member before it.

use super::sort::{Sorted, Sorter, key_and_document, keyed};
use super::{Documents, NUM_BANDS, Passes, Signature, Space};
use crate::Result;
use std::collections::VecDeque;
use std::iter::Peekable;

/// Of one document in one bucket.
const MAX_LINKS: usize = 16;

/// A document and an earlier one, as one number: sorts by the former, then by the latter.
pub type Link = u64;

fn link(document: u32, earlier: u32) -> Link {
    (u64::from(document) << 32) | u64::from(earlier)
}

pub fn document_of(link: Link) -> u32 {
    (link >> 32) as u32
}

pub fn earlier_of(link: Link) -> u32 {
    link as u32
}

/// The links of every document that is not a copy, sorted; one for each bucket that two documents share.
pub(super) fn find_links(
    documents: &dyn Documents,
    space: &Space,
    passes: &mut Passes,
    of: &[u32],
) -> Result<Sorted<Link>> {
    let max_keys = of.len().saturating_mul(NUM_BANDS);
    let mut keys = space.sorter(2, max_keys);
    for (document, of) in (0..).zip(of) {
        let signature = documents.signature(document)?;
        if *of == document && signature != Signature::NONE {
            for key in signature.0 {
                keys.push(keyed(key, document))?;
            }
        }
        passes.tick(document.into())?;
    }
    passes.finish_pass();

    let mut links = space.sorter(2, max_keys.saturating_mul(MAX_LINKS));
    let mut bucket = Bucket::default();
    for (number, record) in (0u64..).zip(keys.finish()?) {
        let (key, document) = key_and_document(record?);
        bucket.add(key, document, &mut links)?;
        passes.tick(number / NUM_BANDS as u64)?;
    }
    passes.finish_pass();
    links.finish()
}

/// The documents that the next one of the same key is linked with.
#[derive(Default)]
struct Bucket {
    key: u64,
    first: Option<u32>,
    last: VecDeque<u32>,
}

impl Bucket {
    fn add(&mut self, key: u64, document: u32, links: &mut Sorter<Link>) -> Result<()> {
        if self.key != key {
            self.key = key;
            self.first = None;
            self.last.clear();
        }
        let Some(first) = self.first else {
            self.first = Some(document);
            return Ok(());
        };
        links.push(link(document, first))?;
        for earlier in &self.last {
            links.push(link(document, *earlier))?;
        }
        if self.last.len() == MAX_LINKS - 1 {
            self.last.pop_front();
        }
        self.last.push_back(document);
        Ok(())
    }
}

/// All links of the next `num_documents` documents that have any; fewer at the end, and then none.
pub(super) fn take_block(links: &mut Peekable<Sorted<Link>>, num_documents: usize) -> Result<Vec<Link>> {
    let (mut block, mut num_whole) = (Vec::new(), 0);
    while num_whole < num_documents
        && let Some(link) = links.next().transpose()?
    {
        block.push(link);
        let goes_on = matches!(links.peek(), Some(Ok(next)) if document_of(*next) == document_of(link));
        num_whole += usize::from(!goes_on);
    }
    Ok(block)
}
