//! `xp run` and what looks at its record: list, show, compare, evaluate, summary.

use std::fs;

use serde_json::Value;

use crate::support::{DIVERGING, Place};

#[test]
fn a_run_prints_a_line_an_epoch_and_is_recorded() {
    let place = Place::new();
    let printed = place.xp(&["run", "spec.yaml", "--name", "first", "--tag", "small"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert_eq!(printed.stderr, "");
    let lines: Vec<&str> = printed.stdout.lines().collect();
    assert!(lines[0].starts_with("run first (") && lines[0].contains(") on CPU"), "{}", printed.stdout);
    assert_eq!(lines[1], "  2 classes; images: 12 train, 8 valid, 8 test");
    assert!(lines[2].contains("2,562 of 3,373,570 parameters train; 50 rows frozen"), "{}", lines[2]);
    assert_eq!(lines[3], "  100 % of 8 M multiply-adds are frozen, paid once, 140.0 KiB on disk");
    assert!(lines[4].starts_with("epoch 1/2  train loss ") && lines[5].starts_with("epoch 2/2"), "{}", printed.stdout);
    assert!(lines[6].starts_with("test, epoch "), "{}", printed.stdout);

    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{}", printed.stdout);
    assert_eq!(place.json(&["list", "--tag", "large", "--json"])["runs"], serde_json::json!([]));
    let list = place.json(&["list", "--tag", "small", "--json"]);
    assert_eq!(list["schema"], 1);
    let run = &list["runs"][0];
    assert_eq!(run["name"], "first");
    assert_eq!(run["experiment"], "colours");
    assert_eq!(run["state"], "finished");
    assert_eq!(run["tags"], serde_json::json!(["small"]));
    assert_eq!(run["params"]["optimizer.adam.learning_rate"], 0.001);
    assert_eq!(run["metrics"]["valid.accuracy"]["n"], 2);
    assert_eq!(run["metrics"]["test.loss"]["n"], 1);
    assert!(run["duration_s"].as_f64().unwrap() > 0.0);

    let shown = place.json(&["show", "@1", "--json"]);
    assert_eq!(shown["data"]["classes"], serde_json::json!(["blue", "red"]));
    assert_eq!(shown["model"]["frozen_hash"], shown["trained"]["frozen_hash"]);
    let id = run["id"].as_str().unwrap();
    let run_dir = place.path(".xp/runs").join(id);
    for file in ["spec.yaml", "resolved.json", "lock", "log.jsonl", "curves.png"] {
        assert!(run_dir.join(file).is_file(), "{file}");
    }
    assert_eq!(fs::read(run_dir.join("spec.yaml")).unwrap(), fs::read(place.path("spec.yaml")).unwrap());
    for line in fs::read_to_string(run_dir.join("log.jsonl")).unwrap().lines() {
        let _: Value = serde_json::from_str(line).unwrap();
    }
    let kept = shown["checkpoints"].as_array().unwrap().iter().filter(|checkpoint| checkpoint["deleted"] == false);
    for checkpoint in kept {
        for part in ["manifest.json", "trained.safetensors"] {
            assert!(run_dir.join(checkpoint["path"].as_str().unwrap()).join(part).is_file());
        }
    }
}

#[test]
fn compare_shows_exactly_the_parameter_that_differs() {
    let place = Place::new();
    for (name, weights) in [("pretrained", "imagenet"), ("random", "random")] {
        let set = format!("model.weights={weights}");
        assert_eq!(place.xp(&["run", "spec.yaml", "--name", name, "--set", &set]).code, 0);
    }
    let compared = place.json(&["compare", "pretrained", "random", "--json"]);
    assert_eq!(compared["differing_params"], serde_json::json!(["model.weights"]));
    assert_eq!(compared["runs"].as_array().unwrap().len(), 2);
    let text = place.xp(&["compare"]).stdout;
    assert!(text.contains("model.weights") && !text.contains("model.backbone"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let all = place.xp(&["compare", "--all-params"]).stdout;
    assert!(all.contains("model.backbone"), "{all}");
}

#[test]
fn the_same_spec_gives_the_same_bytes_whatever_the_number_of_threads() {
    let place = Place::new();
    // Augmentation draws, so images are prepared anew every epoch; two stages train; dropout draws too.
    place.edit("frozen_layers: all", "frozen_layers: { stages: 8 }\n  batch_norm: train");
    place.edit("epochs: 2", "epochs: 2\naugment: { horizontal_flip: true, rotation_degrees: 20, zoom: 0.2 }");
    let trained = |threads: &str, rayon: &str| {
        let mut command = place.command(&["run", "spec.yaml", "--loader-threads", threads, "--json"]);
        let output = command.env("RAYON_NUM_THREADS", rayon).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let run: Value = serde_json::from_slice(&output.stdout).unwrap();
        let shown = place.json(&["show", run["id"].as_str().unwrap(), "--json"]);
        (shown["trained"]["trained_hash"].clone(), shown["metrics"].clone(), shown["fingerprint"].clone())
    };
    let first = trained("1", "2");
    assert!(first.0.is_string());
    for (threads, rayon) in [("2", "1"), ("4", "2"), ("2", "4")] {
        assert_eq!(first, trained(threads, rayon), "{threads} loader threads, {rayon} threads of arithmetic");
    }
}

#[test]
fn early_stopping_ends_a_run_that_no_longer_improves() {
    let place = Place::new();
    place.edit("epochs: 2", "epochs: 60\nearly_stopping: { monitor: valid.accuracy, patience: 3 }");
    place.edit("learning_rate: 1.0e-3", "learning_rate: 1.0e-2");
    let printed = place.xp(&["run", "spec.yaml", "--name", "early"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    let run = place.json(&["show", "early", "--json"]);
    assert_eq!(run["state"], "finished");
    let accuracy = &run["metrics"]["valid.accuracy"];
    let (n, best) = (accuracy["n"].as_u64().unwrap(), accuracy["best_epoch"].as_u64().unwrap());
    assert_eq!(n, best + 3);
    assert!(n < 60);
    assert!(printed.stdout.contains(&format!("stopped early after epoch {n}")), "{}", printed.stdout);
    // It has finished: it goes on only when asked to.
    assert_eq!(place.xp(&["resume", "early"]).code, 2);

    // What is never a number never improves.
    let sets = ["--set", "on_nan=continue", "--set", "early_stopping.monitor=valid.loss"];
    let run = place.json(&[&["run", "spec.yaml", "--json"], &sets[..], &DIVERGING[..]].concat());
    assert!(run["metrics"]["valid.loss"]["n"].as_u64().unwrap() < 60);
}

#[test]
fn a_schedule_changes_what_is_learned() {
    let place = Place::new();
    let trained = |schedule: &str| {
        let set = format!("schedule={schedule}");
        assert_eq!(place.xp(&["run", "spec.yaml", "--set", &set]).code, 0, "{schedule}");
        place.json(&["show", "@1", "--json"])["trained"]["trained_hash"].as_str().unwrap().to_owned()
    };
    let schedules = [
        "constant",
        "{ linear: {} }",
        "{ cosine: {} }",
        "{ cosine: { warmup_epochs: 1 } }",
        "{ exponential: { rate: 0.5 } }",
        "{ step: { every_epochs: 1, factor: 0.1 } }",
    ];
    let hashes: std::collections::BTreeSet<String> = schedules.into_iter().map(trained).collect();
    assert_eq!(hashes.len(), schedules.len());
    let printed = place.xp(&["check", "spec.yaml", "--set", "schedule={ cosine: { warmup_epochs: 2 } }"]);
    assert_eq!(printed.code, 2);
    assert!(printed.stderr.contains("warm-up"), "{}", printed.stderr);
}

#[test]
fn evaluate_repeats_the_test_of_the_best_checkpoint() {
    let place = Place::new();
    let run = place.json(&["run", "spec.yaml", "--json"]);
    let measured = place.json(&["evaluate", "@1", "--json"]);
    assert_eq!(measured["metrics"]["loss"], run["metrics"]["test.loss"]["last"]);
    assert_eq!(measured["n_images"], 8);
    let valid = place.json(&["evaluate", "@1", "--data", "data/valid", "--checkpoint", "last", "--json"]);
    assert_eq!(valid["metrics"]["loss"], run["metrics"]["valid.loss"]["last"]);
    fs::write(place.path("data/valid/red/bad.png"), "no image").unwrap();
    assert_eq!(place.xp(&["evaluate", "@1", "--data", "data/valid"]).code, 1);
    assert_eq!(place.xp(&["evaluate", "@1", "--checkpoint", "9"]).code, 3);
    fs::rename(place.path("data/test/red"), place.path("data/test/green")).unwrap();
    assert_eq!(place.xp(&["evaluate", "@1"]).code, 2);
    assert_eq!(place.xp(&["evaluate", "@1", "--data", "nowhere"]).code, 3);
    assert_eq!(place.xp(&["evaluate", "nobody"]).code, 3);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let place = Place::new();
    let run = place.json(&["run", "spec.yaml", "--json"]);
    let epoch = run["metrics"]["valid.loss"]["best_epoch"].as_u64().unwrap();
    let id = run["id"].as_str().unwrap();
    let model = place.path(&format!(".xp/runs/{id}/checkpoints/epoch-{epoch:04}/trained.safetensors"));
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();
    let printed = place.xp(&["evaluate", "@1"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("is damaged"), "{}", printed.stderr);
}

#[test]
fn a_bad_image_stops_the_run_or_is_skipped_counted_and_stored() {
    let place = Place::new();
    let truncated = include_bytes!("../fixtures/bad_images/truncated.jpg");
    fs::write(place.path("data/train/red/broken.jpg"), truncated).unwrap();
    fs::write(place.path("data/train/red/notes.txt"), "two of these are blurred").unwrap();
    let printed = place.xp(&["run", "spec.yaml", "--name", "strict"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("broken.jpg"), "{}", printed.stderr);
    let strict = place.json(&["show", "strict", "--json"]);
    assert_eq!(strict["state"], "failed");
    assert!(strict["skipped"][0]["path"].as_str().unwrap().ends_with("broken.jpg"));

    let printed = place.xp(&["run", "spec.yaml", "--set", "data.on_bad_image=skip"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(printed.stdout.contains("12 train"), "{}", printed.stdout);
    assert!(printed.stderr.contains("warning: 1 images skipped"), "{}", printed.stderr);
    assert!(printed.stderr.contains("warning:") && printed.stderr.contains("notes.txt"), "{}", printed.stderr);
    let shown = place.json(&["show", "@1", "--json"]);
    assert_eq!(shown["skipped"].as_array().unwrap().len(), 1);
    assert!(shown["skipped"][0]["path"].as_str().unwrap().ends_with("broken.jpg"));
    let measured = place.json(&["evaluate", "@1", "--data", "data/train", "--json"]);
    assert_eq!((measured["n_images"].clone(), measured["skipped"].as_array().unwrap().len()), (12.into(), 1));
}

#[test]
fn runs_that_differ_in_the_seed_alone_are_of_one_group() {
    let place = Place::new();
    for weights in ["imagenet", "random"] {
        let run = |seed: &str| {
            let (seed, weights) = (format!("seed={seed}"), format!("model.weights={weights}"));
            let run = place.json(&["run", "spec.yaml", "--json", "--set", &seed, "--set", &weights]);
            (run["group"].clone(), run["fingerprint"].clone())
        };
        let (first, second) = (run("1"), run("2"));
        assert!(first.0.is_string());
        assert_eq!(first.0, second.0, "{weights}");
        assert_ne!(first.1, second.1, "{weights}");
    }
}

#[test]
fn a_diverged_run_says_so_and_its_numbers_are_told_as_they_are() {
    let place = Place::new();
    let sets = ["--set", "epochs=4", "--set", "on_nan=continue"];
    let run = place.json(&[&["run", "spec.yaml", "--json"], &sets[..], &DIVERGING[..]].concat());
    assert_eq!(run["metrics"]["train.loss"]["last"], "NaN");
    let shown = place.json(&["show", "@1", "--json"]);
    assert!(shown["warnings"][0]["text"].as_str().unwrap().contains("diverged"));
    assert_eq!(shown["metrics"]["valid.accuracy"]["last"], 0.0, "what is not a number is never right");
    assert_eq!(place.json(&["evaluate", "@1", "--checkpoint", "last", "--json"])["metrics"]["loss"], "NaN");
}

#[test]
fn a_name_that_is_taken_is_refused_and_leaves_nothing_behind() {
    let place = Place::new();
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "twice"]).code, 0);
    let printed = place.xp(&["run", "spec.yaml", "--name", "twice"]);
    assert_eq!(printed.code, 2);
    assert!(printed.stderr.contains("twice") && printed.stderr.contains("hint:"), "{}", printed.stderr);
    assert_eq!(fs::read_dir(place.path(".xp/runs")).unwrap().count(), 1);
    for name in ["", "@1", "two\nlines", "-x", &"long".repeat(100)] {
        assert_eq!(place.xp(&["run", "spec.yaml", &format!("--name={name}")]).code, 2, "{name:?}");
    }
    fs::write(place.path(".xp/xp.db"), "no database".repeat(1000)).unwrap();
    assert_eq!(place.xp(&["run", "spec.yaml"]).code, 1);
    assert_eq!(fs::read_dir(place.path(".xp/runs")).unwrap().count(), 1);
}

#[test]
fn looking_where_nothing_was_run_makes_nothing() {
    let place = Place::new();
    assert_eq!(place.xp(&["list"]).stdout, "no runs\n");
    assert_eq!(place.json(&["list", "--json"])["runs"], serde_json::json!([]));
    assert_eq!(place.xp(&["show", "@1"]).code, 3);
    assert_eq!(place.xp(&["compare", "a", "b"]).code, 3);
    assert_eq!(place.xp(&["doctor"]).code, 0);
    assert!(!place.path(".xp").exists());
    // A home that was asked for must be there.
    let wrong = place.xp(&["list", "--home", "data"]);
    assert_eq!(wrong.code, 3);
    assert!(wrong.stderr.contains("holds no runs"), "{}", wrong.stderr);
}

#[test]
fn summary_lists_the_rows_of_a_backbone_a_spec_and_a_run() {
    let place = Place::new();
    let backbone = place.json(&["summary", "efficientnet_lite0", "--json"]);
    assert_eq!(backbone["rows"].as_array().unwrap().len(), 50);
    assert_eq!(backbone["rows"][1]["output"], serde_json::json!([32, 112, 112]));
    let spec = place.json(&["summary", "spec.yaml", "--set", "model.frozen_layers=7", "--json"]);
    let frozen = spec["rows"].as_array().unwrap().iter().filter(|row| row["frozen"] == true).count();
    assert_eq!(frozen, 7);
    let text = place.xp(&["summary", "spec.yaml"]).stdout;
    assert!(text.contains("2,562 of 3,373,570 parameters train"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    place.xp(&["run", "spec.yaml", "--name", "kept-1.2"]);
    fs::remove_dir_all(place.path("data")).unwrap();
    assert_eq!(place.json(&["summary", "kept-1.2", "--json"])["trained_parameters"], 2562);
    let unknown = place.xp(&["summary", "resnet51"]);
    assert_eq!(unknown.code, 3);
    assert!(unknown.stderr.contains("efficientnet_lite0"), "{}", unknown.stderr);
}

#[test]
fn summary_of_vgg16_has_keras_rows_and_the_notebooks_numbers() {
    let place = Place::new();
    place.edit("image_size: 32", "image_size: 150");
    place.edit("efficientnet_lite0", "vgg16");
    place.edit("weights: imagenet", "weights: random");
    place.edit(
        "[global_average_pool, { dropout: 0.2 }, { dense: { units: 2, activation: softmax } }]",
        "[flatten, { dense: { units: 256, activation: relu } }, { dropout: 0.5 }, { dense: { units: 1, activation: sigmoid } }]",
    );
    for frozen in ["15", "{ through: block4_pool }", "{ stages: 4 }"] {
        let set = format!("model.frozen_layers={frozen}");
        let summary = place.json(&["summary", "spec.yaml", "--set", &set, "--json"]);
        let rows = summary["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 19);
        assert_eq!(rows[14]["name"], "block4_pool");
        assert_eq!((&rows[14]["frozen"], &rows[15]["frozen"]), (&true.into(), &false.into()), "{frozen}");
        assert_eq!(summary["parameters"], 16_812_353, "{frozen}");
        assert_eq!(summary["trained_parameters"], 9_177_089, "{frozen}");
        assert_eq!(summary["frozen_parameters"], 7_635_264, "{frozen}");
    }
    let text = place.xp(&["summary", "spec.yaml", "--set", "model.frozen_layers=15"]).stdout;
    insta::assert_snapshot!(text, @"
    vgg16 at 150×150
     row  name                 stage  kind            output  parameters  state
       1  input                    0  input        3×150×150           0  frozen
       2  block1_conv1             1  3×3         64×150×150       1,792  frozen
       3  block1_conv2             1  3×3         64×150×150      36,928  frozen
       4  block1_pool              1  max 2×2/2     64×75×75           0  frozen
       5  block2_conv1             2  3×3          128×75×75      73,856  frozen
       6  block2_conv2             2  3×3          128×75×75     147,584  frozen
       7  block2_pool              2  max 2×2/2    128×37×37           0  frozen
       8  block3_conv1             3  3×3          256×37×37     295,168  frozen
       9  block3_conv2             3  3×3          256×37×37     590,080  frozen
      10  block3_conv3             3  3×3          256×37×37     590,080  frozen
      11  block3_pool              3  max 2×2/2    256×18×18           0  frozen
      12  block4_conv1             4  3×3          512×18×18   1,180,160  frozen
      13  block4_conv2             4  3×3          512×18×18   2,359,808  frozen
      14  block4_conv3             4  3×3          512×18×18   2,359,808  frozen
      15  block4_pool              4  max 2×2/2      512×9×9           0  frozen
      16  block5_conv1             5  3×3            512×9×9   2,359,808  trains
      17  block5_conv2             5  3×3            512×9×9   2,359,808  trains
      18  block5_conv3             5  3×3            512×9×9   2,359,808  trains
      19  block5_pool              5  max 2×2/2      512×4×4           0
    head  flatten                                                      0
    head  dense 256 relu                                       2,097,408  trains
    head  dropout 0.5                                                  0
    head  dense 1 sigmoid                                            257  trains
    9,177,089 of 16,812,353 parameters train, 7,635,264 are frozen
    ");
    assert_eq!(place.json(&["summary", "vgg16", "--json"])["rows"][18]["output"], serde_json::json!([512, 7, 7]));
}

#[test]
fn doctor_and_completions_answer() {
    let place = Place::new();
    assert_eq!(place.json(&["doctor", "--json"])["schema"], 1);
    fs::write(place.path("file"), "").unwrap();
    let printed = place.xp(&["doctor", "--home", "file"]);
    assert_eq!(printed.code, 1, "{}", printed.stdout);
    assert!(printed.stdout.contains("BAD"), "{}", printed.stdout);
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.xp(&["completions", shell]).stdout.contains("evaluate"), "{shell}");
    }
}
