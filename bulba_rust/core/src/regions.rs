//! What token files and plans share: a header of 256 bytes, regions one after another, and their checksums.
//!
//! Each region begins at a multiple of 64 and is filled up with zeros to the next one. Regions are cut into blocks of
//! 16 MiB from their own start; the list of the blocks' XXH3-64 ends the file. So damage is found with its place, and
//! a writer can fill all regions at once without holding them.

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

pub const HEADER_BYTES: u64 = 256;
pub const BLOCK_BYTES: u64 = 16 << 20;
const ALIGNMENT: u64 = 64;
/// Divides a block, so that blocks end where buffers do.
const BUFFER_BYTES: usize = 1 << 20;
/// The header ends with the XXH3-64 of all before it.
pub const HEADER_CHECKSUM_AT: usize = 248;

// The files are little-endian and are read in place.
#[cfg(target_endian = "big")]
compile_error!("token files are little-endian and are mapped as they are");

/// Where the regions lie; a pure function of their lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions {
    lengths: Vec<u64>,
    /// The start of each region, then that of the checksums.
    starts: Vec<u64>,
    end: u64,
}

impl Regions {
    /// `None` if that is more than any file can hold.
    pub fn new(lengths: &[u64]) -> Option<Self> {
        let (mut starts, mut blocks) = (vec![HEADER_BYTES], 0u64);
        let mut start = HEADER_BYTES;
        for length in lengths {
            let next = start.checked_add(*length)?.checked_next_multiple_of(ALIGNMENT)?;
            blocks += (next - start).div_ceil(BLOCK_BYTES);
            starts.push(next);
            start = next;
        }
        Some(Regions {
            lengths: lengths.to_vec(),
            starts,
            end: start.checked_add(8 * blocks)?,
        })
    }

    /// The start of each region, the start of the checksums and the size of the file, as a header states them.
    pub fn positions(&self) -> impl Iterator<Item = u64> + '_ {
        self.starts.iter().copied().chain([self.end])
    }

    pub fn start(&self, region: usize) -> u64 {
        self.starts.get(region).copied().unwrap_or(self.end)
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// The bytes of one region, without what fills it up.
    pub fn get<'a>(&self, bytes: &'a [u8], region: usize) -> &'a [u8] {
        let start = self.start(region);
        let end = start + self.lengths.get(region).copied().unwrap_or(0);
        bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    fn checksums<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.start(self.lengths.len());
        bytes.get(start as usize..self.end as usize).unwrap_or_default()
    }

    fn blocks(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let bounds = self.starts.iter().zip(self.starts.iter().skip(1));
        bounds.flat_map(|(&start, &end)| {
            let starts = (start..end).step_by(BLOCK_BYTES as usize);
            starts.map(move |start| start..(start + BLOCK_BYTES).min(end))
        })
    }

    /// Compares the checksum of every block; `visit` hears how many bytes are done. Gives the first difference.
    pub fn verify(
        &self,
        bytes: &[u8],
        list_checksum: u64,
        mut visit: impl FnMut(u64) -> Result<()>,
    ) -> Result<Option<Damage>> {
        let list = self.checksums(bytes);
        let got = xxh3_64(list);
        if got != list_checksum {
            let what = "the checksum of the checksums";
            let offset = self.start(self.lengths.len());
            return Ok(Some(Damage {
                offset,
                what,
                expected: list_checksum,
                got,
            }));
        }
        for (block, expected) in self.blocks().zip(list.as_chunks::<8>().0) {
            let expected = u64::from_le_bytes(*expected);
            let got = xxh3_64(
                bytes
                    .get(block.start as usize..block.end as usize)
                    .unwrap_or_default(),
            );
            if got != expected {
                let what = "the checksum of the block";
                return Ok(Some(Damage {
                    offset: block.start,
                    what,
                    expected,
                    got,
                }));
            }
            visit(block.end)?;
        }
        Ok(None)
    }
}

/// A checksum that does not fit, and the offset of what it covers.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    pub offset: u64,
    pub what: &'static str,
    pub expected: u64,
    pub got: u64,
}

/// Ends a header: fills it up with zeros and adds its checksum.
pub fn seal(mut header: Vec<u8>) -> Vec<u8> {
    header.resize(HEADER_CHECKSUM_AT, 0);
    let checksum = xxh3_64(&header);
    header.extend(checksum.to_le_bytes());
    header
}

/// The checksum that a header should have, and the one that it has.
pub fn header_checksums(bytes: &[u8]) -> (u64, u64) {
    let stored = Fields {
        bytes,
        at: HEADER_CHECKSUM_AT,
    }
    .u64();
    (
        xxh3_64(bytes.get(..HEADER_CHECKSUM_AT).unwrap_or_default()),
        stored,
    )
}

