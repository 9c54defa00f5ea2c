//! The token file: documents as token ids, mapped into memory. `docs/format.md` specifies every byte.
//!
//! Opening checks magic, version, header checksum and sizes; [`TokenFile::verify`] also reads the whole body.

use crate::corpus::map_file;
use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

pub const MAGIC: [u8; 8] = *b"BULBATOK";
pub const VERSION: u32 = 1;
pub const HEADER_BYTES: u64 = 256;
const CHECKSUM_AT: usize = 248;
const ALIGNMENT: u64 = 64;
/// In the header: no such token.
const NO_TOKEN: u32 = u32::MAX;

/// What the writer must be told and a reader learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub vocab_size: u32,
    pub tokenizer_fingerprint: [u8; 32],
    pub bos_id: Option<u32>,
    pub eos_id: Option<u32>,
    pub pad_id: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub meta: Meta,
    pub token_bytes: u32,
    pub num_tokens: u64,
    pub num_documents: u64,
    pub text_bytes: u64,
    offsets_checksum: u64,
    sources_checksum: u64,
    tokens_checksum: u64,
}

fn align(position: u64) -> u64 {
    position.next_multiple_of(ALIGNMENT)
}

/// Two bytes hold every id of a vocabulary up to 65,536.
pub fn token_bytes(vocab_size: u32) -> u32 {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// Where the regions lie; a pure function of the counts.
#[derive(Clone, Copy, Debug)]
struct Layout {
    offsets: u64,
    sources: u64,
    tokens: u64,
    end: u64,
}

impl Layout {
    fn new(num_documents: u64, num_tokens: u64, token_bytes: u32) -> Option<Self> {
        let offsets = HEADER_BYTES;
        let sources = align(offsets.checked_add(num_documents.checked_add(1)?.checked_mul(8)?)?);
        let tokens = align(sources.checked_add(num_documents.checked_mul(4)?)?);
        let end = tokens.checked_add(num_tokens.checked_mul(u64::from(token_bytes))?)?;
        Some(Layout {
            offsets,
            sources,
            tokens,
            end,
        })
    }
}

impl Header {
    fn to_bytes(&self, layout: &Layout) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend(MAGIC);
        let meta = &self.meta;
        for value in [
            VERSION,
            HEADER_BYTES as u32,
            self.token_bytes,
            meta.vocab_size,
            meta.bos_id.unwrap_or(NO_TOKEN),
            meta.eos_id.unwrap_or(NO_TOKEN),
            meta.pad_id.unwrap_or(NO_TOKEN),
            0,
        ] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(meta.tokenizer_fingerprint);
        for value in [
            self.num_tokens,
            self.num_documents,
            self.text_bytes,
            layout.offsets,
            layout.sources,
            layout.tokens,
            layout.end,
            self.offsets_checksum,
            self.sources_checksum,
            self.tokens_checksum,
        ] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.resize(CHECKSUM_AT, 0);
        let checksum = xxh3_64(&bytes);
        bytes.extend(checksum.to_le_bytes());
        let mut header = [0; HEADER_BYTES as usize];
        header.copy_from_slice(&bytes);
        header
    }

    /// Reads and checks a header against the size of its file.
    fn from_bytes(bytes: &[u8], file_bytes: u64, file: &Path) -> Result<(Self, Layout)> {
        let wrong = |offset: u64, what, expected: String, got: String| Error::Format {
            file: file.to_path_buf(),
            offset,
            what,
            expected,
            got,
        };
        let mut fields = Fields { bytes, at: 0 };
        let magic: [u8; 8] = fields.take();
        if file_bytes < HEADER_BYTES || magic != MAGIC {
            let got = if file_bytes < HEADER_BYTES {
                format!("a file of {file_bytes} bytes")
            } else {
                format!("{:?}", String::from_utf8_lossy(&magic))
            };
            return Err(wrong(0, "the magic of a token file", "\"BULBATOK\"".into(), got));
        }
        let version = fields.u32();
        if version != VERSION {
            return Err(wrong(
                8,
                "the format version",
                VERSION.to_string(),
                version.to_string(),
            ));
        }
        let stored = Fields {
            bytes,
            at: CHECKSUM_AT,
        }
        .u64();
        let computed = xxh3_64(bytes.get(..CHECKSUM_AT).unwrap_or_default());
        if stored != computed {
            return Err(wrong(
                CHECKSUM_AT as u64,
                "the header checksum",
                format!("{computed:016x}"),
                format!("{stored:016x}"),
            ));
        }
        let _header_bytes = fields.u32();
        let token_bytes = fields.u32();
        let vocab_size = fields.u32();
        let token = |id: u32| (id != NO_TOKEN).then_some(id);
        let (bos_id, eos_id, pad_id) = (token(fields.u32()), token(fields.u32()), token(fields.u32()));
        let _reserved = fields.u32();
        let meta = Meta {
            vocab_size,
            tokenizer_fingerprint: fields.take(),
            bos_id,
            eos_id,
            pad_id,
        };
        let (num_tokens, num_documents, text_bytes) = (fields.u64(), fields.u64(), fields.u64());
        let stored = [fields.u64(), fields.u64(), fields.u64(), fields.u64()];
        let header = Header {
            meta,
            token_bytes,
            num_tokens,
            num_documents,
            text_bytes,
            offsets_checksum: fields.u64(),
            sources_checksum: fields.u64(),
            tokens_checksum: fields.u64(),
        };
        let layout = Layout::new(num_documents, num_tokens, token_bytes)
            .filter(|layout| [layout.offsets, layout.sources, layout.tokens, layout.end] == stored)
            .filter(|_| token_bytes == self::token_bytes(vocab_size))
            .ok_or_else(|| {
                wrong(
                    16,
                    "the layout",
                    "one that follows from the counts".into(),
                    "another".into(),
                )
            })?;
        if file_bytes != layout.end {
            return Err(wrong(
                file_bytes.min(layout.end),
                "the size of the file",
                format!("{} bytes", layout.end),
                format!("{file_bytes} bytes"),
            ));
        }
        Ok((header, layout))
    }
}

