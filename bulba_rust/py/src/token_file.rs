use crate::{DataError, to_python};
use bulba_core::Error;
use bulba_core::sample::Rows;
use bulba_core::token_file::{self, Tokens, hex};
use pyo3::buffer::{Element, PyBuffer};
use pyo3::prelude::*;
use std::ops::Range;
use std::path::PathBuf;

#[pyclass(frozen, module = "bulba._rust")]
pub struct TokenFile {
    file: token_file::TokenFile,
}

#[pymethods]
impl TokenFile {
    #[new]
    #[pyo3(signature = (path, tokenizer_fingerprint = None))]
    fn new(py: Python, path: PathBuf, tokenizer_fingerprint: Option<&str>) -> PyResult<Self> {
        let expected = tokenizer_fingerprint.map(parse_fingerprint).transpose()?;
        let file = py
            .detach(|| token_file::TokenFile::open(&path, expected.as_ref()))
            .map_err(to_python)?;
        Ok(TokenFile { file })
    }

    #[getter]
    fn num_tokens(&self) -> u64 {
        self.file.header().num_tokens
    }

    #[getter]
    fn num_documents(&self) -> u64 {
        self.file.header().num_documents
    }

    #[getter]
    fn text_bytes(&self) -> u64 {
        self.file.header().text_bytes
    }

    #[getter]
    fn token_bytes(&self) -> u32 {
        self.file.header().token_bytes
    }

    #[getter]
    fn vocab_size(&self) -> u32 {
        self.file.header().meta.vocab_size
    }

    #[getter]
    fn bos_id(&self) -> Option<u32> {
        self.file.header().meta.bos_id
    }

    #[getter]
    fn eos_id(&self) -> Option<u32> {
        self.file.header().meta.eos_id
    }

    #[getter]
    fn pad_id(&self) -> Option<u32> {
        self.file.header().meta.pad_id
    }

    #[getter]
    fn tokenizer_fingerprint(&self) -> String {
        hex(&self.file.header().meta.tokenizer_fingerprint)
    }

    fn rows(&self, seq_len: u64) -> PyResult<u64> {
        self.file.rows(seq_len).map_err(to_python)
    }

    fn eval_rows(&self, seq_len: u64) -> PyResult<u64> {
        self.file.eval_rows(seq_len).map_err(to_python)
    }

    fn verify(&self, py: Python) -> PyResult<()> {
        py.detach(|| self.file.verify()).map_err(to_python)
    }

    fn count_targets(
        &self,
        py: Python,
        first_sample: u64,
        count: u64,
        seq_len: u64,
        seed: Option<u64>,
    ) -> PyResult<u64> {
        py.detach(|| self.file.count_targets(first_sample, count, seq_len, seed))
            .map_err(to_python)
    }

    /// (first token, token after the last, source index) of one document.
    fn document(&self, index: usize) -> PyResult<(u64, u64, u32)> {
        let (offsets, sources) = (self.file.offsets(), self.file.sources());
        match (offsets.get(index), offsets.get(index + 1), sources.get(index)) {
            (Some(start), Some(stop), Some(source)) => Ok((*start, *stop, *source)),
            _ => Err(argument(
                "document",
                format!("below {}", sources.len()),
                index.to_string(),
            )),
        }
    }

