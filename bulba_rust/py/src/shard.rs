use crate::clean::{RulesDict, clean_report_dict};
use crate::{run, to_python};
use bulba_core::Error;
use bulba_core::language::Language;
use bulba_core::read::{FileReport, Format, OnBad, read_file};
use bulba_core::shard;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

#[pyclass(frozen, module = "bulba._rust")]
pub struct ShardWriter {
    state: Mutex<Option<State>>,
}

struct State {
    writer: shard::ShardWriter,
    num_files: u32,
    /// Of the documents of the file that is being read, if it is known.
    language: Option<Language>,
}

fn wrong(name: &'static str, expected: &str, got: &str) -> Error {
    Error::Argument {
        name,
        expected: expected.into(),
        got: got.into(),
    }
}

impl ShardWriter {
    fn with<T>(&self, task: impl FnOnce(&mut State) -> bulba_core::Result<T>) -> bulba_core::Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.as_mut() {
            Some(state) => task(state),
            None => Err(wrong("shard", "an open shard", "a finished one")),
        }
    }
}

#[pymethods]
impl ShardWriter {
    #[new]
    #[pyo3(signature = (folder, rules, *, num_threads = 0))]
    fn new(folder: PathBuf, rules: RulesDict, num_threads: usize) -> PyResult<Self> {
        let writer = rules
            .into_rules()
            .and_then(|rules| shard::ShardWriter::create(&folder, rules, num_threads))
            .map_err(to_python)?;
        Ok(ShardWriter {
            state: Mutex::new(Some(State {
                writer,
                num_files: 0,
                language: None,
            })),
        })
    }

    /// The number of the file whose documents follow; `language` is theirs, if it is known.
    #[pyo3(signature = (language = None))]
    fn begin_file(&self, language: Option<&str>) -> PyResult<u32> {
        let language = match language {
            None => None,
            Some(name) => Some(Language::from_name(name).ok_or_else(|| {
                to_python(wrong(
                    "language of a source",
                    "be, ru, uk, en, code or other",
                    name,
                ))
            })?),
        };
        self.with(|state| {
            state.language = language;
            state.num_files += 1;
            Ok(state.num_files - 1)
        })
        .map_err(to_python)
    }

    /// Reads a file as the documents of file number `file`.
    #[pyo3(signature = (path, format, file, *, on_bad = "skip", progress = None))]
    fn add_file<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        format: &str,
        file: u32,
        on_bad: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let format = match format {
            "text" => Format::Text,
            "json" => Format::Json,
            "jsonl" => Format::JsonLines,
            "csv" => Format::Csv,
            other => return Err(to_python(wrong("format", "text, json, jsonl or csv", other))),
        };
        let on_bad = match on_bad {
            "skip" => OnBad::Skip,
            "fail" => OnBad::Fail,
            other => return Err(to_python(wrong("data.on_bad", "skip or fail", other))),
        };
        let report = run(py, progress, |progress| {
            self.with(|state| {
                let mut sink = |text: &str| state.writer.push(text, file, state.language);
                read_file(&path, format, on_bad, &mut sink, progress)
            })
        })?;
        report_dict(py, &report)
    }

    /// Takes texts as documents of file number `file`.
    fn add_documents(&self, py: Python, texts: Vec<PyBackedStr>, file: u32) -> PyResult<()> {
        run(py, None, |_| {
            self.with(|state| {
                texts
                    .iter()
                    .try_for_each(|text| state.writer.push(text, file, state.language))
            })
        })
    }

    /// Waits for the last document; returns the counts by file and the report of the cleaning.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        let state = state.ok_or_else(|| to_python(wrong("shard", "an open shard", "a finished one")))?;
        let report = run(py, None, |_| state.writer.finish())?;
        let dict = PyDict::new(py);
        let files: PyResult<Vec<_>> = report
            .files
            .iter()
            .map(|counts| counts_dict(py, counts))
            .collect();
        dict.set_item("files", files?)?;
        dict.set_item("cleaning", clean_report_dict(py, &report.cleaning)?)?;
        Ok(dict)
    }
}

fn counts_dict<'py>(py: Python<'py>, counts: &shard::FileCounts) -> PyResult<Bound<'py, PyDict>> {
    let languages = PyDict::new(py);
    for language in Language::ALL {
        if let Some(count) = counts
            .languages
            .get(language as usize)
            .filter(|count| **count > 0)
        {
            languages.set_item(language.name(), count)?;
        }
    }
    let dict = PyDict::new(py);
    dict.set_item("documents", counts.documents)?;
    dict.set_item("text_bytes", counts.text_bytes)?;
    dict.set_item("empty", counts.empty)?;
    dict.set_item("dropped", counts.dropped)?;
    dict.set_item("languages", languages)?;
    Ok(dict)
}

fn report_dict<'py>(py: Python<'py>, report: &FileReport) -> PyResult<Bound<'py, PyDict>> {
    let rejects: Vec<(&str, &str)> = report
        .rejects
        .iter()
        .map(|reject| (reject.place.as_str(), reject.reason.as_str()))
        .collect();
    let dict = PyDict::new(py);
    dict.set_item("num_rejected", report.num_rejected)?;
    dict.set_item("rejects", rejects)?;
    dict.set_item("num_cuts", report.num_cuts)?;
    dict.set_item("encoding", report.encoding)?;
    Ok(dict)
}
