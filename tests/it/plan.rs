//! `plan`: steps that unfreeze the network, as one training.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::Place;

/// Trains, and gives what is recorded.
fn trained(place: &Place, sets: &[&str]) -> Value {
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let run = place.json(&[&["run", "spec.yaml", "--json"], &sets[..]].concat());
    place.json(&["show", run["id"].as_str().unwrap(), "--json"])
}

/// Moments and step counts go on where a step of the plan begins: two steps of the same kind are no steps.
#[test]
fn the_optimizers_state_is_kept_from_step_to_step() {
    let place = Place::new();
    for (optimizer, frozen) in [
        ("optimizer={ adam: { learning_rate: 0.001 } }", "model.frozen_layers=all"),
        ("optimizer={ sgd: { learning_rate: 0.01, momentum: 0.9 } }", "model.frozen_layers={ stages: 8 }"),
    ] {
        let schedule = "schedule={ cosine: { warmup_epochs: 1 } }";
        let whole = trained(&place, &[optimizer, frozen, schedule, "epochs=4"]);
        let steps = trained(&place, &[optimizer, frozen, schedule, "epochs=4", "plan=[{ epochs: 2 }, { epochs: 2 }]"]);
        assert!(whole["trained"].is_object());
        assert_eq!(whole["trained"], steps["trained"], "{optimizer}");
        assert_eq!(whole["metrics"]["valid.loss"], steps["metrics"]["valid.loss"]);
    }
}

#[test]
fn what_a_step_frees_moves_at_its_rates() {
    let place = Place::new();
    let still = "plan=[{ epochs: 1, frozen_layers: all }, { epochs: 1, frozen_layers: { stages: 8 }, \
                 learning_rate: { conv_head: 1e-12 } }]";
    let sgd = "optimizer={ sgd: { learning_rate: 0.1 } }";
    let still = trained(&place, &[still, sgd, "epochs=2", "model.weights=random"]);
    let proof = place.json(&["show", still["id"].as_str().unwrap(), "--freezing", "--json"]);
    let tensors = proof["tensors"].as_array().unwrap();
    let moved = |name: &str| tensors.iter().find(|tensor| tensor["name"] == name).unwrap()["moved"].clone();
    assert_eq!([moved("conv_head.weight"), moved("head.2.weight")], [false, true]);
}

#[test]
fn a_run_killed_between_two_steps_goes_on_as_if_it_had_not_been() {
    let place = Place::new();
    place.edit("epochs: 2", "plan: [{ epochs: 2, frozen_layers: all }, { epochs: 3, frozen_layers: { stages: 8 } }]");
    let whole = trained(&place, &[]);
    let mut child = place.command(&["run", "spec.yaml", "--name", "killed"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.starts_with("epoch 2/5")), "the first step did not end");
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = place.xp(&["resume", "killed"]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(resumed.stdout.contains("step 2/2 of the plan, from epoch 3"), "{}", resumed.stdout);
    let resumed = place.json(&["show", "killed", "--json"]);
    for key in ["trained", "metrics", "fingerprint"] {
        assert_eq!(whole[key], resumed[key], "{key}");
    }
}

/// The last step ruins what the first learned.
#[test]
fn the_best_epoch_may_be_in_an_earlier_step() {
    let place = Place::new();
    let plan =
        "plan=[{ epochs: 2, frozen_layers: all }, { epochs: 1, frozen_layers: { stages: 8 }, learning_rate: 100 }]";
    let sets = [plan, "epochs=3", "on_nan=continue"];
    let run = trained(&place, &sets);
    let id = run["id"].as_str().unwrap();
    let best = run["metrics"]["valid.loss"]["best_epoch"].as_u64().unwrap();
    assert!(best <= 2, "{best}");
    let measured = place.json(&["evaluate", id, "--json"]);
    assert_eq!(measured["epoch"], best);
    assert_eq!(measured["metrics"]["loss"], run["metrics"]["test.loss"]["last"]);
    let export = place.xp(&["export", id, "--format", "safetensors", "-o", "best.safetensors", "--verify"]);
    assert_eq!(export.code, 0, "{}", export.stderr);
    let last = place.xp(&["evaluate", id, "--checkpoint", "last"]);
    assert!(last.code == 0 && last.stdout.contains("epoch 3"), "{} {}", last.stdout, last.stderr);
}

#[test]
fn a_finished_plan_can_be_extended_and_repeated() {
    let place = Place::new();
    let plan = "plan=[{ epochs: 1, frozen_layers: all }, { epochs: 1, frozen_layers: { stages: 8 } }]";
    let run = trained(&place, &[plan]);
    let id = run["id"].as_str().unwrap();
    let extended = place.xp(&["resume", id, "--epochs", "4"]);
    assert_eq!(extended.code, 0, "{}", extended.stderr);
    let whole = trained(&place, &[plan, "epochs=4"]);
    assert_eq!(place.json(&["show", id, "--json"])["trained"], whole["trained"]);
    let again = place.xp(&["rerun", whole["id"].as_str().unwrap(), "--verify"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stdout.contains("to the bit"), "{}", again.stdout);
}

#[test]
fn what_does_not_fit_is_refused_where_it_stands() {
    let place = Place::new();
    place.edit("epochs: 2\n", "");
    let refused = place.xp(&["check", "spec.yaml"]);
    assert!(refused.code == 2 && refused.stderr.contains("epochs"), "{}", refused.stderr);
    for (plan, says) in [
        (
            "[{ epochs: 1, frozen_layers: 9 }, { epochs: 1, frozen_layers: 12 }]",
            "freezes 12 rows, and the step before 9",
        ),
        ("[{ epochs: 1, frozen_layers: 900 }]", "plan.0.frozen_layers"),
        ("[{ epochs: 1, frozen_layers: all, learning_rate: { conv_head: 0.1 } }]", "all of it is frozen"),
        ("[{ epochs: 1, learning_rate: { nothing: 0.1 } }]", "no row begins with this name"),
        ("[{ epochs: 0 }]", "plan"),
        ("[{ epochs: 1, learning_rate: 0 }]", "plan"),
        ("[{ frozen_layers: all }]", "epochs"),
        ("[{ epochs: 1, optimizer: adam }]", "optimizer"),
    ] {
        let refused = place.xp(&["check", "spec.yaml", "--set", &format!("plan={plan}")]);
        assert!(refused.code == 2 && refused.stderr.contains(says), "{plan}: {}", refused.stderr);
    }
    let refused = place.xp(&["check", "spec.yaml", "--set", "plan=[{ epochs: 3 }]", "--set", "epochs=2"]);
    assert!(refused.code == 2 && refused.stderr.contains("more than 2"), "{}", refused.stderr);
}
