//! What a sweep reports was run: labels that are not what trains are refused, with both places.

use std::fs;

use crate::support::{Place, SPEC};

/// A spec with a section.
fn place(section: &str) -> Place {
    let place = Place::new();
    fs::write(place.path("sweep.yaml"), format!("{SPEC}\nsweep:\n  metric: valid.loss\n{section}")).unwrap();
    place
}

/// What a section that cannot be run is told, and that nothing was begun.
fn refused(section: &str, sets: &[&str]) -> String {
    let place = place(section);
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    for more in [&["--dry-run"][..], &[]] {
        let refused = place.xp(&[&["sweep", "sweep.yaml"][..], &sets, more].concat());
        assert_eq!(refused.code, 2, "{section}: {}{}", refused.stdout, refused.stderr);
        assert!(!place.path(".xp/xp.db").exists(), "{section}");
        if more.is_empty() {
            return refused.stderr;
        }
    }
    unreachable!("the second one returns")
}

/// Each section, `--set` arguments, and what must be said.
#[test]
fn a_key_that_is_no_choice_or_has_no_effect_is_refused() {
    let plan = "plan=[{ epochs: 1, frozen_layers: all, learning_rate: 0.1 }, { epochs: 1, frozen_layers: { stages: 7 }, learning_rate: 0.01 }]";
    let rates = "learning_rates={ head: 0.1 }";
    let cases: [(&str, &[&str], &[&str]); 19] = [
        ("{ seed: { values: [1, 2] } }", &[], &["sweep.parameters.seed", "sweep: { seeds: [1, 2, 3] }"]),
        ("{ seed: { values: [1] } }", &[], &["every point is run with the same seeds"]),
        ("{ data.split_seed: { values: [1, 2] } }", &[], &["split_seeds: [0, 1, 2]"]),
        ("{ name: { values: [a, b] } }", &[], &["changes nothing that trains"]),
        ("{ log_every: { values: [1, 2] } }", &[], &["changes nothing that trains"]),
        (
            "{ checkpoint.monitor: { values: [valid.loss, valid.accuracy] } }",
            &[],
            &["decides which epoch a trial keeps"],
        ),
        ("{ epochs: { values: [1, 2] } }", &["epochs=3"], &["takes the place of `--set epochs=3`"]),
        (
            "{ optimizer.adam.learning_rate: { values: [0.1, 0.2] } }",
            &["optimizer.sgd.learning_rate=0.5"],
            &["takes the place of"],
        ),
        ("{ epochs: { values: [1, 2] } }\n  seeds: [1]", &["seed=3"], &["takes the place of `--set seed=3`"]),
        ("{ cache.enabled: { values: [true, false] } }", &[], &["changes nothing that trains"]),
        (
            "{ optimizer: { values: [{ sgd: { learning_rate: 0.1 } }, { adam: { learning_rate: 0.1 } }] }, optimizer.adam.learning_rate: { values: [0.1, 0.2] } }",
            &[],
            &["sweep.parameters.optimizer.adam.learning_rate", "lies in optimizer", "sweep.parameters.optimizer: has "],
        ),
        (
            "{ optimizer.sgd.learning_rate: { values: [0.1, 0.2] }, optimizer.adam.learning_rate: { values: [0.1, 0.2] } }",
            &[],
            &["undoes it in the point", "undoes optimizer.adam.learning_rate in the point"],
        ),
        (
            "{ model.frozen_layers: { values: [all, none] } }",
            &[plan],
            &[
                "sweep.parameters.model.frozen_layers",
                "has no effect in the point frozen_layers=all",
                "plan: says for every epoch",
            ],
        ),
        ("{ optimizer.adam.learning_rate: { values: [0.1, 0.2] } }", &[plan], &["has no effect", "plan: says"]),
        ("{ model.frozen_layers: { values: [{ stages: 9 }, all] } }", &[], &["train the same"]),
        ("{ optimizer.adam.learning_rate: { values: [0.1, 0.2] } }", &[rates], &["train the same"]),
        ("{ model.batch_norm: { values: [frozen, train] } }", &[], &["train the same"]),
        (
            "{ epochs: { values: [1, 2] }, data.batch_size: { values: [2, 4], when: { epochs: 3 } } }",
            &[],
            &["is tried at no point"],
        ),
        ("{ epochs: { values: [1, 2] } }\n  split_seeds: [0, 1]", &[], &["no split is drawn"]),
    ];
    for (parameters, sets, says) in cases {
        let told = refused(&format!("  parameters: {parameters}\n"), sets);
        let plain = told.replace(['\n', '│', '·'], " ");
        let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in says {
            assert!(plain.contains(text), "{parameters}: {text:?} is not in {told}");
        }
    }
    let unmeasured = refused("  parameters: { epochs: { values: [1, 2] } }\n", &["sweep.metric=valid.top5_accuracy"]);
    assert!(unmeasured.contains("is not measured"), "{unmeasured}");
}

