//! The Python module `bulba._rust`: extract arguments, release the GIL, call `bulba-core`, convert the result.

mod buffers;
mod clean;
mod corpus;
mod dedup;
mod encoder;
mod half_precision;
mod sampler;
mod shard;
mod token_file;

use bulba_core::Error;
use bulba_core::progress::Progress;
use pyo3::prelude::*;

pyo3::import_exception!(bulba.errors, DataError);

fn to_python(error: Error) -> PyErr {
    DataError::new_err(error.to_string())
}

/// Runs a long task without the GIL. Its reports go to `progress`; what that raises, or Ctrl-C, ends the task.
fn run<T: Send>(
    py: Python,
    progress: Option<Py<PyAny>>,
    task: impl FnOnce(&mut Progress) -> bulba_core::Result<T> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let result = py.detach(|| {
        let mut report = |done: u64, total: u64| {
            let reported = Python::attach(|py| {
                py.check_signals()?;
                match &progress {
                    Some(callback) => callback.call1(py, (done, total)).map(drop),
                    None => Ok(()),
                }
            });
            reported.map_err(|error| {
                raised = Some(error);
                Error::Interrupted
            })
        };
        task(&mut report)
    });
    result.map_err(|error| raised.unwrap_or_else(|| to_python(error)))
}

/// Bytes of text: reading, the tokenizer, token files and sampling. `bulba/_rust.pyi` documents each name.
#[pymodule]
mod _rust {
    #[pymodule_export]
    use super::clean::{clean_text, detect_language};
    #[pymodule_export]
    use super::corpus::{Corpus, normalize};
    #[pymodule_export]
    use super::dedup::find_duplicates;
    #[pymodule_export]
    use super::encoder::Encoder;
    #[pymodule_export]
    use super::half_precision::round_to_half;
    #[pymodule_export]
    use super::sampler::Sampler;
    #[pymodule_export]
    use super::shard::ShardWriter;
    #[pymodule_export]
    use super::token_file::TokenFile;
}
