//! Tensors by name from a safetensors file, as f32.

use ::safetensors::{Dtype, SafeTensors};

use crate::models::parameters::{Parameters, ParametersError, TensorAddress};

/// A safetensors file in memory. Safetensors are always row-major and contiguous.
#[derive(Debug)]
pub struct SafetensorsParameters<'a> {
    tensors: SafeTensors<'a>,
    hash: String,
}

impl<'a> SafetensorsParameters<'a> {
    /// Reads the header and checks that it fits the bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ParametersError> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| ParametersError::Unreadable(e.to_string()))?;
        Ok(Self { tensors, hash: blake3::hash(bytes).to_hex().to_string() })
    }
}

impl Parameters for SafetensorsParameters<'_> {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        let name = &address.name;
        let view = self.tensors.tensor(name).map_err(|_| ParametersError::Missing { name: name.clone() })?;
        if view.shape() != address.shape {
            return Err(ParametersError::Shape {
                name: name.clone(),
                found: view.shape().to_vec(),
                expected: address.shape.clone(),
            });
        }
        let bytes = view.data();
        match view.dtype() {
            Dtype::F32 => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Dtype::F16 => Ok(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()),
            other => Err(ParametersError::Type { name: name.clone(), dtype: format!("{other:?}") }),
        }
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }
}
