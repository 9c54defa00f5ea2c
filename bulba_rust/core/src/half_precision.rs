//! fp32 to f16 by the processor's own instruction, where it has one.

use crate::{Error, Result};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// Rounds to the nearest f16, ties to even; what is too large becomes infinite. `halves` are bit patterns.
pub fn round_to_half(values: &[f32], halves: &mut [u16]) -> Result<()> {
    if values.len() != halves.len() {
        return Err(Error::Argument {
            name: "halves",
            expected: format!("{} numbers", values.len()),
            got: halves.len().to_string(),
        });
    }
    let halves: &mut [f16] = halves.reinterpret_cast_mut();
    halves.convert_from_f32_slice(values);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The nearest of the three f16 around a first guess, by distances in f64.
    fn nearest(value: f32) -> f16 {
        let guess = f16::from_f64(f64::from(value)).to_bits();
        let distance = |bits: u16| (f16::from_bits(bits).to_f64() - f64::from(value)).abs();
        let around = [guess.wrapping_sub(1), guess, guess.wrapping_add(1)];
        let finite = around
            .into_iter()
            .filter(|&bits| f16::from_bits(bits).is_finite());
        let best = finite.min_by(|&a, &b| {
            let even = |bits: u16| bits & 1;
            distance(a).total_cmp(&distance(b)).then(even(a).cmp(&even(b)))
        });
        f16::from_bits(best.unwrap())
    }

    proptest! {
        #[test]
        fn it_is_the_nearest_one(values in prop::collection::vec(-65504f32..65504.0, 1..40)) {
            let mut halves = vec![0; values.len()];
            round_to_half(&values, &mut halves).unwrap();
            for (value, bits) in values.iter().zip(halves) {
                prop_assert_eq!(f16::from_bits(bits), nearest(*value), "{}", value);
            }
        }
    }

    #[test]
    fn every_half_stays_what_it_is() {
        let all: Vec<u16> = (0..=u16::MAX)
            .filter(|&bits| !f16::from_bits(bits).is_nan())
            .collect();
        let values: Vec<f32> = all.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect();
        let mut halves = vec![0; values.len()];
        round_to_half(&values, &mut halves).unwrap();
        assert_eq!(halves, all);
    }

    #[test]
    fn what_is_too_large_is_infinite_and_other_lengths_are_refused() {
        let mut halves = [0; 3];
        round_to_half(&[65519.9, 65520.0, f32::NAN], &mut halves).unwrap();
        assert_eq!(f16::from_bits(halves[0]), f16::MAX);
        assert_eq!(f16::from_bits(halves[1]), f16::INFINITY);
        assert!(f16::from_bits(halves[2]).is_nan());
        assert!(round_to_half(&[1.0], &mut halves).is_err());
    }
}