#[test]
fn keys_that_do_not_meet_are_tried() {
    let section = "  parameters:\n    optimizer: { values: [{ sgd: { learning_rate: 0.1 } }, { adam: {} }] }\n    optimizer.adam.learning_rate: { values: [0.1, 0.2], when: { optimizer: { adam: {} } } }\n    optimizer.sgd.momentum: { values: [0.5, 0.9], when: { optimizer: { sgd: { learning_rate: 0.1 } } } }\n";
    let place = place(section);
    let planned = place.json(&["sweep", "sweep.yaml", "--dry-run", "--json"]);
    assert_eq!(planned["n_points"], 4, "{planned:#}");
}

#[test]
fn a_dry_run_counts_the_epochs_that_are_tried() {
    let place = place("  parameters: { epochs: { values: [4, 5] } }\n");
    let planned = place.xp(&["sweep", "sweep.yaml", "--dry-run"]);
    assert!(planned.stdout.contains("2 points × 1 seeds = 2 trials of 4 to 5 epochs"), "{}", planned.stdout);
    let drawn = place.json(&[
        "sweep",
        "sweep.yaml",
        "--dry-run",
        "--json",
        "--set",
        "sweep.method=random",
        "--set",
        "sweep.trials=2",
    ]);
    assert_eq!(drawn["epochs"], serde_json::json!({ "min": 4, "max": 5 }));
}

/// A drawn point that trains the same as an earlier one is drawn again: three depths, however they are written.
#[test]
fn what_trains_the_same_is_not_drawn_twice() {
    let section = "  method: random\n  trials: 9\n  parameters: { epochs: { min: 1, max: 3 }, data.batch_size: { values: [2] } }\n";
    let planned = place(section).json(&["sweep", "sweep.yaml", "--dry-run", "--json"]);
    assert_eq!(planned["n_points"], 3, "{planned:#}");
}

