//! What the keys of a training do to it: steps, subsets, accumulation, schedules that look back, losses that are no number.

use serde_json::Value;
use xp::run::metric::{MetricKey, Point, Resolution};
use xp::store::connect::Store;

use crate::support::{DIVERGING, Place};

/// Runs the spec with these changes; returns the run as `xp show --json` tells it.
fn run(place: &Place, name: &str, sets: &[&str]) -> Value {
    let mut arguments = vec!["run", "spec.yaml", "--name", name, "--json"];
    for set in sets {
        arguments.extend(["--set", set]);
    }
    place.json(&arguments)
}

fn points(place: &Place, name: &str, key: &str, resolution: Resolution) -> Vec<Point> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open_existing(&place.path(".xp/xp.db")).await.unwrap().unwrap();
        let id = store.find_run(name).await.unwrap();
        store.points(&id, MetricKey::parse(key).unwrap(), resolution).await.unwrap()
    })
}

fn values(points: &[Point]) -> Vec<f64> {
    points.iter().map(|point| point.value).collect()
}

#[test]
fn set_steps_go_on_through_the_images_where_the_last_epoch_ended() {
    // 12 images in batches of 4 are 3 steps a pass.
    let place = Place::new();
    let passes = run(&place, "passes", &["epochs=2", "augment.horizontal_flip=true"]);
    let steps = run(&place, "steps", &["epochs=3", "steps_per_epoch=2", "augment.horizontal_flip=true"]);
    assert_eq!(passes["trained"], steps["trained"]);
    let of = |name| values(&points(&place, name, "train.loss", Resolution::Step));
    assert_eq!(of("passes"), of("steps"));
    assert_eq!(of("steps").len(), 6);
    let epochs = points(&place, "steps", "train.loss", Resolution::Epoch);
    assert_eq!(epochs.iter().map(|point| (point.step, point.n_samples)).collect::<Vec<_>>(), [(2, 8), (4, 8), (6, 8)]);
}

#[test]
fn batches_of_one_step_train_as_one_batch_of_their_size() {
    let place = Place::new();
    run(&place, "large", &["data.batch_size=12", "epochs=3"]);
    run(&place, "small", &["data.batch_size=4", "gradient_accumulation_steps=3", "epochs=3"]);
    // The last step of an epoch takes what is left.
    run(&place, "uneven", &["data.batch_size=4", "gradient_accumulation_steps=2", "epochs=3"]);
    for (large, small) in [("train.loss", Resolution::Step), ("valid.loss", Resolution::Epoch)]
        .map(|(key, resolution)| [points(&place, "large", key, resolution), points(&place, "small", key, resolution)])
        .iter()
        .flat_map(|[large, small]| large.iter().zip(small))
    {
        assert!((large.value - small.value).abs() < 1e-5, "{large:?} {small:?}");
        assert_eq!((large.step, large.n_samples), (small.step, small.n_samples));
    }
    let steps = points(&place, "uneven", "train.loss", Resolution::Step);
    assert_eq!(
        steps.iter().map(|point| (point.step, point.n_samples)).collect::<Vec<_>>(),
        [(1, 8), (2, 4), (3, 8), (4, 4), (5, 8), (6, 4)]
    );
}

#[test]
fn a_part_of_the_valid_images_is_the_same_every_epoch_and_carries_its_number() {
    let place = Place::new();
    place.edit("batch_size: 4", "batch_size: 1");
    // With a learning rate this small nothing moves: what differs between epochs would be the images.
    let sets = ["optimizer.adam.learning_rate=1e-12", "epochs=3", "validation_steps=4", "model.head.1.dropout=0"];
    run(&place, "part", &sets);
    let measured = points(&place, "part", "valid.loss", Resolution::Epoch);
    assert!(measured.iter().all(|point| point.n_samples == 4 && (point.value - measured[0].value).abs() < 1e-6));
    run(&place, "other", &[&sets[..], &["data.split_seed=3"]].concat());
    assert_ne!(values(&points(&place, "other", "valid.loss", Resolution::Epoch)), values(&measured));
    run(&place, "whole", &[&sets[..], &["validation_steps=100"]].concat());
    assert_eq!(points(&place, "whole", "valid.loss", Resolution::Epoch)[0].n_samples, 8);
    let printed = place.xp(&["run", "spec.yaml", "--set", "validation_steps=4"]);
    assert!(printed.stdout.contains("valid (4 of 8) loss"), "{}", printed.stdout);
}

