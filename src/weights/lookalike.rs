//! Networks with the same names and shapes: timm's `efficientnet_lite0` and the `tf_efficientnet_lite0` that it ported, and
//! those that both Keras and torchvision have.
//!
//! Either file fits either network, whose padding, epsilon and pixels differ; read as the other it gives answers that are
//! wrong and look right. What tells them apart is asked in turn: the published hash, what lies beside the file, the
//! answers that are known of one. Where nothing tells, the user is.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::models::layout::Form;
use crate::weights::format::Convention;
use crate::weights::golden;
use crate::weights::load::FileParameters;
use crate::weights::locate::{Located, Stored};
use crate::weights::registry::{self, Source};

const TENSORFLOW: &str = "efficientnet_lite0.timm";
const TIMM: &str = "efficientnet_lite0.timm_ra";

/// Bytes of a model's description.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What is found of a file that two networks could read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is the one that it is read as, or no such file.
    Sure,
    /// Nothing tells.
    Unsure(String),
    /// It is the other one's.
    Other { reason: String, hint: String },
}

/// Looks at a file of the user's own that is read as one of the two, or as a network of which others have another form.
pub fn find(located: &Located, file: &FileParameters) -> Finding {
    let (Stored::File(path), None) = (&located.stored, located.published) else { return Finding::Sure };
    let own = located.source;
    if let Some(described) = described(path, file).filter(|source| source.backbone == own.backbone) {
        return if (described.form, described.norm_epsilon) == (own.form, own.norm_epsilon) {
            Finding::Sure
        } else {
            is_another(described.name, own.name)
        };
    }
    match own.name {
        TENSORFLOW | TIMM => lite0(located, path, file),
        _ => of_package(own, file),
    }
}

fn is_another(whose: &str, read_as: &str) -> Finding {
    Finding::Other {
        reason: format!("it is a file of {whose}, and would give wrong answers as {read_as}"),
        hint: format!("use `as: {whose}`"),
    }
}

/// Networks that Keras and others have both: pixels differ, and of some padding and epsilon; who wrote the file tells whose
/// it most likely is.
fn of_package(own: &Source, file: &FileParameters) -> Finding {
    let is_keras_file = file.kind().convention() == Convention::Keras;
    let is_of_file = |source: &&Source| (source.form == Form::Keras) == is_keras_file;
    let other = registry::sources(own.backbone).iter().find(is_of_file);
    match other.filter(|_| !is_of_file(&own)) {
        None => Finding::Sure,
        Some(other) => Finding::Unsure(format!(
            "it is a file of {}, read with the pixels and the form of {}: `as: {}` reads it as its own",
            if is_keras_file { "Keras" } else { "PyTorch" },
            own.name,
            other.name
        )),
    }
}

/// timm's own and the one that it ported.
fn lite0(located: &Located, path: &Path, file: &FileParameters) -> Finding {
    let own = located.source.name;
    let other = if own == TIMM { TENSORFLOW } else { TIMM };
    // The packages of EfficientNet-PyTorch call their modules otherwise.
    if !file.has_timm_names() {
        return Finding::Sure;
    }
    match told_by(path).or_else(|| answers_as_tensorflow(located).then_some(TENSORFLOW)) {
        Some(says) if says == own => Finding::Sure,
        Some(says) => is_another(says, own),
        None => Finding::Unsure(format!(
            "{} and {} of timm have the same names, and other padding, epsilon and pixels: the file is read as {}; \
             `as: {other}` reads it as the other",
            timm_name(own),
            timm_name(other),
            timm_name(own),
        )),
    }
}

/// Whose form an export of ours says that it has, in itself or beside it.
fn described(path: &Path, file: &FileParameters) -> Option<&'static Source> {
    let beside = || small_json(&path.with_file_name(format!("{}.json", path.file_name()?.to_string_lossy())));
    let own = file.metadata("xp").and_then(|text| serde_json::from_str(text).ok());
    let described: Value = own.or_else(beside)?;
    registry::by_name(described["backbone"]["as"].as_str()?)
}

/// A small file of JSON, if it is there.
fn small_json(path: &Path) -> Option<Value> {
    let is_small = fs::metadata(path).is_ok_and(|facts| facts.len() <= MAX_CONFIG_BYTES);
    serde_json::from_slice(&fs::read(path).ok().filter(|_| is_small)?).ok()
}

fn timm_name(source: &str) -> &'static str {
    if source == TENSORFLOW { "tf_efficientnet_lite0" } else { "efficientnet_lite0" }
}

/// What the file's name or the description beside it says: published names carry a hash, the hub's folders a `config.json`.
fn told_by(path: &Path) -> Option<&'static str> {
    let own_name = path.file_name()?.to_string_lossy();
    match own_name {
        name if name.starts_with("tf_efficientnet_lite0") => return Some(TENSORFLOW),
        name if name.starts_with("efficientnet_lite0_ra") => return Some(TIMM),
        _ => {}
    }
    match small_json(&path.parent()?.join("config.json"))?["architecture"].as_str()? {
        "tf_efficientnet_lite0" => Some(TENSORFLOW),
        "efficientnet_lite0" => Some(TIMM),
        _ => None,
    }
}

/// Whether the file answers as TensorFlow's weights do, which are in the binary with their convolutions rounded.
fn answers_as_tensorflow(located: &Located) -> bool {
    /// Of the largest logit.
    const TOLERANCE: f64 = 0.02;
    let source = registry::by_name(TENSORFLOW).expect("the registry has it");
    golden::answers(&Located { source, ..located.clone() }, TOLERANCE).unwrap_or(false)
}
