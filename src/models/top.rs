//! The classifiers that the backbones were trained with: 1,000 classes of ImageNet.

use crate::models::head::{DenseShape, HeadPlan};
use crate::models::operation::Names;
use crate::spec::schema::Loss;
use crate::spec::schema::model::{Activation, BackboneName, Dense, HeadLayer};

/// What stands on a backbone that was trained on ImageNet, for the map `[channels, height, width]` that comes out of it.
///
/// VGG's dense layers fit a map of 7×7, which images of 224×224 give; the others take maps of any size.
pub fn imagenet(backbone: BackboneName, output_chw: [usize; 3]) -> HeadPlan {
    match backbone {
        BackboneName::VggTiny => vgg(output_chw, [16, 16, 10]),
        BackboneName::Vgg11
        | BackboneName::Vgg13
        | BackboneName::Vgg16
        | BackboneName::Vgg19
        | BackboneName::Vgg11Bn
        | BackboneName::Vgg13Bn
        | BackboneName::Vgg16Bn
        | BackboneName::Vgg19Bn => vgg(output_chw, [4096, 4096, 1000]),
        BackboneName::Resnet18
        | BackboneName::Resnet34
        | BackboneName::Resnet50
        | BackboneName::Resnet101
        | BackboneName::Resnet152 => pooled("fc", output_chw[0]),
        BackboneName::MobilenetV2 => pooled("classifier.1", output_chw[0]),
        BackboneName::EfficientnetLite0
        | BackboneName::EfficientnetLite1
        | BackboneName::EfficientnetLite2
        | BackboneName::EfficientnetLite3
        | BackboneName::EfficientnetLite4 => pooled("classifier", output_chw[0]),
    }
}

/// The mean of each channel, then one dense layer.
fn pooled(torch: &str, n_channels: usize) -> HeadPlan {
    let names = Names::both("predictions", torch);
    HeadPlan {
        layers: vec![HeadLayer::GlobalAveragePool, dense(1000, Activation::Softmax)],
        loss: Loss::CrossEntropy,
        dense: vec![DenseShape { names, n_in: n_channels, units: 1000, flattened: None }],
    }
}

/// The flattened map, then three dense layers. torchvision's dropout between them is no module with tensors.
fn vgg(output_chw: [usize; 3], units: [usize; 3]) -> HeadPlan {
    let names = [("fc1", "classifier.0"), ("fc2", "classifier.3"), ("predictions", "classifier.6")];
    let n_in = [output_chw.iter().product(), units[0], units[1]];
    let shapes = names.into_iter().zip(n_in).zip(units).enumerate().map(|(i, (((keras, torch), n_in), units))| {
        let flattened = (i == 0).then_some(output_chw);
        DenseShape { names: Names::both(keras, torch), n_in, units, flattened }
    });
    let [first, second, last] = units;
    let layers = vec![
        HeadLayer::Flatten,
        dense(first, Activation::Relu),
        dense(second, Activation::Relu),
        dense(last, Activation::Softmax),
    ];
    HeadPlan { layers, loss: Loss::CrossEntropy, dense: shapes.collect() }
}

fn dense(units: usize, activation: Activation) -> HeadLayer {
    HeadLayer::Dense(Dense { units: u32::try_from(units).expect("a thousand or a few"), activation })
}
