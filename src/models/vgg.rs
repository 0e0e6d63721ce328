//! VGG: blocks of 3×3 convolutions with ReLU, each ending in a 2×2 max pool.
//!
//! Source: Simonyan and Zisserman 2015, table 1. Rows are named as Keras names its layers, and counted as
//! `model.layers` of `keras.applications` counts them, so that Keras' numbers of frozen layers mean the same here.

use crate::models::layer::{Activation, ConvShape, LayerShape, PoolShape};
use crate::models::layout::{Layout, UnitShape};
use crate::models::parameters::Initial;

/// Output channels of each block.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// The rows of VGG16 (column D): 3-channel input to 512 channels at 1/32 of the resolution.
pub fn vgg16() -> Layout {
    layout("vgg16", [2, 2, 3, 3, 3])
}

/// A network of the family by the number of convolutions in each block.
fn layout(name: &'static str, n_convs: [usize; 5]) -> Layout {
    let mut units = Vec::new();
    let mut n_in = 3;
    for (stage, (n_convs, n_out)) in (1..).zip(n_convs.into_iter().zip(CHANNELS)) {
        for i in 1..=n_convs {
            let conv = conv(format!("block{stage}_conv{i}"), [n_in, n_out]);
            units.push(UnitShape::single(stage, LayerShape::Conv(conv)));
            n_in = n_out;
        }
        let pool = PoolShape { name: format!("block{stage}_pool"), window: 2, stride: 2 };
        units.push(UnitShape::single(stage, LayerShape::MaxPool(pool)));
    }
    Layout { name, units }
}

fn conv(name: String, [n_in, n_out]: [usize; 2]) -> ConvShape {
    ConvShape {
        name,
        n_in,
        n_out,
        kernel: 3,
        stride: 1,
        depthwise: false,
        bias: true,
        norm: None,
        activation: Activation::Relu,
        initial: Initial::GlorotUniform,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row by name: a change here changes what `frozen_layers` means. Numbers are those of Keras' summary.
    #[test]
    fn vgg16_has_keras_rows() {
        let rows = vgg16().rows(150, 150);
        let text: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {} {:?} {} {}", row.name, row.stage, row.output_chw, row.kind, row.n_parameters))
            .collect();
        insta::assert_snapshot!(text.join("\n"), @"
        input 0 [3, 150, 150] input 0
        block1_conv1 1 [64, 150, 150] 3×3 1792
        block1_conv2 1 [64, 150, 150] 3×3 36928
        block1_pool 1 [64, 75, 75] max 2×2/2 0
        block2_conv1 2 [128, 75, 75] 3×3 73856
        block2_conv2 2 [128, 75, 75] 3×3 147584
        block2_pool 2 [128, 37, 37] max 2×2/2 0
        block3_conv1 3 [256, 37, 37] 3×3 295168
        block3_conv2 3 [256, 37, 37] 3×3 590080
        block3_conv3 3 [256, 37, 37] 3×3 590080
        block3_pool 3 [256, 18, 18] max 2×2/2 0
        block4_conv1 4 [512, 18, 18] 3×3 1180160
        block4_conv2 4 [512, 18, 18] 3×3 2359808
        block4_conv3 4 [512, 18, 18] 3×3 2359808
        block4_pool 4 [512, 9, 9] max 2×2/2 0
        block5_conv1 5 [512, 9, 9] 3×3 2359808
        block5_conv2 5 [512, 9, 9] 3×3 2359808
        block5_conv3 5 [512, 9, 9] 3×3 2359808
        block5_pool 5 [512, 4, 4] max 2×2/2 0
        ");
        assert_eq!(rows.iter().map(|row| row.n_parameters).sum::<u64>(), 14_714_688);
    }

    #[test]
    fn vgg16_needs_images_of_32_pixels() {
        assert_eq!(vgg16().smallest_size(), 32);
        assert_eq!(vgg16().output_chw(18, 32, 63), [512, 1, 1]);
        assert_eq!(vgg16().output_chw(18, 31, 64), [512, 0, 2]);
    }
}
