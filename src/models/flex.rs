//! burn's tensors on the CPU as slices, for operations of our own.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

/// Whether our operations take a tensor, with or without autodiff.
pub(super) fn takes<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.device().inner() == Device::flex() && tensor.dtype() == DType::F32
}

/// The values of a tensor that is contiguous and of f32.
pub(super) fn values(tensor: &FloatTensor<Flex>) -> &[f32] {
    tensor.as_slice().expect("the tensor is contiguous and of f32")
}

pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FloatTensor<Flex> {
    <FloatTensor<Flex>>::from_data(TensorData::new(values, shape))
}
