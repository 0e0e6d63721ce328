//! Keras' and torchvision's weights of MobileNetV2.

use crate::models::layout::Form;
use crate::spec::schema::data::Resize;
use crate::spec::schema::model::BackboneName;
use crate::weights::preprocessing::{PixelTransform, Preprocessing};
use crate::weights::registry::{ClassList, FileHash, Padding, Source, torchvision, torchvision_v2};

/// Keras gives no hash for its files. Addresses, epsilon, padding and the mode `tf` are those of keras.applications 3.15.
pub(super) const MOBILENET_V2: &[Source] = &[
    Source {
        name: "mobilenet_v2.keras",
        backbone: BackboneName::MobilenetV2,
        form: Form::Keras,
        files: &[
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/",
                "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
                Features,
                None,
                None
            ),
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/",
                "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5",
                WithTop,
                None,
                None
            ),
        ],
        preprocessing: Preprocessing { pixels: PixelTransform::TF, image_size: 224, crop_fraction: None, resize: None },
        padding: Padding::Same,
        norm_epsilon: Some(1e-3),
        classes: Some(ClassList::ImageNet1k),
        licence: None,
        origin: "Google, published by Keras",
        golden: None,
    },
    torchvision(
        BackboneName::MobilenetV2,
        "mobilenet_v2.torchvision_v1",
        Some(1e-5),
        &[torchvision_file!("mobilenet_v2-b0353104.pth", FileHash::Sha256Prefix("b0353104"))],
    ),
    torchvision_v2(
        BackboneName::MobilenetV2,
        "mobilenet_v2.torchvision_v2",
        Some(1e-5),
        &[torchvision_file!("mobilenet_v2-7ebf99e0.pth", FileHash::Sha256Prefix("7ebf99e0"))],
    ),
    // The network is torchvision's under other names. Source: timm 1.0.31.
    Source {
        preprocessing: Preprocessing {
            pixels: PixelTransform::TORCH,
            image_size: 224,
            crop_fraction: Some(0.875),
            resize: Some(Resize::Bicubic),
        },
        licence: Some("Apache-2.0"),
        origin: "timm, trained anew",
        ..torchvision(
            BackboneName::MobilenetV2,
            "mobilenet_v2.timm",
            Some(1e-5),
            &[file_at!(
                "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/",
                "mobilenetv2_100_ra-b33bc2c4.pth",
                WithTop,
                Some(FileHash::Sha256Prefix("b33bc2c4")),
                None
            )],
        )
    },
];
