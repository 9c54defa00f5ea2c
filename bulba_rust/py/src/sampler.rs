use crate::buffers::{buffer, check_disjoint, slice, span};
use crate::token_file::{TokenFile, argument};
use crate::{run, to_python};
use bulba_core::sample::{self, Mode, Options, Rows};
use pyo3::prelude::*;

type PieceFields = (u64, u64, u64, u64, u64);

#[pyclass(frozen, module = "bulba._rust")]
pub struct Sampler {
    sampler: sample::Sampler,
}

#[pymethods]
impl Sampler {
    #[new]
    #[pyo3(signature = (
        file, seq_len, *, mode = "chunked", seed = None, weights = None, rows = 1, num_threads = 1, progress = None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn new(
        py: Python,
        file: &TokenFile,
        seq_len: u64,
        mode: &str,
        seed: Option<u64>,
        weights: Option<Vec<f64>>,
        rows: u64,
        num_threads: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let known = Mode::ALL.into_iter().find(|known| known.name() == mode);
        let Some(mode) = known else {
            return Err(argument(
                "data.mode",
                "chunked, packed or bucketed".into(),
                mode.into(),
            ));
        };
        let options = Options {
            mode,
            seq_len,
            seed,
            weights,
            rows,
            num_threads,
        };
        let file = file.file.clone();
        let sampler = run(py, progress, |progress| {
            sample::Sampler::open(file, &options, progress)
        })?;
        Ok(Sampler { sampler })
    }

    #[getter]
    fn num_units(&self) -> u64 {
        self.sampler.num_units()
    }

    #[getter]
    fn num_targets(&self) -> u64 {
        self.sampler.num_targets()
    }

    #[getter]
    fn num_slots(&self) -> u64 {
        self.sampler.num_slots()
    }

    /// (rows, length) of every shape that a unit can have.
    #[getter]
    fn shapes(&self) -> Vec<(u64, u64)> {
        self.sampler
            .shapes()
            .iter()
            .map(|shape| (shape.rows, shape.length))
            .collect()
    }

    fn shape(&self, number: u64) -> (u64, u64) {
        let shape = self.sampler.shape(number);
        (shape.rows, shape.length)
    }

    #[pyo3(signature = (first, count, inputs, targets, positions = None, documents = None))]
    #[allow(clippy::too_many_arguments)] // the buffers belong to the caller
    fn fill(
        &self,
        py: Python,
        first: u64,
        count: u64,
        inputs: &Bound<PyAny>,
        targets: &Bound<PyAny>,
        positions: Option<&Bound<PyAny>>,
        documents: Option<&Bound<PyAny>>,
    ) -> PyResult<u64> {
        let inputs = buffer::<i64>(inputs, "inputs", "int64")?;
        let targets = buffer::<i64>(targets, "targets", "int64")?;
        let positions = positions
            .map(|array| buffer::<i32>(array, "positions", "int32"))
            .transpose()?;
        let documents = documents
            .map(|array| buffer::<i32>(array, "documents", "int32"))
            .transpose()?;
        let (rows, length) = self.shape(first);
        let expected = [count.saturating_mul(rows) as usize, length as usize];
        let shapes = [
            ("inputs", Some(inputs.shape())),
            ("targets", Some(targets.shape())),
            ("positions", positions.as_ref().map(|buffer| buffer.shape())),
            ("documents", documents.as_ref().map(|buffer| buffer.shape())),
        ];
        for (name, shape) in shapes {
            if shape.is_some_and(|shape| shape != expected) {
                let got = format!("{:?}", shape.unwrap_or_default());
                return Err(argument(
                    name,
                    format!("shape {expected:?} for {count} units"),
                    got,
                ));
            }
        }
        let spans = [
            Some(span(&inputs)),
            Some(span(&targets)),
            positions.as_ref().map(span),
            documents.as_ref().map(span),
        ];
        check_disjoint(&spans.into_iter().flatten().collect::<Vec<_>>())?;
        // SAFETY: each buffer was checked to be writable, C-contiguous, aligned and apart from the others, and the
        // caller lends them for this call.
        let rows = unsafe {
            Rows {
                inputs: slice(&inputs),
                targets: slice(&targets),
                positions: positions.as_ref().map(|buffer| slice(buffer)),
                documents: documents.as_ref().map(|buffer| slice(buffer)),
            }
        };
        py.detach(|| self.sampler.fill(first, count, rows))
            .map_err(to_python)
    }

    fn count_targets(&self, py: Python, first: u64, count: u64) -> PyResult<u64> {
        py.detach(|| self.sampler.count_targets(first, count))
            .map_err(to_python)
    }

    /// (row, column, length, document, first token) of each run of tokens of one document in a unit.
    fn pieces(&self, py: Python, number: u64) -> PyResult<Vec<PieceFields>> {
        let pieces = py.detach(|| self.sampler.pieces(number)).map_err(to_python)?;
        let piece = |piece: &sample::Piece| {
            (
                piece.row,
                piece.column,
                piece.length,
                piece.document,
                piece.first_token,
            )
        };
        Ok(pieces.iter().map(piece).collect())
    }

    fn verify(&self, py: Python) -> PyResult<()> {
        py.detach(|| self.sampler.verify()).map_err(to_python)
    }
}
