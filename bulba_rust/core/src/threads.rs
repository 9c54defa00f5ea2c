//! The one way to start worker threads, and to keep an order while they work.

use crate::{Error, Result};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};

/// A pool of its own; 0: one thread for each core.
pub fn thread_pool(num_threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(num_threads)
        .build()
        .map_err(|error| Error::Argument {
            name: "num_threads",
            expected: "threads that can be started".into(),
            got: error.to_string(),
        })
}

/// Gives every item to `work` on the threads of `pool`, and what came of it to `take` on this thread, in order.
///
/// At most two items for each thread are in work or waiting to be taken. The first error ends it.
pub fn in_order<Item: Send, Done: Send>(
    pool: &rayon::ThreadPool,
    items: impl Iterator<Item = Result<Item>>,
    work: impl Fn(Item) -> Done + Sync,
    mut take: impl FnMut(Done) -> Result<()>,
) -> Result<()> {
    let mut next = |running: &mut VecDeque<Receiver<Done>>| match running.pop_front().map(|done| done.recv())
    {
        Some(Ok(done)) => take(done),
        // Only where `work` panicked, which the scope passes on.
        Some(Err(_)) | None => Ok(()),
    };
    let work = &work;
    pool.in_place_scope_fifo(|scope| {
        let mut running = VecDeque::new();
        for item in items {
            if running.len() == 2 * pool.current_num_threads() {
                next(&mut running)?;
            }
            let item = item?;
            let (sender, receiver) = sync_channel(1);
            // Nobody receives after an error.
            scope.spawn_fifo(move |_| drop(sender.send(work(item))));
            running.push_back(receiver);
        }
        while !running.is_empty() {
            next(&mut running)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_is_kept_and_the_first_error_ends_it(
            items in proptest::collection::vec(0u64..400, 0..60), threads in 1usize..5, fault in 0usize..80,
        ) {
            let pool = thread_pool(threads).unwrap();
            let mut taken = Vec::new();
            let source = items.iter().enumerate().map(|(place, item)| {
                if place == fault { Err(Error::Split("broken".into())) } else { Ok(*item) }
            });
            let wait = |item| {
                std::thread::sleep(std::time::Duration::from_micros(item));
                item + 1
            };
            let ended = in_order(&pool, source, wait, |done| {
                taken.push(done - 1);
                Ok(())
            });
            prop_assert_eq!(ended.is_err(), fault < items.len());
            prop_assert!(items.starts_with(&taken));
            prop_assert!(ended.is_err() || taken.len() == items.len());
        }
    }
}
