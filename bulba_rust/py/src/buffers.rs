//! Memory that Python lends for one call.

use crate::DataError;
use crate::token_file::argument;
use pyo3::buffer::{Element, PyBuffer};
use pyo3::prelude::*;
use std::ops::Range;

pub fn buffer<T: Element>(array: &Bound<PyAny>, name: &'static str, dtype: &str) -> PyResult<PyBuffer<T>> {
    let buffer = PyBuffer::<T>::get(array).map_err(|error| {
        DataError::new_err(format!(
            "argument {name}: expected an array of {dtype} [count, seq_len], got another: {error}"
        ))
    })?;
    check(&buffer, name, 2)?;
    Ok(buffer)
}

pub fn check<T: Element>(buffer: &PyBuffer<T>, name: &'static str, dimensions: usize) -> PyResult<()> {
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

pub fn span<T: Element>(buffer: &PyBuffer<T>) -> Range<usize> {
    let start = buffer.buf_ptr() as usize;
    start..start + buffer.len_bytes()
}

pub fn check_disjoint(spans: &[Range<usize>]) -> PyResult<()> {
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
pub unsafe fn slice<'a, T: Element>(buffer: &PyBuffer<T>) -> &'a mut [T] {
    if buffer.item_count() == 0 {
        return &mut [];
    }
    // SAFETY: PyBuffer::get has checked type and alignment; the length is the buffer's own.
    unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast::<T>(), buffer.item_count()) }
}
