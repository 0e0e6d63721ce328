//! Keras' and torchvision's weights of ResNet. Keras' are the first version, with a stride in the first convolution of a
//! block; torchvision's second version was trained by a longer recipe.

use crate::models::layout::Form;
use crate::spec::schema::model::BackboneName;
use crate::weights::preprocessing::{PixelTransform, Preprocessing};
use crate::weights::registry::{ClassList, File, FileHash, Padding, Source, torchvision, torchvision_v2};

pub(super) const RESNET18: &[Source] = &[torchvision(
    BackboneName::Resnet18,
    "resnet18.torchvision",
    Some(1e-5),
    &[torchvision_file!(
        "resnet18-f37072fd.pth",
        FileHash::Sha256("f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"),
        Some(46_830_571)
    )],
)];
pub(super) const RESNET34: &[Source] = &[torchvision(
    BackboneName::Resnet34,
    "resnet34.torchvision",
    Some(1e-5),
    &[torchvision_file!("resnet34-b627a593.pth", FileHash::Sha256Prefix("b627a593"))],
)];
pub(super) const RESNET50: &[Source] = &[
    keras(
        BackboneName::Resnet50,
        "resnet50.keras",
        Some("MIT"),
        &[
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
                "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
                Features,
                Some(FileHash::Md5("4d473c1dd8becc155b73f8504c6f6626")),
                None
            ),
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
                "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
                WithTop,
                Some(FileHash::Md5("2cb95161c43110f7111970584f804107")),
                None
            ),
        ],
    ),
    torchvision(
        BackboneName::Resnet50,
        "resnet50.torchvision_v1",
        Some(1e-5),
        &[torchvision_file!("resnet50-0676ba61.pth", FileHash::Sha256Prefix("0676ba61"))],
    ),
    torchvision_v2(
        BackboneName::Resnet50,
        "resnet50.torchvision_v2",
        Some(1e-5),
        &[torchvision_file!(
            "resnet50-11ad3fa6.pth",
            FileHash::Sha256("11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca")
        )],
    ),
];
pub(super) const RESNET101: &[Source] = &[
    keras(
        BackboneName::Resnet101,
        "resnet101.keras",
        None,
        &[
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
                "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
                Features,
                Some(FileHash::Md5("88cf7a10940856eca736dc7b7e228a21")),
                None
            ),
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
                "resnet101_weights_tf_dim_ordering_tf_kernels.h5",
                WithTop,
                Some(FileHash::Md5("f1aeb4b969a6efcfb50fad2f0c20cfc5")),
                None
            ),
        ],
    ),
    torchvision(
        BackboneName::Resnet101,
        "resnet101.torchvision_v1",
        Some(1e-5),
        &[torchvision_file!("resnet101-63fe2227.pth", FileHash::Sha256Prefix("63fe2227"))],
    ),
    torchvision_v2(
        BackboneName::Resnet101,
        "resnet101.torchvision_v2",
        Some(1e-5),
        &[torchvision_file!("resnet101-cd907fc2.pth", FileHash::Sha256Prefix("cd907fc2"))],
    ),
];
pub(super) const RESNET152: &[Source] = &[
    keras(
        BackboneName::Resnet152,
        "resnet152.keras",
        None,
        &[
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
                "resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5",
                Features,
                Some(FileHash::Md5("ee4c566cf9a93f14d82f913c2dc6dd0c")),
                None
            ),
            file_at!(
                "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
                "resnet152_weights_tf_dim_ordering_tf_kernels.h5",
                WithTop,
                Some(FileHash::Md5("100835be76be38e30d865e96f2aaae62")),
                None
            ),
        ],
    ),
    torchvision(
        BackboneName::Resnet152,
        "resnet152.torchvision_v1",
        Some(1e-5),
        &[torchvision_file!("resnet152-394f9c45.pth", FileHash::Sha256Prefix("394f9c45"))],
    ),
    torchvision_v2(
        BackboneName::Resnet152,
        "resnet152.torchvision_v2",
        Some(1e-5),
        &[torchvision_file!("resnet152-f82ba261.pth", FileHash::Sha256Prefix("f82ba261"))],
    ),
];

/// Addresses, hashes, epsilon, padding and the mode `caffe` are those of keras.applications 3.15.
const fn keras(
    backbone: BackboneName,
    name: &'static str,
    licence: Option<&'static str>,
    files: &'static [File],
) -> Source {
    Source {
        name,
        backbone,
        form: Form::Keras,
        files,
        preprocessing: Preprocessing {
            pixels: PixelTransform::CAFFE,
            image_size: 224,
            crop_fraction: None,
            resize: None,
        },
        padding: Padding::Symmetric,
        norm_epsilon: Some(1.001e-5),
        classes: Some(ClassList::ImageNet1k),
        licence,
        origin: "He et al., ported from Caffe by Keras",
        golden: None,
    }
}
