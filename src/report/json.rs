//! The JSON that `--json` prints: schema 1, whose keys are only ever added to.
//!
//! Times are RFC 3339 in UTC, durations seconds; NaN and infinities, which JSON has no numbers for, are strings.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value, json};

use crate::report::number::unbounded_text;
use crate::report::time::rfc3339_text;
use crate::run::detail::{Artifact, CheckpointRecord, RecordingCosts, RunDetail, SystemSeries};
use crate::run::event::{DataFacts, ModelFacts, SkippedInput};
use crate::run::freezing::Proof;
use crate::run::metric::SeriesSummary;
use crate::run::stretch::Stretch;
use crate::run::summary::RunSummary;

const SCHEMA: u32 = 1;

/// `xp list --json`.
pub fn list(runs: &[RunSummary]) -> Value {
    json!({ "schema": SCHEMA, "runs": runs.iter().map(run).collect::<Vec<_>>() })
}

/// `xp compare --json`: a list with the names of the parameters that differ.
pub fn comparison(runs: &[RunSummary], differing_params: &[String]) -> Value {
    let mut value = list(runs);
    value["differing_params"] = json!(differing_params);
    value
}

/// `xp show --json`: a run of the list with everything else that is recorded.
pub fn detail(detail: &RunDetail) -> Value {
    let mut object = Map::from_iter([("schema".to_owned(), json!(SCHEMA))]);
    object.extend(run_object(&detail.summary));
    object.extend(detail_object(detail));
    Value::Object(object)
}

/// `xp show --freezing --json`.
pub fn freezing(detail: &RunDetail, proof: &Proof) -> Value {
    let tensors = proof.tensors.iter().map(|tensor| {
        json!({
            "name": tensor.name,
            "frozen": tensor.is_frozen,
            "before": tensor.before,
            "after": tensor.after,
            "moved": tensor.has_moved(),
        })
    });
    json!({
        "schema": SCHEMA,
        "id": detail.summary.id.as_str(),
        "name": detail.summary.name,
        "probe": { "before": proof.probe_before, "after": proof.probe_after },
        "tensors": tensors.collect::<Vec<_>>(),
    })
}

fn run(run: &RunSummary) -> Value {
    Value::Object(run_object(run))
}

fn run_object(run: &RunSummary) -> Map<String, Value> {
    let metrics: Map<String, Value> = run.metrics.iter().map(|(name, series)| (name.clone(), metric(series))).collect();
    object(json!({
        "id": run.id.as_str(),
        "name": run.name,
        "experiment": run.experiment,
        "state": run.state.as_str(),
        "created_at": rfc3339_text(run.created_at_ms),
        "duration_s": run.duration_ms() as f64 / 1000.0,
        "params": run.params,
        "metrics": metrics,
        "tags": run.tags,
        "fingerprint": run.fingerprint,
        "group": run.group,
        "error": run.error,
    }))
}

fn metric(series: &SeriesSummary) -> Value {
    json!({
        "last": number(series.last),
        "best": number(series.best),
        "best_epoch": series.best_epoch,
        "min": number(series.min),
        "max": number(series.max),
        "n": series.n_points,
    })
}

fn detail_object(detail: &RunDetail) -> Map<String, Value> {
    let events = detail.events.iter().map(|event| json!({ "at": rfc3339_text(event.at_ms), "state": event.state }));
    let warnings =
        detail.warnings.iter().map(|warning| json!({ "at": rfc3339_text(warning.at_ms), "text": warning.text }));
    object(json!({
        "ended_at": detail.summary.ended_at_ms.map(rfc3339_text),
        "heartbeat_at": rfc3339_text(detail.summary.heartbeat_at_ms),
        "host": detail.host,
        "pid": detail.pid,
        "environment": detail.environment,
        "events": events.collect::<Vec<_>>(),
        "stretches": stretches(detail),
        "test_looks": detail.n_test_looks,
        "data": detail.data.as_ref().map(data),
        "model": detail.model.as_ref().map(model),
        "trained": detail.trained,
        "checkpoints": detail.checkpoints.iter().map(checkpoint).collect::<Vec<_>>(),
        "skipped": detail.skipped.iter().map(skipped).collect::<Vec<_>>(),
        "warnings": warnings.collect::<Vec<_>>(),
        "artifacts": detail.artifacts.iter().map(artifact).collect::<Vec<_>>(),
        "system": system(&detail.system),
        "recording": detail.recording.as_ref().map(recording),
        "spec": spec(&detail.resolved_json),
        "spec_yaml": detail.spec_yaml,
    }))
}

