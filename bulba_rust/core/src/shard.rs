//! A shard: the cleaned documents of a few input files, on disk, ready to be compared, learnt from and encoded.
//!
//! A folder of three files: `text` holds the documents back to back as UTF-8, `index` one 32-byte [`Record`] per
//! document, `signatures` one [`Signature`] per document. The writer cleans, tags and signs documents on all cores
//! while its caller goes on reading; memory is a few batches, whatever the size of the files. Work files: the caller
//! writes them under a temporary name and renames the folder.

use crate::clean::{CleanReport, Cleaner, Rules};
use crate::dedup::{Signature, Signer};
use crate::language::{Language, detect};
use crate::threads::{in_order, thread_pool};
use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use xxhash_rust::xxh3::xxh3_64;

/// Text handed over at a time; about two of these for each thread exist at once.
const BATCH_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: u64,
    pub text_bytes: u64,
    /// XXH3-64 of the text.
    pub hash: u64,
    /// Which file of the shard the document came from.
    pub file: u32,
    pub language: Language,
}

pub const RECORD_BYTES: usize = 32;

impl Record {
    fn to_words(self) -> [u64; 4] {
        let tags = u64::from(self.file) | u64::from(self.language as u8) << 32;
        [self.offset, self.text_bytes, self.hash, tags]
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let [offset, text_bytes, hash, tags]: [u64; 4] = bytemuck::pod_read_unaligned(bytes);
        Record {
            offset,
            text_bytes,
            hash,
            file: tags as u32,
            language: Language::from_tag((tags >> 32) as u8),
        }
    }
}

/// What came of the documents of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCounts {
    pub documents: u64,
    pub text_bytes: u64,
    /// Of white space only.
    pub empty: u64,
    /// Dropped by a cleaning rule.
    pub dropped: u64,
    /// Documents kept, by [`Language`].
    pub languages: [u64; Language::COUNT],
}

#[derive(Debug, Default)]
pub struct ShardReport {
    pub files: Vec<FileCounts>,
    pub cleaning: CleanReport,
}

#[derive(Default)]
struct Batch {
    text: String,
    documents: Vec<Incoming>,
}

struct Incoming {
    span: Range<usize>,
    file: u32,
    language: Option<Language>,
}

/// Documents in, a shard out.
pub struct ShardWriter {
    batch: Batch,
    /// None once the worker has stopped with an error.
    sender: Option<SyncSender<Batch>>,
    worker: Option<JoinHandle<Result<ShardReport>>>,
}

impl ShardWriter {
    /// `folder` exists and is empty; `num_threads` 0: one for each core.
    pub fn create(folder: &Path, rules: Rules, num_threads: usize) -> Result<Self> {
        let files = Files::create(folder)?;
        let pool = thread_pool(num_threads)?;
        let (sender, receiver) = sync_channel(1);
        let cleaner = Cleaner::new(rules);
        let worker = std::thread::spawn(move || work(&receiver, files, &cleaner, &pool));
        Ok(ShardWriter {
            batch: Batch::default(),
            sender: Some(sender),
            worker: Some(worker),
        })
    }

    /// Takes one document of the shard's file number `file`; `language` overrules the detection.
    pub fn push(&mut self, text: &str, file: u32, language: Option<Language>) -> Result<()> {
        let start = self.batch.text.len();
        self.batch.text.push_str(text);
        self.batch.documents.push(Incoming {
            span: start..self.batch.text.len(),
            file,
            language,
        });
        if self.batch.text.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let sent = self
            .sender
            .as_ref()
            .is_some_and(|sender| sender.send(batch).is_ok());
        if sent { Ok(()) } else { self.join().map(drop) }
    }

    fn join(&mut self) -> Result<ShardReport> {
        self.sender = None;
        let stopped = || Error::Split("the cleaning of a shard stopped unexpectedly: run again".into());
        let worker = self.worker.take().ok_or_else(stopped)?;
        worker.join().map_err(|_| stopped())?
    }

    /// Waits for the last document; the files are complete but not synced.
    pub fn finish(mut self) -> Result<ShardReport> {
        if !self.batch.documents.is_empty() {
            self.flush()?;
        }
        self.join()
    }
}

struct Files {
    folder: PathBuf,
    text: BufWriter<File>,
    index: BufWriter<File>,
    signatures: BufWriter<File>,
    offset: u64,
}

/// A document after cleaning.
struct Ready {
    file: u32,
    text: Option<String>,
    empty: bool,
    language: Language,
    hash: u64,
    signature: Signature,
}

