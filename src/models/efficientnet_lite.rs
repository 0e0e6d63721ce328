//! EfficientNet-Lite: MobileNetV2 blocks scaled as EfficientNet's, without squeeze-and-excite, with ReLU6.
//!
//! Source: Tan and Le 2019 (EfficientNet), table 1, and TensorFlow's published Lite variant, which keeps the stem
//! and the head at 32 and 1,280 channels. Tensors are named as timm's `tf_efficientnet_lite0` names them.

use crate::models::builder::Builder;
use crate::models::layout::{Form, Layout};
use crate::models::operation::{Activation, ConvShape, Names, NormShape, Operation, Padding};
use crate::models::parameters::Initial;

/// Repeats, kernel, stride of the first block, expansion, output channels; of Lite0.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// A network of the family: Lite0 with its channels and its repeats multiplied.
#[derive(Clone, Copy, Debug)]
pub struct EfficientnetLite {
    name: &'static str,
    width: f64,
    depth: f64,
}

pub const LITE0: EfficientnetLite = EfficientnetLite { name: "efficientnet_lite0", width: 1.0, depth: 1.0 };
pub const LITE1: EfficientnetLite = EfficientnetLite { name: "efficientnet_lite1", width: 1.0, depth: 1.1 };
pub const LITE2: EfficientnetLite = EfficientnetLite { name: "efficientnet_lite2", width: 1.1, depth: 1.2 };
pub const LITE3: EfficientnetLite = EfficientnetLite { name: "efficientnet_lite3", width: 1.2, depth: 1.4 };
pub const LITE4: EfficientnetLite = EfficientnetLite { name: "efficientnet_lite4", width: 1.4, depth: 1.8 };

const RELU6: Operation = Operation::Activation(Activation::Relu6);

impl EfficientnetLite {
    /// The rows: 3-channel input to 1,280 channels at 1/32 of the resolution.
    pub fn layout(&self) -> Layout {
        self.layout_of(Form::Torch)
    }

    /// The same with timm's own padding and epsilon, where that form is asked for.
    ///
    /// Source: timm 1.0.31, `efficientnet_lite0` beside `tf_efficientnet_lite0`.
    pub fn layout_of(&self, form: Form) -> Layout {
        let layout = self.tensorflow_layout();
        if form == Form::TimmEven { even(layout) } else { layout }
    }

    fn tensorflow_layout(&self) -> Layout {
        let mut b = Builder::new(self.name);
        let stem = ConvShape { kernel: 3, stride: 2, ..conv("conv_stem", [3, 32]) };
        push(&mut b, 1, stem, "bn1", true);
        let mut n_in = 32;
        for (i, (repeats, kernel, stride, expansion, n_out)) in STAGES.into_iter().enumerate() {
            // The first and the last stage are as deep in all of them.
            let is_end = i == 0 || i + 1 == STAGES.len();
            let repeats = if is_end { repeats } else { (self.depth * repeats as f64).ceil() as usize };
            let n_out = scaled_channels(n_out, self.width);
            for repeat in 0..repeats {
                let stride = if repeat == 0 { stride } else { 1 };
                block(
                    &mut b,
                    i as u64 + 2,
                    &format!("blocks.{i}.{repeat}"),
                    [n_in, n_out],
                    [kernel, stride],
                    expansion,
                );
                n_in = n_out;
            }
        }
        push(&mut b, 9, conv("conv_head", [n_in, 1280]), "bn2", true);
        b.finish()
    }
}

/// The network with as much padding on every side, and PyTorch's own epsilon and momentum.
fn even(mut layout: Layout) -> Layout {
    for node in &mut layout.nodes {
        match &mut node.operation {
            Operation::Conv(conv) => conv.padding = Padding::Symmetric,
            Operation::Norm(norm) => (norm.epsilon, norm.momentum) = (1e-5, 0.1),
            _ => {}
        }
    }
    layout
}

