//! Networks: the backbones' layers by name, what stands on them, and which of it stays frozen.
//!
//! Where the numbers in the layers come from is not decided here: [`parameters::Parameters`] asks for them.

pub mod backbone;
pub mod builder;
pub mod classifier;
pub mod cost;
pub mod dropout;
pub mod efficientnet_lite;
mod flex;
pub mod freeze;
pub mod head;
pub mod keras_order;
pub mod layout;
pub mod mobilenet_v2;
pub mod node;
pub mod operation;
pub mod parameters;
pub mod resnet;
pub mod runner;
pub mod segment;
pub mod top;
pub mod trained_activation;
pub mod trained_convolution;
pub mod trained_linear;
pub mod vgg;
