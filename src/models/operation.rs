//! What one node of a network does: a convolution, a norm, a pool… Shapes and names only, no tensors.

use crate::models::parameters::{Axes, Initial, Role, TensorAddress};

/// What a node does with the tensors that come in.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Conv(ConvShape),
    Norm(NormShape),
    Activation(Activation),
    MaxPool(PoolShape),
    /// Zeros around the map.
    Pad(PadShape),
    /// The sum of two tensors of one shape.
    Add,
}

/// What a module with parameters is called in the files of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Keras' layer, for networks that Keras has.
    pub keras: Option<String>,
    /// The module of torchvision or timm: `features.0`.
    pub torch: String,
}

/// One convolution with its bias, if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvShape {
    pub names: Names,
    pub n_in: usize,
    pub n_out: usize,
    /// Kernel height and width, pixels.
    pub kernel: usize,
    pub stride: usize,
    pub padding: Padding,
    pub depthwise: bool,
    pub bias: bool,
    /// How its kernel is drawn where it is not pretrained.
    pub initial: Initial,
}

/// The zeros around a convolution's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// TensorFlow's `SAME`: as many as `⌈size / stride⌉` outputs need, the odd one at the end.
    Same,
    /// `(kernel − 1) / 2` on every side, as PyTorch's networks have it.
    Symmetric,
    Valid,
}

/// A batch norm.
#[derive(Clone, Debug, PartialEq)]
pub struct NormShape {
    pub names: Names,
    pub n_channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of a new batch in the running statistics.
    pub momentum: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
}

/// The largest value of every window that lies in the map whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Window height and width, pixels.
    pub window: usize,
    pub stride: usize,
}

/// How many zeros stand around a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadShape {
    /// So many on every side.
    Even(usize),
    /// As many as [`Padding::Same`] puts before a convolution of this kernel and stride.
    Same { kernel: usize, stride: usize },
}

impl Names {
    /// A module of a network that Keras has, too.
    pub fn both(keras: impl Into<String>, torch: impl Into<String>) -> Self {
        Self { keras: Some(keras.into()), torch: torch.into() }
    }

    pub fn torch(torch: impl Into<String>) -> Self {
        Self { keras: None, torch: torch.into() }
    }

    /// What it is called here: as in Keras where Keras has the network.
    pub fn own(&self) -> &str {
        self.keras.as_deref().unwrap_or(&self.torch)
    }

    /// The layer's name in files of Keras, where PyTorch's backend allows no dots.
    pub fn keras_layer(&self) -> String {
        self.own().replace('.', "_")
    }

    /// A tensor of the module; Keras calls the kernel of a depthwise convolution by that name.
    pub fn tensor(&self, role: Role, axes: Axes, shape: Vec<usize>) -> TensorAddress {
        let (torch, keras) = match role {
            Role::Kernel { .. } if axes == Axes::Depthwise => ("weight", "depthwise_kernel"),
            Role::Kernel { .. } => ("weight", "kernel"),
            Role::Bias => ("bias", "bias"),
            Role::NormScale => ("weight", "gamma"),
            Role::NormShift => ("bias", "beta"),
            Role::RunningMean => ("running_mean", "moving_mean"),
            Role::RunningVariance => ("running_var", "moving_variance"),
        };
        TensorAddress {
            name: format!("{}.{torch}", self.own()),
            torch: format!("{}.{torch}", self.torch),
            keras: format!("{}/{keras}", self.keras_layer()),
            shape,
            role,
            axes,
        }
    }
}

impl Operation {
    /// The tensors it holds: kernel and bias, or scale, shift, running mean and running variance.
    pub fn tensors(&self) -> Vec<TensorAddress> {
        match self {
            Self::Conv(conv) => std::iter::once(conv.kernel()).chain(conv.bias()).collect(),
            Self::Norm(norm) => norm.tensors().to_vec(),
            Self::Activation(_) | Self::MaxPool(_) | Self::Pad(_) | Self::Add => Vec::new(),
        }
    }

    /// Running statistics are not parameters.
    pub fn n_parameters(&self) -> u64 {
        let is_parameter = |tensor: &TensorAddress| !matches!(tensor.role, Role::RunningMean | Role::RunningVariance);
        self.tensors().iter().filter(|tensor| is_parameter(tensor)).map(|tensor| tensor.n_values() as u64).sum()
    }

