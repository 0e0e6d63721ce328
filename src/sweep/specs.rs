//! The specs of a sweep's trials: the sweep's own with a point's values and a seed in it.

use std::path::{Path, PathBuf};

use crate::run::metric::Measure;
use crate::run::sweep::{SweepRecord, TrialKey};
use crate::spec::LoadedSpec;
use crate::spec::effect;
use crate::spec::problem::{Problem, SpecError};
use crate::spec::schema::Spec;
use crate::spec::schema::model::Model;
use crate::spec::schema::monitor::Monitor;
use crate::spec::schema::sweep::Sweep;
use crate::sweep::point::Point;
use crate::sweep::search::{Space, SpaceProblem};

/// What every trial begins with.
#[derive(Clone, Debug)]
pub struct Specs {
    path: PathBuf,
    yaml: String,
    sets: Vec<String>,
    metric: Monitor,
}

impl Specs {
    pub fn of(sweep: &SweepRecord, section: &Sweep) -> Self {
        Self::of_text(sweep.spec_path.as_ref(), &sweep.spec_yaml, &sweep.sets, section)
    }

    /// Those of a sweep that is not recorded.
    pub fn of_text(path: &Path, yaml: &str, sets: &[String], section: &Sweep) -> Self {
        Self { path: path.to_owned(), yaml: yaml.to_owned(), sets: sets.to_owned(), metric: section.metric }
    }

    /// The spec without any point's values.
    pub fn base(&self) -> Result<LoadedSpec, SpecError> {
        self.with(&[])
    }

    /// A point's spec, with the seed that the sweep's spec has.
    pub fn of_point(&self, point: &Point) -> Result<LoadedSpec, SpecError> {
        self.with(&point.sets())
    }

    /// A trial's spec; `more` are arguments that change nothing of what comes out.
    ///
    /// Errors: the spec is not what the trial's label says.
    pub fn of_trial(&self, point: &Point, key: &TrialKey, more: &[String]) -> Result<LoadedSpec, SpecError> {
        let loaded = self.with(&[&point.sets()[..], &draws_of(key), more].concat())?;
        match untrue(&loaded, point, key) {
            None => Ok(loaded),
            Some(name) => {
                let message = format!("the spec does not come to what the sweep's point says: {point}");
                let hint = "another key of the sweep takes its place";
                Err(loaded.error(vec![Problem::new(&format!("sweep.parameters.{name}"), message, hint)]))
            }
        }
    }

    /// Whether a run's record is what the label of its trial says: both train the same.
    pub fn are_in(&self, resolved_json: &str, point: &Point, key: &TrialKey) -> bool {
        let record = LoadedSpec::from_record(Path::new("record"), resolved_json.to_owned(), &[]);
        match (record, self.of_trial(point, key, &[])) {
            (Ok(record), Ok(labelled)) => {
                effect::of(&without_hash(record.spec.clone())) == effect::of(&as_recorded(&labelled, &record.spec))
            }
            _ => false,
        }
    }

    /// The metric that ranks points decides which epoch of a trial is kept, tested and used.
    fn with(&self, more: &[String]) -> Result<LoadedSpec, SpecError> {
        let monitor = format!("checkpoint.monitor={}", self.metric.key());
        let sets = [&self.sets[..], &[monitor], more].concat();
        LoadedSpec::from_text(&self.path, self.yaml.clone(), &sets)
    }

    /// What of the section the spec makes impossible: a metric that is not measured, splits that are not drawn.
    pub fn problems(&self, base: &LoadedSpec, section: &Sweep) -> Vec<SpaceProblem> {
        let problem = |key: &str, message: String, hint: String| SpaceProblem { key: key.to_owned(), message, hint };
        let metric = self.metric.key();
        let unmeasured = match metric.measure {
            Measure::TopK(k) if !base.spec.top_k.contains(&k) => {
                Some(problem("metric", format!("{metric} is not measured"), format!("add `top_k: [{k}]` to the spec")))
            }
            _ => None,
        };
        let is_drawn = base.spec.data.held_out().any(|source| source.fraction().is_some());
        let not_drawn = (!section.split_seeds.is_empty() && !is_drawn).then(|| {
            let message = "no split is drawn: the images of each are given".to_owned();
            problem("split_seeds", message, "write `valid: { fraction: 0.2 }`, or leave `split_seeds` out".to_owned())
        });
        unmeasured.into_iter().chain(not_drawn).collect()
    }