/// Little-endian fields one after another; the caller has checked the length.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = self
            .bytes
            .get(self.at..self.at + N)
            .and_then(|field| field.try_into().ok());
        self.at += N;
        field.unwrap_or([0; N])
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// One region of the file, written in order and hashed on the way.
struct Region {
    writer: BufWriter<File>,
    hasher: Xxh3Default,
}

impl Region {
    fn open(path: &Path, start: u64) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(Region {
            writer: BufWriter::with_capacity(1 << 20, file),
            hasher: Xxh3Default::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.writer.write_all(bytes)
    }

    fn finish(mut self) -> std::io::Result<u64> {
        self.writer.flush()?;
        Ok(self.hasher.digest())
    }
}

/// Writes a token file of a known number of documents; memory does not grow with it.
///
/// The file appears under its name only when [`TokenFileWriter::finish`] has written and synced all of it.
pub struct TokenFileWriter {
    path: PathBuf,
    temporary: PathBuf,
    meta: Meta,
    num_documents: u64,
    written_documents: u64,
    num_tokens: u64,
    text_bytes: u64,
    offsets: Region,
    sources: Region,
    tokens: Region,
    scratch: Vec<u8>,
}

impl TokenFileWriter {
    pub fn create(path: &Path, meta: Meta, num_documents: u64) -> Result<Self> {
        let temporary = path.with_extension("tmp");
        let fault = |error| Error::io("create", &temporary, error);
        File::create(&temporary).map_err(fault)?;
        let layout = Layout::new(num_documents, 0, token_bytes(meta.vocab_size)).ok_or(Error::Argument {
            name: "num_documents",
            expected: "a number that fits a file".into(),
            got: num_documents.to_string(),
        })?;
        let mut writer = TokenFileWriter {
            offsets: Region::open(&temporary, layout.offsets).map_err(fault)?,
            sources: Region::open(&temporary, layout.sources).map_err(fault)?,
            tokens: Region::open(&temporary, layout.tokens).map_err(fault)?,
            path: path.to_path_buf(),
            temporary,
            meta,
            num_documents,
            written_documents: 0,
            num_tokens: 0,
            text_bytes: 0,
            scratch: Vec::new(),
        };
        writer.write_offset()?;
        Ok(writer)
    }

