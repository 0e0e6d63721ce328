//! The backbones by name.

use crate::models::layout::{Form, Layout};
use crate::models::{efficientnet_lite, mobilenet_v2, resnet, vgg};
use crate::spec::schema::model::BackboneName;

/// The rows of a backbone.
pub fn layout(name: BackboneName, form: Form) -> Layout {
    match name {
        BackboneName::Vgg11 => vgg::VGG11.layout(),
        BackboneName::Vgg13 => vgg::VGG13.layout(),
        BackboneName::Vgg16 => vgg::VGG16.layout(),
        BackboneName::Vgg19 => vgg::VGG19.layout(),
        BackboneName::Vgg11Bn => vgg::VGG11_BN.layout(),
        BackboneName::Vgg13Bn => vgg::VGG13_BN.layout(),
        BackboneName::Vgg16Bn => vgg::VGG16_BN.layout(),
        BackboneName::Vgg19Bn => vgg::VGG19_BN.layout(),
        BackboneName::VggTiny => vgg::VGG_TINY.layout(),
        BackboneName::Resnet18 => resnet::RESNET18.basic_layout(),
        BackboneName::Resnet34 => resnet::RESNET34.basic_layout(),
        BackboneName::Resnet50 => resnet::RESNET50.bottleneck_layout(form),
        BackboneName::Resnet101 => resnet::RESNET101.bottleneck_layout(form),
        BackboneName::Resnet152 => resnet::RESNET152.bottleneck_layout(form),
        BackboneName::MobilenetV2 => mobilenet_v2::layout(form),
        BackboneName::EfficientnetLite0 => efficientnet_lite::LITE0.layout_of(form),
        BackboneName::EfficientnetLite1 => efficientnet_lite::LITE1.layout_of(form),
        BackboneName::EfficientnetLite2 => efficientnet_lite::LITE2.layout_of(form),
        BackboneName::EfficientnetLite3 => efficientnet_lite::LITE3.layout_of(form),
        BackboneName::EfficientnetLite4 => efficientnet_lite::LITE4.layout_of(form),
    }
}