/// What the epochs were trained under; a stretch in which none was trained yet has no last epoch.
fn stretches(detail: &RunDetail) -> Value {
    let ends = detail.stretches.iter().skip(1).map(|next| next.after_epoch).chain([detail.last_epoch()]);
    let stretch = |(stretch, last): (&Stretch, u32)| {
        json!({
            "first_epoch": stretch.after_epoch + 1,
            "last_epoch": (last > stretch.after_epoch).then_some(last),
            "epochs": stretch.epochs,
            "schedule": stretch.schedule,
            "schedule_first_epoch": stretch.schedule_after + 1,
            "past_early_stop": stretch.is_past_early_stop,
        })
    };
    detail.stretches.iter().zip(ends).map(stretch).collect()
}

fn system(system: &BTreeMap<String, SystemSeries>) -> Value {
    let series = |series: &SystemSeries| {
        let summary = &series.summary;
        json!({
            "mean": number(series.mean),
            "min": number(summary.min),
            "max": number(summary.max),
            "last": number(summary.last),
            "n": summary.n_points,
        })
    };
    system.iter().map(|(name, of)| (name.clone(), series(of))).collect::<Map<_, _>>().into()
}

fn recording(costs: &RecordingCosts) -> Value {
    json!({
        "n_waits": costs.n_waits,
        "waited_s": costs.waited_us as f64 / 1e6,
        "longest_wait_s": costs.longest_wait_us as f64 / 1e6,
        "n_system_dropped": costs.n_system_dropped,
    })
}

fn data(data: &DataFacts) -> Value {
    let splits: Map<String, Value> = data
        .splits
        .iter()
        .map(|facts| (facts.split.to_string(), json!({ "n_images": facts.n_images, "hash": facts.hash })))
        .collect();
    json!({ "classes": data.classes, "splits": splits })
}

fn model(model: &ModelFacts) -> Value {
    json!({
        "n_parameters": model.n_parameters,
        "n_trained_parameters": model.n_trained_parameters,
        "n_frozen_layers": model.n_frozen_layers,
        "cut": model.cut,
        "weights_hash": model.weights_hash,
        "frozen_hash": model.frozen_hash,
    })
}

fn checkpoint(checkpoint: &CheckpointRecord) -> Value {
    let saved = &checkpoint.saved;
    json!({
        "epoch": saved.epoch,
        "step": saved.step,
        "monitor_value": number(checkpoint.monitor_value),
        "path": path_text(&saved.path),
        "n_bytes": saved.n_bytes,
        "manifest_hash": saved.manifest_hash,
        "deleted": checkpoint.deleted,
    })
}

/// An image that was left out.
pub fn skipped(skipped: &SkippedInput) -> Value {
    json!({ "split": skipped.split, "path": path_text(&skipped.path), "reason": skipped.reason })
}

fn artifact(artifact: &Artifact) -> Value {
    json!({
        "kind": artifact.kind,
        "path": path_text(&artifact.path),
        "n_bytes": artifact.n_bytes,
        "hash": artifact.hash,
    })
}

/// The resolved spec as an object; as the text it is when it cannot be read, which loses nothing.
fn spec(resolved_json: &str) -> Value {
    serde_json::from_str(resolved_json).unwrap_or_else(|_| json!(resolved_json))
}

