//! Files of weights as Keras and PyTorch write them, all of one network: tests/fixtures/make_weight_files.py made them.

use std::io::Read;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use flate2::read::GzDecoder;
use serde_json::Value;
use xp::models::classifier::{NetworkPlan, Prefix, Sources, Tail};
use xp::models::freeze::freeze;
use xp::models::head::dense_tensors;
use xp::models::parameters::{Parameters, ParametersError, Role, TensorAddress};
use xp::models::segment::Norms;
use xp::models::top;
use xp::models::vgg::{VGG_TINY, VGG11};
use xp::spec::schema::model::BackboneName;
use xp::spec::schema::precision::PrefixPrecision;
use xp::spec::schema::weights::Selection;
use xp::spec::short_forms::FrozenLayers;
use xp::weights::format::{self, Kind};
use xp::weights::load::{FileParameters, LoadError};
use xp::weights::matching::{Top, Wanted};

use crate::support::golden::{agrees, drawn};

const GOLDEN: &str = include_str!("../fixtures/weight_files_golden.json");

/// Name, what it is, and how far its values may be from those that were drawn, as a part of them.
const FILES: [(&str, Kind, f32); 10] = [
    ("keras2.h5", Kind::KerasLegacyWeights, 0.0),
    ("model.h5", Kind::KerasLegacyModel, 0.0),
    // A model within a model.
    ("nested.h5", Kind::KerasLegacyModel, 0.0),
    ("keras3.weights.h5", Kind::KerasV3Weights, 0.0),
    ("model.keras", Kind::KerasV3Model, 0.0),
    ("zip.pth", Kind::TorchZip, 0.0),
    ("legacy.pth", Kind::TorchLegacy, 0.0),
    ("f32.safetensors", Kind::Safetensors, 0.0),
    ("f16.safetensors", Kind::Safetensors, 1.0 / 1024.0),
    ("bf16.safetensors", Kind::Safetensors, 1.0 / 128.0),
];

/// A fixture, unpacked.
pub fn unpacked(name: &str) -> Vec<u8> {
    unpacked_at(&format!("weight_files/{name}"))
}

/// A fixture by its path, unpacked.
pub fn unpacked_at(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{path}.gz"));
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The fixtures in a folder of their own, so that a name can say nothing of a kind.
fn opened(folder: &tempfile::TempDir, name: &str, wanted: Wanted<'_>) -> Result<FileParameters, LoadError> {
    let path = folder.path().join("weights");
    std::fs::write(&path, unpacked(name)).unwrap();
    FileParameters::open(&path, wanted, &Selection::default(), "hash".to_owned())
}

/// The network with its classifier.
fn whole(plan: &NetworkPlan) -> Wanted<'_> {
    Wanted { layout: &plan.layout, top: Top::Needed(&plan.head) }
}

fn plan(image_size: usize) -> NetworkPlan {
    let layout = VGG_TINY.layout();
    let head = top::imagenet(BackboneName::VggTiny, layout.output_chw(layout.nodes.len(), image_size, image_size));
    NetworkPlan {
        freeze: freeze(&FrozenLayers::All, &layout).unwrap(),
        layout,
        norms: Norms::Frozen,
        prefix_precision: PrefixPrecision::F32,
        head,
    }
}

/// What the fixture's script drew.
fn expected(address: &TensorAddress) -> Vec<f32> {
    let scale = match address.role {
        Role::Kernel { fan_in, .. } => (6.0 / fan_in as f64).sqrt(),
        _ => 0.1,
    };
    drawn(&address.name, address.n_values()).map(|unit| (unit * scale) as f32).collect()
}

#[test]
fn every_kind_of_file_gives_the_same_tensors() {
    let plan = plan(64);
    let of_backbone = plan.layout.nodes.iter().flat_map(|node| node.operation.tensors());
    let addresses: Vec<TensorAddress> = of_backbone.chain(dense_tensors(&plan.head).into_iter().flatten()).collect();
    assert_eq!(addresses.len(), 20);
    let folder = tempfile::tempdir().unwrap();
    for (name, kind, tolerance) in FILES {
        let file = opened(&folder, name, whole(&plan)).unwrap();
        assert_eq!(file.kind(), kind, "{name}");
        assert_eq!(file.matched().unused, [""; 0], "{name}");
        for address in &addresses {
            let values = file.values(address).unwrap();
            let expected = expected(address);
            assert_eq!(values.len(), expected.len());
            for (value, expected) in values.iter().zip(&expected) {
                let most = tolerance * expected.abs().max(1e-3);
                assert!((value - expected).abs() <= most, "{name} {}: {value}, expected {expected}", address.name);
            }
        }
    }
}

