//! What a sweep's trials have to show, as its ranking wants it: values, runs, and the metric of every validation image.

use std::collections::BTreeMap;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::report::ranking::Replicate;
use crate::run::event::DataFacts;
use crate::run::id::RunId;
use crate::run::metric::{MetricKey, Split};
use crate::run::summary::RunSummary;
use crate::store::connect::Store;
use crate::sweep::standing::{State, Trial};
use crate::train::predictions_file::{self, Predictions};

/// Whether the records of validation images are read, which may be many megabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    Read,
    Left,
}

/// One replicate a trial, in their order.
pub(super) fn replicates(
    context: &Context,
    store: &Store,
    trials: &[Trial],
    (metric, records): (MetricKey, Records),
    found: (&[RunSummary], &BTreeMap<RunId, DataFacts>),
) -> Result<Vec<Replicate>, Failure> {
    trials.iter().map(|trial| replicate(context, store, trial, (metric, records), found)).collect()
}

fn replicate(
    context: &Context,
    store: &Store,
    trial: &Trial,
    (metric, records): (MetricKey, Records),
    (runs, images): (&[RunSummary], &BTreeMap<RunId, DataFacts>),
) -> Result<Replicate, Failure> {
    let mut replicate = Replicate {
        split_seed: trial.record.key.split_seed,
        seed: trial.record.key.seed,
        value: trial.kept(metric.direction()),
        ..Replicate::default()
    };
    let Some(run) = runs.iter().find(|run| Some(&run.id) == trial.record.run.as_ref()) else { return Ok(replicate) };
    replicate.run = Some(run.name.clone());
    if let Some(facts) = images.get(&run.id) {
        let n_images = |split| facts.of(split).map(|split| split.n_images);
        (replicate.n_train, replicate.n_valid) = (n_images(Split::Train), n_images(Split::Valid));
    }
    // Points are compared when they are complete; what is still going on has no such record, or that of an earlier end.
    if records == Records::Read
        && metric.split == Split::Valid
        && trial.state == State::Finished
        && let Some(predictions) = recorded(context, store, run)?
    {
        replicate.n_valid = Some(predictions.labels.len() as u64);
        replicate.images = Some(predictions.of(metric.measure));
        replicate.images_hash = Some(predictions.facts.images);
    }
    Ok(replicate)
}

/// What a run recorded of its validation images; nothing where the file is gone or not the one that was recorded.
fn recorded(context: &Context, store: &Store, run: &RunSummary) -> Result<Option<Predictions>, Failure> {
    let artifacts = context.wait(store.artifacts(&run.id))?;
    let Some(artifact) = artifacts.into_iter().find(|artifact| artifact.kind == predictions_file::KIND) else {
        return Ok(None);
    };
    let path = context.home.run_dir(&run.id).join(&artifact.path);
    match predictions_file::read(&path) {
        Ok((predictions, hash)) if hash.to_hex().as_str() == artifact.hash => Ok(Some(predictions)),
        Ok(_) => {
            tracing::warn!(path = %path.display(), "its bytes are not those that were recorded");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(%error, "a record of validation images is not used");
            Ok(None)
        }
    }
}
