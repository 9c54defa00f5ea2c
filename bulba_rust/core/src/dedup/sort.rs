//! Sorting more records than memory holds: sorted runs in files, merged as they are read.

use crate::{Error, Result};
use bytemuck::Pod;
use rayon::ThreadPool;
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs merged at a time: each is an open file and a buffer.
const MAX_MERGED: usize = 64;
const BUFFER_BYTES: std::ops::RangeInclusive<usize> = 4 << 10..=1 << 20;

/// A document under a number of 64 bits, such as its hash; sorts by the number, then by the document.
pub type Keyed = [u32; 3];

pub fn keyed(key: u64, document: u32) -> Keyed {
    [(key >> 32) as u32, key as u32, document]
}

pub fn key_and_document([high, low, document]: Keyed) -> (u64, u32) {
    ((u64::from(high) << 32) | u64::from(low), document)
}

/// Takes records in any order and gives them back sorted. Nothing is written as long as they fit in memory.
pub struct Sorter<'a, T> {
    pool: &'a ThreadPool,
    folder: &'a Path,
    memory_bytes: usize,
    buffer: Vec<T>,
    runs: Vec<Run>,
}

impl<'a, T: Pod + Ord + Send> Sorter<'a, T> {
    /// `max_records`: more will never come; memory for them, but for no more than `memory_bytes`, is set aside.
    pub fn new(pool: &'a ThreadPool, folder: &'a Path, memory_bytes: usize, max_records: usize) -> Self {
        let capacity = (memory_bytes / size_of::<T>()).clamp(1, max_records.max(1));
        Sorter {
            pool,
            folder,
            memory_bytes,
            buffer: Vec::with_capacity(capacity),
            runs: Vec::new(),
        }
    }

    pub fn push(&mut self, record: T) -> Result<()> {
        if self.buffer.len() == self.buffer.capacity() {
            self.spill()?;
        }
        self.buffer.push(record);
        Ok(())
    }

    fn sort(&mut self) {
        self.pool.install(|| self.buffer.par_sort_unstable());
    }

    fn spill(&mut self) -> Result<()> {
        self.sort();
        let mut run = RunWriter::create(self.folder)?;
        run.write(&self.buffer)?;
        self.runs.push(run.finish()?);
        self.buffer.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<Sorted<T>> {
        if self.runs.is_empty() {
            self.sort();
            return Ok(Sorted::Memory(self.buffer.into_iter()));
        }
        self.spill()?;
        // Its memory is that of the merge from here on.
        self.buffer = Vec::new();
        while self.runs.len() > MAX_MERGED {
            let mut merged = RunWriter::create(self.folder)?;
            for record in Merge::<T>::open(self.runs.drain(..MAX_MERGED).collect(), self.memory_bytes)? {
                merged.write(&[record?])?;
            }
            self.runs.push(merged.finish()?);
        }
        Ok(Sorted::Files(Merge::open(self.runs, self.memory_bytes)?))
    }
}

/// The records in order.
pub enum Sorted<T> {
    Memory(std::vec::IntoIter<T>),
    Files(Merge<T>),
}

impl<T: Pod + Ord> Iterator for Sorted<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self {
            Sorted::Memory(records) => records.next().map(Ok),
            Sorted::Files(merge) => merge.next(),
        }
    }
}

/// Several runs read as one.
pub struct Merge<T> {
    readers: Vec<RunReader>,
    /// The next record of every run that has one.
    heads: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: Pod + Ord> Merge<T> {
    fn open(runs: Vec<Run>, memory_bytes: usize) -> Result<Self> {
        let buffer_bytes =
            (memory_bytes / runs.len().max(1)).clamp(*BUFFER_BYTES.start(), *BUFFER_BYTES.end());
        let (mut readers, mut heads) = (Vec::new(), BinaryHeap::new());
        for (number, run) in runs.into_iter().enumerate() {
            let mut reader = RunReader::open(run, buffer_bytes)?;
            heads.extend(reader.read()?.map(|record| Reverse((record, number))));
            readers.push(reader);
        }
        Ok(Merge { readers, heads })
    }
}

impl<T: Pod + Ord> Iterator for Merge<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((record, number)) = *head;
        match self.readers.get_mut(number)?.read() {
            Ok(Some(next)) => *head = Reverse((next, number)),
            Ok(None) => drop(PeekMut::pop(head)),
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(record))
    }
}

/// A file of records, gone when it is dropped.
struct Run {
    path: PathBuf,
}

impl Drop for Run {
    fn drop(&mut self) {
        // Work files lie in a folder that is cleared anyhow.
        std::fs::remove_file(&self.path).ok();
    }
}

struct RunWriter {
    /// Closed before the run removes it.
    file: BufWriter<File>,
    run: Run,
}

impl RunWriter {
    fn create(folder: &Path) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("sort-{}-{number}.run", std::process::id()));
        let file = File::create(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(RunWriter {
            run: Run { path },
            file: BufWriter::with_capacity(1 << 16, file),
        })
    }

    fn write<T: Pod>(&mut self, records: &[T]) -> Result<()> {
        self.file
            .write_all(bytemuck::cast_slice(records))
            .map_err(|error| Error::io("write", &self.run.path, error))
    }

    fn finish(mut self) -> Result<Run> {
        self.file
            .flush()
            .map_err(|error| Error::io("write", &self.run.path, error))?;
        Ok(self.run)
    }
}

struct RunReader {
    /// Closed before the run removes it.
    file: BufReader<File>,
    bytes_left: u64,
    run: Run,
}

impl RunReader {
    fn open(run: Run, buffer_bytes: usize) -> Result<Self> {
        let file = File::open(&run.path).map_err(|error| Error::io("open", &run.path, error))?;
        let metadata = file
            .metadata()
            .map_err(|error| Error::io("read", &run.path, error))?;
        Ok(RunReader {
            file: BufReader::with_capacity(buffer_bytes, file),
            bytes_left: metadata.len(),
            run,
        })
    }

    fn read<T: Pod>(&mut self) -> Result<Option<T>> {
        if self.bytes_left == 0 {
            return Ok(None);
        }
        let mut record = T::zeroed();
        self.file
            .read_exact(bytemuck::bytes_of_mut(&mut record))
            .map_err(|error| Error::io("read", &self.run.path, error))?;
        self.bytes_left = self.bytes_left.saturating_sub(size_of::<T>() as u64);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::thread_pool;
    use proptest::prelude::*;

    proptest! {
        /// Four records fit in memory, so a few hundred make more runs than are merged at a time.
        #[test]
        fn sorts_through_files_as_in_memory(
            mut records in prop::collection::vec(prop::array::uniform3(0u32..5), 0..600),
            memory_records in prop_oneof![Just(4usize), Just(1000)],
        ) {
            let (pool, folder) = (thread_pool(2).unwrap(), tempfile::tempdir().unwrap());
            let mut sorter = Sorter::new(&pool, folder.path(), memory_records * 12, usize::MAX);
            for record in &records {
                sorter.push(*record).unwrap();
            }
            let sorted: Vec<_> = sorter.finish().unwrap().map(Result::unwrap).collect();
            records.sort();
            prop_assert_eq!(sorted, records);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "work files are left");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_clear_error() {
        let pool = thread_pool(1).unwrap();
        let mut sorter = Sorter::new(&pool, Path::new("no such folder"), 8, usize::MAX);
        sorter.push(1u64).unwrap();
        let error = sorter.push(2u64).unwrap_err().to_string();
        assert!(error.starts_with("cannot create no such folder"), "{error}");
    }
}
