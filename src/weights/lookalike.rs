//! Two networks with the same names and shapes: timm's `efficientnet_lite0` and the `tf_efficientnet_lite0` that it ported.
//!
//! Either file fits either network, whose padding, epsilon and pixels differ; read as the other it gives answers that are
//! wrong and look right. What tells them apart is asked in turn: the published hash, what lies beside the file, the
//! answers that are known of one. Where nothing tells, the user is.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::models::layout::Form;
use crate::weights::golden;
use crate::weights::load::FileParameters;
use crate::weights::locate::{Located, Stored};
use crate::weights::registry;

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

/// Looks at a file of the user's own that is read as one of the two.
pub fn find(located: &Located, file: &FileParameters) -> Finding {
    let (Stored::File(path), None) = (&located.stored, located.published) else { return Finding::Sure };
    let (own, other) = match located.source.name {
        TENSORFLOW => (TENSORFLOW, TIMM),
        TIMM => (TIMM, TENSORFLOW),
        _ => return Finding::Sure,
    };
    // The packages of EfficientNet-PyTorch call their modules otherwise, and a file of ours says which it is.
    if !file.has_timm_names() {
        return Finding::Sure;
    }
    let says = told_by(path, file).or_else(|| answers_as_tensorflow(located).then_some(TENSORFLOW));
    match says {
        Some(says) if says == own => Finding::Sure,
        Some(_) => Finding::Other {
            reason: format!("it is a file of {}, and would give wrong answers as {}", timm_name(other), timm_name(own)),
            hint: format!("use `as: {other}`"),
        },
        None => Finding::Unsure(format!(
            "{} and {} of timm have the same names, and other padding, epsilon and pixels: the file is read as {}; \
             `as: {other}` reads it as the other",
            timm_name(own),
            timm_name(other),
            timm_name(own),
        )),
    }
}

fn timm_name(source: &str) -> &'static str {
    if source == TENSORFLOW { "tf_efficientnet_lite0" } else { "efficientnet_lite0" }
}

/// What the file's name, its own description or the one beside it says: published names carry a hash, the hub's folders a
/// `config.json`, our exports a word of their padding.
fn told_by(path: &Path, file: &FileParameters) -> Option<&'static str> {
    let of_name = |name: &str| match name {
        name if name.starts_with("tf_efficientnet_lite0") => Some(TENSORFLOW),
        name if name.starts_with("efficientnet_lite0_ra") => Some(TIMM),
        _ => None,
    };
    let ours = || {
        let described: Value = serde_json::from_str(file.metadata("xp")?).ok()?;
        registry::by_name(described["backbone"]["weights"].as_str()?).map(|source| source.form)
    };
    let of_form = |form: Form| if form == Form::TimmEven { TIMM } else { TENSORFLOW };
    let beside = || {
        let config = path.parent()?.join("config.json");
        let is_small = fs::metadata(&config).is_ok_and(|facts| facts.len() <= MAX_CONFIG_BYTES);
        let config: Value = serde_json::from_slice(&fs::read(config).ok().filter(|_| is_small)?).ok()?;
        match config["architecture"].as_str()? {
            "tf_efficientnet_lite0" => Some(TENSORFLOW),
            "efficientnet_lite0" => Some(TIMM),
            _ => None,
        }
    };
    let own_name = path.file_name()?.to_string_lossy().into_owned();
    of_name(&own_name).or_else(|| ours().map(of_form)).or_else(beside)
}

/// Whether the file answers as TensorFlow's weights do, which are in the binary with their convolutions rounded.
fn answers_as_tensorflow(located: &Located) -> bool {
    /// Of the largest logit.
    const TOLERANCE: f64 = 0.02;
    let source = registry::by_name(TENSORFLOW).expect("the registry has it");
    golden::answers(&Located { source, ..located.clone() }, TOLERANCE).unwrap_or(false)
}
