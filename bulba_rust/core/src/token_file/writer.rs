//! Writing a token file, one document after another.

use super::header::{
    Header, LANGUAGE_TAGS, LANGUAGES, Meta, OFFSETS, ORIGINS, SPANS, TABLE, TOKENS, token_bytes,
};
use crate::regions::RegionsWriter;
use crate::{Error, Result};
use std::path::Path;

/// Writes a token file of a known number of documents; memory does not grow with it.
///
/// The file appears under its name only when [`TokenFileWriter::finish`] has written and synced all of it.
pub struct TokenFileWriter {
    file: RegionsWriter,
    header: Header,
    /// First and last + 1 origin of each source.
    origins: Vec<(u64, u64)>,
    /// The first document of each source up to the one that is being written.
    spans: Vec<u64>,
    /// Documents still to come.
    missing: u64,
    scratch: Vec<u8>,
}

impl TokenFileWriter {
    pub fn create(path: &Path, meta: Meta, num_documents: u64) -> Result<Self> {
        let too_many = |name, got| Error::Argument {
            name,
            expected: "a number that fits a file".into(),
            got,
        };
        if let Some((_, id)) = meta.special_id_outside() {
            let expected = format!("below the vocabulary size {}", meta.vocab_size);
            return Err(argument("special token id", expected, id.to_string()));
        }
        let table = table(&meta)?;
        let ends: Vec<u64> = meta.origin_ends().collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let mut header = Header {
            token_bytes: token_bytes(meta.vocab_size),
            num_sources: u32::try_from(meta.sources.len())
                .map_err(|_| too_many("sources", meta.sources.len().to_string()))?,
            num_origins: ends.last().copied().unwrap_or(0),
            table_bytes: table.len() as u64,
            num_tokens: 0,
            num_documents,
            text_bytes: 0,
            checksum: 0,
            list_checksum: 0,
            meta,
        };
        let regions = header.regions();
        let regions = regions.ok_or_else(|| too_many("num_documents", num_documents.to_string()))?;
        let mut file = RegionsWriter::create(path, &regions)?;
        file.write(TABLE, &table)?;
        file.write(OFFSETS, &0u64.to_le_bytes())?;
        header.num_documents = 0;
        Ok(TokenFileWriter {
            file,
            header,
            origins: starts.zip(ends.iter().copied()).collect(),
            spans: vec![0],
            missing: num_documents,
            scratch: Vec::new(),
        })
    }

