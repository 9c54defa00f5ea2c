//! Files mapped into memory to be read in place, and how the system should read them ahead.

use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

pub struct Mapping {
    map: Mmap,
    /// The file will not stay in memory, so reading around what is asked for is in vain.
    at_random: bool,
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl Mapping {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        // SAFETY: these files are written once, renamed into place, and never changed after.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::io("map", path, error))?;
        let at_random = map.len() as u64 > memory_bytes() / 2;
        let mapping = Mapping {
            map,
            at_random: false,
        };
        Ok(if at_random { mapping.at_random() } else { mapping })
    }

    /// Reads single pages from now on, and `will_need` asks for them together. The system reads up to megabytes around
    /// each page otherwise: right for a file that ends up in memory, ruin for one that does not.
    pub fn at_random(mut self) -> Self {
        self.at_random = true;
        self.advise(Pattern::Random);
        self
    }

    pub fn is_at_random(&self) -> bool {
        self.at_random
    }

    /// Before and after a pass through all of it.
    pub fn read_in_order(&self, in_order: bool) {
        self.advise(match (in_order, self.at_random) {
            (true, _) => Pattern::Sequential,
            (false, true) => Pattern::Random,
            (false, false) => Pattern::Normal,
        });
    }

    /// Begins to read a range, without waiting for it, where pages are read one by one.
    pub fn will_need(&self, range: Range<usize>) {
        #[cfg(unix)]
        if self.at_random && range.end <= self.map.len() {
            // A hint: without it the pages are read when they are used.
            let _ = self
                .map
                .advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    fn advise(&self, pattern: Pattern) {
        #[cfg(unix)]
        {
            let advice = match pattern {
                Pattern::Normal => memmap2::Advice::Normal,
                Pattern::Random => memmap2::Advice::Random,
                Pattern::Sequential => memmap2::Advice::Sequential,
            };
            // A hint too.
            let _ = self.map.advise(advice);
        }
        #[cfg(not(unix))]
        let _ = pattern;
    }
}

enum Pattern {
    Normal,
    Random,
    Sequential,
}

/// Memory of this machine; where the system does not say it in a file, as much as most have.
fn memory_bytes() -> u64 {
    const USUAL_BYTES: u64 = 16 << 30;
    let kibibytes = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    kibibytes.map_or(USUAL_BYTES, |kibibytes| kibibytes * 1024)
}
