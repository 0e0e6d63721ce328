//! Small runs for this layer's tests.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::run::detail::{
    Artifact, CheckpointRecord, RecordingCosts, RunDetail, RunWarning, StateChange, SystemSeries,
};
use crate::run::engine::ENGINE_VERSION;
use crate::run::event::{DataFacts, ModelFacts, SavedCheckpoint, SkippedInput, SplitFacts, TrainedFacts};
use crate::run::id::RunId;
use crate::run::metric::{Direction, Point, SeriesSummary, Split};
use crate::run::stretch::Stretch;
use crate::run::summary::{RunSummary, ShownState, State};
use crate::run::system::{PROCESS_CPU_PERCENT, PROCESS_MEMORY_BYTES};

/// 2026-11-24 10:52:07.250 UTC.
pub(crate) const CREATED_AT_MS: i64 = 1_795_517_527_250;

pub(crate) fn summary(name: &str, id_end: &str) -> RunSummary {
    let accuracies = series(&[0.52, 0.81, 0.848, 0.845], Direction::Maximize);
    let losses = series(&[1.47, 0.72, 0.486_71, 0.491], Direction::Minimize);
    RunSummary {
        id: RunId::from_stored(format!("01JDB3M8T2ZQ4V5W6X7Y{id_end}")),
        name: name.to_owned(),
        experiment: "fashion".to_owned(),
        state: ShownState::Recorded(State::Finished),
        created_at_ms: CREATED_AT_MS,
        ended_at_ms: Some(CREATED_AT_MS + 92_400),
        heartbeat_at_ms: CREATED_AT_MS + 92_000,
        fingerprint: Some("f0f1f2f3f4f5f6f7".to_owned()),
        group: None,
        error: None,
        engine: Some(ENGINE_VERSION.to_string()),
        params: params(&[("optimizer.adam.learning_rate", json!(1e-3)), ("seed", json!(42))]),
        metrics: BTreeMap::from([("valid.accuracy".to_owned(), accuracies), ("valid.loss".to_owned(), losses)]),
        tags: vec!["first".to_owned()],
    }
}

pub(crate) fn params(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

pub(crate) fn series(values: &[f64], direction: Direction) -> SeriesSummary {
    let mut summary = SeriesSummary::default();
    for (index, point) in points(values).iter().enumerate() {
        summary.push(&Point { epoch: index as u32 + 1, ..*point }, Some(direction));
    }
    summary
}

pub(crate) fn points(values: &[f64]) -> Vec<Point> {
    let point = |(index, value): (usize, &f64)| Point {
        epoch: index as u32 + 1,
        step: 10 * (index as u64 + 1),
        at_ms: CREATED_AT_MS,
        value: *value,
        n_samples: 100,
    };
    values.iter().enumerate().map(point).collect()
}

pub(crate) fn detail() -> RunDetail {
    let skipped = (1..=12).map(|index| SkippedInput {
        split: Split::Train,
        path: format!("train/cat/{index}.png").into(),
        reason: "not an image".to_owned(),
    });
    RunDetail {
        summary: summary("fashion-calm-otter", "8Z9ABC"),
        host: "workstation".to_owned(),
        pid: 4711,
        spec_yaml: "name: fashion\n".to_owned(),
        resolved_json: r#"{"name":"fashion","seed":42}"#.to_owned(),
        environment: BTreeMap::from([("xp".to_owned(), "0.1.0".to_owned())]),
        events: vec![
            StateChange { at_ms: CREATED_AT_MS, state: State::Running },
            StateChange { at_ms: CREATED_AT_MS + 92_400, state: State::Finished },
        ],
        n_test_looks: 0,
        stretches: vec![Stretch::whole(4, json!({ "cosine": { "warmup_epochs": 0 } }))],
        data: Some(data()),
        model: Some(model()),
        trained: Some(TrainedFacts { frozen_hash: model().frozen_hash, trained_hash: "123456789abcdef0".to_owned() }),
        checkpoints: vec![checkpoint(3, Some(0.486_71), false), checkpoint(4, None, true)],
        skipped: skipped.collect(),
        warnings: vec![RunWarning { at_ms: CREATED_AT_MS, text: "few images ".repeat(12) }],
        artifacts: vec![Artifact {
            kind: "plot".to_owned(),
            path: "curves.png".into(),
            n_bytes: 130_181,
            hash: "abcdef0123456789".to_owned(),
        }],
        system: BTreeMap::from([
            (PROCESS_CPU_PERCENT.to_owned(), system_series([60.0, 90.0, 75.0], 75.0)),
            (PROCESS_MEMORY_BYTES.to_owned(), system_series([130e6, 170_917_888.0, 150e6], 150e6)),
        ]),
        recording: Some(RecordingCosts::default()),
    }
}

fn system_series(values: [f64; 3], mean: f64) -> SystemSeries {
    let mut summary = SeriesSummary::default();
    points(&values).iter().for_each(|point| summary.push(point, None));
    SystemSeries { summary, mean: Some(mean) }
}

fn data() -> DataFacts {
    let split = |split, n_images| SplitFacts { split, n_images, hash: "0123456789abcdef".to_owned() };
    DataFacts {
        classes: ["Ankle boot", "Bag", "Coat", "Dress", "Pullover", "Sandal", "Shirt", "Sneaker", "T-shirt", "Trouser"]
            .map(str::to_owned)
            .into(),
        splits: vec![split(Split::Train, 1200), split(Split::Valid, 300)],
    }
}

fn model() -> ModelFacts {
    ModelFacts {
        weights_hash: "fedcba9876543210".to_owned(),
        n_parameters: 3_383_818,
        n_trained_parameters: 12_810,
        n_frozen_layers: 50,
        cut: "blocks.6".to_owned(),
        frozen_hash: "00ff00ff00ff00ff".to_owned(),
    }
}

fn checkpoint(epoch: u32, monitor_value: Option<f64>, deleted: bool) -> CheckpointRecord {
    let saved = SavedCheckpoint {
        epoch,
        step: u64::from(epoch) * 38,
        path: format!("checkpoints/epoch-{epoch:04}").into(),
        n_bytes: 9_700_000,
        manifest_hash: "aa".to_owned(),
    };
    CheckpointRecord { saved, monitor_value, deleted }
}
