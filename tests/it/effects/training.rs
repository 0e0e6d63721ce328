//! What the keys of the training as a whole do.

use xp::run::event::Event;

use super::Case;
use super::lab::{Lab, assert_part_after, assert_same, colours, losses, run};
use crate::support::Place;

pub const CASES: &[Case] = &[
    Case { keys: &["name"], shows: the_experiment_has_the_name },
    Case { keys: &["seed"], shows: the_seed_draws_the_head },
    Case { keys: &["device"], shows: the_device_is_the_one_asked_for },
    Case {
        keys: &["precision", "precision.prefix", "precision.prefix=f32", "precision.prefix=bf16"],
        shows: bf16_is_for_a_gpu,
    },
    Case { keys: &["loss", "loss=cross_entropy", "loss=binary_cross_entropy"], shows: the_loss_is_checked },
    Case { keys: &["label_smoothing"], shows: smoothing_holds_the_loss_up },
    Case { keys: &["class_weights", "class_weights=balanced", "class_weights.*"], shows: weights_count_classes },
    Case { keys: &["top_k"], shows: top_k_is_measured },
    Case { keys: &["gradient_accumulation_steps"], shows: accumulation_makes_one_step_of_batches },
    Case { keys: &["clip_global_norm"], shows: clipping_shortens_steps },
    Case { keys: &["epochs"], shows: || assert_eq!(run(&["epochs=2"]).metric("train.loss").len(), 2) },
    Case { keys: &["steps_per_epoch"], shows: steps_per_epoch_ends_an_epoch },
    Case { keys: &["validation_steps"], shows: validation_steps_measures_a_part },
    Case { keys: &["checkpoint", "checkpoint.monitor"], shows: the_monitor_says_which_epoch_is_tested },
    Case {
        keys: &["checkpoint.keep", "checkpoint.keep.best", "checkpoint.keep.last", "checkpoint.keep.every"],
        shows: checkpoints_stay_as_asked,
    },
    Case {
        keys: &["early_stopping", "early_stopping.monitor", "early_stopping.patience", "early_stopping.min_delta"],
        shows: stopping_early_follows_its_keys,
    },
    Case { keys: &["on_nan", "on_nan=stop", "on_nan=continue"], shows: nan_stops_or_does_not },
    Case {
        keys: &[
            "cache",
            "cache.enabled",
            "cache.budget",
            "cache.precision",
            "cache.precision=f32",
            "cache.precision=f16",
        ],
        shows: features_are_kept_as_asked,
    },
    Case { keys: &["max_recorded_predictions"], shows: predictions_are_recorded_up_to_so_many_images },
    Case { keys: &["log_every"], shows: points_of_steps_come_every_so_many },
];

/// Bytes a row of the training images takes on disk, and the training's losses.
fn features_are_kept_as_asked() {
    let on_disk = |sets: &[&str]| {
        let lab = two_classes();
        let sets = [&["epochs=2", "data.allow_duplicates=true"], sets].concat();
        let losses = lab.train(&sets).metric("train.loss");
        let entries = lab.cache(&lab.plan(&sets)).entries().unwrap();
        (entries.iter().map(|entry| entry.facts.as_ref().unwrap().row_bytes()).collect::<Vec<_>>(), losses)
    };
    let (whole, losses) = on_disk(&[]);
    assert_eq!(on_disk(&["cache.precision=f32", "cache.enabled=true"]), (whole.clone(), losses.clone()));
    assert_eq!(on_disk(&["cache.enabled=false"]), (vec![], losses.clone()));
    assert_eq!(on_disk(&["cache.budget=1 KB"]), (vec![], losses.clone()));
    let (halved, rounded) = on_disk(&["cache.precision=f16"]);
    assert_eq!(halved, [whole[0] / 2]);
    // Eleven bits of every number are left.
    let distance = losses.iter().zip(&rounded).map(|(a, b)| (a - b).abs() / a).fold(0.0, f64::max);
    assert!((1e-9..1e-3).contains(&distance), "{losses:?} {rounded:?}");
}

fn the_experiment_has_the_name() {
    let place = Place::new();
    let sets = ["--set", "name=renamed", "--set", "epochs=1"];
    let run = place.json(&[&["run", "spec.yaml", "--json"], &sets[..]].concat());
    assert_eq!(run["experiment"], "renamed");
    assert!(run["name"].as_str().unwrap().starts_with("renamed-"), "{}", run["name"]);
}

fn the_seed_draws_the_head() {
    assert_part_after(0, &losses(&[]), &losses(&["seed=8"]));
    assert_eq!(losses(&[]), colours().train(&["seed=7"]).metric("train.loss"));
}

