use crate::to_python;
use bulba_core::encoder;
use bulba_core::token_file::hex;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyInt, PyList};
use std::path::PathBuf;

#[pyclass(frozen, module = "bulba._rust")]
pub struct Encoder(pub encoder::Encoder, Numbers);

/// The Python number of each id, of the first at least: to give one again is faster than to make it.
struct Numbers(Vec<Py<PyInt>>);

const MAX_NUMBERS: usize = 1 << 18;

impl Numbers {
    fn new(py: Python, vocab_size: usize) -> PyResult<Self> {
        let ids = 0..vocab_size.min(MAX_NUMBERS);
        let numbers = ids.map(|id| Ok(id.into_pyobject(py)?.unbind()));
        numbers.collect::<PyResult<_>>().map(Numbers)
    }

    fn list<'py>(&self, py: Python<'py>, ids: &[u32]) -> PyResult<Bound<'py, PyList>> {
        let number = |id: &u32| match self.0.get(*id as usize) {
            Some(number) => number.bind(py).clone(),
            None => id.into_pyobject(py).unwrap_or_else(|never| match never {}),
        };
        PyList::new(py, ids.iter().map(number))
    }
}

#[pymethods]
impl Encoder {
    #[new]
    fn new(py: Python, path: PathBuf) -> PyResult<Self> {
        let opened = py.detach(|| encoder::Encoder::open(&path));
        let encoder = opened.map_err(to_python)?;
        let numbers = Numbers::new(py, encoder.vocab_size())?;
        Ok(Encoder(encoder, numbers))
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    #[getter]
    fn fingerprint(&self) -> String {
        hex(&self.0.fingerprint())
    }

    fn encode<'py>(&self, py: Python<'py>, text: PyBackedStr) -> PyResult<Bound<'py, PyList>> {
        let ids = py.detach(|| self.0.encode(&text)).map_err(to_python)?;
        self.1.list(py, &ids)
    }

    #[pyo3(signature = (texts, num_threads = 0))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        num_threads: usize,
    ) -> PyResult<Vec<Bound<'py, PyList>>> {
        let encoded = py.detach(|| self.0.encode_batch(&texts, num_threads));
        let encoded = encoded.map_err(to_python)?;
        encoded.iter().map(|ids| self.1.list(py, ids)).collect()
    }

    #[pyo3(signature = (texts, num_threads = 0))]
    fn count_tokens(&self, py: Python, texts: Vec<PyBackedStr>, num_threads: usize) -> PyResult<Vec<usize>> {
        py.detach(|| self.0.count_tokens(&texts, num_threads))
            .map_err(to_python)
    }

    fn decode(&self, py: Python, ids: Vec<u32>) -> PyResult<Vec<u8>> {
        py.detach(|| self.0.decode(&ids)).map_err(to_python)
    }
}
