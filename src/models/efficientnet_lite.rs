//! EfficientNet-Lite: MobileNetV2 blocks scaled as EfficientNet's, without squeeze-and-excite, with ReLU6.
//!
//! Source: Tan and Le 2019 (EfficientNet), table 1, and TensorFlow's published Lite variant, which keeps the stem
//! and the head at 32 and 1,280 channels. Tensors are named as timm's `tf_efficientnet_lite0` names them.

use crate::models::layer::{Activation, ConvShape, LayerShape, NormShape};
use crate::models::layout::{Layout, UnitShape};
use crate::models::parameters::Initial;

/// Repeats, kernel, stride of the first block, expansion, output channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// The rows of EfficientNet-Lite0: 3-channel input to 1,280 channels at 1/32 of the resolution.
pub fn lite0() -> Layout {
    let stem = conv("conv_stem".into(), "bn1".into(), [3, 32], Activation::Relu6);
    let mut units = vec![UnitShape::single(1, LayerShape::Conv(ConvShape { kernel: 3, stride: 2, ..stem }))];
    let mut n_in = 32;
    for (stage, (repeats, kernel, stride, expansion, n_out)) in STAGES.into_iter().enumerate() {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { stride } else { 1 };
            let convs = block(&format!("blocks.{stage}.{repeat}"), [n_in, n_out], kernel, stride, expansion);
            push_block(&mut units, stage as u64 + 2, convs, stride == 1 && n_in == n_out);
            n_in = n_out;
        }
    }
    let head = conv("conv_head".into(), "bn2".into(), [n_in, 1280], Activation::Relu6);
    units.push(UnitShape::single(9, LayerShape::Conv(head)));
    Layout { name: "efficientnet_lite0", units }
}

/// A pointwise convolution; epsilon and momentum as TensorFlow's code sets them, whose momentum of 0.99 is the share
/// that the running statistics keep.
fn conv(name: String, norm: String, [n_in, n_out]: [usize; 2], activation: Activation) -> ConvShape {
    ConvShape {
        name,
        n_in,
        n_out,
        kernel: 1,
        stride: 1,
        depthwise: false,
        bias: false,
        norm: Some(NormShape { name: norm, epsilon: 1e-3, momentum: 0.01 }),
        activation,
        initial: Initial::FanOutNormal,
    }
}

/// Expansion (left out when it would not expand), depthwise convolution, projection.
fn block(path: &str, [n_in, n_out]: [usize; 2], kernel: usize, stride: usize, expansion: usize) -> Vec<ConvShape> {
    let n_hidden = n_in * expansion;
    let is_expanding = expansion != 1;
    let named = |name: &str, position: usize, channels, activation| {
        conv(format!("{path}.{name}"), format!("{path}.bn{position}"), channels, activation)
    };
    let mut convs = Vec::new();
    if is_expanding {
        convs.push(named("conv_pw", 1, [n_in, n_hidden], Activation::Relu6));
    }
    let depthwise = named("conv_dw", convs.len() + 1, [n_hidden; 2], Activation::Relu6);
    convs.push(ConvShape { kernel, stride, depthwise: true, ..depthwise });
    // A block that does not expand is a depthwise-separable one, whose projection timm calls `conv_pw`.
    let projection = if is_expanding { "conv_pwl" } else { "conv_pw" };
    convs.push(named(projection, convs.len() + 1, [n_hidden, n_out], Activation::Identity));
    convs
}

/// A block with a residual branch is one unit; in any other a single tensor passes after each convolution.
fn push_block(units: &mut Vec<UnitShape>, stage: u64, convs: Vec<ConvShape>, residual: bool) {
    let layers = convs.into_iter().map(LayerShape::Conv);
    if residual {
        units.push(UnitShape { stage, layers: layers.collect(), residual });
    } else {
        units.extend(layers.map(|layer| UnitShape::single(stage, layer)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row by name: a change here changes what `frozen_layers` means.
    #[test]
    fn lite0_has_these_rows() {
        let rows = lite0().rows(224, 224);
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
        let n_parameters: u64 = lite0().layers().map(LayerShape::n_parameters).sum();
        // 4,652,008 with the classifier of 1,280 × 1,000 weights and 1,000 biases.
        assert_eq!(n_parameters, 4_652_008 - 1_281_000);
    }
}