fn work(
    receiver: &Receiver<Batch>,
    mut files: Files,
    cleaner: &Cleaner,
    pool: &rayon::ThreadPool,
) -> Result<ShardReport> {
    let mut report = ShardReport::default();
    let batches = receiver.iter().map(Ok);
    in_order(
        pool,
        batches,
        |batch| process(&batch, cleaner),
        |(ready, cleaning)| {
            report.cleaning.merge(cleaning);
            for ready in ready {
                let number = ready.file as usize;
                if report.files.len() <= number {
                    report.files.resize_with(number + 1, FileCounts::default);
                }
                if let Some(counts) = report.files.get_mut(number) {
                    files.add(&ready, counts)?;
                }
            }
            Ok(())
        },
    )?;
    files.finish()?;
    Ok(report)
}

/// Cleans, tags and signs every document.
fn process(batch: &Batch, cleaner: &Cleaner) -> (Vec<Ready>, CleanReport) {
    let (mut signer, mut report) = (Signer::new(), CleanReport::default());
    let documents = batch.documents.iter();
    let ready = documents
        .map(|incoming| {
            let text = batch.text.get(incoming.span.clone()).unwrap_or_default();
            prepare(text, incoming, cleaner, &mut signer, &mut report)
        })
        .collect();
    (ready, report)
}

fn prepare(
    text: &str,
    incoming: &Incoming,
    cleaner: &Cleaner,
    signer: &mut Signer,
    report: &mut CleanReport,
) -> Ready {
    let mut ready = Ready {
        file: incoming.file,
        text: None,
        empty: text.trim().is_empty(),
        language: Language::Other,
        hash: 0,
        signature: Signature::NONE,
    };
    if ready.empty {
        return ready;
    }
    ready.language = incoming.language.unwrap_or_else(|| detect(text));
    let Some(cleaned) = cleaner.clean(text, ready.language, report) else {
        return ready;
    };
    ready.empty = cleaned.trim().is_empty();
    ready.hash = xxh3_64(cleaned.as_bytes());
    ready.signature = signer.sign(&cleaned);
    ready.text = Some(cleaned.into_owned());
    ready
}

impl Files {
    fn create(folder: &Path) -> Result<Self> {
        let open = |name: &str| {
            let path = folder.join(name);
            File::create(&path)
                .map(|file| BufWriter::with_capacity(1 << 20, file))
                .map_err(|error| Error::io("create", &path, error))
        };
        Ok(Files {
            folder: folder.to_path_buf(),
            text: open("text")?,
            index: open("index")?,
            signatures: open("signatures")?,
            offset: 0,
        })
    }

