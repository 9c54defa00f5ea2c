use crate::{run, to_python};
use bulba_core::Error;
use bulba_core::corpus;
use bulba_core::read::{FileReport, Format, OnBad, read_file};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyString};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// `text` in Unicode normal form C, as every document is stored.
#[pyfunction]
pub fn normalize<'py>(text: Bound<'py, PyString>) -> PyResult<Bound<'py, PyString>> {
    let normal = corpus::normalize(text.to_str()?).into_owned();
    Ok(PyString::new(text.py(), &normal))
}

#[pyclass(frozen, module = "bulba._rust")]
pub struct CorpusWriter {
    writer: Mutex<Option<corpus::CorpusWriter>>,
}

impl CorpusWriter {
    fn with<T>(
        &self,
        task: impl FnOnce(&mut corpus::CorpusWriter) -> bulba_core::Result<T>,
    ) -> bulba_core::Result<T> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.as_mut() {
            Some(writer) => task(writer),
            None => Err(wrong("corpus", "an open corpus file", "a finished one")),
        }
    }
}

fn wrong(name: &'static str, expected: &str, got: &str) -> Error {
    Error::Argument {
        name,
        expected: expected.into(),
        got: got.into(),
    }
}

#[pymethods]
impl CorpusWriter {
    #[new]
    fn new(path: PathBuf) -> PyResult<Self> {
        let writer = corpus::CorpusWriter::create(&path).map_err(to_python)?;
        Ok(CorpusWriter {
            writer: Mutex::new(Some(writer)),
        })
    }

    #[pyo3(signature = (path, format, source, *, on_bad = "skip", progress = None))]
    fn add_file<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        format: &str,
        source: u32,
        on_bad: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let format = match format {
            "text" => Format::Text,
            "json" => Format::Json,
            "jsonl" => Format::JsonLines,
            other => return Err(to_python(wrong("format", "text, json or jsonl", other))),
        };
        let on_bad = match on_bad {
            "skip" => OnBad::Skip,
            "fail" => OnBad::Fail,
            other => return Err(to_python(wrong("data.on_bad", "skip or fail", other))),
        };
        let report = run(py, progress, |progress| {
            self.with(|writer| read_file(&path, format, source, on_bad, writer, progress))
        })?;
        report_dict(py, &report)
    }

    fn add_documents<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        source: u32,
    ) -> PyResult<Bound<'py, PyDict>> {
        let report = run(py, None, |_| {
            self.with(|writer| {
                let mut report = FileReport::default();
                for text in &texts {
                    match writer.push(text, source)? {
                        Some(text_bytes) => {
                            report.documents += 1;
                            report.text_bytes += text_bytes;
                        }
                        None => report.empty += 1,
                    }
                }
                Ok(report)
            })
        })?;
        report_dict(py, &report)
    }

    #[getter]
    fn num_documents(&self) -> PyResult<u64> {
        self.with(|writer| Ok(writer.num_documents())).map_err(to_python)
    }

    #[getter]
    fn text_bytes(&self) -> PyResult<u64> {
        self.with(|writer| Ok(writer.text_bytes())).map_err(to_python)
    }

    fn finish(&self, py: Python) -> PyResult<()> {
        run(py, None, |_| {
            let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
            writer.map_or(Ok(()), corpus::CorpusWriter::finish)
        })
    }
}

fn report_dict<'py>(py: Python<'py>, report: &FileReport) -> PyResult<Bound<'py, PyDict>> {
    let rejects: Vec<(&str, &str)> = report
        .rejects
        .iter()
        .map(|reject| (reject.place.as_str(), reject.reason.as_str()))
        .collect();
    let dict = PyDict::new(py);
    dict.set_item("documents", report.documents)?;
    dict.set_item("text_bytes", report.text_bytes)?;
    dict.set_item("empty", report.empty)?;
    dict.set_item("num_rejected", report.num_rejected)?;
    dict.set_item("rejects", rejects)?;
    Ok(dict)
}
