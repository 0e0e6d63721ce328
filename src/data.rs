//! Images: from a folder per class to batches of pixels.
//!
//! Owns what a folder holds, how a file becomes pixels, and in which order and shape batches leave. Knows no tensors.

pub mod augment;
pub mod batching;
pub mod decode;
pub mod folder;
pub mod images;
pub mod loader;
mod prefetch;
pub mod resize;
pub mod sheet;
pub mod subset;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod sample;
