//! One row of a backbone: a convolution with what follows it, or a pool. Shapes and names only, no tensors.

use crate::models::parameters::{Initial, Role, TensorAddress};

/// What a row does, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerShape {
    Conv(ConvShape),
    MaxPool(PoolShape),
}

/// One convolution with its bias, norm and activation, as far as it has them.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvShape {
    /// The row's name, which is also where its kernel and bias are stored: `blocks.1.0.conv_dw`.
    pub name: String,
    pub n_in: usize,
    pub n_out: usize,
    /// Kernel height and width, pixels.
    pub kernel: usize,
    pub stride: usize,
    pub depthwise: bool,
    pub bias: bool,
    pub norm: Option<NormShape>,
    pub activation: Activation,
    /// How its kernel is drawn where it is not pretrained.
    pub initial: Initial,
}

/// The batch norm after a convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct NormShape {
    /// Where its tensors are stored: `blocks.1.0.bn2`.
    pub name: String,
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of a new batch in the running statistics.
    pub momentum: f64,
}

/// What follows a convolution and its norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
}

/// The largest value of every window, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolShape {
    pub name: String,
    /// Window height and width, pixels.
    pub window: usize,
    pub stride: usize,
}

impl LayerShape {
    pub fn name(&self) -> &str {
        match self {
            Self::Conv(conv) => &conv.name,
            Self::MaxPool(pool) => &pool.name,
        }
    }

    pub fn conv(&self) -> Option<&ConvShape> {
        match self {
            Self::Conv(conv) => Some(conv),
            Self::MaxPool(_) => None,
        }
    }

    /// Running statistics are not parameters.
    pub fn n_parameters(&self) -> u64 {
        self.conv().map_or(0, ConvShape::n_parameters)
    }

    /// Those of its parameters that are a norm's.
    pub fn n_norm_parameters(&self) -> u64 {
        self.conv().map_or(0, ConvShape::n_norm_parameters)
    }

    /// Channels, height and width of its output.
    pub fn output_chw(&self, [n_channels, height, width]: [usize; 3]) -> [usize; 3] {
        match self {
            Self::Conv(conv) => [conv.n_out, conv.output_size(height), conv.output_size(width)],
            Self::MaxPool(pool) => [n_channels, pool.output_size(height), pool.output_size(width)],
        }
    }

    /// The fewest input pixels along one axis that give so many output pixels.
    pub fn input_size(&self, output: usize) -> usize {
        match self {
            Self::Conv(conv) => (output - 1) * conv.stride + 1,
            Self::MaxPool(pool) => (output - 1) * pool.stride + pool.window,
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
        }
    }
}

impl ConvShape {
    /// The kernel `[n_out, n_in / groups, kernel, kernel]`.
    pub fn kernel(&self) -> TensorAddress {
        // A depthwise kernel reads and feeds one channel each; EfficientNet's reference code counts fans so too.
        let area = self.kernel * self.kernel;
        let [n_in, n_fed] = if self.depthwise { [1, 1] } else { [self.n_in, self.n_out] };
        TensorAddress {
            name: format!("{}.weight", self.name),
            shape: vec![self.n_out, n_in, self.kernel, self.kernel],
            role: Role::Kernel { fan_in: n_in * area, fan_out: n_fed * area, initial: self.initial },
        }
    }

    /// The bias `[n_out]`.
    pub fn bias(&self) -> Option<TensorAddress> {
        let address =
            || TensorAddress { name: format!("{}.bias", self.name), shape: vec![self.n_out], role: Role::Bias };
        self.bias.then(address)
    }

    fn n_norm_parameters(&self) -> u64 {
        if self.norm.is_some() { 2 * self.n_out as u64 } else { 0 }
    }

    /// Kernel and, where it has them, bias, scale and shift; running statistics are not parameters.
    pub fn n_parameters(&self) -> u64 {
        let bias = if self.bias { self.n_out } else { 0 };
        (self.kernel().n_values() + bias) as u64 + self.n_norm_parameters()
    }

    /// Output pixels along one axis with TensorFlow's `SAME` padding.
    fn output_size(&self, size: usize) -> usize {
        size.div_ceil(self.stride)
    }
}

impl NormShape {
    /// Scale, shift, running mean and running variance, `[n_channels]` each.
    pub fn tensors(&self, n_channels: usize) -> [TensorAddress; 4] {
        let tensor =
            |field: &str, role| TensorAddress { name: format!("{}.{field}", self.name), shape: vec![n_channels], role };
        [
            tensor("weight", Role::NormScale),
            tensor("bias", Role::NormShift),
            tensor("running_mean", Role::RunningMean),
            tensor("running_var", Role::RunningVariance),
        ]
    }
}

impl PoolShape {
    /// Output pixels along one axis: windows that lie in the map whole.
    fn output_size(&self, size: usize) -> usize {
        size.checked_sub(self.window).map_or(0, |rest| rest / self.stride + 1)
    }
}
