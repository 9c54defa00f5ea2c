//! The header of a token file: what it states, and whether that can be.

use crate::regions::{Fields, HEADER_BYTES, HEADER_CHECKSUM_AT, Regions, header_checksums, seal};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const MAGIC: [u8; 8] = *b"BULBATOK";
pub const VERSION: u32 = 2;
/// In the header: no such token.
const NO_TOKEN: u32 = u32::MAX;

/// Names of the language tags, by tag.
pub const LANGUAGES: [&str; 6] = ["other", "be", "ru", "uk", "en", "code"];

/// A source of text and its input files. The origin of a document is the number of its file, counted over all sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    pub files: Vec<String>,
}

/// What the writer must be told and a reader learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub vocab_size: u32,
    pub tokenizer_fingerprint: [u8; 32],
    pub bos_id: Option<u32>,
    pub eos_id: Option<u32>,
    pub pad_id: Option<u32>,
    pub sources: Vec<Source>,
}

impl Meta {
    /// The first of bos, eos and pad that is not in the vocabulary, and where the header has it.
    pub(super) fn special_id_outside(&self) -> Option<(u64, u32)> {
        [(24, self.bos_id), (28, self.eos_id), (32, self.pad_id)]
            .into_iter()
            .find_map(|(at, id)| Some((at, id.filter(|id| *id >= self.vocab_size)?)))
    }

