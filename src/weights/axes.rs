//! The axes of a tensor in Keras' and PyTorch's files, and here.
//!
//! | tensor | here | PyTorch | Keras |
//! |---|---|---|---|
//! | convolution | out, in, height, width | the same | height, width, in, out |
//! | depthwise convolution | channel, 1, height, width | the same | height, width, channel, 1 |
//! | dense | in, out | out, in | in, out |
//!
//! The inputs of a dense layer after `Flatten` are in the order channel, height, width here and in PyTorch, and height,
//! width, channel in Keras, whose maps have their channels last.

use crate::models::parameters::{Axes, TensorAddress};
use crate::weights::format::Convention;

/// The shape that a tensor has in a file.
pub fn stored_shape(address: &TensorAddress, convention: Convention) -> Vec<usize> {
    match (convention, address.axes, &address.shape[..]) {
        (Convention::Keras, Axes::Convolution, &[n_out, n_in, height, width]) => vec![height, width, n_in, n_out],
        (Convention::Keras, Axes::Depthwise, &[n_channels, _, height, width]) => vec![height, width, n_channels, 1],
        (Convention::Torch, Axes::Dense { .. }, &[n_in, n_out]) => vec![n_out, n_in],
        (_, _, shape) => shape.to_vec(),
    }
}

/// Values as a file of the convention has them, in the order that they have here.
pub fn from_stored(values: Vec<f32>, address: &TensorAddress, convention: Convention) -> Vec<f32> {
    let stored = stored_shape(address, convention);
    match (convention, address.axes) {
        (Convention::Keras, Axes::Convolution) => permuted(&values, &stored, &[3, 2, 0, 1]),
        (Convention::Keras, Axes::Depthwise) => permuted(&values, &stored, &[2, 3, 0, 1]),
        (Convention::Keras, Axes::Dense { flattened: Some([c, h, w]) }) => {
            permuted(&values, &[h, w, c, stored[1]], &[2, 0, 1, 3])
        }
        (Convention::Torch, Axes::Dense { .. }) => permuted(&values, &stored, &[1, 0]),
        _ => values,
    }
}

/// Values as they are here, in the order that a file of the convention has.
pub fn to_stored(values: Vec<f32>, address: &TensorAddress, convention: Convention) -> Vec<f32> {
    let shape = &address.shape;
    match (convention, address.axes) {
        (Convention::Keras, Axes::Convolution) => permuted(&values, shape, &[2, 3, 1, 0]),
        (Convention::Keras, Axes::Depthwise) => permuted(&values, shape, &[2, 3, 0, 1]),
        (Convention::Keras, Axes::Dense { flattened: Some([c, h, w]) }) => {
            permuted(&values, &[c, h, w, shape[1]], &[1, 2, 0, 3])
        }
        (Convention::Torch, Axes::Dense { .. }) => permuted(&values, shape, &[1, 0]),
        _ => values,
    }
}

/// A row-major array with its axes in another order: axis `i` of what comes out is axis `axes[i]` of what goes in.
fn permuted(values: &[f32], shape: &[usize], axes: &[usize]) -> Vec<f32> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len() - 1).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    let lens: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let steps: Vec<usize> = axes.iter().map(|&axis| strides[axis]).collect();
    let mut out = Vec::with_capacity(values.len());
    let mut at = vec![0; axes.len()];
    let last = axes.len() - 1;
    while out.len() < values.len() {
        let start: usize = at.iter().zip(&steps).map(|(index, step)| index * step).sum();
        out.extend((0..lens[last]).map(|i| values[start + i * steps[last]]));
        // The next place along all axes but the last.
        for axis in (0..last).rev() {
            at[axis] += 1;
            if at[axis] < lens[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::operation::Names;
    use crate::models::parameters::{Initial, Role};

    fn address(axes: Axes, shape: &[usize]) -> TensorAddress {
        let role = Role::Kernel { fan_in: 1, fan_out: 1, initial: Initial::GlorotUniform };
        Names::torch("a").tensor(role, axes, shape.to_vec())
    }

    fn counted(n: usize) -> Vec<f32> {
        (0..n).map(|i| i as f32).collect()
    }

    /// What NumPy gives: `np.arange(24).reshape(2, 3, 1, 4).transpose(3, 2, 0, 1).ravel()` and so on.
    #[test]
    fn keras_kernels_are_turned_as_numpy_turns_them() {
        let conv = address(Axes::Convolution, &[4, 1, 2, 3]);
        assert_eq!(stored_shape(&conv, Convention::Keras), [2, 3, 1, 4]);
        let expected =
            [0, 4, 8, 12, 16, 20, 1, 5, 9, 13, 17, 21, 2, 6, 10, 14, 18, 22, 3, 7, 11, 15, 19, 23].map(|i| i as f32);
        assert_eq!(from_stored(counted(24), &conv, Convention::Keras), expected);
        let depthwise = address(Axes::Depthwise, &[2, 1, 1, 2]);
        assert_eq!(from_stored(counted(4), &depthwise, Convention::Keras), [0.0, 2.0, 1.0, 3.0]);
        // `np.arange(8).reshape(1, 2, 2, 2).transpose(2, 0, 1, 3).ravel()`: two channels of a map of 1×2, two units.
        let dense = address(Axes::Dense { flattened: Some([2, 1, 2]) }, &[4, 2]);
        assert_eq!(from_stored(counted(8), &dense, Convention::Keras), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        let dense = address(Axes::Dense { flattened: None }, &[2, 3]);
        assert_eq!(from_stored(counted(6), &dense, Convention::Torch), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert_eq!(from_stored(counted(6), &dense, Convention::Keras), counted(6));
    }

    #[test]
    fn there_and_back_is_the_same() {
        let all = [
            address(Axes::Vector, &[7]),
            address(Axes::Convolution, &[4, 3, 2, 5]),
            address(Axes::Depthwise, &[6, 1, 3, 2]),
            address(Axes::Dense { flattened: None }, &[5, 3]),
            address(Axes::Dense { flattened: Some([3, 2, 4]) }, &[24, 5]),
        ];
        for address in all {
            for convention in [Convention::Keras, Convention::Torch] {
                let stored = to_stored(counted(address.n_values()), &address, convention);
                assert_eq!(from_stored(stored, &address, convention), counted(address.n_values()), "{address:?}");
            }
        }
    }
}
