use crate::buffers::{check, check_disjoint, slice, span};
use crate::to_python;
use bulba_core::half_precision;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

#[pyfunction]
pub fn round_to_half(py: Python, values: &Bound<PyAny>, halves: &Bound<PyAny>) -> PyResult<()> {
    let values = PyBuffer::<f32>::get(values)?;
    let halves = PyBuffer::<u16>::get(halves)?;
    check(&values, "values", 2)?;
    check(&halves, "halves", 2)?;
    check_disjoint(&[span(&values), span(&halves)])?;
    // SAFETY: both were checked, are apart, and belong to the caller, who waits for this call.
    let (from, to) = unsafe { (slice(&values), slice(&halves)) };
    py.detach(|| half_precision::round_to_half(from, to))
        .map_err(to_python)
}