    fn add(&mut self, ready: &Ready, counts: &mut FileCounts) -> Result<()> {
        match &ready.text {
            _ if ready.empty => counts.empty += 1,
            None => counts.dropped += 1,
            Some(text) => {
                let record = Record {
                    offset: self.offset,
                    text_bytes: text.len() as u64,
                    hash: ready.hash,
                    file: ready.file,
                    language: ready.language,
                };
                self.write(text, record, ready.signature)
                    .map_err(|error| Error::io("write", &self.folder, error))?;
                counts.documents += 1;
                counts.text_bytes += record.text_bytes;
                if let Some(count) = counts.languages.get_mut(ready.language as usize) {
                    *count += 1;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, text: &str, record: Record, signature: Signature) -> std::io::Result<()> {
        self.text.write_all(text.as_bytes())?;
        self.index.write_all(bytemuck::bytes_of(&record.to_words()))?;
        self.signatures.write_all(bytemuck::bytes_of(&signature.0))?;
        self.offset += record.text_bytes;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        [&mut self.text, &mut self.index, &mut self.signatures]
            .into_iter()
            .try_for_each(Write::flush)
            .map_err(|error| Error::io("write", &self.folder, error))
    }
}

/// A finished shard, mapped.
pub struct Shard {
    folder: PathBuf,
    text: Option<Mmap>,
    index: Option<Mmap>,
    signatures: Option<Mmap>,
}

impl Shard {
    pub fn open(folder: &Path) -> Result<Self> {
        let shard = Shard {
            folder: folder.to_path_buf(),
            text: map_file(&folder.join("text"))?,
            index: map_file(&folder.join("index"))?,
            signatures: map_file(&folder.join("signatures"))?,
        };
        let signed = bytes(&shard.signatures).len() / size_of::<Signature>();
        if signed != shard.len() {
            return Err(shard.broken(0, "one signature a document", "another number"));
        }
        Ok(shard)
    }

    pub fn len(&self) -> usize {
        bytes(&self.index).len() / RECORD_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn text_bytes(&self) -> u64 {
        bytes(&self.text).len() as u64
    }

    pub fn record(&self, document: usize) -> Result<Record> {
        let start = document * RECORD_BYTES;
        bytes(&self.index)
            .get(start..start + RECORD_BYTES)
            .map(Record::from_bytes)
            .ok_or_else(|| self.broken(start as u64, "a record", "the end of the file"))
    }

    pub fn signature(&self, document: usize) -> Result<Signature> {
        let start = document * size_of::<Signature>();
        bytes(&self.signatures)
            .get(start..start + size_of::<Signature>())
            .map(|bytes| Signature(bytemuck::pod_read_unaligned(bytes)))
            .ok_or_else(|| self.broken(start as u64, "a signature", "the end of the file"))
    }

    pub fn text(&self, document: usize) -> Result<&str> {
        let record = self.record(document)?;
        let end = record.offset.saturating_add(record.text_bytes) as usize;
        bytes(&self.text)
            .get(record.offset as usize..end)
            .and_then(|bytes| simdutf8::basic::from_utf8(bytes).ok())
            .ok_or_else(|| {
                self.broken(
                    record.offset,
                    "UTF-8 text",
                    "something else or the end of the file",
                )
            })
    }

    fn broken(&self, offset: u64, expected: &str, got: &str) -> Error {
        Error::Format {
            file: self.folder.clone(),
            offset,
            what: "the shard",
            expected: expected.into(),
            got: got.into(),
        }
    }
}

/// Maps a file that is written once and never changed; None for an empty one, which cannot be mapped.
pub(crate) fn map_file(path: &Path) -> Result<Option<Mmap>> {
    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    let size = file
        .metadata()
        .map_err(|error| Error::io("read", path, error))?
        .len();
    if size == 0 {
        return Ok(None);
    }
    // SAFETY: these files are renamed into place or private to this process, and never changed after.
    unsafe { Mmap::map(&file) }
        .map(Some)
        .map_err(|error| Error::io("map", path, error))
}

pub(crate) fn bytes(map: &Option<Mmap>) -> &[u8] {
    map.as_deref().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a shard of (text, file) documents with no rule that drops or changes any but NFC.
    pub(crate) fn write(folder: &Path, documents: &[(String, u32)]) -> ShardReport {
        std::fs::create_dir_all(folder).unwrap();
        let mut writer = ShardWriter::create(folder, Rules::NONE, 2).unwrap();
        for (text, file) in documents {
            writer.push(text, *file, None).unwrap();
        }
        writer.finish().unwrap()
    }

    proptest! {
        #[test]
        fn documents_come_back_normalised_in_any_order(texts in prop::collection::vec((".{0,40}", 0u32..4), 0..20)) {
            let folder = tempfile::tempdir().unwrap();
            let report = write(folder.path(), &texts);
            let expected: Vec<_> = texts
                .iter()
                .filter(|(text, _)| !text.trim().is_empty())
                .map(|(text, file)| (crate::corpus::normalize(text).into_owned(), *file))
                .collect();
            let shard = Shard::open(folder.path()).unwrap();
            prop_assert_eq!(shard.len(), expected.len());
            for (place, (text, file)) in expected.iter().enumerate().rev() {
                let record = shard.record(place).unwrap();
                prop_assert_eq!(shard.text(place).unwrap(), text);
                prop_assert_eq!((record.file, record.hash), (*file, xxh3_64(text.as_bytes())));
                prop_assert_eq!(shard.signature(place).unwrap(), Signer::new().sign(text));
            }
            for (file, counts) in report.files.iter().enumerate() {
                let own = |all: &[(String, u32)]| all.iter().filter(|(_, one)| *one as usize == file).count() as u64;
                prop_assert_eq!(counts.documents, own(&expected));
                prop_assert_eq!(counts.documents + counts.empty, own(&texts));
            }
        }
    }

    #[test]
    fn batches_and_threads_do_not_show() {
        let documents: Vec<(String, u32)> = (0..400)
            .map(|number| (format!("{number} ").repeat(10_000 + number), number as u32 / 7))
            .collect();
        let folders: Vec<_> = [1, 3]
            .into_iter()
            .map(|num_threads| {
                let folder = tempfile::tempdir().unwrap();
                let mut writer = ShardWriter::create(folder.path(), Rules::NONE, num_threads).unwrap();
                for (text, file) in &documents {
                    writer.push(text, *file, Some(Language::Be)).unwrap();
                }
                let report = writer.finish().unwrap();
                assert_eq!(report.files.iter().map(|file| file.documents).sum::<u64>(), 400);
                assert_eq!(report.files[0].languages[Language::Be as usize], 7);
                folder
            })
            .collect();
        for name in ["text", "index", "signatures"] {
            let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(name)).unwrap();
            assert_eq!(read(&folders[0]), read(&folders[1]), "{name}");
        }
    }

    #[test]
    fn a_shard_that_was_cut_short_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("one".into(), 0), ("two".into(), 0)]);
        let text = folder.path().join("text");
        std::fs::write(&text, "onet").unwrap();
        let shard = Shard::open(folder.path()).unwrap();
        assert_eq!(shard.text(0).unwrap(), "one");
        assert!(shard.text(1).unwrap_err().to_string().contains("UTF-8 text"));
        std::fs::write(folder.path().join("signatures"), "").unwrap();
        let error = Shard::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("one signature a document"), "{error}");
    }
}
