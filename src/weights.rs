//! Pretrained weights: what is known of each file, and how its tensors are read.

pub mod axes;
pub mod format;
pub mod load;
pub mod registry;
pub mod safetensors;
