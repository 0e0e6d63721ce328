//! Networks: the backbones' layers by name, what stands on them, and which of it stays frozen.
//!
//! Where the numbers in the layers come from is not decided here: [`parameters::Parameters`] asks for them.

pub mod backbone;
pub mod classifier;
pub mod conv;
pub mod dropout;
pub mod efficientnet_lite;
pub mod freeze;
pub mod head;
pub mod layer;
pub mod layout;
pub mod parameters;
pub mod unit;
pub mod vgg;
