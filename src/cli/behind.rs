//! A head that was trained on features, behind the backbone that made them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::data::features::{FeatureFile, FeatureShape};
use crate::launch::environment::FEATURES_MADE_OF;
use crate::run::detail::RunDetail;
use crate::spec::LoadedSpec;
use crate::spec::fingerprint;
use crate::spec::schema::source::ImageSource;
use crate::train::extract::folder::{MANIFEST, MadeOf, finished};
use crate::train::plan::Plan;

/// The spec of a head on its backbone.
pub(crate) struct Behind {
    pub loaded: LoadedSpec,
    /// The row that the head stands on; `None` for the backbone's last.
    pub last_row: Option<String>,
    /// The weights that made the features, where that is on record.
    pub weights_hash: Option<String>,
    /// What the features were made of, where that is on record.
    made_of: Option<MadeOf>,
    /// Height, width and channels of the features, where their file is there.
    shape: Option<FeatureShape>,
}

impl Behind {
    /// The backbone of the features that a run was trained on: that of a spec or of a folder of features where one is
    /// named, else of the folder that the run's features lie in.
    pub fn of(run: &RunDetail, head: &LoadedSpec, named: Option<&Path>) -> Result<Self, Failure> {
        let name = &run.summary.name;
        let place = named.map(Path::to_owned).or_else(|| own_folder(head)).unwrap_or_default();
        let recorded = run.environment.get(FEATURES_MADE_OF).and_then(|text| serde_json::from_str(text).ok());
        if place.is_file() {
            let images = LoadedSpec::read(&place, &[])?;
            if images.spec.model.backbone.is_none() {
                return Err(Failure::Usage {
                    what: format!("{} has no backbone", place.display()),
                    hint: "name the spec that `xp features` was given, or the folder that it wrote".to_owned(),
                });
            }
            let spec = fingerprint::resolved(&images.spec);
            return Ok(Self::with(composed(&images.path, spec, head)?, recorded, head));
        }
        let record = finished(&place).ok_or_else(|| Failure::Usage {
            what: format!("the run {name} was trained on features, and nothing says which backbone made them"),
            hint: format!(
                "there is no {MANIFEST} of `xp features` in {}; `--behind` names such a folder, or the spec of the images",
                if place == Path::new("") { Path::new(".") } else { &place }.display()
            ),
        })?;
        let made_of: MadeOf = recorded.unwrap_or_else(|| record.made_of.clone());
        let differing = made_of.differs_from(&record.made_of);
        if !differing.is_empty() {
            return Err(others(name, &place, &differing));
        }
        let path = record.spec_path.unwrap_or_else(|| PathBuf::from("spec.yaml"));
        Ok(Self::with(composed(&path, record.spec, head)?, Some(made_of), head))
    }

    fn with(loaded: LoadedSpec, made_of: Option<MadeOf>, head: &LoadedSpec) -> Self {
        let features = match &head.spec.data.train {
            ImageSource::Features(source) => FeatureFile::open(&head.resolve(&source.features)).ok(),
            _ => None,
        };
        Self {
            loaded,
            last_row: made_of.as_ref().map(|made_of| made_of.layer.clone()),
            // Random weights are named by their seed too, which the spec has.
            weights_hash: made_of
                .as_ref()
                .map(|made_of| made_of.weights_hash.clone())
                .filter(|h| !h.contains(", seed ")),
            shape: features.map(|features| features.shape()),
            made_of,
        }
    }

    /// Refuses a backbone that gives other features than those that the head was trained on, as far as that can be seen.
    pub fn check(&self, run: &str, plan: &Plan) -> Result<(), Failure> {
        let [channels, height, width] = plan.prefix_chw().map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let here = FeatureShape { height, width, channels };
        let mut differing = Vec::new();
        if let Some(made_of) = &self.made_of {
            if made_of.preprocessing != json!(plan.preprocessing) {
                differing.push("preprocessing");
            }
            if made_of.images != plan.images_json() && made_of.images["decode"] != Value::Null {
                differing.push("image size, filter or orientation");
            }
            if made_of.shape != [height, width, channels] {
                differing.push("shape");
            }
        } else if self.shape.is_some_and(|shape| shape != here) {
            differing.push("shape");
        }
        if differing.is_empty() { Ok(()) } else { Err(others(run, &self.loaded.path, &differing)) }
    }
}

/// Features that are not those of the run.
fn others(run: &str, place: &Path, differing: &[&str]) -> Failure {
    Failure::Usage {
        what: format!(
            "{} gives other features than those that the run {run} was trained on: another {}",
            place.display(),
            differing.join(", ")
        ),
        hint: "`--behind` names what made its features".to_owned(),
    }
}

/// What the features of a run were made of, where their folder tells.
pub(crate) fn made_of(head: &LoadedSpec) -> Value {
    let record = own_folder(head).and_then(|folder| finished(&folder));
    record.map_or(Value::Null, |record| json!(record.made_of))
}

/// The folder that a run's features lie in.
fn own_folder(head: &LoadedSpec) -> Option<PathBuf> {
    match &head.spec.data.train {
        ImageSource::Features(source) => head.resolve(&source.features).parent().map(Path::to_owned),
        _ => None,
    }
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
