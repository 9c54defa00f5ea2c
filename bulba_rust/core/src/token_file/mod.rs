//! The token file: documents as token ids, mapped into memory. `docs/format.md` specifies every byte.
//!
//! Opening checks magic, byte order, version, header checksum, sizes and the table of sources;
//! [`TokenFile::verify`] also reads the whole body.

mod header;
#[cfg(test)]
pub(crate) mod tests;
mod writer;

pub use header::{Header, LANGUAGES, MAGIC, Meta, Source, VERSION, token_bytes};
pub use writer::TokenFileWriter;

use crate::mapping::Mapping;
use crate::progress::{Meter, Progress};
use crate::regions::Regions;
use crate::{Error, Result};
use header::{LANGUAGE_TAGS, OFFSETS, ORIGINS, SPANS, TABLE, TOKENS, broken};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Token ids as stored.
#[derive(Clone, Copy, Debug)]
pub enum Tokens<'a> {
    U16(&'a [u16]),
    U32(&'a [u32]),
}

/// A token id of either width.
pub trait Token: Copy + Ord + Send + Sync {
    fn id(self) -> i64;
}

impl Token for u16 {
    fn id(self) -> i64 {
        i64::from(self)
    }
}

impl Token for u32 {
    fn id(self) -> i64 {
        i64::from(self)
    }
}

/// A read-only token file.
pub struct TokenFile {
    path: PathBuf,
    header: Header,
    regions: Regions,
    map: Mapping,
}

impl TokenFile {
    /// Opens and checks; with a fingerprint it also refuses a file made with another tokenizer.
    pub fn open(path: &Path, tokenizer_fingerprint: Option<&[u8; 32]>) -> Result<Self> {
        let map = Mapping::open(path)?;
        let (header, regions) = Header::from_bytes(&map, path)?;
        let mut file = TokenFile {
            path: path.to_path_buf(),
            header,
            regions,
            map,
        };
        let got = &file.header.meta.tokenizer_fingerprint;
        if let Some(expected) = tokenizer_fingerprint
            && expected != got
        {
            return Err(Error::OtherTokenizer {
                expected: hex(expected),
                got: hex(got),
                file: file.path,
            });
        }
        file.header.meta.sources = file.read_sources()?;
        file.check_ends(
            OFFSETS,
            "the document offsets",
            file.offsets(),
            file.header.num_tokens,
        )?;
        file.check_ends(
            SPANS,
            "the spans of the sources",
            file.spans(),
            file.header.num_documents,
        )?;
        file.check_order(SPANS, "the spans of the sources", file.spans(), |one, next| {
            one <= next
        })?;
        Ok(file)
    }

    fn read_sources(&self) -> Result<Vec<Source>> {
        #[derive(serde::Deserialize)]
        struct Table {
            sources: Vec<Source>,
        }
        let wrong = |expected: String, got| {
            self.broken(self.regions.start(TABLE), "the table of sources", expected, got)
        };
        let table: Table = serde_json::from_slice(self.regions.get(&self.map, TABLE))
            .map_err(|error| wrong("JSON".into(), error.to_string()))?;
        let num_files: usize = table.sources.iter().map(|source| source.files.len()).sum();
        let counts = (table.sources.len() as u64, num_files as u64);
        let expected = (u64::from(self.header.num_sources), self.header.num_origins);
        if counts != expected {
            let text = |(sources, files)| format!("one of {sources} sources and {files} files");
            return Err(wrong(text(expected), text(counts)));
        }
        Ok(table.sources)
    }

    fn check_ends(&self, region: usize, what: &'static str, list: &[u64], last: u64) -> Result<()> {
        let ends = (list.first().copied(), list.last().copied());
        if ends == (Some(0), Some(last)) {
            return Ok(());
        }
        let got = format!("one from {:?} to {:?}", ends.0, ends.1);
        Err(self.broken(
            self.regions.start(region),
            what,
            format!("a list from 0 to {last}"),
            got,
        ))
    }

    fn check_order(
        &self,
        region: usize,
        what: &'static str,
        list: &[u64],
        fits: impl Fn(u64, u64) -> bool,
    ) -> Result<()> {
        let place = list
            .windows(2)
            .position(|pair| matches!(pair, [one, next] if !fits(*one, *next)));
        let Some(place) = place else { return Ok(()) };
        let offset = self.regions.start(region) + 8 * (place as u64 + 1);
        let got = list.get(place + 1).copied().unwrap_or_default();
        let before = list.get(place).copied().unwrap_or_default();
        Err(self.broken(offset, what, format!("above {before}"), got.to_string()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Sources and the names of their input files.
    pub fn sources(&self) -> &[Source] {
        &self.header.meta.sources
    }

    /// num_sources + 1 positions: the documents of source s are spans[s]..spans[s + 1].
    pub fn spans(&self) -> &[u64] {
        self.list(SPANS)
    }

    /// num_documents + 1 positions: document d is tokens[offsets[d]..offsets[d + 1]].
    pub fn offsets(&self) -> &[u64] {
        self.list(OFFSETS)
    }

    /// The number of the input file of each document, counted over all sources.
    pub fn origins(&self) -> &[u32] {
        self.list(ORIGINS)
    }

    /// The language tag of each document, a place in [`LANGUAGES`].
    pub fn languages(&self) -> &[u8] {
        self.list(LANGUAGE_TAGS)
    }

    pub fn tokens(&self) -> Tokens<'_> {
        if self.header.token_bytes == 2 {
            Tokens::U16(self.list(TOKENS))
        } else {
            Tokens::U32(self.list(TOKENS))
        }
    }

    fn list<T: bytemuck::AnyBitPattern>(&self, region: usize) -> &[T] {
        bytemuck::try_cast_slice(self.regions.get(&self.map, region)).unwrap_or_default()
    }

    /// The tokens of a document.
    pub fn document(&self, document: u64) -> Result<Range<u64>> {
        let bounds = self.offsets().get(document as usize..).unwrap_or_default();
        match bounds {
            [start, end, ..] if start <= end && *end <= self.header.num_tokens => Ok(*start..*end),
            [_, _, ..] => {
                let offset = self.regions.start(OFFSETS) + 8 * document;
                Err(self.broken(
                    offset,
                    "a document offset",
                    "in ascending order".into(),
                    "not".into(),
                ))
            }
            _ => Err(Error::Argument {
                name: "document",
                expected: format!("below {}", self.header.num_documents),
                got: document.to_string(),
            }),
        }
    }

    /// The source of a document.
    pub fn source_of(&self, document: u64) -> usize {
        self.spans()
            .partition_point(|first| *first <= document)
            .saturating_sub(1)
    }

    /// The document that holds a token.
    pub fn document_at(&self, token: u64) -> u64 {
        (self.first_offset_after(token) as u64).saturating_sub(1)
    }

    /// The place of the first offset above `token`.
    pub(crate) fn first_offset_after(&self, token: u64) -> usize {
        first_above(self.offsets(), token)
    }

    /// As if it were larger than memory.
    #[cfg(test)]
    pub(crate) fn at_random(mut self) -> Self {
        self.map = self.map.at_random();
        self
    }

    /// Whether pages are read one by one, and asked for with [`TokenFile::will_need`].
    pub(crate) fn is_at_random(&self) -> bool {
        self.map.is_at_random()
    }

    /// Begins to read tokens that will be used soon.
    pub(crate) fn will_need(&self, tokens: Range<u64>) {
        let width = u64::from(self.header.token_bytes);
        let start = self.regions.start(TOKENS);
        self.map
            .will_need((start + tokens.start * width) as usize..(start + tokens.end * width) as usize);
    }

    /// The name of an input file and its source.
    pub fn origin(&self, origin: u32) -> Option<(usize, &str)> {
        let source = self
            .header
            .meta
            .origin_ends()
            .position(|end| u64::from(origin) < end)?;
        let files = &self.sources().get(source)?.files;
        let first = self.header.meta.origin_ends().nth(source)? - files.len() as u64;
        Some((source, files.get((u64::from(origin) - first) as usize)?))
    }

    /// Reads the whole body and compares its checksums, which name the damaged block; then checks what only a broken
    /// writer could get wrong: order, tags and ids.
    pub fn verify(&self, progress: &mut Progress) -> Result<()> {
        let mut meter = Meter::new(progress, self.regions.end());
        self.map.read_in_order(true);
        let damage = self
            .regions
            .verify(&self.map, self.header.list_checksum, |done| meter.tick(done));
        self.map.read_in_order(false);
        let damage = damage?;
        if let Some(damage) = damage {
            let (expected, got) = (
                format!("{:016x}", damage.expected),
                format!("{:016x}", damage.got),
            );
            return Err(self.broken(damage.offset, damage.what, expected, got));
        }
        self.check_order(OFFSETS, "a document offset", self.offsets(), |one, next| {
            one < next
        })?;
        self.check_origins()?;
        match self.tokens() {
            Tokens::U16(tokens) => self.check_ids(tokens, 0)?,
            Tokens::U32(tokens) => self.check_ids(tokens, 0)?,
        }
        meter.finish()
    }

    fn check_origins(&self) -> Result<()> {
        let mut first = 0;
        for (source, (end, span)) in self
            .header
            .meta
            .origin_ends()
            .zip(self.spans().windows(2))
            .enumerate()
        {
            let [from, to] = span else { continue };
            let of_source = self
                .origins()
                .get(*from as usize..*to as usize)
                .unwrap_or_default();
            let wrong = of_source
                .iter()
                .position(|origin| !(first..end).contains(&u64::from(*origin)));
            if let Some(place) = wrong {
                let offset = self.regions.start(ORIGINS) + 4 * (from + place as u64);
                let got = of_source.get(place).copied().unwrap_or_default();
                return Err(self.broken(
                    offset,
                    "an origin",
                    format!("a file of source {source}"),
                    got.to_string(),
                ));
            }
            first = end;
        }
        let wrong = self
            .languages()
            .iter()
            .position(|tag| usize::from(*tag) >= LANGUAGES.len());
        wrong.map_or(Ok(()), |place| {
            let got = self.languages().get(place).copied().unwrap_or_default();
            let offset = self.regions.start(LANGUAGE_TAGS) + place as u64;
            Err(self.broken(
                offset,
                "a language tag",
                format!("below {}", LANGUAGES.len()),
                got.to_string(),
            ))
        })
    }

    /// Refuses an id outside the vocabulary; `first` is the place of `ids` in the tokens.
    pub(crate) fn check_ids<T: Token>(&self, ids: &[T], first: u64) -> Result<()> {
        let vocab_size = i64::from(self.header.meta.vocab_size);
        if ids.iter().fold(0, |largest, id| id.id().max(largest)) < vocab_size {
            return Ok(());
        }
        let place = ids
            .iter()
            .position(|id| id.id() >= vocab_size)
            .unwrap_or_default();
        let id = ids.get(place).map_or(0, |id| id.id());
        let offset = self.regions.start(TOKENS) + (first + place as u64) * u64::from(self.header.token_bytes);
        Err(self.broken(
            offset,
            "a token id",
            format!("below the vocabulary size {vocab_size}"),
            id.to_string(),
        ))
    }

    fn broken(&self, offset: u64, what: &'static str, expected: String, got: String) -> Error {
        broken(&self.path, offset, what, expected, got)
    }
}

/// The place of the first value above `value` in an ascending list, `len` if there is none.
///
/// Documents are much alike, so in a long list a guess by proportion is near; a few corrections of the guess and a
/// search around it touch a handful of pages where halving a list of millions touches two dozen. A list that does not
/// ascend gives some place of it.
fn first_above(list: &[u64], value: u64) -> usize {
    match list.len() < 1 << 16 {
        true => list.partition_point(|other| *other <= value),
        false => guess_first_above(list, value),
    }
}

fn guess_first_above(list: &[u64], value: u64) -> usize {
    let (Some(first), Some(last)) = (list.first(), list.last()) else {
        return 0;
    };
    let at = |place: usize| list.get(place).copied().unwrap_or(u64::MAX);
    let mean = (last.saturating_sub(*first) as f64 / list.len() as f64).max(1e-9);
    let mut guess = 0usize;
    for _ in 0..4 {
        let distance = (value as f64 - at(guess) as f64) / mean;
        guess = (guess as f64 + distance).clamp(0.0, (list.len() - 1) as f64) as usize;
    }
    // low is at or below the value, or the start; high is above it, or the end.
    let (mut low, mut high, mut step) = (guess, guess, 1);
    while low > 0 && at(low) > value {
        high = low;
        low = low.saturating_sub(step);
        step *= 2;
    }
    while high < list.len() && at(high) <= value {
        low = high;
        high = high.saturating_add(step).min(list.len());
        step *= 2;
    }
    let between = list.get(low..high).unwrap_or_default();
    low + between.partition_point(|other| *other <= value)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
