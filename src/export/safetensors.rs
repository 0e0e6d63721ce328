//! Safetensors with the names of torchvision or timm, axes as PyTorch has them.

use std::collections::BTreeMap;
use std::path::Path;

use ::safetensors::tensor::{Dtype, TensorView, serialize};

use crate::export::{ExportError, Trained};
use crate::weights::axes::{stored_shape, to_stored};
use crate::weights::format::Convention;

/// Writes all tensors, and `metadata` beside them.
pub fn write(trained: &Trained, metadata: BTreeMap<String, String>, path: &Path) -> Result<(), ExportError> {
    let failed = |error: ::safetensors::SafeTensorError| ExportError::Safetensors(error.to_string());
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = trained
        .tensors
        .iter()
        .map(|(address, values)| {
            let values = to_stored(values.clone(), address, Convention::Torch);
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (address.torch.clone(), stored_shape(address, Convention::Torch), bytes)
        })
        .collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let bytes = serialize(views, Some(metadata.into_iter().collect())).map_err(failed)?;
    Ok(std::fs::write(path, bytes)?)
}
