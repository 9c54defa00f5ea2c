use crate::buffers::{check, slice};
use crate::{run, to_python};
use bulba_core::Error;
use bulba_core::token_file::{self, LANGUAGES, Tokens, hex};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

#[pyclass(frozen, module = "bulba._rust")]
pub struct TokenFile {
    pub file: Arc<token_file::TokenFile>,
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
        Ok(TokenFile { file: Arc::new(file) })
    }

    /// Names of the language tags, by tag.
    #[classattr]
    const LANGUAGES: [&'static str; LANGUAGES.len()] = LANGUAGES;

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

    /// Name and input files of each source.
    #[getter]
    fn sources(&self) -> Vec<(&str, Vec<&str>)> {
        let sources = self.file.sources().iter();
        sources
            .map(|source| {
                (
                    source.name.as_str(),
                    source.files.iter().map(String::as_str).collect(),
                )
            })
            .collect()
    }

    /// The first document of each source, and the number of documents.
    #[getter]
    fn spans(&self) -> Vec<u64> {
        self.file.spans().to_vec()
    }

    /// Of the header, and through it of the whole content.
    #[getter]
    fn checksum(&self) -> u64 {
        self.file.header().checksum
    }

    #[getter]
    fn tokenizer_fingerprint(&self) -> String {
        hex(&self.file.header().meta.tokenizer_fingerprint)
    }

    #[pyo3(signature = (progress = None))]
    fn verify(&self, py: Python, progress: Option<Py<PyAny>>) -> PyResult<()> {
        run(py, progress, |progress| self.file.verify(progress))
    }

    /// (first token, token after the last, source, origin, language tag) of one document.
    fn document(&self, index: u64) -> PyResult<(u64, u64, usize, u32, u8)> {
        let tokens = self.file.document(index).map_err(to_python)?;
        let origin = self.file.origins().get(index as usize).copied();
        let language = self.file.languages().get(index as usize).copied();
        let source = self.file.source_of(index);
        Ok((
            tokens.start,
            tokens.end,
            source,
            origin.unwrap_or_default(),
            language.unwrap_or_default(),
        ))
    }

    /// (name of the source, name of the input file) of an origin.
    fn origin(&self, origin: u32) -> PyResult<(&str, &str)> {
        let found = self.file.origin(origin);
        let named =
            found.and_then(|(source, file)| Some((self.file.sources().get(source)?.name.as_str(), file)));
        named.ok_or_else(|| argument("origin", "the number of an input file".into(), origin.to_string()))
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
}

fn copy<T: Copy + Into<i64>>(tokens: &[T], range: Range<usize>, out: &mut [i64]) {
    for (slot, token) in out.iter_mut().zip(tokens.get(range).unwrap_or_default()) {
        *slot = (*token).into();
    }
}

pub fn argument(name: &'static str, expected: String, got: String) -> PyErr {
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
