//! ResNet: blocks of convolutions whose input is added to their output.
//!
//! Source: He et al. 2016, table 1. Rows of ResNet50, 101 and 152 are named and ordered as `model.layers` of
//! `keras.applications` has them; ResNet18 and 34, which Keras has not, as torchvision's modules, a row a convolution.

use crate::models::builder::Builder;
use crate::models::layout::{Form, Layout};
use crate::models::operation::{Activation, ConvShape, Names, NormShape, Operation, PadShape, Padding, PoolShape};
use crate::models::parameters::Initial;

/// A network of the family.
#[derive(Clone, Copy, Debug)]
pub struct Resnet {
    name: &'static str,
    /// Blocks of each stage.
    n_blocks: [usize; 4],
}

pub const RESNET18: Resnet = Resnet { name: "resnet18", n_blocks: [2, 2, 2, 2] };
pub const RESNET34: Resnet = Resnet { name: "resnet34", n_blocks: [3, 4, 6, 3] };
pub const RESNET50: Resnet = Resnet { name: "resnet50", n_blocks: [3, 4, 6, 3] };
pub const RESNET101: Resnet = Resnet { name: "resnet101", n_blocks: [3, 4, 23, 3] };
pub const RESNET152: Resnet = Resnet { name: "resnet152", n_blocks: [3, 8, 36, 3] };

/// Channels of a stage's 3×3 convolutions.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

const RELU: Operation = Operation::Activation(Activation::Relu);

impl Resnet {
    /// A network of blocks of two 3×3 convolutions, torchvision's alone.
    pub fn basic_layout(&self) -> Layout {
        let mut b = Builder::new(self.name);
        let torchvision = Family { form: Form::Torch };
        b.row("conv1", 1);
        b.then(torchvision.conv(Names::torch("conv1"), [3, 64], [7, 2]));
        b.then(torchvision.norm(Names::torch("bn1"), 64));
        b.then(RELU);
        b.row("maxpool", 1);
        b.then(Operation::Pad(PadShape::Even(1)));
        b.then(Operation::MaxPool(PoolShape { window: 3, stride: 2 }));
        let mut n_in = 64;
        for (group, (n_blocks, width)) in (1..).zip(self.n_blocks.into_iter().zip(WIDTHS)) {
            for block in 0..n_blocks {
                let stride = if group > 1 && block == 0 { 2 } else { 1 };
                basic_block(&mut b, group, &format!("layer{group}.{block}"), [n_in, width], stride);
                n_in = width;
            }
        }
        b.finish()
    }

    /// A network of blocks of a 1×1, a 3×3 and a 1×1 convolution.
    pub fn bottleneck_layout(&self, form: Form) -> Layout {
        let mut b = Builder::new(self.name);
        let family = Family { form };
        b.row("conv1_pad", 1).then(Operation::Pad(PadShape::Even(3)));
        let stem = family.conv_shape(Names::both("conv1_conv", "conv1"), [3, 64], [7, 2]);
        b.row("conv1_conv", 1).then(Operation::Conv(ConvShape { padding: Padding::Valid, ..stem }));
        b.row("conv1_bn", 1).then(family.norm(Names::both("conv1_bn", "bn1"), 64));
        b.row("conv1_relu", 1).then(RELU);
        b.row("pool1_pad", 1).then(Operation::Pad(PadShape::Even(1)));
        b.row("pool1_pool", 1).then(Operation::MaxPool(PoolShape { window: 3, stride: 2 }));
        let mut n_in = 64;
        for (stage, (n_blocks, width)) in (2..).zip(self.n_blocks.into_iter().zip(WIDTHS)) {
            for block in 0..n_blocks {
                let stride = if stage > 2 && block == 0 { 2 } else { 1 };
                family.bottleneck(&mut b, stage, block, [n_in, width], stride);
                n_in = 4 * width;
            }
        }
        b.finish()
    }
}

/// How the networks of a form are made: Keras' with a bias in each convolution, a block's stride in its first one and
/// epsilon 1.001e-5, torchvision's without a bias, with the stride in the 3×3 convolution and epsilon 1e-5.
struct Family {
    form: Form,
}

