use crate::run;
use bulba_core::dedup::{self, DedupOptions, Documents, Kind, Signature, Signer};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

struct Texts {
    texts: Vec<PyBackedStr>,
    signatures: Vec<Signature>,
}

impl Documents for Texts {
    fn len(&self) -> u32 {
        self.texts.len() as u32
    }

    fn hash(&self, document: u32) -> bulba_core::Result<u64> {
        let mut hasher = DefaultHasher::new();
        self.texts[document as usize].hash(&mut hasher);
        Ok(hasher.finish())
    }

    fn signature(&self, document: u32) -> bulba_core::Result<Signature> {
        Ok(self.signatures[document as usize])
    }

    fn text(&self, document: u32) -> bulba_core::Result<&str> {
        Ok(&self.texts[document as usize])
    }
}

/// (index, of, kind, Jaccard index) of every text that repeats an earlier one.
#[pyfunction]
#[pyo3(signature = (
    texts, threshold = 0.8, *, memory_bytes = 268_435_456, num_threads = 0, work_folder = None, progress = None
))]
pub fn find_duplicates(
    py: Python,
    texts: Vec<PyBackedStr>,
    threshold: f64,
    memory_bytes: usize,
    num_threads: usize,
    work_folder: Option<PathBuf>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<(u32, u32, &'static str, f64)>> {
    let options = DedupOptions {
        min_jaccard: Some(threshold),
        memory_bytes,
        num_threads,
    };
    let work_folder = work_folder.unwrap_or_else(std::env::temp_dir);
    let found = run(py, progress, |progress| {
        let mut signer = Signer::new();
        let signatures = texts.iter().map(|text| signer.sign(text)).collect();
        dedup::find_duplicates(&Texts { texts, signatures }, &options, &work_folder, progress)
    })?;
    let dropped = found.dropped.into_iter().map(|duplicate| {
        let kind = match duplicate.kind {
            Kind::Exact => "exact",
            Kind::Near => "near",
        };
        (duplicate.document, duplicate.of, kind, duplicate.jaccard)
    });
    Ok(dropped.collect())
}
