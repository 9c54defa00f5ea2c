//! Opening a file: plain, or unpacked while it is read (`.gz`, `.zst`).

use crate::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(path: &Path) -> Self {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("gz") => Packing::Gzip,
            Some("zst") => Packing::Zstd,
            _ => Packing::Plain,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Packing::Plain => "file",
            Packing::Gzip => "gzip archive",
            Packing::Zstd => "zstd archive",
        }
    }
}

pub(super) struct Opened {
    pub packing: Packing,
    /// The unpacked bytes. An error of its own, without an OS error in it, means that the archive is broken.
    pub reader: Box<dyn Read>,
    /// Size of the file and how much of it was taken, both as it lies on disk.
    pub total_bytes: u64,
    pub done_bytes: Rc<Cell<u64>>,
}

pub(super) fn open(path: &Path) -> Result<Opened> {
    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    let metadata = file.metadata().map_err(|error| Error::io("read", path, error))?;
    let done_bytes = Rc::new(Cell::new(0));
    let file = Counted {
        file,
        done_bytes: Rc::clone(&done_bytes),
    };
    let packing = Packing::of(path);
    let reader: Box<dyn Read> = match packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 17, file))),
        Packing::Zstd => Box::new(Frames::new(BufReader::with_capacity(1 << 17, file))),
    };
    Ok(Opened {
        packing,
        reader,
        total_bytes: metadata.len(),
        done_bytes,
    })
}

struct Counted {
    file: File,
    done_bytes: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done_bytes.set(self.done_bytes.get() + count as u64);
        Ok(count)
    }
}

/// All zstd frames of a file, one after another; the skippable ones are skipped.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
    num_frames: u64,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        Frames {
            source,
            decoder: FrameDecoder::new(),
            in_frame: false,
            num_frames: 0,
        }
    }

    /// False at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        if self.source.fill_buf()?.is_empty() {
            return if self.num_frames == 0 {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(false)
            };
        }
        self.num_frames += 1;
        match self.decoder.reset(&mut self.source) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let mut frame = self.source.by_ref().take(u64::from(length));
                if io::copy(&mut frame, &mut io::sink())? < u64::from(length) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(true)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.in_frame = false;
        match self.decoder.get_checksum_from_data() {
            Some(stored) if self.decoder.get_calculated_checksum() != Some(stored) => {
                Err(io::Error::other("wrong checksum"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
            } else if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            } else if self.decoder.is_finished() {
                self.end_frame()?;
            } else {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
        }
    }
}