    /// Copies tokens start .. start + len(out) into `out`.
    fn read(&self, py: Python, start: u64, out: &Bound<PyAny>) -> PyResult<()> {
        let out = PyBuffer::<i64>::get(out)?;
        check(&out, "out", 1)?;
        let stop = start.saturating_add(out.item_count() as u64);
        if stop > self.file.header().num_tokens {
            let expected = format!("tokens up to {}", self.file.header().num_tokens);
            return Err(argument("start", expected, format!("{start}..{stop}")));
        }
        // SAFETY: checked above; the caller lends it for this call.
        let ids = unsafe { slice(&out) };
        let range = start as usize..stop as usize;
        py.detach(|| match self.file.tokens() {
            Tokens::U16(tokens) => copy(tokens, range, ids),
            Tokens::U32(tokens) => copy(tokens, range, ids),
        });
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // the buffers belong to the caller
    fn fill(
        &self,
        py: Python,
        first_sample: u64,
        count: u64,
        seed: Option<u64>,
        inputs: &Bound<PyAny>,
        targets: &Bound<PyAny>,
        positions: &Bound<PyAny>,
        documents: &Bound<PyAny>,
    ) -> PyResult<u64> {
        let inputs = buffer::<i64>(inputs, "inputs", "int64")?;
        let targets = buffer::<i64>(targets, "targets", "int64")?;
        let positions = buffer::<i32>(positions, "positions", "int32")?;
        let documents = buffer::<i32>(documents, "documents", "int32")?;
        let shape = inputs.shape().to_vec();
        for (name, other) in [
            ("targets", targets.shape()),
            ("positions", positions.shape()),
            ("documents", documents.shape()),
        ] {
            if other != shape {
                return Err(argument(
                    name,
                    format!("shape {shape:?} as inputs"),
                    format!("{other:?}"),
                ));
            }
        }
        if shape[0] as u64 != count {
            return Err(argument(
                "inputs",
                format!("{count} rows"),
                format!("{} rows", shape[0]),
            ));
        }
        check_disjoint(&[span(&inputs), span(&targets), span(&positions), span(&documents)])?;
        // SAFETY: each buffer was checked to be writable, C-contiguous, aligned and apart from the others, and the
        // caller lends them for this call.
        let rows = unsafe {
            Rows {
                inputs: slice(&inputs),
                targets: slice(&targets),
                positions: slice(&positions),
                documents: slice(&documents),
            }
        };
        py.detach(|| self.file.fill(first_sample, count, shape[1] as u64, seed, rows))
            .map_err(to_python)
    }
}

fn copy<T: Copy + Into<i64>>(tokens: &[T], range: Range<usize>, out: &mut [i64]) {
    for (slot, token) in out.iter_mut().zip(tokens.get(range).unwrap_or_default()) {
        *slot = (*token).into();
    }
}

fn argument(name: &'static str, expected: String, got: String) -> PyErr {
    to_python(Error::Argument { name, expected, got })
}

fn parse_fingerprint(text: &str) -> PyResult<[u8; 32]> {
    let wrong = || {
        argument(
            "tokenizer_fingerprint",
            "64 hexadecimal digits".into(),
            text.into(),
        )
    };
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

fn buffer<T: Element>(array: &Bound<PyAny>, name: &'static str, dtype: &str) -> PyResult<PyBuffer<T>> {
    let buffer = PyBuffer::<T>::get(array).map_err(|error| {
        DataError::new_err(format!(
            "argument {name}: expected an array of {dtype} [count, seq_len], got another: {error}"
        ))
    })?;
    check(&buffer, name, 2)?;
    Ok(buffer)
}

fn check<T: Element>(buffer: &PyBuffer<T>, name: &'static str, dimensions: usize) -> PyResult<()> {
    if buffer.readonly() || !buffer.is_c_contiguous() || buffer.dimensions() != dimensions {
        return Err(argument(
            name,
            format!("a writable C-contiguous array of {dimensions} dimensions"),
            format!(
                "readonly={} contiguous={} dimensions={}",
                buffer.readonly(),
                buffer.is_c_contiguous(),
                buffer.dimensions()
            ),
        ));
    }
    Ok(())
}

fn span<T: Element>(buffer: &PyBuffer<T>) -> Range<usize> {
    let start = buffer.buf_ptr() as usize;
    start..start + buffer.len_bytes()
}

fn check_disjoint(spans: &[Range<usize>]) -> PyResult<()> {
    for (number, one) in spans.iter().enumerate() {
        if spans[number + 1..]
            .iter()
            .any(|other| one.start < other.end && other.start < one.end)
        {
            return Err(argument(
                "inputs, targets, positions, documents",
                "separate arrays".into(),
                "overlapping ones".into(),
            ));
        }
    }
    Ok(())
}

/// The memory of a buffer that [`check`] has passed.
///
/// # Safety
/// Nothing else may read or write it while the slice lives.
unsafe fn slice<'a, T: Element>(buffer: &PyBuffer<T>) -> &'a mut [T] {
    if buffer.item_count() == 0 {
        return &mut [];
    }
    // SAFETY: PyBuffer::get has checked type and alignment; the length is the buffer's own.
    unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast::<T>(), buffer.item_count()) }
}