#[test]
fn files_of_wandb_are_held_to_the_same() {
    let place = Place::new();
    let read = |parameters: &str, maps: &[&str]| {
        let text = format!("method: grid\nmetric: {{ name: valid.loss, goal: minimize }}\nparameters:\n{parameters}");
        fs::write(place.path("wandb.yaml"), text).unwrap();
        let maps: Vec<&str> = maps.iter().flat_map(|map| ["--map", map]).collect();
        place.xp(&[&["sweep", "spec.yaml", "--wandb", "wandb.yaml", "--dry-run"][..], &maps].concat())
    };
    let seeds = read("  seed: { values: [1, 2, 3] }\n  epochs: { values: [1, 2] }\n", &[]);
    assert!(seeds.stdout.contains("2 points × 3 seeds = 6 trials"), "{}{}", seeds.stdout, seeds.stderr);
    assert!(seeds.stderr.contains("every point is run with the seeds 1, 2, 3"), "{}", seeds.stderr);
    let nested =
        "  optimizer:\n    parameters:\n      name: { values: [adam, sgd] }\n      lr: { values: [0.001, 0.01] }\n";
    let unknown = read(nested, &["optimizer.lr=optimizer.adam.learning_rate"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("--map optimizer.name=optimizer\n"), "{}", unknown.stderr);
    let maps = ["optimizer.name=optimizer", "optimizer.lr=optimizer.adam.learning_rate"];
    let overlapping = read(nested, &maps);
    assert_eq!(overlapping.code, 2, "{}", overlapping.stdout);
    for place in ["wandb.yaml:6:7", "wandb.yaml:7:7"] {
        assert!(overlapping.stderr.contains(place), "{}", overlapping.stderr);
    }
    let twice = read("  lr: { values: [0.1] }\n  rate: { values: [0.2] }\n", &["lr=epochs", "rate=epochs"]);
    assert!(twice.code == 2 && twice.stderr.contains("lr and rate are both epochs"), "{}", twice.stderr);
    let name = read("  optimizer: { parameters: { name: { values: [adam, sgd] } } }\n", &["optimizer.name=name"]);
    assert!(name.code == 2 && name.stderr.contains("changes nothing that trains"), "{}", name.stderr);
}

/// README's own section: three points never fill the rungs, and the best is trained to the end, chosen and tested.
#[test]
fn asha_of_few_points_finishes_the_best() {
    let section = "  asha: { min_epochs: 1, reduction_factor: 3 }\n  parameters: { optimizer.adam.learning_rate: { values: [0.1, 0.01, 0.001] } }\n  seeds: [0, 1]\n";
    let place = place(section);
    let done = place.xp(&["sweep", "sweep.yaml", "--name", "few", "--set", "epochs=5"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = place.json(&["sweep", "show", "few", "--json"]);
    let trials = shown["trials"].as_array().unwrap();
    let n = |state: &str| trials.iter().filter(|trial| trial["state"] == state).count();
    assert_eq!((n("finished"), n("paused")), (2, 4), "{shown:#}");
    assert!(trials.iter().filter(|trial| trial["state"] == "finished").all(|trial| trial["epochs"] == 5), "{shown:#}");
    let chosen = &shown["ranking"]["chosen"];
    assert_eq!((chosen["test"].as_array().unwrap().len(), chosen["looks"]["total"].as_u64()), (2, Some(1)), "{chosen}");
    for row in &shown["ranking"]["rows"].as_array().unwrap()[1..] {
        assert!(row["p"].is_null() && row["behind"].is_null(), "{row}");
    }
}

/// A sweep's name stands for its chosen run; what was not chosen looks at no test image, whatever is done with it.
#[test]
fn a_sweeps_name_is_its_chosen_run() {
    let place = place("  parameters: { optimizer.adam.learning_rate: { values: [0.1, 0.000001] } }\n");
    let done = place.xp(&["sweep", "sweep.yaml", "--name", "rates"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = place.json(&["sweep", "show", "rates", "--json"]);
    let chosen = shown["ranking"]["chosen"]["runs"][0].as_str().unwrap().to_owned();
    assert!(done.stdout.contains(&format!("(run {chosen})")), "{}", done.stdout);
    assert_eq!(place.json(&["show", "rates", "--json"])["name"], chosen.as_str());
    let predicted = place.json(&["predict", "rates", "data/test/red/0.png", "--json"]);
    assert!(predicted.to_string().contains("red"), "{predicted}");
    let exported = place.xp(&["export", "rates", "--format", "safetensors", "-o", "model.safetensors"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    // The chosen point was tested: asking again is a second look, and is said to be one.
    let again = place.json(&["evaluate", "rates", "--json"]);
    assert_eq!((again["name"].as_str(), again["look"].as_u64()), (Some(&*chosen), Some(2)), "{again}");
    let listed = place.json(&["list", "--json"]);
    let other = listed["runs"].as_array().unwrap().iter().find(|run| run["name"] != chosen.as_str()).unwrap();
    let other = other["name"].as_str().unwrap();
    let repeated = place.xp(&["rerun", other, "--verify"]);
    assert_eq!(repeated.code, 0, "{}{}", repeated.stdout, repeated.stderr);
    let look = place.xp(&["evaluate", other]);
    assert!(look.stdout.contains("look 3 at these test images"), "{}{}", look.stdout, look.stderr);
    let shown = place.xp(&["sweep", "show", "rates"]);
    assert!(shown.stdout.contains("these test images were looked at 3 times, 2 of"), "{}", shown.stdout);
    for arguments in [["run", "spec.yaml", "--name", "rates"], ["sweep", "sweep.yaml", "--name", &chosen]] {
        let taken = place.xp(&arguments);
        assert!(taken.code == 2 && taken.stderr.contains("another run or sweep has it"), "{}", taken.stderr);
    }
}

/// What ranks is what is kept: the tested epoch is the best one by the sweep's metric.
#[test]
fn the_epoch_that_is_ranked_is_the_one_that_is_tested() {
    let section = "  parameters: { optimizer.adam.learning_rate: { values: [0.3, 0.2] } }\n";
    let place = place(section);
    let sets = ["--set", "sweep.metric=valid.accuracy", "--set", "epochs=4"];
    let done = place.xp(&[&["sweep", "sweep.yaml", "--set", "checkpoint={ monitor: valid.loss }"][..], &sets].concat());
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(
        done.stderr.contains("note: trials keep, test and use the epoch with the best valid.accuracy"),
        "{}",
        done.stderr
    );
    for run in place.json(&["list", "--json"])["runs"].as_array().unwrap() {
        assert_eq!(run["params"]["checkpoint.monitor"], "valid.accuracy");
    }
    let shown = place.json(&["sweep", "show", "--json"]);
    let chosen = shown["ranking"]["chosen"]["runs"][0].as_str().unwrap();
    let run = place.json(&["show", chosen, "--json"]);
    let best = &run["metrics"]["valid.accuracy"];
    assert_eq!(run["metrics"]["test.loss"]["best_epoch"], best["best_epoch"], "{run:#}");
    assert_eq!(shown["ranking"]["rows"][0]["mean"], best["best"]);
}

/// Splits and seeds are the replicates, and differences are tested over splits.
#[test]
fn points_run_on_several_splits_are_tested_over_splits() {
    let section = "  parameters: { optimizer.adam.learning_rate: { values: [0.1, 0.000001] } }\n  seeds: [1, 2]\n  split_seeds: [0, 5, 9]\n";
    let place = place(section);
    let held_out = ["--set", "data.valid={ fraction: 0.5 }", "--set", "epochs=1"];
    let arguments = [&["sweep", "sweep.yaml", "--name", "splits"][..], &held_out].concat();
    let planned = place.xp(&[&arguments[..], &["--dry-run"]].concat());
    assert!(planned.stdout.contains("2 points × 3 splits × 2 seeds = 12 trials"), "{}", planned.stdout);
    let done = place.xp(&arguments);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("12 trials: 12 finished") && done.stdout.contains("3 × 2"), "{}", done.stdout);
    assert!(done.stdout.contains("corrected t over splits"), "{}", done.stdout);
    let shown = place.json(&["sweep", "show", "splits", "--json"]);
    let test = &shown["ranking"]["test"];
    assert_eq!(
        (test["kind"].as_str(), test["n_splits"].as_u64(), test["n_seeds"].as_u64()),
        (Some("corrected_t"), Some(3), Some(2))
    );
    let mut hashes = std::collections::BTreeMap::new();
    for trial in shown["trials"].as_array().unwrap() {
        let run = place.json(&["show", trial["run"].as_str().unwrap(), "--json"]);
        assert_eq!(run["params"]["data.split_seed"], trial["split_seed"]);
        assert_eq!(run["params"]["seed"], trial["seed"]);
        assert_eq!(run["params"]["optimizer.adam.learning_rate"], trial["values"]["optimizer.adam.learning_rate"]);
        let hash = &run["data"]["splits"]["valid"]["hash"];
        hashes.insert(trial["split_seed"].as_u64().unwrap(), hash.as_str().unwrap().to_owned());
    }
    let distinct: std::collections::BTreeSet<String> = hashes.values().cloned().collect();
    assert_eq!((hashes.len(), distinct.len()), (3, 3));
    let again = place.xp(&["sweep", "resume", "splits"]);
    assert_eq!((again.code, place.json(&["list", "--json"])["runs"].as_array().unwrap().len()), (0, 12));
}

/// What no spec could tell is told by what came out.
#[test]
fn points_that_came_out_the_same_are_named() {
    let place = place("  parameters: { data.on_bad_image: { values: [error, skip] } }\n");
    let done = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=1"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let plain = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let remark = "on_bad_image=error and on_bad_image=skip came out the same, to the bit";
    assert!(plain.contains(remark), "{}", done.stdout);
    assert_eq!(place.json(&["sweep", "show", "--json"])["remarks"].as_array().unwrap().len(), 1);
}

/// What a sweep of an earlier xp, or someone's hand, made false is not ranked.
#[test]
fn a_trial_whose_record_says_otherwise_is_not_ranked() {
    let place = place("  parameters: { optimizer.adam.learning_rate: { values: [0.1, 0.01] } }\n");
    let done = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=1", "--name", "told"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let chosen = &place.json(&["sweep", "show", "told", "--json"])["ranking"]["chosen"]["point"];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = chosen.to_string();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path(".xp/xp.db"));
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let done = sqlx::query("UPDATE sweep_trials SET point_values = $1 WHERE point_values = $2")
            .bind(r#"{"optimizer.adam.learning_rate":0.7}"#)
            .bind(&told)
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
        pool.close().await;
    });
    let shown = place.json(&["sweep", "show", "told", "--json"]);
    let rows = shown["ranking"]["rows"].as_array().unwrap();
    assert_eq!(rows.last().unwrap()["note"], "its record says otherwise", "{shown:#}");
    assert_ne!(shown["ranking"]["chosen"]["point"]["optimizer.adam.learning_rate"], 0.7);
}

/// TPE's points are not known before, and are held to the same: what it could draw is.
#[test]
fn what_tpe_would_draw_in_vain_is_refused() {
    let plan = "plan=[{ epochs: 1, learning_rate: 0.1 }]";
    let parameters = "{ optimizer.adam.learning_rate: { min: 1.0e-5, max: 1.0e-2, log: true } }";
    let told = refused(&format!("  method: tpe\n  trials: 20\n  parameters: {parameters}\n"), &[plan]);
    assert!(told.contains("has no effect in the point"), "{told}");
}

/// A file of weights is bound to its hash when it is used: the record is the label's all the same.
#[test]
fn weights_are_tried_by_their_names() {
    let place = place("  parameters: { model.weights: { values: [efficientnet_lite0.timm, random] } }\n");
    let done = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=1"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = place.json(&["sweep", "show", "--json"]);
    let rows = shown["ranking"]["rows"].as_array().unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row["note"] == ""), "{shown:#}");
}

/// A trial that someone extends is no longer what its label and its sweep say.
#[test]
fn a_trial_that_was_extended_is_not_ranked() {
    let place = place("  parameters: { optimizer.adam.learning_rate: { values: [0.1, 0.01] } }\n");
    let done = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=1", "--name", "short"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = place.json(&["sweep", "show", "short", "--json"]);
    let last = &shown["ranking"]["rows"].as_array().unwrap()[1]["replicates"][0]["run"];
    let extended = place.xp(&["resume", last.as_str().unwrap(), "--epochs", "3"]);
    assert_eq!(extended.code, 0, "{}", extended.stderr);
    let shown = place.json(&["sweep", "show", "short", "--json"]);
    assert_eq!(shown["ranking"]["rows"][1]["note"], "its record says otherwise", "{shown:#}");
}

/// Validation images are no test, however they are named.
#[test]
fn a_look_at_validation_images_is_none_at_a_test() {
    let place = Place::new();
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "a", "--set", "epochs=1"]).code, 0);
    for _ in 0..2 {
        let valid = place.json(&["evaluate", "a", "--data", "data/valid", "--json"]);
        assert!(valid["look"].is_null(), "{valid}");
    }
    let test = place.json(&["evaluate", "a", "--data", "data/test", "--json"]);
    assert_eq!(test["look"], 2);
    assert_eq!(place.json(&["show", "a", "--json"])["test_looks"], 2);
    let again = place.xp(&["run", "spec.yaml", "--set", "epochs=1"]);
    assert!(again.stdout.contains("look 3 at these test images"), "{}", again.stdout);
}