/// The multiple of 8 that is nearest, but not less than nine tenths. Source: EfficientNet's `round_filters`.
fn scaled_channels(n_channels: usize, width: f64) -> usize {
    let scaled = n_channels as f64 * width;
    let rounded = ((scaled + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * scaled { rounded + 8 } else { rounded }
}

/// A pointwise convolution.
fn conv(name: &str, [n_in, n_out]: [usize; 2]) -> ConvShape {
    ConvShape {
        names: Names::torch(name),
        n_in,
        n_out,
        kernel: 1,
        stride: 1,
        padding: Padding::Same,
        depthwise: false,
        bias: false,
        initial: Initial::FanOutNormal,
    }
}

/// A row: a convolution with its norm and, where it has one, its activation. Epsilon and momentum as TensorFlow's code
/// sets them, whose momentum of 0.99 is the share that the running statistics keep.
fn push(b: &mut Builder, stage: u64, conv: ConvShape, norm: &str, active: bool) {
    let norm = NormShape { names: Names::torch(norm), n_channels: conv.n_out, epsilon: 1e-3, momentum: 0.01 };
    b.row(conv.names.own(), stage);
    b.then(Operation::Conv(conv));
    b.then(Operation::Norm(norm));
    if active {
        b.then(RELU6);
    }
}

/// Expansion (left out when it would not expand), depthwise convolution, projection; the sum belongs to the last row.
fn block(
    b: &mut Builder,
    stage: u64,
    path: &str,
    [n_in, n_out]: [usize; 2],
    [kernel, stride]: [usize; 2],
    expansion: usize,
) {
    let n_hidden = n_in * expansion;
    let is_expanding = expansion != 1;
    let input = b.last();
    let first = usize::from(is_expanding);
    let norm = |position: usize| format!("{path}.bn{}", position + first);
    if is_expanding {
        push(b, stage, conv(&format!("{path}.conv_pw"), [n_in, n_hidden]), &norm(0), true);
    }
    let depthwise = conv(&format!("{path}.conv_dw"), [n_hidden; 2]);
    push(b, stage, ConvShape { kernel, stride, depthwise: true, ..depthwise }, &norm(1), true);
    // A block that does not expand is a depthwise-separable one, whose projection timm calls `conv_pw`.
    let projection = if is_expanding { "conv_pwl" } else { "conv_pw" };
    push(b, stage, conv(&format!("{path}.{projection}"), [n_hidden, n_out]), &norm(2), false);
    if stride == 1 && n_in == n_out {
        let output = b.last();
        b.after(&[output, input], Operation::Add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row by name: a change here changes what `frozen_layers` means.
    #[test]
    fn lite0_has_these_rows() {
        let rows = LITE0.layout().rows(224, 224);
        let text: Vec<String> =
            rows.iter().map(|row| format!("{} {} {:?}", row.name, row.stage, row.output_chw)).collect();
        assert_eq!(text.len(), 50);
        assert_eq!(text[0], "input 0 [3, 224, 224]");
        assert_eq!(text[1], "conv_stem 1 [32, 112, 112]");
        assert_eq!(text[2], "blocks.0.0.conv_dw 2 [32, 112, 112]");
        assert_eq!(text[3], "blocks.0.0.conv_pw 2 [16, 112, 112]");
        assert_eq!(text[4], "blocks.1.0.conv_pw 3 [96, 112, 112]");
        assert_eq!(text[5], "blocks.1.0.conv_dw 3 [96, 56, 56]");
        assert_eq!(text[6], "blocks.1.0.conv_pwl 3 [24, 56, 56]");
        assert_eq!(text[48], "blocks.6.0.conv_pwl 8 [320, 7, 7]");
        assert_eq!(text[49], "conv_head 9 [1280, 7, 7]");
        insta::assert_snapshot!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn lite0_has_the_published_number_of_parameters() {
        let n_parameters: u64 = LITE0.layout().rows(224, 224).iter().map(|row| row.n_parameters).sum();
        // 4,652,008 with the classifier of 1,280 × 1,000 weights and 1,000 biases.
        assert_eq!(n_parameters, 4_652_008 - 1_281_000);
    }
}
