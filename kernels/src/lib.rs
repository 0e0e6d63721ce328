//! Convolutions, pools and sums of one image on one thread, for networks whose weights do not change.
//!
//! A crate of its own so that it is compiled with optimisation where `xp` itself is not; it knows nothing of burn.
//! Everything is in planes: a map is `[channels][rows][columns]` with zeros around each plane, see [`map::Map`].
//! What an output value is depends on the weights, on its input pixels and on the machine's vector unit alone: the order
//! of the additions is fixed by input channel and position in the kernel, never by the size of a map, of a batch, or by
//! the number of threads.
//!
//! [`resample`] is about images in bytes before they are any of this.
//!
//! What changes while it trains has modules of its own: [`trained`] for convolutions of batches and their gradients,
//! [`update`] for optimizers.

pub mod convolution;
pub mod dense;
pub mod depthwise;
pub mod elementwise;
mod lanes;
pub mod map;
pub mod resample;
pub mod tile;
pub mod trained;
pub mod update;
pub mod window;
pub mod winograd;

/// The vector unit of this machine that the kernels use.
pub fn vector_unit() -> &'static str {
    match tile::Tile::here().lanes {
        16 => "512-bit vectors",
        8 => "256-bit vectors",
        4 => "128-bit vectors",
        _ => "no vectors",
    }
}
