//! Exact copies: documents of one hash whose texts are equal.

use super::sort::{key_and_document, keyed};
use super::{Documents, Passes, Space};
use crate::Result;

/// For every document the first one with its text, often itself.
pub(super) fn find_first_copies(
    documents: &dyn Documents,
    space: &Space,
    passes: &mut Passes,
) -> Result<Vec<u32>> {
    let num_documents = documents.len();
    let mut sorter = space.sorter(1, num_documents as usize);
    for document in 0..num_documents {
        sorter.push(keyed(documents.hash(document)?, document))?;
        passes.tick(document.into())?;
    }
    passes.finish_pass();

    let mut of: Vec<u32> = (0..num_documents).collect();
    // The first document of every text with the current hash: one, unless hashes collide.
    let (mut hash, mut firsts) = (0, Vec::new());
    for (number, record) in (0..).zip(sorter.finish()?) {
        let (next_hash, document) = key_and_document(record?);
        if number == 0 || next_hash != hash {
            hash = next_hash;
            firsts.clear();
        }
        match find_equal(documents, &firsts, document)? {
            Some(first) => {
                if let Some(of) = of.get_mut(document as usize) {
                    *of = first;
                }
            }
            None => firsts.push(document),
        }
        passes.tick(number)?;
    }
    passes.finish_pass();
    Ok(of)
}

fn find_equal(documents: &dyn Documents, firsts: &[u32], document: u32) -> Result<Option<u32>> {
    if firsts.is_empty() {
        return Ok(None);
    }
    let text = documents.text(document)?;
    for first in firsts {
        if documents.text(*first)? == text {
            return Ok(Some(*first));
        }
    }
    Ok(None)
}