    fn fault(&self, error: std::io::Error) -> Error {
        Error::io("write", &self.temporary, error)
    }

    fn write_offset(&mut self) -> Result<()> {
        self.offsets
            .write(&self.num_tokens.to_le_bytes())
            .map_err(|error| Error::io("write", &self.temporary, error))
    }

    /// Appends one document: its ids with bos and eos already in place.
    pub fn push(&mut self, ids: &[u32], source: u32, text_bytes: u64) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| **id >= self.meta.vocab_size) {
            return Err(Error::Argument {
                name: "token id",
                expected: format!("below the vocabulary size {}", self.meta.vocab_size),
                got: id.to_string(),
            });
        }
        if ids.is_empty() {
            return Err(Error::Argument {
                name: "ids",
                expected: "at least one token a document".into(),
                got: "none".into(),
            });
        }
        self.scratch.clear();
        if token_bytes(self.meta.vocab_size) == 2 {
            self.scratch
                .extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes()));
        } else {
            self.scratch.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        let written = self
            .tokens
            .write(&self.scratch)
            .and_then(|()| self.sources.write(&source.to_le_bytes()));
        written.map_err(|error| self.fault(error))?;
        self.num_tokens += ids.len() as u64;
        self.text_bytes += text_bytes;
        self.written_documents += 1;
        self.write_offset()
    }

    pub fn num_tokens(&self) -> u64 {
        self.num_tokens
    }

    pub fn finish(self) -> Result<Header> {
        if self.written_documents != self.num_documents {
            return Err(Error::Argument {
                name: "num_documents",
                expected: self.num_documents.to_string(),
                got: self.written_documents.to_string(),
            });
        }
        let (path, temporary) = (self.path.clone(), self.temporary.clone());
        self.write_header()
            .and_then(|header| {
                std::fs::rename(&temporary, &path)?;
                sync_folder(&path)?;
                Ok(header)
            })
            .map_err(|error| Error::io("write", &path, error))
    }

    fn write_header(self) -> std::io::Result<Header> {
        let header = Header {
            token_bytes: token_bytes(self.meta.vocab_size),
            meta: self.meta,
            num_tokens: self.num_tokens,
            num_documents: self.num_documents,
            text_bytes: self.text_bytes,
            offsets_checksum: self.offsets.finish()?,
            sources_checksum: self.sources.finish()?,
            tokens_checksum: self.tokens.finish()?,
        };
        let layout = Layout::new(header.num_documents, header.num_tokens, header.token_bytes)
            .ok_or_else(|| std::io::Error::other("the file would be larger than any file can be"))?;
        let mut file = OpenOptions::new().write(true).open(&self.temporary)?;
        file.write_all(&header.to_bytes(&layout))?;
        file.set_len(layout.end)?;
        file.sync_all()?;
        Ok(header)
    }
}

