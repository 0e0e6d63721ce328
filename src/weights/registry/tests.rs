use std::collections::BTreeSet;

use super::*;
use crate::weights::digest::Digests;

#[test]
fn every_backbone_has_sources_of_its_own_name() {
    let mut names = BTreeSet::new();
    for backbone in BackboneName::ALL {
        for source in sources(backbone) {
            assert_eq!(source.backbone, backbone, "{}", source.name);
            assert_eq!(source.name.split('.').next(), Some(backbone.as_str()));
            assert!(names.insert(source.name), "{} stands there twice", source.name);
            assert_eq!(by_name(source.name), Some(source));
            assert!(source.files.is_empty() || source.classes.is_some(), "{}", source.name);
        }
    }
    assert_eq!(by_name("vgg16"), None);
}

/// Files lie in one folder, and a hash says whose a file is.
#[test]
fn names_and_hashes_of_files_are_unique_and_well_formed() {
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    for file in all().flat_map(|source| source.files) {
        assert!(names.insert(file.name), "{} stands there twice", file.name);
        if let Place::Address(address) = file.place {
            assert!(address.starts_with("https://") && address.ends_with(file.name), "{address}");
        }
        let Some(hash) = file.hash else { continue };
        assert!(hashes.insert(hash.digits()), "{}", file.name);
        let n_digits = match hash {
            FileHash::Md5(_) => 32,
            FileHash::Sha256(_) => 64,
            FileHash::Sha256Prefix(_) => 8,
        };
        assert_eq!(hash.digits().len(), n_digits, "{}", file.name);
        assert!(hash.digits().bytes().all(|digit| b"0123456789abcdef".contains(&digit)), "{}", file.name);
    }
}

/// torchvision and timm put the first digits of the SHA-256 into the name.
#[test]
fn a_name_with_a_hash_has_the_files() {
    let mut n_checked = 0;
    for file in all().filter(|source| source.form == Form::Torch).flat_map(|source| source.files) {
        let (Some(hash), Place::Address(_)) = (file.hash, file.place) else { continue };
        let in_name = file.name.trim_end_matches(".pth").rsplit('-').next();
        assert_eq!(in_name, Some(&hash.digits()[..8]), "{}", file.name);
        n_checked += 1;
    }
    assert_eq!(n_checked, 23);
}

#[test]
fn the_embedded_file_is_the_one_described() {
    let (file, bytes) = default_source(BackboneName::EfficientnetLite0).embedded().unwrap();
    let written = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(written.path(), bytes).unwrap();
    Digests::checked(written.path(), file, &[], file.name).unwrap();
    assert!(file.verified);
}

#[test]
fn the_default_source_is_kerass_where_keras_has_the_network() {
    let defaults = BackboneName::ALL.map(|backbone| default_source(backbone).name).join("\n");
    insta::assert_snapshot!(defaults, @"
    vgg11.torchvision
    vgg13.torchvision
    vgg16.keras
    vgg19.keras
    vgg11_bn.torchvision
    vgg13_bn.torchvision
    vgg16_bn.torchvision
    vgg19_bn.torchvision
    resnet18.torchvision
    resnet34.torchvision
    resnet50.keras
    resnet101.keras
    resnet152.keras
    mobilenet_v2.keras
    efficientnet_lite0.timm
    efficientnet_lite1.timm
    efficientnet_lite2.timm
    efficientnet_lite3.timm
    efficientnet_lite4.timm
    vgg_tiny.keras
    ");
}

#[test]
fn a_file_with_the_classifier_serves_for_both() {
    let [keras, torchvision] = sources(BackboneName::Vgg16) else { panic!("two sources") };
    assert!(keras.file(Contents::Features).unwrap().name.ends_with("_notop.h5"));
    assert!(keras.file(Contents::WithTop).unwrap().name.ends_with("kernels.h5"));
    assert_eq!(torchvision.file(Contents::Features), torchvision.file(Contents::WithTop));
    assert_eq!(default_source(BackboneName::VggTiny).file(Contents::WithTop), None);
}