#[test]
fn a_last_batch_of_one_joins_the_batch_before_where_norms_train() {
    let place = Place::new();
    let norms = "model.batch_norm=train";
    let sets = ["data.batch_size=11", "epochs=1", "model.frozen_layers={ stages: 8 }"];
    run(&place, "frozen", &sets);
    run(&place, "trained", &[&sets[..], &[norms]].concat());
    let n_samples = |name| -> Vec<u64> {
        points(&place, name, "train.loss", Resolution::Step).iter().map(|point| point.n_samples).collect()
    };
    assert_eq!(n_samples("frozen"), [11, 1]);
    assert_eq!(n_samples("trained"), [12]);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_names_the_step() {
    let place = Place::new();
    let printed =
        place.xp(&[&["run", "spec.yaml", "--name", "diverging", "--set", "epochs=50"], &DIVERGING[..]].concat());
    assert_eq!(printed.code, 1, "{}", printed.stdout);
    let shown = place.json(&["show", "diverging", "--json"]);
    assert_eq!(shown["state"], "failed");
    let message = shown["error"]["message"].as_str().unwrap();
    let steps = points(&place, "diverging", "train.loss", Resolution::Step);
    assert!(steps.iter().all(|point| point.value.is_finite()));
    let step = 1 + steps.last().map_or(0, |point| point.step);
    assert!(message.contains(&format!("at step {step}, in epoch {}", step.div_ceil(3))), "{message}");
    assert!(printed.stderr.contains("learning rate"), "{}", printed.stderr);
    // What was finished before stays.
    let n_epochs = (step - 1) / 3;
    assert_eq!(shown["metrics"]["valid.loss"]["n"].as_u64().unwrap_or(0), n_epochs);
}

#[test]
fn a_rate_that_waits_for_improvement_is_the_same_after_going_on() {
    let place = Place::new();
    let plateau = "schedule={ plateau: { patience: 1, factor: 0.5, min_delta: 0.05 } }";
    let whole = run(&place, "whole", &["epochs=8", plateau]);
    run(&place, "parts", &["epochs=3", plateau]);
    assert_eq!(place.xp(&["resume", "parts", "--epochs", "8"]).code, 0);
    let parts = place.json(&["show", "parts", "--json"]);
    assert!(whole["trained"].is_object());
    assert_eq!(whole["trained"], parts["trained"]);
    let constant = run(&place, "constant", &["epochs=8"]);
    assert_ne!(whole["trained"], constant["trained"]);
}

#[test]
fn so_many_of_the_best_are_counted_where_asked() {
    let place = Place::new();
    let problem = place.xp(&["check", "spec.yaml", "--set", "top_k=[2]"]);
    assert_eq!(problem.code, 2);
    assert!(problem.stderr.contains("most probable of 2 classes"), "{}", problem.stderr);
    let problem = place.xp(&["check", "spec.yaml", "--set", "top_k=[2, 2]"]);
    assert!(problem.stderr.contains("2 stands there twice"), "{}", problem.stderr);
    for split in ["train", "valid", "test"] {
        for i in 0..4 {
            crate::support::write_image(&place.path(&format!("data/{split}/green/{i}.png")), [40, 200, 60], i);
        }
    }
    place.edit("units: 2", "units: 3");
    let shown =
        run(&place, "top", &["top_k=[2]", "checkpoint.monitor=valid.top2_accuracy", "data.allow_duplicates=true"]);
    for split in ["train", "valid", "test"] {
        let of = |name: &str| shown["metrics"][format!("{split}.{name}")]["last"].as_f64().unwrap();
        assert!(of("top2_accuracy") >= of("accuracy"), "{split}");
    }
    assert!(place.xp(&["evaluate", "top"]).stdout.contains("top2_accuracy"));
    let problem = place.xp(&["check", "spec.yaml", "--set", "checkpoint.monitor=valid.top2_accuracy"]);
    assert!(problem.stderr.contains("add `top_k: [2]`"), "{}", problem.stderr);
}

#[test]
fn parts_of_the_network_have_rates_of_their_own() {
    let place = Place::new();
    let frozen = "model.frozen_layers={ stages: 8 }";
    // 1e-12 times a gradient is less than a kernel's last bit; biases begin at zero and move all the same.
    let sets = [frozen, "optimizer={ sgd: { learning_rate: 0.1 } }", "model.weights=random", "epochs=1"];
    run(&place, "still", &[&sets[..], &["learning_rates={ head: 1e-12 }"]].concat());
    run(&place, "deep", &[&sets[..], &["learning_rates={ conv_head: 1e-12 }"]].concat());
    let moved = |name: &str, tensor: &str| -> bool {
        let shown = place.json(&["show", name, "--freezing", "--json"]);
        let tensors = shown["tensors"].as_array().unwrap().clone();
        let found =
            tensors.iter().find(|found| found["name"] == tensor).unwrap_or_else(|| panic!("{tensor}: {shown:#}"));
        found["moved"].as_bool().unwrap()
    };
    for (name, head, backbone) in [("still", false, true), ("deep", true, false)] {
        assert_eq!([moved(name, "head.2.weight"), moved(name, "conv_head.weight")], [head, backbone], "{name}");
    }
    for (rates, says) in [
        ("{ blocks.9: 0.1 }", "no row begins"),
        ("{ blocks.1: 0.1 }", "all of it is frozen"),
        ("{ head: 0 }", "0 is not within"),
    ] {
        let refused = place.xp(&["check", "spec.yaml", "--set", frozen, "--set", &format!("learning_rates={rates}")]);
        assert!(refused.code == 2 && refused.stderr.contains(says), "{rates}: {}", refused.stderr);
    }
}

#[test]
fn a_rate_is_found_and_nothing_is_left_behind() {
    let place = Place::new();
    let found = place.xp(&["lr-find", "spec.yaml", "--steps", "40"]);
    assert_eq!(found.code, 0, "{}", found.stderr);
    assert!(found.stdout.contains("try --set optimizer.adam.learning_rate="), "{}", found.stdout);
    assert!(found.stdout.lines().all(|line| line.chars().count() <= 80), "{}", found.stdout);
    let told = place.json(&["lr-find", "spec.yaml", "--steps", "40", "--min", "1e-6", "--max", "1", "--json"]);
    let steps = told["steps"].as_array().unwrap();
    let rates: Vec<f64> = steps.iter().map(|step| step["rate"].as_f64().unwrap()).collect();
    assert!((rates[0] - 1e-6).abs() < 1e-15 && rates.windows(2).all(|pair| pair[0] < pair[1]), "{rates:?}");
    assert!(told["valley"].as_f64().is_some_and(|rate| rates.contains(&rate)));
    assert!(!place.path(".xp").exists());
    assert_eq!(place.xp(&["lr-find", "spec.yaml", "--min", "2", "--max", "1"]).code, 2);
}
