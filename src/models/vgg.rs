//! VGG: blocks of 3×3 convolutions with ReLU, each ending in a 2×2 max pool.
//!
//! Source: Simonyan and Zisserman 2015, table 1; those with batch norm are torchvision's. Rows of VGG16 and VGG19 are
//! named as Keras names its layers, and counted as `model.layers` of `keras.applications` counts them, so that Keras'
//! numbers of frozen layers mean the same here; the others are named as torchvision's modules.

use crate::models::builder::Builder;
use crate::models::layout::Layout;
use crate::models::operation::{Activation, ConvShape, Names, NormShape, Operation, Padding, PoolShape};
use crate::models::parameters::Initial;

/// A network of the family.
#[derive(Clone, Copy, Debug)]
pub struct Vgg {
    name: &'static str,
    /// Output channels of each block.
    channels: [usize; 5],
    /// Convolutions in each block.
    n_convs: [usize; 5],
    norm: bool,
    /// Whether its rows have Keras' names.
    in_keras: bool,
}

const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

const fn vgg(name: &'static str, n_convs: [usize; 5], norm: bool, in_keras: bool) -> Vgg {
    Vgg { name, channels: CHANNELS, n_convs, norm, in_keras }
}

pub const VGG11: Vgg = vgg("vgg11", [1, 1, 2, 2, 2], false, false);
pub const VGG13: Vgg = vgg("vgg13", [2, 2, 2, 2, 2], false, false);
pub const VGG16: Vgg = vgg("vgg16", [2, 2, 3, 3, 3], false, true);
pub const VGG19: Vgg = vgg("vgg19", [2, 2, 4, 4, 4], false, true);
pub const VGG11_BN: Vgg = vgg("vgg11_bn", [1, 1, 2, 2, 2], true, false);
pub const VGG13_BN: Vgg = vgg("vgg13_bn", [2, 2, 2, 2, 2], true, false);
pub const VGG16_BN: Vgg = vgg("vgg16_bn", [2, 2, 3, 3, 3], true, false);
pub const VGG19_BN: Vgg = vgg("vgg19_bn", [2, 2, 4, 4, 4], true, false);
/// Small enough for files of weights in tests.
pub const VGG_TINY: Vgg =
    Vgg { name: "vgg_tiny", channels: [4, 4, 8, 8, 8], n_convs: [1, 1, 1, 2, 2], norm: false, in_keras: true };

impl Vgg {
    /// The rows: 3-channel input to 1/32 of the resolution.
    pub fn layout(&self) -> Layout {
        let mut builder = Builder::new(self.name);
        let (mut n_in, mut module) = (3, 0);
        for (stage, (n_convs, n_out)) in (1..).zip(self.n_convs.into_iter().zip(self.channels)) {
            for i in 1..=n_convs {
                let conv = self.names(format!("block{stage}_conv{i}"), module);
                builder.row(conv.own(), stage);
                builder.then(Operation::Conv(self.conv(conv, [n_in, n_out])));
                if self.norm {
                    module += 1;
                    builder.then(Operation::Norm(NormShape {
                        names: Names::torch(format!("features.{module}")),
                        n_channels: n_out,
                        epsilon: 1e-5,
                        momentum: 0.1,
                    }));
                }
                builder.then(Operation::Activation(Activation::Relu));
                module += 2;
                n_in = n_out;
            }
            builder.row(self.names(format!("block{stage}_pool"), module).own(), stage);
            builder.then(Operation::MaxPool(PoolShape { window: 2, stride: 2 }));
            module += 1;
        }
        builder.finish()
    }

    fn names(&self, keras: String, module: usize) -> Names {
        let torch = format!("features.{module}");
        if self.in_keras { Names::both(keras, torch) } else { Names::torch(torch) }
    }

    fn conv(&self, names: Names, [n_in, n_out]: [usize; 2]) -> ConvShape {
        ConvShape {
            names,
            n_in,
            n_out,
            kernel: 3,
            stride: 1,
            padding: Padding::Same,
            depthwise: false,
            bias: true,
            initial: if self.in_keras { Initial::GlorotUniform } else { Initial::FanOutNormal },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row by name: a change here changes what `frozen_layers` means. Numbers are those of Keras' summary.
    #[test]
    fn vgg16_has_keras_rows() {
        let rows = VGG16.layout().rows(150, 150);
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
        let layout = VGG16.layout();
        assert_eq!(layout.smallest_size(), 32);
        assert_eq!(layout.output_chw(layout.nodes.len(), 32, 63), [512, 1, 1]);
        assert_eq!(layout.output_chw(layout.nodes.len(), 31, 64), [512, 0, 2]);
    }
}
