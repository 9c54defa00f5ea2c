use crate::encoder::Encoder;
use crate::{run, to_python};
use bulba_core::bpe::NUM_GROUPS;
use bulba_core::corpus::{self, Dropped, ShardRef};
use bulba_core::dedup::{self, DedupOptions, Duplicate, Duplicates, Kind};
use bulba_core::encode::{self, Counts, FileReport};
use bulba_core::language::Language;
use bulba_core::pieces::{Limits, StoppedBy};
use bulba_core::split::{Split, SplitOptions};
use bulba_core::threads::thread_pool;
use bulba_core::token_file::{Meta, Source};
use bulba_core::tokenizer::{self, Balance, TrainOptions, TrainReport};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::path::PathBuf;

/// `text` in Unicode normal form C, as every document is stored.
#[pyfunction]
pub fn normalize<'py>(text: Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
    let normal = corpus::normalize(text.to_str()?).into_owned();
    Ok(PyString::new(text.py(), &normal))
}

/// Of each kind of thing that a report shows.
const MAX_SAMPLES: usize = 20;
const EXCERPT_CHARS: usize = 120;

#[pyclass(frozen, module = "bulba._rust")]
pub struct Corpus {
    corpus: corpus::Corpus,
}

#[pymethods]
impl Corpus {
    /// `shards`: (folder, source, number of its first file) in the order of the sources.
    #[new]
    fn new(py: Python, shards: Vec<(PathBuf, u32, u32)>) -> PyResult<Self> {
        let refs: Vec<ShardRef> = shards
            .into_iter()
            .map(|(folder, source, first_origin)| ShardRef {
                folder,
                source,
                first_origin,
            })
            .collect();
        let corpus = py.detach(|| corpus::Corpus::open(&refs)).map_err(to_python)?;
        Ok(Corpus { corpus })
    }

    #[getter]
    fn num_documents(&self) -> u32 {
        self.corpus.len()
    }

    #[getter]
    fn text_bytes(&self) -> u64 {
        self.corpus.text_bytes()
    }

    /// (text, source, origin, language) of one document.
    fn document(&self, index: u32) -> PyResult<(String, u32, u32, &'static str)> {
        let corpus = &self.corpus;
        let read = || {
            Ok((
                corpus.text(index)?.to_owned(),
                corpus.source(index)?,
                corpus.origin(index)?,
                corpus.language(index)?.name(),
            ))
        };
        read().map_err(to_python)
    }

