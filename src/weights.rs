//! Pretrained weights: what is known of each file, and how its tensors are read.

pub mod registry;
pub mod safetensors;