impl Family {
    fn conv_shape(&self, names: Names, [n_in, n_out]: [usize; 2], [kernel, stride]: [usize; 2]) -> ConvShape {
        ConvShape {
            names,
            n_in,
            n_out,
            kernel,
            stride,
            padding: Padding::Symmetric,
            depthwise: false,
            bias: self.form == Form::Keras,
            initial: Initial::FanOutNormal,
        }
    }

    fn conv(&self, names: Names, channels: [usize; 2], kernel_and_stride: [usize; 2]) -> Operation {
        Operation::Conv(self.conv_shape(names, channels, kernel_and_stride))
    }

    /// Keras' momentum of 0.99 is the share that the running statistics keep.
    fn norm(&self, names: Names, n_channels: usize) -> Operation {
        let (epsilon, momentum) = match self.form {
            Form::Keras => (1.001e-5, 0.01),
            Form::Torch | Form::TimmEven => (1e-5, 0.1),
        };
        Operation::Norm(NormShape { names, n_channels, epsilon, momentum })
    }

    /// The rows of a block in Keras' order, which is by distance from the end: a shortcut's convolution and norm stand
    /// beside the last ones of the branch.
    fn bottleneck(&self, b: &mut Builder, stage: usize, block: usize, [n_in, width]: [usize; 2], stride: usize) {
        let path = format!("conv{stage}_block{}", block + 1);
        let torch = format!("layer{}.{block}", stage - 1);
        let n_out = 4 * width;
        let strides = match self.form {
            Form::Keras => [stride, 1],
            Form::Torch | Form::TimmEven => [1, stride],
        };
        let named =
            |part: &str, torch_part: &str| Names::both(format!("{path}_{part}"), format!("{torch}.{torch_part}"));
        let stage = stage as u64;
        let input = b.last();
        for (i, (channels, kernel)) in
            [([n_in, width], [1, strides[0]]), ([width; 2], [3, strides[1]])].into_iter().enumerate()
        {
            let i = i + 1;
            let conv = named(&format!("{i}_conv"), &format!("conv{i}"));
            b.row(conv.own(), stage).then(self.conv(conv, channels, kernel));
            let norm = named(&format!("{i}_bn"), &format!("bn{i}"));
            b.row(norm.own(), stage).then(self.norm(norm, width));
            b.row(format!("{path}_{i}_relu"), stage).then(RELU);
        }
        let branch = b.last();
        let widens = n_in != n_out || stride != 1;
        let mut shortcut = input;
        if widens {
            let conv = named("0_conv", "downsample.0");
            shortcut = b.row(conv.own(), stage).after(&[input], self.conv(conv, [n_in, n_out], [1, stride]));
        }
        let conv = named("3_conv", "conv3");
        let mut last = b.row(conv.own(), stage).after(&[branch], self.conv(conv, [width, n_out], [1, 1]));
        if widens {
            let norm = named("0_bn", "downsample.1");
            shortcut = b.row(norm.own(), stage).after(&[shortcut], self.norm(norm, n_out));
        }
        let norm = named("3_bn", "bn3");
        last = b.row(norm.own(), stage).after(&[last], self.norm(norm, n_out));
        b.row(format!("{path}_add"), stage).after(&[shortcut, last], Operation::Add);
        b.row(format!("{path}_out"), stage).then(RELU);
    }
}

/// The sum and the ReLU after it belong to the block's last row.
fn basic_block(b: &mut Builder, group: u64, path: &str, [n_in, n_out]: [usize; 2], stride: usize) {
    let torchvision = Family { form: Form::Torch };
    let stage = group + 1;
    let named = |part: &str| Names::torch(format!("{path}.{part}"));
    let input = b.last();
    b.row(named("conv1").own(), stage);
    b.then(torchvision.conv(named("conv1"), [n_in, n_out], [3, stride]));
    b.then(torchvision.norm(named("bn1"), n_out));
    b.then(RELU);
    b.row(named("conv2").own(), stage);
    b.then(torchvision.conv(named("conv2"), [n_out; 2], [3, 1]));
    let branch = b.then(torchvision.norm(named("bn2"), n_out));
    let mut shortcut = input;
    if n_in != n_out || stride != 1 {
        b.row(named("downsample.0").own(), stage);
        b.after(&[input], torchvision.conv(named("downsample.0"), [n_in, n_out], [1, stride]));
        shortcut = b.then(torchvision.norm(named("downsample.1"), n_out));
    }
    b.after(&[branch, shortcut], Operation::Add);
    b.then(RELU);
}
