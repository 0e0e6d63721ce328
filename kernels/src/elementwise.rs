//! What happens to single values and small windows between convolutions.

use pulp::Arch;

use crate::map::Map;
use crate::window::Clamp;

/// Writes the largest value of every window that lies in the map whole.
pub fn max_pool(input: &Map, window: usize, stride: usize, output: &mut Map, scratch: &mut Vec<f32>) {
    let [height, width] = [output.extent.height, output.extent.width];
    assert!(
        (height - 1) * stride + window <= input.extent.height && (width - 1) * stride + window <= input.extent.width
    );
    Arch::new().dispatch(|| {
        for channel in 0..output.extent.n_channels {
            for y in 0..height {
                scratch.clear();
                scratch.extend_from_slice(input.row(channel, y * stride));
                for row in 1..window {
                    let row = input.row(channel, y * stride + row);
                    scratch.iter_mut().zip(row).for_each(|(largest, value)| *largest = larger(*largest, *value));
                }
                let columns = scratch.windows(window).step_by(stride);
                for (value, column) in output.row_mut(channel, y).iter_mut().zip(columns) {
                    *value = column[1..].iter().fold(column[0], |largest, value| larger(largest, *value));
                }
            }
        }
    });
    output.clear_border();
}

/// A NaN is larger than anything, so that it is not lost.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

#[inline(always)]
fn clamped(value: f32, clamp: Clamp) -> f32 {
    // Comparisons that are false for a NaN, which stays one.
    let value = if value < clamp.low { clamp.low } else { value };
    if value > clamp.high { clamp.high } else { value }
}

/// Adds a map of the same extent, then clamps.
pub fn add(sum: &mut Map, other: &Map, clamp: Clamp) {
    assert_eq!(sum.extent, other.extent, "only maps of one extent are added");
    Arch::new().dispatch(|| {
        let values = sum.values.iter_mut().zip(&other.values);
        values.for_each(|(sum, other)| *sum = clamped(*sum + other, clamp));
    });
    sum.clear_border();
}

/// Brings every value into a range.
pub fn clamp(map: &mut Map, clamp: Clamp) {
    Arch::new().dispatch(|| map.values.iter_mut().for_each(|value| *value = clamped(*value, clamp)));
    map.clear_border();
}

/// Multiplies each channel by its scale, adds its shift, then clamps.
pub fn scale(map: &mut Map, scales: &[f32], shifts: &[f32], clamp: Clamp) {
    assert_eq!([scales.len(), shifts.len()], [map.extent.n_channels; 2]);
    let plane = map.extent.plane();
    Arch::new().dispatch(|| {
        let channels = map.values.chunks_exact_mut(plane).zip(scales.iter().zip(shifts));
        for (values, (scale, shift)) in channels {
            values.iter_mut().for_each(|value| *value = clamped(*value * scale + shift, clamp));
        }
    });
    map.clear_border();
}

/// Copies a map into a larger one, so many rows down and columns to the right; the rest is zeros.
pub fn pad(input: &Map, output: &mut Map, [above, left]: [usize; 2]) {
    output.values.fill(0.0);
    for channel in 0..input.extent.n_channels {
        for y in 0..input.extent.height {
            let row = input.row(channel, y);
            output.row_mut(channel, y + above)[left..left + row.len()].copy_from_slice(row);
        }
    }
}