/// serde refuses paths that are not UTF-8; their readable part is better than no answer.
fn path_text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// A number, or its name where JSON has none: `"NaN"`, `"Infinity"`; `null` for what was not measured.
pub fn number(value: Option<f64>) -> Value {
    match value {
        None => Value::Null,
        Some(value) => Number::from_f64(value).map_or_else(|| json!(unbounded_text(value)), Value::Number),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::run::metric::Direction;

    #[test]
    fn a_list_has_the_documented_shape() {
        let value = list(&[sample::summary("fashion-calm-otter", "8Z9ABC")]);
        assert_eq!(
            value,
            json!({ "schema": 1, "runs": [{
                "id": "01JDB3M8T2ZQ4V5W6X7Y8Z9ABC",
                "name": "fashion-calm-otter",
                "experiment": "fashion",
                "state": "finished",
                "created_at": "2026-11-24T10:52:07.250Z",
                "duration_s": 92.4,
                "params": { "optimizer.adam.learning_rate": 0.001, "seed": 42 },
                "metrics": {
                    "valid.accuracy": {
                        "last": 0.845, "best": 0.848, "best_epoch": 3, "min": 0.52, "max": 0.848, "n": 4
                    },
                    "valid.loss": {
                        "last": 0.491, "best": 0.48671, "best_epoch": 3, "min": 0.48671, "max": 1.47, "n": 4
                    },
                },
                "tags": ["first"],
                "fingerprint": "f0f1f2f3f4f5f6f7",
                "group": null,
                "error": null,
            }] })
        );
    }

    #[test]
    fn values_without_a_json_number_are_strings() {
        let diverged = metric(&sample::series(&[f64::NEG_INFINITY, f64::INFINITY, f64::NAN], Direction::Minimize));
        let expected = json!({
            "last": "NaN", "best": "-Infinity", "best_epoch": 1, "min": "-Infinity", "max": "Infinity", "n": 3
        });
        assert_eq!(diverged, expected);
        assert_eq!(metric(&SeriesSummary::default())["best"], Value::Null);
    }

    #[test]
    fn detail_is_a_run_of_the_list_and_more() {
        let detail = sample::detail();
        let value = super::detail(&detail);
        let listed = &list(std::slice::from_ref(&detail.summary))["runs"][0];
        for (key, expected) in listed.as_object().unwrap() {
            assert_eq!(&value[key], expected, "{key}");
        }
        assert_eq!(value["schema"], 1);
        assert_eq!(value["spec"]["seed"], 42);
        assert_eq!(value["data"]["splits"]["train"]["n_images"], 1200);
        assert_eq!(value["model"]["n_trained_parameters"], 12_810);
        assert_eq!(value["checkpoints"][1]["monitor_value"], Value::Null);
        let stretch = json!({
            "first_epoch": 1, "last_epoch": 4, "epochs": 4, "schedule": { "cosine": { "warmup_epochs": 0 } },
            "schedule_first_epoch": 1, "past_early_stop": false
        });
        assert_eq!(value["stretches"], json!([stretch]));
        assert_eq!(value["skipped"].as_array().unwrap().len(), 12);
        let memory = json!({ "mean": 150e6, "min": 130e6, "max": 170_917_888.0, "last": 150e6, "n": 3 });
        assert_eq!(value["system"]["system.process_memory_bytes"], memory);
        let recording = json!({ "n_waits": 0, "waited_s": 0.0, "longest_wait_s": 0.0, "n_system_dropped": 0 });
        assert_eq!(value["recording"], recording);
        assert_eq!(value["events"][1], json!({ "at": "2026-11-24T10:53:39.650Z", "state": "finished" }));
    }

    #[test]
    fn a_spec_that_cannot_be_read_is_given_as_text() {
        assert_eq!(spec("{"), json!("{"));
    }
}