fn the_device_is_the_one_asked_for() {
    assert!(!run(&["device=cpu"]).events.is_empty());
    // With CUDA built in there may still be no card with such a number.
    assert!(colours().refused(&["device=cuda:7"]).contains("cuda:7 asked for"));
}

/// What it does there is measured by benches/gpu.
fn bf16_is_for_a_gpu() {
    assert_same(&losses(&["precision.prefix=f32"]), &losses(&[]));
    assert!(colours().refused(&["precision={ prefix: bf16 }"]).contains("needs a GPU"));
}

fn the_loss_is_checked() {
    assert_same(&losses(&["loss=cross_entropy"]), &losses(&[]));
    assert!(colours().refused(&["loss=binary_cross_entropy"]).contains("does not fit the head"));
    let two = two_classes();
    let sigmoid = "model.head=[global_average_pool, { dense: { units: 1, activation: sigmoid } }]";
    assert_eq!(two.train(&[sigmoid, "loss=binary_cross_entropy", "epochs=1"]).metric("train.loss").len(), 1);
    assert!(two.refused(&[sigmoid, "loss=cross_entropy"]).contains("does not fit the head"));
}

/// 6 dark and 2 bright training images, one of each to validate.
fn two_classes() -> Lab {
    let lab = Lab::empty();
    for (split, class, n_images, level) in
        [("train", "bright", 2, 180), ("train", "dark", 6, 40), ("valid", "bright", 1, 190), ("valid", "dark", 1, 50)]
    {
        for i in 0..n_images {
            lab.paint(&format!("{split}/{class}/{i}.png"), |x, y| [level + (9 * i + x + 2 * y) as u8; 3]);
        }
    }
    lab
}

/// With a tenth of the probability on other labels the loss cannot come near 0, nor is it the same at first.
fn smoothing_holds_the_loss_up() {
    let (sharp, smooth) = (losses(&["epochs=30"]), losses(&["epochs=30", "label_smoothing=0.3"]));
    assert!(sharp[29] < 0.25, "{sharp:?}");
    // The entropy of the smoothed labels: 0.8 and twice 0.1.
    assert!(smooth[29] > 0.63, "{smooth:?}");
}

fn weights_count_classes() {
    let lab = two_classes();
    let first = |weights: &str| lab.train(&[&format!("class_weights={weights}"), "epochs=1"]).metric("train.loss")[0];
    let (bright, dark) = (first("{ bright: 1, dark: 0 }"), first("{ bright: 0, dark: 1 }"));
    let close = |a: f64, b: f64| (a - b).abs() < 1e-4;
    // The mean over 8 images of 2 and 6: balanced weights are 8 / (2 · 2) and 8 / (2 · 6).
    assert!(!close(bright / 2.0, dark / 6.0), "{bright} {dark}");
    assert!(close(first("balanced"), 2.0 * bright + dark * 2.0 / 3.0));
    assert!(close(first("{ dark: 3 }"), bright + 3.0 * dark));
}

fn top_k_is_measured() {
    let measured = run(&["top_k=[2]"]);
    for split in ["train", "valid"] {
        let (top2, top1) =
            (measured.metric(&format!("{split}.top2_accuracy")), measured.metric(&format!("{split}.accuracy")));
        assert_eq!(top2.len(), 6);
        assert!(top2.iter().zip(&top1).all(|(top2, top1)| top2 >= top1));
    }
    assert!(run(&[]).metric("train.top2_accuracy").is_empty());
}

/// Three batches of 4 whose mean gradient makes a step are a batch of 12.
fn accumulation_makes_one_step_of_batches() {
    let accumulated = ["data.batch_size=4", "gradient_accumulation_steps=3"];
    assert_same(&losses(&accumulated), &losses(&[]));
    assert_part_after(0, &losses(&["data.batch_size=4"]), &losses(&[]));
}

fn clipping_shortens_steps() {
    let clipped = losses(&["clip_global_norm=1.0e-9"]);
    assert_same(&clipped, &[clipped[0]; 6]);
    assert_same(&losses(&["clip_global_norm=1.0e9"]), &losses(&[]));
}

fn steps_per_epoch_ends_an_epoch() {
    let steps = |sets: &[&str]| run(sets).points("train.loss").iter().map(|point| point.step).collect::<Vec<_>>();
    assert_eq!(steps(&["epochs=3", "data.batch_size=4", "steps_per_epoch=2"]), [2, 4, 6]);
    assert_eq!(steps(&["epochs=3", "data.batch_size=4"]), [3, 6, 9]);
}

fn validation_steps_measures_a_part() {
    let part = colours().train(&["epochs=2", "data.batch_size=4", "validation_steps=1"]);
    let n_measured = part.points("valid.loss").iter().map(|point| point.n_samples).collect::<Vec<_>>();
    assert_eq!(n_measured, [4, 4]);
    assert_part_after(0, &part.metric("valid.loss"), &run(&["epochs=2", "data.batch_size=4"]).metric("valid.loss"));
}

