//! A head that was trained on features, behind the backbone that made them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::failure::Failure;
use crate::spec::LoadedSpec;
use crate::spec::fingerprint;
use crate::spec::schema::source::ImageSource;
use crate::train::extract::folder::{MANIFEST, Record};

/// The spec of a head on its backbone.
pub(crate) struct Behind {
    pub loaded: LoadedSpec,
    /// The row that the head stands on; `None` for the backbone's last.
    pub last_row: Option<String>,
    /// The weights that made the features, where that is on record.
    pub weights_hash: Option<String>,
}

impl Behind {
    /// The backbone of the features that a run was trained on: that of a spec or of a folder of features where one is
    /// named, else of the folder that the run's features lie in.
    pub fn of(run: &str, head: &LoadedSpec, named: Option<&Path>) -> Result<Self, Failure> {
        let place = named.map(Path::to_owned).or_else(|| own_folder(head)).unwrap_or_default();
        if place.is_file() {
            let images = LoadedSpec::read(&place, &[])?;
            if images.spec.model.backbone.is_none() {
                return Err(Failure::Usage {
                    what: format!("{} has no backbone", place.display()),
                    hint: "name the spec that `xp features` was given, or the folder that it wrote".to_owned(),
                });
            }
            let spec = fingerprint::resolved(&images.spec);
            return Ok(Self { loaded: composed(&images.path, spec, head)?, last_row: None, weights_hash: None });
        }
        let record = record(&place).ok_or_else(|| Failure::Usage {
            what: format!("the run {run} was trained on features, and nothing says which backbone made them"),
            hint: format!(
                "there is no {MANIFEST} of `xp features` in {}; `--behind` names such a folder, or the spec of the images",
                if place == Path::new("") { Path::new(".") } else { &place }.display()
            ),
        })?;
        let path = record.spec_path.unwrap_or_else(|| PathBuf::from("spec.yaml"));
        Ok(Self {
            loaded: composed(&path, record.spec, head)?,
            last_row: Some(record.made_of.layer),
            weights_hash: Some(record.made_of.weights_hash).filter(|hash| !hash.contains(", seed ")),
        })
    }
}

/// What the features of a run were made of, where their folder tells.
pub(crate) fn made_of(head: &LoadedSpec) -> Value {
    let record = own_folder(head).and_then(|folder| record(&folder));
    record.map_or(Value::Null, |record| serde_json::json!(record.made_of))
}

/// The folder that a run's features lie in.
fn own_folder(head: &LoadedSpec) -> Option<PathBuf> {
    match &head.spec.data.train {
        ImageSource::Features(source) => head.resolve(&source.features).parent().map(Path::to_owned),
        _ => None,
    }
}

/// What `xp features` wrote of a folder.
fn record(folder: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()
}

/// The images' spec with the other's head and what belongs to that.
fn composed(path: &Path, mut images: Value, head: &LoadedSpec) -> Result<LoadedSpec, Failure> {
    let of_head = fingerprint::resolved(&head.spec);
    images["model"]["head"] = of_head["model"]["head"].clone();
    images["model"]["frozen_layers"] = "all".into();
    for key in ["loss", "label_smoothing", "top_k", "device"] {
        images[key] = of_head[key].clone();
    }
    if let Some(images) = images.as_object_mut() {
        for key in ["plan", "learning_rates", "sweep", "class_weights"] {
            images.remove(key);
        }
        images.retain(|_, value| !value.is_null());
    }
    Ok(LoadedSpec::from_record(path, images.to_string(), &[])?)
}
