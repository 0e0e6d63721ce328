//! Images: from a folder per class, a CSV file or IDX files to batches of pixels; features saved as .npy, too.
//!
//! Owns which images there are, how a file becomes pixels, and in which order and shape batches leave. Knows no tensors.

pub mod augment;
pub mod batching;
pub mod decode;
pub mod duplicates;
pub mod feature_cache;
pub mod features;
pub mod folder;
pub mod idx;
pub mod images;
pub mod listing;
pub mod loader;
pub mod location;
pub mod manifest;
pub mod npy;
pub mod partition;
mod prefetch;
pub mod resize;
pub mod sheet;
pub mod source;
pub mod subset;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod sample;
