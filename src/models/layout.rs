//! A backbone as a list of rows: what `xp summary` prints and what `frozen_layers` counts.
//!
//! Shapes and names only, no tensors.

use crate::models::parameters::{Role, TensorAddress};

/// One convolution with its norm and activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// The row's name, which is also where its kernel is stored: `blocks.1.0.conv_dw`.
    pub name: String,
    /// Where its norm's tensors are stored: `blocks.1.0.bn2`.
    pub norm: String,
    pub n_in: usize,
    pub n_out: usize,
    /// Kernel height and width, pixels.
    pub kernel: usize,
    pub stride: usize,
    pub depthwise: bool,
    /// Whether ReLU6 follows the norm.
    pub relu6: bool,
}

impl ConvShape {
    /// Kernel `[n_out, n_in / groups, kernel, kernel]`.
    pub fn kernel_shape(&self) -> [usize; 4] {
        let n_in = if self.depthwise { 1 } else { self.n_in };
        [self.n_out, n_in, self.kernel, self.kernel]
    }

    /// Kernel, scale and shift; running statistics are not parameters.
    pub fn n_parameters(&self) -> u64 {
        self.kernel_shape().iter().product::<usize>() as u64 + 2 * self.n_out as u64
    }

    /// The tensors it is made of: kernel, scale, shift, running mean, running variance.
    pub fn tensors(&self) -> [TensorAddress; 5] {
        let kernel = self.kernel_shape();
        // Fan-out as the EfficientNet reference computes it; a depthwise kernel feeds one channel each.
        let fan_out = self.kernel * self.kernel * if self.depthwise { 1 } else { self.n_out };
        let norm =
            |field: &str, role| TensorAddress { name: format!("{}.{field}", self.norm), shape: vec![self.n_out], role };
        [
            TensorAddress {
                name: format!("{}.weight", self.name),
                shape: kernel.to_vec(),
                role: Role::Kernel { fan_out },
            },
            norm("weight", Role::NormScale),
            norm("bias", Role::NormShift),
            norm("running_mean", Role::RunningMean),
            norm("running_var", Role::RunningVariance),
        ]
    }

    /// Output pixels along one axis with TensorFlow's `SAME` padding.
    pub fn output_size(&self, size: usize) -> usize {
        size.div_ceil(self.stride)
    }

    /// `3×3/2 dw`: kernel, stride if there is one, and whether it is depthwise.
    pub fn describe(&self) -> String {
        let stride = if self.stride > 1 { format!("/{}", self.stride) } else { String::new() };
        format!("{0}×{0}{stride}{1}", self.kernel, if self.depthwise { " dw" } else { "" })
    }
}

/// Rows between two places where a single tensor passes: one convolution, or a block with a residual branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitShape {
    /// 1-based, as the family's paper numbers its stages.
    pub stage: u64,
    pub convs: Vec<ConvShape>,
    /// Whether the input is added to the output.
    pub residual: bool,
}

/// A backbone without its classifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub name: &'static str,
    pub units: Vec<UnitShape>,
}

/// One row of `xp summary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub kind: String,
    /// 0 for the input.
    pub stage: u64,
    /// Channels, height and width of its output.
    pub output_chw: [usize; 3],
    pub n_parameters: u64,
}

impl Layout {
    pub fn convs(&self) -> impl Iterator<Item = &ConvShape> {
        self.units.iter().flat_map(|unit| &unit.convs)
    }

    /// Rows, the input included.
    pub fn n_rows(&self) -> u64 {
        1 + self.convs().count() as u64
    }

    pub fn n_stages(&self) -> u64 {
        self.units.last().map_or(0, |unit| unit.stage)
    }

    /// The rows for an image of this size in pixels, the input first.
    pub fn rows(&self, height: usize, width: usize) -> Vec<Row> {
        let input = Row {
            name: "input".to_owned(),
            kind: "input".to_owned(),
            stage: 0,
            output_chw: [3, height, width],
            n_parameters: 0,
        };
        let mut rows = vec![input];
        let (mut height, mut width) = (height, width);
        for unit in &self.units {
            for conv in &unit.convs {
                (height, width) = (conv.output_size(height), conv.output_size(width));
                rows.push(Row {
                    name: conv.name.clone(),
                    kind: conv.describe(),
                    stage: unit.stage,
                    output_chw: [conv.n_out, height, width],
                    n_parameters: conv.n_parameters(),
                });
            }
        }
        rows
    }

    /// The name of a row, 1-based; the input is row 1.
    pub fn row_name(&self, row: u64) -> Option<&str> {
        match row {
            0 => None,
            1 => Some("input"),
            _ => self.convs().nth(usize::try_from(row).ok()? - 2).map(|conv| conv.name.as_str()),
        }
    }

    /// Channels, height and width after the first `n_units` units.
    pub fn output_chw(&self, n_units: usize, height: usize, width: usize) -> [usize; 3] {
        let shape = [3, height, width];
        self.units[..n_units]
            .iter()
            .flat_map(|unit| &unit.convs)
            .fold(shape, |[_, height, width], conv| [conv.n_out, conv.output_size(height), conv.output_size(width)])
    }
}
