//! What is kept of a run's validation images, one by one.

use std::fs;

use serde_json::Value;
use xp::run::metric::Measure;
use xp::train::predictions_file::{self, Predictions};

use crate::support::Place;

/// The record of a run, whose bytes must be those that are recorded.
fn recorded(place: &Place, run: &Value) -> Option<Predictions> {
    let artifacts = run["artifacts"].as_array().unwrap();
    let artifact = artifacts.iter().find(|artifact| artifact["kind"] == "predictions")?;
    let folder = place.path(".xp/runs").join(run["id"].as_str().unwrap());
    let path = folder.join(artifact["path"].as_str().unwrap());
    let (predictions, hash) = predictions_file::read(&path).unwrap();
    assert_eq!(artifact["hash"], hash.to_hex().as_str());
    assert_eq!(artifact["n_bytes"], fs::metadata(&path).unwrap().len());
    Some(predictions)
}

fn run(place: &Place, sets: &[&str]) -> Value {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    place.json(&["run", "spec.yaml", "--json"].into_iter().chain(sets).collect::<Vec<_>>())
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64
}

const SIGMOID: &str = "model.head=[global_average_pool, { dense: { units: 1, activation: sigmoid } }]";
const STEPS: &str = "plan=[{ epochs: 1, frozen_layers: all }, { epochs: 1, frozen_layers: { stages: 7 } }]";

#[test]
fn the_record_is_what_its_epoch_measured() {
    let place = Place::new();
    let cases: [(&[&str], usize); 7] = [
        (&["epochs=1"], 8),
        (&["epochs=4", "optimizer.adam.learning_rate=0.05"], 8),
        (&["epochs=2", SIGMOID, "cache.enabled=false"], 8),
        (&["epochs=2", "validation_steps=1"], 4),
        (&["epochs=1", "model.frozen_layers={ stages: 7 }", "cache.enabled=false"], 8),
        // The best epoch has another cut than the last, and the other way round.
        (&[STEPS, "epochs=2", "checkpoint.monitor=valid.accuracy"], 8),
        (&[STEPS, "epochs=2"], 8),
    ];
    for (sets, n_images) in cases {
        let run = run(&place, sets);
        let predictions = recorded(&place, &run).unwrap();
        let is_accuracy = sets.contains(&"checkpoint.monitor=valid.accuracy");
        let (monitor, measure) =
            if is_accuracy { ("valid.accuracy", Measure::Accuracy) } else { ("valid.loss", Measure::Loss) };
        let metric = &run["metrics"][monitor];
        assert_eq!(metric["best_epoch"], predictions.facts.epoch, "{sets:?}");
        let found = mean(&predictions.of(measure));
        let tolerance = if is_accuracy { 0.0 } else { 1e-5 };
        assert!((found - metric["best"].as_f64().unwrap()).abs() <= tolerance, "{sets:?}: {found} {metric}");
        if metric["n"] == 1 {
            assert_eq!(run["metrics"]["valid.accuracy"]["last"], mean(&predictions.of(Measure::Accuracy)));
        }
        assert_eq!((predictions.labels.len(), predictions.facts.classes.len()), (n_images, 2), "{sets:?}");
        assert_eq!(predictions.facts.split, run["data"]["splits"]["valid"]["hash"].as_str().unwrap());
    }
}

#[test]
fn the_record_says_what_predict_says() {
    let place = Place::new();
    for sets in [&[][..], &[SIGMOID]] {
        let run = run(&place, sets);
        let predictions = recorded(&place, &run).unwrap();
        let said = place.json(&["predict", run["name"].as_str().unwrap(), "data/valid", "--json"]);
        let classes = &predictions.facts.classes;
        for (i, name) in predictions.names.iter().enumerate() {
            let is_it = |image: &&Value| image["path"].as_str().unwrap().ends_with(name.as_str());
            let said = said["images"].as_array().unwrap().iter().find(is_it).unwrap();
            assert!(name.starts_with(classes[predictions.labels[i] as usize].as_str()), "{name}");
            assert_eq!(said["top"][0]["class"], classes[predictions.predicted[i] as usize].as_str(), "{name}");
            let of = &predictions.probabilities[2 * i..2 * i + 2];
            for (class, found) in classes.iter().zip(of) {
                let said = said["top"].as_array().unwrap().iter().find(|top| top["class"] == class.as_str()).unwrap();
                let expected = said["probability"].as_f64().unwrap();
                // f16 has 11 bits.
                assert!((found.to_f64() - expected).abs() <= 5e-4 * expected + 1e-6, "{name}: {found} {expected}");
            }
            let of_label = of[predictions.labels[i] as usize].to_f64();
            assert!((f64::from(predictions.losses[i]) + of_label.ln()).abs() <= 2e-3, "{name}: {of_label}");
        }
    }
}

#[test]
fn it_is_no_part_of_the_training_and_left_out_on_request() {
    let place = Place::new();
    let whole = run(&place, &[]);
    for (max, is_warned) in [("0", false), ("7", true)] {
        let without = run(&place, &[&format!("max_recorded_predictions={max}")]);
        assert!(recorded(&place, &without).is_none());
        assert_eq!(without["warnings"].to_string().contains("each of the 8 valid images is not kept"), is_warned);
        assert_eq!(without["trained"], whole["trained"]);
        assert_eq!(without["fingerprint"], whole["fingerprint"]);
        assert_eq!(without["metrics"]["test.loss"], whole["metrics"]["test.loss"]);
    }
    assert!(recorded(&place, &run(&place, &["max_recorded_predictions=8"])).is_some());
}

#[test]
fn an_extended_run_has_the_record_of_its_new_end() {
    let place = Place::new();
    let name = run(&place, &["epochs=1"])["name"].as_str().unwrap().to_owned();
    let before = recorded(&place, &place.json(&["show", &name, "--json"])).unwrap();
    assert_eq!(before.facts.epoch, 1);
    assert_eq!(place.xp(&["resume", &name, "--epochs", "3"]).code, 0);
    let shown = place.json(&["show", &name, "--json"]);
    let after = recorded(&place, &shown).unwrap();
    assert_eq!(shown["metrics"]["valid.loss"]["best_epoch"], after.facts.epoch);
    assert!(after.facts.epoch > 1 && after.facts.images == before.facts.images);
    assert_eq!(shown["artifacts"].as_array().unwrap().iter().filter(|of| of["kind"] == "predictions").count(), 1);
}