/// Little-endian fields one after another; beyond the end they are 0.
pub struct Fields<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Fields<'_> {
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = self
            .bytes
            .get(self.at..self.at + N)
            .and_then(|field| field.try_into().ok());
        self.at += N;
        field.unwrap_or([0; N])
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// Writes the regions of a file side by side, in any interleaving; memory stays at 1 MiB a region.
///
/// The file has a temporary name until [`RegionsWriter::finish`] has written and synced all of it. Dropped before
/// that, it is removed.
pub struct RegionsWriter {
    path: PathBuf,
    temporary: PathBuf,
    regions: Vec<RegionWriter>,
    finished: bool,
}

impl RegionsWriter {
    /// `regions` may give the last region any length; the others must end up as long as they are here.
    pub fn create(path: &Path, regions: &Regions) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        name.push(format!(".tmp-{}-{number}", std::process::id()));
        let temporary = path.with_file_name(name);
        let fault = |error| Error::io("create", &temporary, error);
        File::create(&temporary).map_err(fault)?;
        let starts = regions.starts.iter().take(regions.lengths.len());
        let writers: std::io::Result<_> = starts
            .map(|start| RegionWriter::open(&temporary, *start))
            .collect();
        Ok(RegionsWriter {
            path: path.to_path_buf(),
            regions: writers.map_err(fault)?,
            temporary,
            finished: false,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends to one region.
    pub fn write(&mut self, region: usize, bytes: &[u8]) -> Result<()> {
        let Some(region) = self.regions.get_mut(region) else {
            return Ok(());
        };
        region
            .write(bytes)
            .map_err(|error| Error::io("write", &self.path, error))
    }

    /// Writes what is left, then the header that `header` makes of the checksum of the checksums.
    pub fn finish(mut self, regions: &Regions, header: impl FnOnce(u64) -> Vec<u8>) -> Result<()> {
        self.complete(regions, header)
            .map_err(|error| Error::io("write", &self.path, error))?;
        self.finished = true;
        Ok(())
    }

    fn complete(&mut self, regions: &Regions, header: impl FnOnce(u64) -> Vec<u8>) -> std::io::Result<()> {
        let mut checksums = Vec::new();
        for (writer, bounds) in self.regions.iter_mut().zip(regions.starts.windows(2)) {
            let [start, end] = bounds else { continue };
            checksums.extend(
                writer
                    .finish(end - start)?
                    .iter()
                    .flat_map(|digest| digest.to_le_bytes()),
            );
        }
        let mut file = OpenOptions::new().write(true).open(&self.temporary)?;
        file.seek(SeekFrom::Start(regions.start(regions.lengths.len())))?;
        file.write_all(&checksums)?;
        file.rewind()?;
        file.write_all(&header(xxh3_64(&checksums)))?;
        file.sync_all()?;
        drop(file);
        self.regions.clear();
        std::fs::rename(&self.temporary, &self.path)?;
        sync_folder(&self.path)
    }
}

impl Drop for RegionsWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.regions.clear();
            // What cannot be removed has a name that says what it is.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Makes the rename itself durable. Windows has no such call and needs none.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

struct RegionWriter {
    file: File,
    buffer: Vec<u8>,
    hasher: Xxh3Default,
    digests: Vec<u64>,
    written: u64,
}

impl RegionWriter {
    fn open(path: &Path, start: u64) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(RegionWriter {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            hasher: Xxh3Default::new(),
            digests: Vec::new(),
            written: 0,
        })
    }

    fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        loop {
            let room = BUFFER_BYTES - self.buffer.len();
            let Some((now, later)) = bytes.split_at_checked(room) else {
                self.buffer.extend_from_slice(bytes);
                return Ok(());
            };
            self.buffer.extend_from_slice(now);
            self.flush()?;
            bytes = later;
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.hasher.update(&self.buffer);
        self.file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written.is_multiple_of(BLOCK_BYTES) {
            self.end_block();
        }
        Ok(())
    }

    fn end_block(&mut self) {
        self.digests.push(self.hasher.digest());
        self.hasher.reset();
    }

    /// Fills the region up to `length` and gives the checksums of its blocks.
    fn finish(&mut self, length: u64) -> std::io::Result<&[u64]> {
        let missing = length.checked_sub(self.written + self.buffer.len() as u64);
        let missing = missing.filter(|missing| *missing < ALIGNMENT);
        let missing =
            missing.ok_or_else(|| std::io::Error::other("a region has another length than was stated"))?;
        self.buffer.resize(self.buffer.len() + missing as usize, 0);
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        if !self.written.is_multiple_of(BLOCK_BYTES) {
            self.end_block();
        }
        Ok(&self.digests)
    }
}
