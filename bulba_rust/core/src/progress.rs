//! Reporting how far a long task is, and the one place where it may be stopped.

use crate::Result;
use std::time::{Duration, Instant};

/// Called with (done_bytes, total_bytes); an error from it (Ctrl-C) ends the task.
/// It is always called on the thread that started the task, because only Python's main thread sees signals.
pub type Progress<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

/// Passes at most about five reports a second on to a [`Progress`].
pub struct Meter<'a, 'b> {
    callback: &'a mut Progress<'b>,
    total: u64,
    last: Option<Instant>,
}

impl<'a, 'b> Meter<'a, 'b> {
    pub const INTERVAL: Duration = Duration::from_millis(200);

    pub fn new(callback: &'a mut Progress<'b>, total: u64) -> Self {
        Meter {
            callback,
            total,
            last: None,
        }
    }

    pub fn tick(&mut self, done: u64) -> Result<()> {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now.duration_since(last) < Self::INTERVAL)
        {
            return Ok(());
        }
        self.last = Some(now);
        (self.callback)(done, self.total)
    }

    /// The last report is never held back.
    pub fn finish(&mut self) -> Result<()> {
        (self.callback)(self.total, self.total)
    }
}