/// Rungs are no failed starts, however many there are.
#[test]
fn asha_of_many_rungs_comes_to_its_end() {
    let section = "  asha: { min_epochs: 1, reduction_factor: 2 }\n  parameters: { optimizer.adam.learning_rate: { values: [0.1, 0.001] } }\n";
    let place = place(section);
    let done = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=9", "--jobs", "1"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = place.json(&["sweep", "show", "--json"]);
    let epochs: Vec<u64> =
        shown["trials"].as_array().unwrap().iter().map(|trial| trial["epochs"].as_u64().unwrap()).collect();
    assert!(epochs.contains(&9) && shown["ranking"]["chosen"].is_object(), "{shown:#}");
}

/// Points that were trained on other images are not held against the others, and changed test images are not the run's.
#[test]
fn images_that_change_while_a_sweep_runs_are_told() {
    let place = place("  parameters: { optimizer.adam.learning_rate: { values: [0.1, 0.01] } }\n");
    let exclude = "sweep.exclude=[{ optimizer.adam.learning_rate: 0.01 }]";
    let first = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=1", "--name", "a", "--set", exclude]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    fs::remove_file(place.path("data/train/red/0.png")).unwrap();
    let second = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=1", "--name", "b", "--set", "sweep.trials=1"]);
    assert_eq!(second.code, 0, "{}", second.stderr);
    // The second sweep gets the first one's trial, as if it had been begun before the image was removed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path(".xp/xp.db"));
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let copy = "INSERT INTO sweep_trials SELECT (SELECT id FROM sweeps WHERE name = 'b'), 1, split_seed, seed,
            '{\"optimizer.adam.learning_rate\":0.01}', until_epoch, run_id, 0, NULL
            FROM sweep_trials WHERE sweep_id = (SELECT id FROM sweeps WHERE name = 'a')";
        sqlx::query(copy).execute(&pool).await.unwrap();
        let spec = "UPDATE run_specs SET resolved_json = replace(resolved_json, '0.1', '0.01')
            WHERE run_id = (SELECT run_id FROM sweep_trials WHERE point = 1)";
        sqlx::query(spec).execute(&pool).await.unwrap();
        pool.close().await;
    });
    let shown = place.json(&["sweep", "show", "b", "--json"]);
    let notes: Vec<&str> =
        shown["ranking"]["rows"].as_array().unwrap().iter().map(|row| row["note"].as_str().unwrap()).collect();
    assert_eq!(notes, ["", "other images than the first"], "{shown:#}");
}