    /// Writes the list of duplicates as `folder/dropped` and returns what was found.
    /// `min_jaccard` None: exact copies only.
    #[pyo3(signature = (folder, *, min_jaccard, memory_bytes, progress = None))]
    fn find_duplicates<'py>(
        &self,
        py: Python<'py>,
        folder: PathBuf,
        min_jaccard: Option<f64>,
        memory_bytes: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let options = DedupOptions {
            min_jaccard,
            memory_bytes,
            num_threads: 0,
        };
        let found = run(py, progress, |progress| {
            let found = dedup::find_duplicates(&self.corpus, &options, &folder, progress)?;
            Dropped::new(self.corpus.len(), &found).write(&folder.join("dropped"))?;
            Ok(found)
        })?;
        let samples: PyResult<Vec<_>> = found
            .samples(MAX_SAMPLES)
            .into_iter()
            .map(|duplicate| self.sample_dict(py, &duplicate))
            .collect();
        let dict = PyDict::new(py);
        dict.set_item("exact", found.num_exact)?;
        dict.set_item("near", found.num_near)?;
        dict.set_item("samples", samples?)?;
        Ok(dict)
    }

    /// Writes an empty list of duplicates as `folder/dropped`.
    fn keep_duplicates(&self, folder: PathBuf) -> PyResult<()> {
        Dropped::new(self.corpus.len(), &Duplicates::default())
            .write(&folder.join("dropped"))
            .map_err(to_python)
    }

    #[pyo3(signature = (
        dropped, out_path, *, vocab_size, special_tokens, bos_token, min_frequency, max_text_bytes, max_memory_bytes,
        balance, val_frac, seed, num_threads = 0, progress = None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn train_tokenizer<'py>(
        &self,
        py: Python<'py>,
        dropped: PathBuf,
        out_path: PathBuf,
        vocab_size: usize,
        special_tokens: Vec<String>,
        bos_token: String,
        min_frequency: u64,
        max_text_bytes: u64,
        max_memory_bytes: u64,
        balance: Bound<'py, PyAny>,
        val_frac: f64,
        seed: u64,
        num_threads: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let options = TrainOptions {
            vocab_size,
            special_tokens,
            bos_token,
            min_frequency,
            limits: Limits {
                max_text_bytes,
                max_memory_bytes,
            },
            balance: balance_from(&balance)?,
            num_threads,
        };
        let report = run(py, progress, |progress| {
            let dropped = Dropped::read(&dropped, self.corpus.len())?;
            let split = Split::new(&self.corpus, &dropped, &SplitOptions { val_frac, seed })?;
            let mut total_text_bytes = 0;
            for document in split.train() {
                total_text_bytes += self.corpus.document_bytes(document)?;
            }
            let documents = split.sample().map(|document| {
                let group = self.corpus.language(document)? as u8;
                Ok((self.corpus.text(document)?, group))
            });
            tokenizer::train(documents, total_text_bytes, &options, &out_path, progress)
        })?;
        train_dict(py, &report)
    }

    /// Writes the ids of one shard's documents into `folder`.
    #[pyo3(signature = (shard, dropped, encoder, folder, *, bos_id, eos_id, num_threads = 0, progress = None))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn encode_shard(
        &self,
        py: Python,
        shard: usize,
        dropped: PathBuf,
        encoder: &Bound<Encoder>,
        folder: PathBuf,
        bos_id: u32,
        eos_id: u32,
        num_threads: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let encoder = &encoder.get().0;
        run(py, progress, |progress| {
            let dropped = Dropped::read(&dropped, self.corpus.len())?;
            let job = encode::ShardJob {
                corpus: &self.corpus,
                dropped: &dropped,
                encoder,
                bos_id,
                eos_id,
            };
            job.encode(shard, &thread_pool(num_threads)?, &folder, progress)
        })
    }

    /// Writes `train.bin` and `val.bin` into `out_dir` from the folders that `encode_shard` filled, one a shard.
    #[pyo3(signature = (
        dropped, encoded, encoder, out_dir, *, bos_id, eos_id, pad_id = None, sources, val_frac, seed, progress = None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn assemble<'py>(
        &self,
        py: Python<'py>,
        dropped: PathBuf,
        encoded: Vec<PathBuf>,
        encoder: &Bound<Encoder>,
        out_dir: PathBuf,
        bos_id: u32,
        eos_id: u32,
        pad_id: Option<u32>,
        sources: Vec<(String, Vec<String>)>,
        val_frac: f64,
        seed: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let encoder = &encoder.get().0;
        let sources = sources
            .into_iter()
            .map(|(name, files)| Source { name, files })
            .collect();
        let meta = Meta {
            vocab_size: encode::vocab_size(encoder).map_err(to_python)?,
            tokenizer_fingerprint: encoder.fingerprint(),
            bos_id: Some(bos_id),
            eos_id: Some(eos_id),
            pad_id,
            sources,
        };
        let reports = run(py, progress, |progress| {
            let dropped = Dropped::read(&dropped, self.corpus.len())?;
            let split = Split::new(&self.corpus, &dropped, &SplitOptions { val_frac, seed })?;
            encode::assemble(&self.corpus, &split, &encoded, &meta, &out_dir, progress)
        })?;
        let dict = PyDict::new(py);
        dict.set_item("train", side_dict(py, &reports.train)?)?;
        dict.set_item("val", side_dict(py, &reports.val)?)?;
        Ok(dict)
    }
}

