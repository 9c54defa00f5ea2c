//! The one way to start worker threads.

use crate::{Error, Result};

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
