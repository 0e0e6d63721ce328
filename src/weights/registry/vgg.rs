//! Keras' and torchvision's weights of VGG, which are different networks to the user: Keras' are those of the paper,
//! ported from Caffe; torchvision's were trained anew, on other pixels.

use crate::models::layout::Form;
use crate::spec::schema::data::Resize;
use crate::spec::schema::model::BackboneName;
use crate::weights::preprocessing::{PixelTransform, Preprocessing};
use crate::weights::registry::{ClassList, File, FileHash, Padding, Source, torchvision};

pub(super) const VGG11: &[Source] = &[torchvision(
    BackboneName::Vgg11,
    "vgg11.torchvision",
    None,
    &[torchvision_file!("vgg11-8a719046.pth", FileHash::Sha256Prefix("8a719046"))],
)];
pub(super) const VGG13: &[Source] = &[torchvision(
    BackboneName::Vgg13,
    "vgg13.torchvision",
    None,
    &[torchvision_file!("vgg13-19584684.pth", FileHash::Sha256Prefix("19584684"))],
)];
pub(super) const VGG16: &[Source] = &[
    keras(
        BackboneName::Vgg16,
        "vgg16.keras",
        &[
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/",
                "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
                Features,
                Some(FileHash::Md5("6d6bbae143d832006294945121d1f1fc")),
                Some(58_889_256)
            ),
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/",
                "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
                WithTop,
                Some(FileHash::Md5("64373286793e3c8b2b4e3219cbf3544b")),
                Some(553_467_096)
            ),
        ],
    ),
    torchvision(
        BackboneName::Vgg16,
        "vgg16.torchvision",
        None,
        &[torchvision_file!(
            "vgg16-397923af.pth",
            FileHash::Sha256("397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"),
            Some(553_433_881)
        )],
    ),
];
pub(super) const VGG19: &[Source] = &[
    keras(
        BackboneName::Vgg19,
        "vgg19.keras",
        &[
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/",
                "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
                Features,
                Some(FileHash::Md5("253f8cb515780f3b799900260a226db6")),
                None
            ),
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/",
                "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
                WithTop,
                Some(FileHash::Md5("cbe5617147190e668d6c5d5026f83318")),
                None
            ),
        ],
    ),
    torchvision(
        BackboneName::Vgg19,
        "vgg19.torchvision",
        None,
        &[torchvision_file!("vgg19-dcbb9e9d.pth", FileHash::Sha256Prefix("dcbb9e9d"))],
    ),
];
pub(super) const VGG11_BN: &[Source] = &[torchvision(
    BackboneName::Vgg11Bn,
    "vgg11_bn.torchvision",
    Some(1e-5),
    &[torchvision_file!("vgg11_bn-6002323d.pth", FileHash::Sha256Prefix("6002323d"))],
)];
pub(super) const VGG13_BN: &[Source] = &[torchvision(
    BackboneName::Vgg13Bn,
    "vgg13_bn.torchvision",
    Some(1e-5),
    &[torchvision_file!("vgg13_bn-abd245e5.pth", FileHash::Sha256Prefix("abd245e5"))],
)];
pub(super) const VGG16_BN: &[Source] = &[torchvision(
    BackboneName::Vgg16Bn,
    "vgg16_bn.torchvision",
    Some(1e-5),
    &[torchvision_file!("vgg16_bn-6c64b313.pth", FileHash::Sha256Prefix("6c64b313"))],
)];
pub(super) const VGG19_BN: &[Source] = &[torchvision(
    BackboneName::Vgg19Bn,
    "vgg19_bn.torchvision",
    Some(1e-5),
    &[torchvision_file!("vgg19_bn-c79401a0.pth", FileHash::Sha256Prefix("c79401a0"))],
)];

/// Says how a test's file is laid out; nobody trained such a network.
pub(super) const VGG_TINY: &[Source] = &[
    Source {
        classes: None,
        licence: None,
        origin: "nobody: files of tests",
        ..keras(BackboneName::VggTiny, "vgg_tiny.keras", &[])
    },
    Source {
        classes: None,
        licence: None,
        origin: "nobody: files of tests",
        ..torchvision(BackboneName::VggTiny, "vgg_tiny.torchvision", None, &[])
    },
];

/// Bilinear, as Caffe's tools resized the images of this family; that Keras' loader takes the nearest pixel is a default
/// of the loader, not of the weights. Addresses, hashes and the mode `caffe` are those of keras.applications 3.15.
const fn keras(backbone: BackboneName, name: &'static str, files: &'static [File]) -> Source {
    Source {
        name,
        backbone,
        form: Form::Keras,
        files,
        preprocessing: Preprocessing {
            pixels: PixelTransform::CAFFE,
            image_size: 224,
            crop_fraction: None,
            resize: Some(Resize::Bilinear),
        },
        padding: Padding::Same,
        norm_epsilon: None,
        classes: Some(ClassList::ImageNet1k),
        licence: Some("CC BY (version unknown)"),
        origin: "VGG, University of Oxford, ported from Caffe by Keras",
        golden: None,
    }
}