/// Makes the rename itself durable. Windows has no such call and needs none.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Token ids as stored.
#[derive(Clone, Copy, Debug)]
pub enum Tokens<'a> {
    U16(&'a [u16]),
    U32(&'a [u32]),
}

/// A read-only token file.
pub struct TokenFile {
    path: PathBuf,
    header: Header,
    layout: Layout,
    map: Mmap,
}

// The file is little-endian and is read in place.
#[cfg(target_endian = "big")]
compile_error!("token files are little-endian and are mapped as they are");

impl TokenFile {
    /// Opens and checks; with a fingerprint it also refuses a file made with another tokenizer.
    pub fn open(path: &Path, tokenizer_fingerprint: Option<&[u8; 32]>) -> Result<Self> {
        let map = map_file(path)?;
        let (header, layout) = Header::from_bytes(&map, map.len() as u64, path)?;
        let file = TokenFile {
            path: path.to_path_buf(),
            header,
            layout,
            map,
        };
        if let Some(expected) = tokenizer_fingerprint
            && *expected != file.header.meta.tokenizer_fingerprint
        {
            return Err(Error::OtherTokenizer {
                file: file.path,
                expected: hex(expected),
                got: hex(&file.header.meta.tokenizer_fingerprint),
            });
        }
        let ends = (file.offsets().first().copied(), file.offsets().last().copied());
        if ends != (Some(0), Some(file.header.num_tokens)) {
            return Err(file.broken(
                file.layout.offsets,
                "the document offsets",
                format!("a list from 0 to {}", file.header.num_tokens),
                format!("one from {:?} to {:?}", ends.0, ends.1),
            ));
        }
        Ok(file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    fn region(&self, start: u64, end: u64) -> &[u8] {
        self.map.get(start as usize..end as usize).unwrap_or_default()
    }

    /// num_documents + 1 positions: document d is tokens[offsets[d]..offsets[d + 1]].
    pub fn offsets(&self) -> &[u64] {
        let end = self.layout.offsets + 8 * (self.header.num_documents + 1);
        bytemuck::try_cast_slice(self.region(self.layout.offsets, end)).unwrap_or_default()
    }

    /// The source index of each document.
    pub fn sources(&self) -> &[u32] {
        let end = self.layout.sources + 4 * self.header.num_documents;
        bytemuck::try_cast_slice(self.region(self.layout.sources, end)).unwrap_or_default()
    }

    pub fn tokens(&self) -> Tokens<'_> {
        let bytes = self.region(self.layout.tokens, self.layout.end);
        if self.header.token_bytes == 2 {
            Tokens::U16(bytemuck::try_cast_slice(bytes).unwrap_or_default())
        } else {
            Tokens::U32(bytemuck::try_cast_slice(bytes).unwrap_or_default())
        }
    }

    /// Reads the whole body and compares its checksums; also checks what the checksums cannot: order and range.
    pub fn verify(&self) -> Result<()> {
        let header = &self.header;
        let offsets_end = self.layout.offsets + 8 * (header.num_documents + 1);
        let sources_end = self.layout.sources + 4 * header.num_documents;
        for (what, start, end, expected) in [
            (
                "the checksum of the offsets",
                self.layout.offsets,
                offsets_end,
                header.offsets_checksum,
            ),
            (
                "the checksum of the sources",
                self.layout.sources,
                sources_end,
                header.sources_checksum,
            ),
            (
                "the checksum of the tokens",
                self.layout.tokens,
                self.layout.end,
                header.tokens_checksum,
            ),
        ] {
            let got = xxh3_64(self.region(start, end));
            if got != expected {
                return Err(self.broken(start, what, format!("{expected:016x}"), format!("{got:016x}")));
            }
        }
        Ok(())
    }

    pub(crate) fn broken(&self, offset: u64, what: &'static str, expected: String, got: String) -> Error {
        Error::Format {
            file: self.path.clone(),
            offset,
            what,
            expected,
            got,
        }
    }

    /// Where a token lies in the file, for messages.
    pub(crate) fn token_offset(&self, token: u64) -> u64 {
        self.layout.tokens + token * u64::from(self.header.token_bytes)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn meta(vocab_size: u32) -> Meta {
        Meta {
            vocab_size,
            tokenizer_fingerprint: [7; 32],
            bos_id: Some(0),
            eos_id: Some(1),
            pad_id: None,
        }
    }

    pub fn write(path: &Path, vocab_size: u32, documents: &[Vec<u32>]) -> Header {
        let mut writer = TokenFileWriter::create(path, meta(vocab_size), documents.len() as u64).unwrap();
        for (number, document) in documents.iter().enumerate() {
            writer.push(document, number as u32 % 3, 5).unwrap();
        }
        writer.finish().unwrap()
    }

    fn ids(file: &TokenFile) -> Vec<u32> {
        match file.tokens() {
            Tokens::U16(tokens) => tokens.iter().map(|id| u32::from(*id)).collect(),
            Tokens::U32(tokens) => tokens.to_vec(),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(documents in prop::collection::vec(prop::collection::vec(0u32..300, 1..20), 1..20), wide: bool) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("train.bin");
            write(&path, if wide { 65_537 } else { 65_536 }, &documents);
            let file = TokenFile::open(&path, Some(&[7; 32])).unwrap();
            file.verify().unwrap();
            prop_assert_eq!(file.header().token_bytes, if wide { 4 } else { 2 });
            prop_assert_eq!(ids(&file), documents.concat());
            prop_assert_eq!(file.offsets().len(), documents.len() + 1);
            prop_assert_eq!(file.header().text_bytes, 5 * documents.len() as u64);
            for (number, document) in documents.iter().enumerate() {
                prop_assert_eq!(file.sources()[number], number as u32 % 3);
                prop_assert_eq!(file.offsets()[number + 1] - file.offsets()[number], document.len() as u64);
            }
        }
    }

    fn fixture() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        write(&path, 300, &[vec![0, 5, 1], vec![0, 6, 7, 1]]);
        let bytes = std::fs::read(&path).unwrap();
        (folder, path, bytes)
    }

    #[test]
    fn every_changed_header_byte_is_refused() {
        let (_folder, path, bytes) = fixture();
        for at in 0..HEADER_BYTES as usize {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                std::fs::write(&path, &changed).unwrap();
                assert!(TokenFile::open(&path, None).is_err(), "byte {at} ^ {flip:02x}");
            }
        }
    }

    #[test]
    fn every_changed_body_byte_is_found_by_verify_or_is_padding() {
        let (_folder, path, bytes) = fixture();
        for at in HEADER_BYTES as usize..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            std::fs::write(&path, &changed).unwrap();
            if let Ok(file) = TokenFile::open(&path, None)
                && file.verify().is_ok()
            {
                std::fs::write(&path, &bytes).unwrap();
                let original = TokenFile::open(&path, None).unwrap();
                assert_eq!(ids(&file), ids(&original), "byte {at}");
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let (_folder, path, bytes) = fixture();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(TokenFile::open(&path, None).is_err(), "{length} bytes");
        }
        let longer = [&bytes[..], b"x"].concat();
        std::fs::write(&path, &longer).unwrap();
        let error = TokenFile::open(&path, None).err().unwrap().to_string();
        assert!(error.contains("size of the file"), "{error}");
    }

    #[test]
    fn foreign_files_and_tokenizers_are_named() {
        let (_folder, path, bytes) = fixture();
        let error = TokenFile::open(&path, Some(&[8; 32])).err().unwrap().to_string();
        assert!(
            error.contains("another tokenizer") && error.contains("0808") && error.contains("0707"),
            "{error}"
        );
        std::fs::write(&path, [b'x'; 1000]).unwrap();
        let error = TokenFile::open(&path, None).err().unwrap().to_string();
        assert!(
            error.contains("BULBATOK") && error.contains("xxxxxxxx"),
            "{error}"
        );
        let mut newer = bytes;
        newer[8] = 2;
        std::fs::write(&path, newer).unwrap();
        let error = TokenFile::open(&path, None).err().unwrap().to_string();
        assert!(
            error.contains("version at byte 8 should be 1 but is 2"),
            "{error}"
        );
    }

    #[test]
    fn nothing_appears_under_the_name_before_finish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        let mut writer = TokenFileWriter::create(&path, meta(300), 2).unwrap();
        writer.push(&[0, 1], 0, 1).unwrap();
        assert!(writer.push(&[300], 0, 1).is_err());
        assert!(!path.exists());
        assert!(writer.finish().is_err());
        assert!(!path.exists());
    }
}