    /// Channels, height and width of its output; both inputs of a sum have the same.
    pub fn output_chw(&self, [n_channels, height, width]: [usize; 3]) -> [usize; 3] {
        match self {
            Self::Conv(conv) => [conv.n_out, conv.output_size(height), conv.output_size(width)],
            Self::MaxPool(pool) => [n_channels, pool.output_size(height), pool.output_size(width)],
            Self::Pad(pad) => [n_channels, pad.output_size(height), pad.output_size(width)],
            Self::Norm(_) | Self::Activation(_) | Self::Add => [n_channels, height, width],
        }
    }

    /// `3×3/2 dw`, `max 2×2/2`: kernel or window, stride if there is one, and whether it is depthwise.
    pub fn describe(&self) -> String {
        let window = |size: usize, stride: usize| {
            let stride = if stride > 1 { format!("/{stride}") } else { String::new() };
            format!("{size}×{size}{stride}")
        };
        match self {
            Self::Conv(conv) if conv.depthwise => format!("{} dw", window(conv.kernel, conv.stride)),
            Self::Conv(conv) => window(conv.kernel, conv.stride),
            Self::MaxPool(pool) => format!("max {}", window(pool.window, pool.stride)),
            Self::Norm(_) => "norm".to_owned(),
            Self::Activation(Activation::Relu) => "relu".to_owned(),
            Self::Activation(Activation::Relu6) => "relu6".to_owned(),
            Self::Pad(_) => "pad".to_owned(),
            Self::Add => "add".to_owned(),
        }
    }
}

impl ConvShape {
    /// The kernel `[n_out, n_in / groups, kernel, kernel]`.
    pub fn kernel(&self) -> TensorAddress {
        // A depthwise kernel reads and feeds one channel each; EfficientNet's reference code counts fans so too.
        let area = self.kernel * self.kernel;
        let [n_in, n_fed] = if self.depthwise { [1, 1] } else { [self.n_in, self.n_out] };
        let role = Role::Kernel { fan_in: n_in * area, fan_out: n_fed * area, initial: self.initial };
        let axes = if self.depthwise { Axes::Depthwise } else { Axes::Convolution };
        self.names.tensor(role, axes, vec![self.n_out, n_in, self.kernel, self.kernel])
    }

    /// The bias `[n_out]`.
    pub fn bias(&self) -> Option<TensorAddress> {
        self.bias.then(|| self.names.tensor(Role::Bias, Axes::Vector, vec![self.n_out]))
    }

    /// The name of the bias, which a convolution has too once a norm is folded into it.
    pub fn bias_name(&self) -> String {
        format!("{}.bias", self.names.own())
    }

    /// Output pixels along one axis.
    fn output_size(&self, size: usize) -> usize {
        match self.padding {
            Padding::Same => size.div_ceil(self.stride),
            Padding::Symmetric => windows(size + self.kernel - 1, self.kernel, self.stride),
            Padding::Valid => windows(size, self.kernel, self.stride),
        }
    }
}

impl NormShape {
    /// Scale, shift, running mean and running variance, `[n_channels]` each.
    pub fn tensors(&self) -> [TensorAddress; 4] {
        [Role::NormScale, Role::NormShift, Role::RunningMean, Role::RunningVariance]
            .map(|role| self.names.tensor(role, Axes::Vector, vec![self.n_channels]))
    }
}

impl PoolShape {
    fn output_size(&self, size: usize) -> usize {
        windows(size, self.window, self.stride)
    }
}

impl PadShape {
    /// Zeros before and after a map of this size.
    pub fn amounts(&self, size: usize) -> (usize, usize) {
        match *self {
            Self::Even(n) => (n, n),
            Self::Same { kernel, stride } => {
                let n = (size.div_ceil(stride).saturating_sub(1) * stride + kernel).saturating_sub(size);
                (n / 2, n - n / 2)
            }
        }
    }

    fn output_size(&self, size: usize) -> usize {
        let (before, after) = self.amounts(size);
        before + size + after
    }
}

/// Windows that lie in a map whole.
fn windows(size: usize, window: usize, stride: usize) -> usize {
    size.checked_sub(window).map_or(0, |rest| rest / stride + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_for_a_convolution_is_tensorflows() {
        let same = |kernel, stride, size| PadShape::Same { kernel, stride }.amounts(size);
        assert_eq!(same(3, 2, 112), (0, 1));
        assert_eq!(same(3, 2, 75), (1, 1));
        assert_eq!(same(5, 2, 56), (1, 2));
        assert_eq!(same(3, 1, 7), (1, 1));
        assert_eq!(same(1, 2, 7), (0, 0));
    }
}
