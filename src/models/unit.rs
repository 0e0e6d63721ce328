//! The units of a backbone as tensors: between two of them a single tensor passes.

use burn::module::Module;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::tensor::{Device, Tensor};

use crate::models::conv::{Conv, LayerTensors};
use crate::models::layer::LayerShape;
use crate::models::layout::UnitShape;
use crate::models::parameters::{Parameters, ParametersError};

/// One row of a backbone.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has few pools")]
enum Layer {
    Conv(Conv),
    MaxPool(MaxPool2d),
}

impl Layer {
    fn new(shape: &LayerShape, parameters: &dyn Parameters, device: &Device) -> Result<Self, ParametersError> {
        Ok(match shape {
            LayerShape::Conv(conv) => Self::Conv(Conv::new(conv, parameters, device)?),
            LayerShape::MaxPool(pool) => {
                let config = MaxPool2dConfig::new([pool.window; 2]).with_strides([pool.stride; 2]);
                Self::MaxPool(config.init())
            }
        })
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Conv(conv) => conv.forward(input),
            Self::MaxPool(pool) => pool.forward(input),
        }
    }

    fn map_conv(self, change: impl FnOnce(Conv) -> Conv) -> Self {
        match self {
            Self::Conv(conv) => Self::Conv(change(conv)),
            Self::MaxPool(_) => self,
        }
    }

    fn tensors(&self, shape: &LayerShape) -> LayerTensors {
        match (self, shape) {
            (Self::Conv(conv), LayerShape::Conv(shape)) => conv.tensors(shape),
            _ => LayerTensors::default(),
        }
    }
}

/// One layer, or a block whose input is added to its output.
#[derive(Module, Debug)]
pub struct Unit {
    layers: Vec<Layer>,
    residual: bool,
}

impl Unit {
    pub fn new(shape: &UnitShape, parameters: &dyn Parameters, device: &Device) -> Result<Self, ParametersError> {
        let layers = shape.layers.iter().map(|layer| Layer::new(layer, parameters, device));
        Ok(Self { layers: layers.collect::<Result<_, _>>()?, residual: shape.residual })
    }

    /// Shape: `[n, c, h, w]` → the last layer's.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let output = self.layers.iter().fold(input.clone(), |x, layer| layer.forward(x));
        if self.residual { output + input } else { output }
    }

    /// Freezes its first `n_layers` layers whole, and the norms of the others when asked.
    pub fn frozen(mut self, n_layers: usize, norms: Norms) -> Self {
        let freeze = |(i, layer): (usize, Layer)| match norms {
            _ if i < n_layers => layer.freeze(),
            Norms::Frozen => layer.map_conv(Conv::with_frozen_norm),
            Norms::Trained => layer,
        };
        self.layers = self.layers.into_iter().enumerate().map(freeze).collect();
        self
    }

    /// The same function in inference mode, its norms folded into its convolutions.
    pub fn folded(mut self) -> Self {
        self.layers = self.layers.into_iter().map(|layer| layer.map_conv(Conv::folded)).collect();
        self
    }

    /// The tensors of each layer by stored name, running statistics included.
    pub fn tensors(&self, shape: &UnitShape) -> impl Iterator<Item = LayerTensors> {
        self.layers.iter().zip(&shape.layers).map(|(layer, shape)| layer.tensors(shape))
    }
}

/// What the norms of trained convolutions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Inference mode, scale and shift untrained.
    Frozen,
    /// Batch statistics, scale and shift trained.
    Trained,
}