    /// The origin after the last one of each source.
    pub(super) fn origin_ends(&self) -> impl Iterator<Item = u64> + '_ {
        self.sources.iter().scan(0, |end, source| {
            *end += source.files.len() as u64;
            Some(*end)
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub meta: Meta,
    pub token_bytes: u32,
    pub num_tokens: u64,
    pub num_documents: u64,
    pub text_bytes: u64,
    /// Of the header, and so of everything: it covers the checksum of the checksums. 0 before the file is written.
    pub checksum: u64,
    pub(super) num_sources: u32,
    pub(super) num_origins: u64,
    pub(super) table_bytes: u64,
    pub(super) list_checksum: u64,
}

/// The regions of the body, in their order.
pub(super) const TABLE: usize = 0;
pub(super) const SPANS: usize = 1;
pub(super) const OFFSETS: usize = 2;
pub(super) const ORIGINS: usize = 3;
pub(super) const LANGUAGE_TAGS: usize = 4;
pub(super) const TOKENS: usize = 5;

/// Two bytes hold every id of a vocabulary up to 65,536.
pub fn token_bytes(vocab_size: u32) -> u32 {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

impl Header {
    pub(super) fn regions(&self) -> Option<Regions> {
        Regions::new(&[
            self.table_bytes,
            8 * (u64::from(self.num_sources) + 1),
            self.num_documents.checked_add(1)?.checked_mul(8)?,
            self.num_documents.checked_mul(4)?,
            self.num_documents,
            self.num_tokens.checked_mul(u64::from(self.token_bytes))?,
        ])
    }

    pub(super) fn to_bytes(&self, regions: &Regions) -> Vec<u8> {
        let meta = &self.meta;
        let mut bytes = MAGIC.to_vec();
        for value in [
            VERSION,
            HEADER_BYTES as u32,
            self.token_bytes,
            meta.vocab_size,
            meta.bos_id.unwrap_or(NO_TOKEN),
            meta.eos_id.unwrap_or(NO_TOKEN),
            meta.pad_id.unwrap_or(NO_TOKEN),
            self.num_sources,
        ] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(meta.tokenizer_fingerprint);
        let counts = [
            self.num_tokens,
            self.num_documents,
            self.text_bytes,
            self.num_origins,
            self.table_bytes,
        ];
        for value in counts
            .into_iter()
            .chain(regions.positions())
            .chain([self.list_checksum])
        {
            bytes.extend(value.to_le_bytes());
        }
        seal(bytes)
    }

    /// Reads and checks a header against the size of its file. The sources are still to be read.
    pub(super) fn from_bytes(bytes: &[u8], file: &Path) -> Result<(Self, Regions)> {
        check_identity(bytes, file)?;
        let mut fields = Fields { bytes, at: 16 };
        let (token_bytes, vocab_size) = (fields.u32(), fields.u32());
        let token = |id: u32| (id != NO_TOKEN).then_some(id);
        let (bos_id, eos_id, pad_id) = (token(fields.u32()), token(fields.u32()), token(fields.u32()));
        let num_sources = fields.u32();
        let meta = Meta {
            vocab_size,
            tokenizer_fingerprint: fields.take(),
            bos_id,
            eos_id,
            pad_id,
            sources: Vec::new(),
        };
        let mut header = Header {
            meta,
            token_bytes,
            num_tokens: fields.u64(),
            num_documents: fields.u64(),
            text_bytes: fields.u64(),
            checksum: header_checksums(bytes).1,
            num_sources,
            num_origins: fields.u64(),
            table_bytes: fields.u64(),
            list_checksum: 0,
        };
        let at = fields.at as u64;
        let regions = header.regions();
        let regions = regions.filter(|regions| regions.positions().all(|position| position == fields.u64()));
        let regions = regions.filter(|_| token_bytes == self::token_bytes(vocab_size));
        let regions = regions.ok_or_else(|| {
            broken(
                file,
                at,
                "the layout",
                "one that follows from the counts".into(),
                "another".into(),
            )
        })?;
        header.list_checksum = fields.u64();
        if let Some((at, id)) = header.meta.special_id_outside() {
            let expected = format!("below the vocabulary size {vocab_size}");
            return Err(broken(
                file,
                at,
                "the id of a special token",
                expected,
                id.to_string(),
            ));
        }
        let file_bytes = bytes.len() as u64;
        if file_bytes != regions.end() {
            return Err(broken(
                file,
                file_bytes.min(regions.end()),
                "the size of the file",
                format!("{} bytes", regions.end()),
                format!("{file_bytes} bytes"),
            ));
        }
        Ok((header, regions))
    }
}

/// Magic, byte order, version and the checksum of the header.
fn check_identity(bytes: &[u8], file: &Path) -> Result<()> {
    let mut fields = Fields { bytes, at: 0 };
    let (magic, version, header_bytes): ([u8; 8], _, _) = (fields.take(), fields.u32(), fields.u32());
    let mut backwards = MAGIC;
    backwards.reverse();
    if magic == backwards || (magic == MAGIC && version.swap_bytes() <= VERSION && version != 0) {
        return Err(Error::ForeignByteOrder { file: file.into() });
    }
    if (bytes.len() as u64) < HEADER_BYTES || magic != MAGIC {
        let got = if (bytes.len() as u64) < HEADER_BYTES {
            format!("a file of {} bytes", bytes.len())
        } else {
            format!("{:?}", String::from_utf8_lossy(&magic))
        };
        return Err(broken(
            file,
            0,
            "the magic of a token file",
            "\"BULBATOK\"".into(),
            got,
        ));
    }
    if version != VERSION {
        return Err(Error::OtherVersion {
            file: file.into(),
            offset: 8,
            expected: VERSION,
            got: version,
        });
    }
    let (expected, got) = header_checksums(bytes);
    if expected != got {
        let (expected, got) = (format!("{expected:016x}"), format!("{got:016x}"));
        return Err(broken(
            file,
            HEADER_CHECKSUM_AT as u64,
            "the header checksum",
            expected,
            got,
        ));
    }
    if u64::from(header_bytes) != HEADER_BYTES {
        let (expected, got) = (HEADER_BYTES.to_string(), header_bytes.to_string());
        return Err(broken(file, 12, "the size of the header", expected, got));
    }
    Ok(())
}

pub(super) fn broken(file: &Path, offset: u64, what: &'static str, expected: String, got: String) -> Error {
    Error::Format {
        file: file.to_path_buf(),
        offset,
        what,
        expected,
        got,
    }
}