#[test]
fn features_and_logits_are_those_that_keras_and_pytorch_compute() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let size = golden["size"].as_u64().unwrap() as usize;
    let plan = plan(size);
    let pixel =
        |n: usize, y: usize, x: usize, c: usize| ((41 * n + 7 * y + 13 * x + 29 * c + 5 * (x * y % 17)) % 256) as f32;
    let planes = (0..2).flat_map(|n| (0..3).map(move |c| (n, c)));
    let values =
        planes.flat_map(|(n, c)| (0..size).flat_map(move |y| (0..size).map(move |x| pixel(n, y, x, c) / 128.0 - 1.0)));
    let images = TensorData::new(values.collect::<Vec<f32>>(), [2, 3, size, size]);
    let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
    for (name, _, _) in FILES.into_iter().filter(|(_, _, tolerance)| *tolerance == 0.0) {
        let file = opened(&folder, name, whole(&plan)).unwrap();
        let sources = Sources { backbone: &file, head: &file };
        let prefix = Prefix::new(&plan, sources, &device).unwrap();
        let tail = Tail::new(&plan, sources, &device).unwrap();
        let features = prefix.forward(Tensor::from_data(images.clone(), &device));
        agrees(name, features.clone(), &golden["features"]);
        agrees(name, tail.forward(features, None), &golden["logits"]);
    }
}

#[test]
fn what_does_not_fit_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other_size) = (plan(64), plan(32));
    let other_size = opened(&folder, "zip.pth", whole(&other_size)).unwrap_err();
    let text = other_size.to_string();
    assert!(text.contains("classifier.0.weight of shape [16, 32] and not [16, 8]"), "{text}");
    let vgg11 = Wanted { layout: &VGG11.layout(), top: Top::Known(&own.head) };
    let LoadError::Unfit { unfit, .. } = opened(&folder, "zip.pth", vgg11).unwrap_err() else { panic!("it fits") };
    assert!(!unfit.misshaped.is_empty() && unfit.missing.contains(&"features.8.weight".to_owned()), "{unfit:?}");
    let file = opened(&folder, "zip.pth", whole(&own)).unwrap();
    let turned = TensorAddress { shape: vec![3, 4, 3, 3], ..VGG_TINY.layout().nodes[0].operation.tensors()[0].clone() };
    assert!(matches!(file.values(&turned), Err(ParametersError::Shape { .. })));
}

#[test]
fn what_is_no_file_of_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.h5");
    for bytes in [&b""[..], b"<!DOCTYPE html><html>", b"\x89PNG\r\n\x1a\n........", b"PK\x03\x04", b"\x80\x02"] {
        std::fs::write(&path, bytes).unwrap();
        assert!(format::open(&path).is_err(), "{bytes:?}");
    }
    assert!(format::open(folder.path()).is_err());
    assert!(format::open(&folder.path().join("missing")).is_err());
}

const MUTATED: &str = "XP_TEST_MUTATED_WEIGHTS";

/// In a process of its own, whose memory can be bounded and measured.
#[cfg(target_os = "linux")]
#[test]
fn three_hundred_mutations_of_each_kind_do_no_harm() {
    if std::env::var_os(MUTATED).is_some() {
        mutate();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak_kib < 256 << 10, "{peak_kib} KiB");
        return;
    }
    let test = std::env::current_exe().unwrap();
    let limited =
        "ulimit -v 4194304 && exec timeout 120 \"$0\" --exact weights::three_hundred_mutations_of_each_kind_do_no_harm";
    let child = std::process::Command::new("bash").args(["-c", limited]).arg(test).env(MUTATED, "1").output().unwrap();
    assert!(
        child.status.success(),
        "{}{}",
        String::from_utf8_lossy(&child.stdout),
        String::from_utf8_lossy(&child.stderr)
    );
}

/// Truncations are errors; a flipped bit is one or changes a value; neither is a panic.
#[cfg(target_os = "linux")]
fn mutate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let plan = plan(64);
    let of_backbone = plan.layout.nodes.iter().flat_map(|node| node.operation.tensors());
    let addresses: Vec<TensorAddress> = of_backbone.chain(dense_tensors(&plan.head).into_iter().flatten()).collect();
    let read = || -> Result<(), String> {
        let file = FileParameters::open(&path, whole(&plan), &Selection::default(), String::new());
        let file = file.map_err(|error| error.to_string())?;
        addresses.iter().try_for_each(|address| file.values(address).map(drop)).map_err(|error| error.to_string())
    };
    std::panic::set_hook(Box::new(|_| ()));
    let mut faults = Vec::new();
    for (name, _, _) in FILES {
        let whole = unpacked(name);
        let places: Vec<usize> =
            drawn(name, 600).map(|unit| ((unit + 1.0) / 2.0 * whole.len() as f64) as usize).collect();
        for (i, &place) in places.iter().enumerate() {
            let mut bytes = whole.clone();
            let is_cut = i < 300;
            if is_cut {
                bytes.truncate(place);
            } else {
                bytes[place] ^= 1 << (i % 8);
            }
            std::fs::write(&path, &bytes).unwrap();
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
                Err(_) => faults.push(format!("{name}: a panic, {place} of {} {is_cut}", whole.len())),
                Ok(Ok(())) if is_cut => faults.push(format!("{name}: cut at {place} of {} is read", whole.len())),
                Ok(_) => {}
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"));
}