    /// The first `--set` argument that a point's spec does not have: a key of the sweep takes its place.
    pub fn lost_argument(&self, loaded: &LoadedSpec, section: &Sweep) -> Option<&str> {
        let is_metrics = |set: &str| set.starts_with("checkpoint.monitor=") || set.starts_with("checkpoint=");
        let is_seed = |set: &str| !section.seeds.is_empty() && set.starts_with("seed=");
        let is_split = |set: &str| !section.split_seeds.is_empty() && set.starts_with("data.split_seed=");
        let is_lost = |set: &&String| is_seed(set) || is_split(set) || !loaded.holds_argument(set) && !is_metrics(set);
        // Of several for one key the last counts.
        let is_last = |(i, set): &(usize, &String)| {
            let key = |set: &String| set.split_once('=').map(|(key, _)| key.to_owned());
            !self.sets[i + 1..].iter().any(|later| key(later) == key(set))
        };
        self.sets.iter().enumerate().filter(is_last).map(|(_, set)| set).find(is_lost).map(String::as_str)
    }

    /// The fewest and the most epochs of a trial, where keys of the sweep say how long one is.
    pub fn epochs(&self, base: &LoadedSpec, space: &Space) -> Result<[u32; 2], SpecError> {
        let mut epochs = Vec::new();
        for point in space.ends(|key| key == "epochs" || key == "plan" || key.starts_with("plan.")) {
            epochs.push(self.of_point(&point)?.spec.epochs);
        }
        let own = base.spec.epochs;
        Ok([epochs.iter().copied().min().unwrap_or(own), epochs.iter().copied().max().unwrap_or(own)])
    }
}

/// The arguments for what a trial draws: its seeds.
fn draws_of(key: &TrialKey) -> Vec<String> {
    let split_seed = key.split_seed.map(|seed| format!("data.split_seed={seed}"));
    split_seed.into_iter().chain([format!("seed={}", key.seed)]).collect()
}

fn without_hash(spec: Spec) -> Spec {
    let weights = spec.model.weights.without_hash();
    Spec { model: Model { weights, ..spec.model }, ..spec }
}

/// A trial's spec with what a record fills in: whose layout a file of weights has, how an older xp decoded, and which epoch
/// a run kept before the sweep decided that.
fn as_recorded(labelled: &LoadedSpec, record: &Spec) -> Spec {
    let mut spec = without_hash(labelled.spec.clone());
    spec.model.weights = spec.model.weights.laid_out_as(&record.model.weights);
    if !labelled.is_written("data.decode") {
        spec.data.decode = record.data.decode;
    }
    spec.checkpoint.monitor = record.checkpoint.monitor;
    spec
}

/// The first key of a trial's label that its spec does not have, of those that decide how it trains.
fn untrue(loaded: &LoadedSpec, point: &Point, key: &TrialKey) -> Option<String> {
    let counts = |name: &String| !effect::is_without_effect(name);
    let untrue = point.values.iter().filter(|(name, _)| counts(name)).find(|(name, value)| !loaded.holds(name, value));
    let draws = [("seed", Some(key.seed)), ("data.split_seed", key.split_seed)];
    let draw = draws.iter().find(|(name, seed)| seed.is_some_and(|seed| !loaded.holds(name, &seed.into())));
    untrue.map(|(name, _)| name.clone()).or_else(|| draw.map(|(name, _)| (*name).to_owned()))
}
