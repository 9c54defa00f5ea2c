use crate::{run, to_python};
use bulba_core::corpus::Corpus;
use bulba_core::encode::{self, EncodeOptions, EncodeReport};
use bulba_core::encoder::Encoder;
use bulba_core::split::{Split, SplitOptions};
use bulba_core::token_file::hex;
use bulba_core::tokenizer::{self, TrainOptions};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyDict;
use std::path::PathBuf;

#[pyfunction]
#[pyo3(signature = (
    corpus, out_path, *, vocab_size, special_tokens, bos_token, min_frequency, max_text_bytes,
    val_frac, seed, weights, num_threads = 0, progress = None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments of Python
pub fn train_tokenizer<'py>(
    py: Python<'py>,
    corpus: PathBuf,
    out_path: PathBuf,
    vocab_size: usize,
    special_tokens: Vec<String>,
    bos_token: String,
    min_frequency: u64,
    max_text_bytes: u64,
    val_frac: f64,
    seed: u64,
    weights: Vec<f64>,
    num_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = TrainOptions {
        vocab_size,
        special_tokens,
        bos_token,
        min_frequency,
        max_text_bytes,
        num_threads,
    };
    let split_options = SplitOptions {
        val_frac,
        seed,
        weights,
    };
    let report = run(py, progress, |progress| {
        let corpus = Corpus::open(&corpus)?;
        let split = Split::new(&corpus, &split_options)?;
        tokenizer::train(&corpus, &split, &options, &out_path, progress)
    })?;
    let dict = PyDict::new(py);
    dict.set_item("documents", report.documents)?;
    dict.set_item("text_bytes", report.text_bytes)?;
    dict.set_item("distinct_pieces", report.distinct_pieces)?;
    Ok(dict)
}

#[pyfunction]
#[pyo3(signature = (
    corpus, tokenizer, out_dir, *, bos_id, eos_id, pad_id = None, val_frac, seed, weights, num_threads = 0,
    progress = None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments of Python
pub fn encode_corpus<'py>(
    py: Python<'py>,
    corpus: PathBuf,
    tokenizer: PathBuf,
    out_dir: PathBuf,
    bos_id: u32,
    eos_id: u32,
    pad_id: Option<u32>,
    val_frac: f64,
    seed: u64,
    weights: Vec<f64>,
    num_threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = EncodeOptions {
        bos_id,
        eos_id,
        pad_id,
        num_sources: weights.len(),
        num_threads,
    };
    let split_options = SplitOptions {
        val_frac,
        seed,
        weights,
    };
    let (reports, fingerprint) = run(py, progress, |progress| {
        let corpus = Corpus::open(&corpus)?;
        let split = Split::new(&corpus, &split_options)?;
        let encoder = Encoder::open(&tokenizer)?;
        let reports = encode::encode_corpus(&corpus, &split, &encoder, &options, &out_dir, progress)?;
        Ok((reports, encoder.fingerprint()))
    })?;
    let dict = PyDict::new(py);
    dict.set_item("train", report_dict(py, &reports.train)?)?;
    dict.set_item("val", report_dict(py, &reports.val)?)?;
    dict.set_item("tokenizer_fingerprint", hex(&fingerprint))?;
    Ok(dict)
}

fn report_dict<'py>(py: Python<'py>, report: &EncodeReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("tokens", report.header.num_tokens)?;
    dict.set_item("documents", report.header.num_documents)?;
    dict.set_item("text_bytes", report.header.text_bytes)?;
    dict.set_item("source_tokens", &report.source_tokens)?;
    dict.set_item("source_documents", &report.source_documents)?;
    Ok(dict)
}

/// Ids of each text without bos and eos, as `encode_corpus` makes them.
#[pyfunction]
pub fn encode_texts(py: Python, tokenizer: PathBuf, texts: Vec<PyBackedStr>) -> PyResult<Vec<Vec<u32>>> {
    let encoded: bulba_core::Result<_> = py.detach(|| {
        let encoder = Encoder::open(&tokenizer)?;
        texts
            .iter()
            .map(|text| encoder.encode(&bulba_core::corpus::normalize(text)))
            .collect()
    });
    encoded.map_err(to_python)
}