impl Corpus {
    /// A dropped document beside the one that was kept.
    fn sample_dict<'py>(&self, py: Python<'py>, duplicate: &Duplicate) -> PyResult<Bound<'py, PyDict>> {
        let excerpt = |document: u32| -> bulba_core::Result<String> {
            Ok(self.corpus.text(document)?.chars().take(EXCERPT_CHARS).collect())
        };
        let dict = PyDict::new(py);
        dict.set_item(
            "kind",
            match duplicate.kind {
                Kind::Exact => "exact",
                Kind::Near => "near",
            },
        )?;
        dict.set_item("jaccard", duplicate.jaccard)?;
        for (name, document) in [("dropped", duplicate.document), ("kept", duplicate.of)] {
            dict.set_item(
                format!("{name}_origin"),
                self.corpus.origin(document).map_err(to_python)?,
            )?;
            dict.set_item(format!("{name}_text"), excerpt(document).map_err(to_python)?)?;
        }
        Ok(dict)
    }
}

/// "natural", "parity", or the weight of each language by name.
fn balance_from(balance: &Bound<PyAny>) -> PyResult<Balance> {
    if let Ok(weights) = balance.cast::<PyDict>() {
        let mut all = [0.0; NUM_GROUPS];
        for (language, weight) in Language::ALL.iter().zip(&mut all) {
            if let Some(given) = weights.get_item(language.name())? {
                *weight = given.extract()?;
            }
        }
        return Ok(Balance::Weighted(all));
    }
    match balance.extract::<&str>()? {
        "parity" => Ok(Balance::Parity),
        _ => Ok(Balance::Natural),
    }
}

fn train_dict<'py>(py: Python<'py>, report: &TrainReport) -> PyResult<Bound<'py, PyDict>> {
    let reading = report.reading;
    let languages = PyDict::new(py);
    for (language, text_bytes) in Language::ALL.iter().zip(reading.group_bytes) {
        if text_bytes > 0 {
            languages.set_item(language.name(), text_bytes)?;
        }
    }
    let dict = PyDict::new(py);
    dict.set_item("documents", reading.documents)?;
    dict.set_item("text_bytes", reading.text_bytes)?;
    dict.set_item("total_text_bytes", report.total_text_bytes)?;
    dict.set_item("language_bytes", languages)?;
    dict.set_item("distinct_pieces", reading.distinct_pieces)?;
    dict.set_item(
        "stopped_by",
        match reading.stopped_by {
            StoppedBy::End => "end",
            StoppedBy::MaxTextBytes => "max_text_bytes",
            StoppedBy::MaxMemoryBytes => "max_memory_bytes",
        },
    )?;
    Ok(dict)
}

fn side_dict<'py>(py: Python<'py>, report: &FileReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = counts_dict(py, report.counts.iter().flatten())?;
    let sources: PyResult<Vec<_>> = report.counts.iter().map(|row| source_dict(py, row)).collect();
    dict.set_item("sources", sources?)?;
    Ok(dict)
}

/// Sums of one source, and its share of each language.
fn source_dict<'py>(py: Python<'py>, row: &[Counts; Language::COUNT]) -> PyResult<Bound<'py, PyDict>> {
    let languages = PyDict::new(py);
    for (language, counts) in Language::ALL.iter().zip(row) {
        if counts.documents > 0 {
            languages.set_item(language.name(), counts_dict(py, [counts].into_iter())?)?;
        }
    }
    let dict = counts_dict(py, row.iter())?;
    dict.set_item("languages", languages)?;
    Ok(dict)
}

fn counts_dict<'py, 'c>(
    py: Python<'py>,
    counts: impl Iterator<Item = &'c Counts>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut total = Counts::default();
    for one in counts {
        total.documents += one.documents;
        total.tokens += one.tokens;
        total.text_bytes += one.text_bytes;
    }
    let dict = PyDict::new(py);
    dict.set_item("documents", total.documents)?;
    dict.set_item("tokens", total.tokens)?;
    dict.set_item("text_bytes", total.text_bytes)?;
    Ok(dict)
}