    /// Appends one document: its ids with bos and eos already in place. Documents come in the order of their sources.
    pub fn push(&mut self, ids: &[u32], origin: u32, language: u8, text_bytes: u64) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        if self.header.token_bytes == 2 && ids.iter().all(|id| *id <= u32::from(u16::MAX)) {
            bytes.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes()));
        } else {
            bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        let largest = ids.iter().copied().max();
        let pushed = self
            .check_ids(largest)
            .and_then(|()| self.append(&bytes, ids.len() as u64, origin, language, text_bytes));
        self.scratch = bytes;
        pushed
    }

    /// As [`TokenFileWriter::push`], with the ids as the file stores them: little-endian, `token_bytes` each.
    pub fn push_raw(&mut self, tokens: &[u8], origin: u32, language: u8, text_bytes: u64) -> Result<()> {
        let width = self.header.token_bytes as usize;
        if !tokens.len().is_multiple_of(width) {
            return Err(argument(
                "tokens",
                format!("whole ids of {width} bytes"),
                format!("{} bytes", tokens.len()),
            ));
        }
        self.check_ids(largest(tokens, width))?;
        self.append(
            tokens,
            (tokens.len() / width) as u64,
            origin,
            language,
            text_bytes,
        )
    }

    fn check_ids(&self, largest: Option<u32>) -> Result<()> {
        let vocab_size = self.header.meta.vocab_size;
        match largest {
            Some(id) if id < vocab_size => Ok(()),
            Some(id) => Err(argument(
                "token id",
                format!("below the vocabulary size {vocab_size}"),
                id.to_string(),
            )),
            None => Err(argument(
                "ids",
                "at least one token a document".into(),
                "none".into(),
            )),
        }
    }

    fn append(&mut self, bytes: &[u8], count: u64, origin: u32, language: u8, text_bytes: u64) -> Result<()> {
        if usize::from(language) >= LANGUAGES.len() {
            return Err(argument(
                "language",
                format!("a tag below {}", LANGUAGES.len()),
                language.to_string(),
            ));
        }
        let Some(missing) = self.missing.checked_sub(1) else {
            let expected = self.header.num_documents;
            return Err(argument(
                "num_documents",
                expected.to_string(),
                format!("one more than {expected}"),
            ));
        };
        self.enter_source(origin)?;
        self.missing = missing;
        self.header.num_documents += 1;
        self.header.num_tokens += count;
        self.header.text_bytes += text_bytes;
        self.file.write(TOKENS, bytes)?;
        self.file.write(ORIGINS, &origin.to_le_bytes())?;
        self.file.write(LANGUAGE_TAGS, &[language])?;
        self.file.write(OFFSETS, &self.header.num_tokens.to_le_bytes())
    }

    /// Ends sources until `origin` belongs to the last one begun.
    fn enter_source(&mut self, origin: u32) -> Result<()> {
        let origin = u64::from(origin);
        let current = self.spans.len() - 1;
        let source = self.origins.partition_point(|(_, end)| *end <= origin);
        if origin >= self.header.num_origins {
            let expected = format!("below the number of input files {}", self.header.num_origins);
            return Err(argument("origin", expected, origin.to_string()));
        }
        if source < current {
            let expected =
                format!("documents in the order of their sources, now of source {current} or later");
            return Err(argument("origin", expected, format!("one of source {source}")));
        }
        self.spans.resize(source + 1, self.header.num_documents);
        Ok(())
    }

    pub fn num_tokens(&self) -> u64 {
        self.header.num_tokens
    }

    pub fn num_documents(&self) -> u64 {
        self.header.num_documents
    }

    pub fn finish(mut self) -> Result<Header> {
        let header = &mut self.header;
        if self.missing != 0 {
            let expected = header.num_documents + self.missing;
            return Err(argument(
                "num_documents",
                expected.to_string(),
                header.num_documents.to_string(),
            ));
        }
        self.spans
            .resize(header.num_sources as usize + 1, header.num_documents);
        for first in self.spans {
            self.file.write(SPANS, &first.to_le_bytes())?;
        }
        let regions = header.regions().ok_or_else(|| {
            let source = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
            Error::io("write", self.file.path(), source)
        })?;
        self.file.finish(&regions, |list_checksum| {
            header.list_checksum = list_checksum;
            let bytes = header.to_bytes(&regions);
            header.checksum = crate::regions::header_checksums(&bytes).1;
            bytes
        })?;
        Ok(self.header)
    }
}

fn largest(tokens: &[u8], width: usize) -> Option<u32> {
    if width == 2 {
        let ids = tokens.as_chunks::<2>().0.iter().map(|id| u16::from_le_bytes(*id));
        ids.max().map(u32::from)
    } else {
        tokens
            .as_chunks::<4>()
            .0
            .iter()
            .map(|id| u32::from_le_bytes(*id))
            .max()
    }
}

/// The table of sources as it is stored.
fn table(meta: &Meta) -> Result<Vec<u8>> {
    #[derive(serde::Serialize)]
    struct Table<'a> {
        sources: &'a [super::Source],
    }
    let table = Table {
        sources: &meta.sources,
    };
    serde_json::to_vec(&table).map_err(|error| argument("sources", "names of text".into(), error.to_string()))
}

fn argument(name: &'static str, expected: String, got: String) -> Error {
    Error::Argument { name, expected, got }
}