/// The training loss falls in every epoch, and the accuracy is soon as high as it can be.
fn the_monitor_says_which_epoch_is_tested() {
    let lab = super::data::lab_with_test();
    let tested = |monitor: &str| {
        let outcome = lab.train(&["data.test=test", &format!("checkpoint.monitor={monitor}")]);
        let accuracies = outcome.metric("train.accuracy");
        let highest = accuracies.iter().copied().fold(0.0, f64::max);
        let first = accuracies.iter().position(|accuracy| *accuracy == highest).unwrap() as u32 + 1;
        (outcome.points("test.loss")[0].epoch, first)
    };
    assert_eq!(tested("train.loss").0, 6);
    let (epoch, first) = tested("train.accuracy");
    assert!(epoch == first && first < 6, "{epoch} {first}");
}

fn checkpoints_stay_as_asked() {
    let place = Place::new();
    let kept = |keep: &str| {
        let keep = format!("checkpoint.keep={keep}");
        // The loss falls in every epoch, so that the best are the last.
        let sets = ["--set", "epochs=5", "--set", "checkpoint.monitor=train.loss", "--set", &keep];
        let run = place.json(&[&["run", "spec.yaml", "--json"], &sets[..]].concat());
        let stays = |checkpoint: &&serde_json::Value| checkpoint["deleted"] == false;
        let kept = run["checkpoints"]
            .as_array()
            .unwrap()
            .iter()
            .filter(stays)
            .map(|checkpoint| checkpoint["epoch"].as_u64().unwrap());
        kept.collect::<Vec<_>>()
    };
    assert_eq!(kept("{ last: 3 }"), [3, 4, 5]);
    assert_eq!(kept("{ best: 2 }"), [4, 5]);
    assert_eq!(kept("{ every: 2 }"), [2, 4, 5]);
}

fn stopping_early_follows_its_keys() {
    let stopped = |values: &str| {
        let outcome = run(&[&format!("early_stopping={{ {values} }}")]);
        let stop = outcome.events.iter().find_map(|event| match event {
            Event::StoppedEarly { epoch, monitor, .. } => Some((*epoch, monitor.clone())),
            _ => None,
        });
        stop.map(|(epoch, monitor)| format!("{monitor} {epoch}"))
    };
    assert_eq!(stopped("monitor: train.loss, patience: 2"), None);
    assert_eq!(stopped("monitor: train.loss, patience: 2, min_delta: 1000").as_deref(), Some("train.loss 3"));
    assert_eq!(stopped("monitor: train.loss, patience: 3, min_delta: 1000").as_deref(), Some("train.loss 4"));
    assert_eq!(stopped("monitor: valid.loss, patience: 3, min_delta: 1000").as_deref(), Some("valid.loss 4"));
}

fn nan_stops_or_does_not() {
    let relu = "{ dense: { units: 64, activation: relu } }";
    let head = format!(
        "model.head=[global_average_pool, {relu}, {relu}, {relu}, {{ dense: {{ units: 3, activation: softmax }} }}]"
    );
    let bursts = [head.as_str(), "optimizer={ sgd: { learning_rate: 1000, momentum: 0.99 } }", "epochs=12"];
    let refused = colours().refused(&bursts);
    assert!(refused.contains("step"), "{refused}");
    let went_on = colours().train(&[&bursts[..], &["on_nan=continue"]].concat());
    let losses = went_on.metric("train.loss");
    assert!(losses.len() == 12 && losses[11].is_nan(), "{losses:?}");
    assert_eq!(colours().refused(&[&bursts[..], &["on_nan=stop"]].concat()), refused);
}

/// The lab has six valid images.
fn predictions_are_recorded_up_to_so_many_images() {
    let n_written = |sets: &[&str]| {
        let outcome = run(sets);
        let is_record = |event: &&Event| matches!(event, Event::Written(artifact) if artifact.kind == "predictions");
        (outcome.events.iter().filter(is_record).count(), outcome.warnings().contains("each of the 6 valid images"))
    };
    assert_eq!(n_written(&[]), (1, false));
    assert_eq!(n_written(&["max_recorded_predictions=6"]), (1, false));
    assert_eq!(n_written(&["max_recorded_predictions=5"]), (0, true));
    assert_eq!(n_written(&["max_recorded_predictions=0"]), (0, false));
}

fn points_of_steps_come_every_so_many() {
    assert_eq!(run(&[]).logged_steps(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(run(&["log_every=3"]).logged_steps(), [3, 6]);
}
