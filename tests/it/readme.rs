//! The README's `xp` commands do what it says, in their order; its cargo commands are run by `.ci/run`.

use std::fs;

use crate::support::{Place, write_image};

const README: &str = include_str!("../../README.md");

/// The text of every fenced block of a language.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = README.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{language}") {
            let block = lines.by_ref().take_while(|line| *line != "```");
            blocks.push(block.map(|line| format!("{line}\n")).collect());
        }
    }
    blocks
}

#[test]
fn every_command_of_the_readme_works() {
    let place = Place::new();
    let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    std::os::unix::fs::symlink(experiments, place.path("experiments")).unwrap();
    let own = blocks("yaml").into_iter().find(|block| block.contains("cats-and-dogs")).unwrap();
    fs::write(place.path("cats.yaml"), own).unwrap();
    let head = blocks("yaml").into_iter().find(|block| block.contains("cats-head")).unwrap();
    fs::write(place.path("head.yaml"), head).unwrap();
    for (split, numbers) in [("train", 0..3), ("valid", 3..6)] {
        for (class, colour) in [("cats", [90, 80, 70]), ("dogs", [150, 120, 60])] {
            for i in numbers.clone() {
                write_image(&place.path(&format!("photos/{split}/{class}/{i}.jpg.png")), colour, i);
            }
        }
    }
    let scripts = blocks("sh").concat();
    let commands: Vec<&str> = scripts.lines().filter_map(|line| line.strip_prefix("xp ")).collect();
    assert!(commands.len() >= 14, "{commands:?}");
    for command in commands {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let printed = place.xp(&arguments);
        assert_eq!(printed.code, 0, "xp {command}: {}", printed.stderr);
        assert!(!printed.stdout.is_empty(), "xp {command}");
        let widest = printed.stdout.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        // Paths are printed whole, and a network's table is as wide as its names.
        let is_wide = ["--json", "check", "show", "evaluate", "summary", "doctor", "schema"]
            .iter()
            .any(|word| command.contains(word));
        assert!(is_wide || widest <= 80, "xp {command} prints {widest} characters:\n{}", printed.stdout);
    }
    let compared = place.json(&["compare", "pretrained", "random", "--json"]);
    assert_eq!(compared["differing_params"], serde_json::json!(["model.weights"]));
    let accuracy = |i: usize| compared["runs"][i]["metrics"]["test.accuracy"]["last"].as_f64().unwrap();
    // benches/peers/logreg.py: logistic regression on the same network's pooled features reaches 0.7683.
    assert!(accuracy(0) >= 0.7683 - 0.01, "pretrained {}", accuracy(0));
    assert!(accuracy(1) <= accuracy(0) - 0.05, "random {}, pretrained {}", accuracy(1), accuracy(0));
}

#[test]
fn the_readmes_spec_has_every_key_and_is_valid() {
    let place = Place::new();
    let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    std::os::unix::fs::symlink(format!("{experiments}/data/fashion"), place.path("data/fashion")).unwrap();
    let whole = blocks("yaml").into_iter().find(|block| block.contains("log_every")).unwrap();
    fs::write(place.path("whole.yaml"), &whole).unwrap();
    assert_eq!(place.xp(&["check", "whole.yaml"]).code, 0, "{}", place.xp(&["check", "whole.yaml"]).stderr);
    let whole = xp::spec::parse::node_from_yaml(&whole).unwrap().to_json();
    let keys = xp::spec::keys::Keys::default();
    // An optimizer's settings and a schedule's are their own; `xp schema` has them.
    let sections = ["data", "model", "augment", "checkpoint", "checkpoint.keep", "early_stopping"];
    let mut missing = Vec::new();
    for section in std::iter::once("").chain(sections) {
        let path: Vec<&str> = section.split('.').filter(|part| !part.is_empty()).collect();
        let written = path.iter().fold(&whole, |value, part| &value[*part]);
        let names = keys.names(&path);
        assert!(names.len() >= 2, "{section} has no keys");
        missing.extend(
            names.into_iter().filter(|name| written.get(name).is_none()).map(|name| format!("{section}.{name}")),
        );
    }
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

/// Three points never fill ASHA's rungs: the best is trained to the end, chosen and tested all the same.
#[test]
fn the_readmes_sweep_finishes_its_best() {
    let place = Place::new();
    let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    std::os::unix::fs::symlink(format!("{experiments}/data/fashion"), place.path("data/fashion")).unwrap();
    let whole = blocks("yaml").into_iter().find(|block| block.contains("log_every")).unwrap();
    fs::write(place.path("whole.yaml"), &whole).unwrap();
    let small = [
        "data.image_size=32",
        "steps_per_epoch=1",
        "validation_steps=2",
        "plan=[]",
        "learning_rates={}",
        "augment={}",
        "epochs=7",
        "sweep.seeds=[0]",
        "early_stopping={ patience: 9 }",
    ];
    let small: Vec<&str> = small.iter().flat_map(|set| ["--set", set]).collect();
    let done = place.xp(&[&["sweep", "whole.yaml", "--name", "whole"][..], &small].concat());
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = place.json(&["sweep", "show", "whole", "--json"]);
    let trials = shown["trials"].as_array().unwrap();
    let epochs: Vec<u64> = trials.iter().map(|trial| trial["epochs"].as_u64().unwrap()).collect();
    assert_eq!(
        (epochs.iter().filter(|n| **n == 7).count(), epochs.iter().filter(|n| **n == 2).count()),
        (1, 2),
        "{shown:#}"
    );
    let chosen = &shown["ranking"]["chosen"];
    assert_eq!((chosen["test"].as_array().unwrap().len(), &chosen["looks"]["total"]), (1, &1.into()), "{shown:#}");
}

#[test]
fn the_readmes_cargo_commands_are_in_ci() {
    let ci = include_str!("../../.ci/run");
    for line in blocks("sh").concat().lines().filter(|line| line.starts_with("cargo ")) {
        let checked = match line {
            // Building with CUDA takes a quarter of an hour; checking takes minutes.
            "cargo build --release --features cuda" => "cargo check --locked --features cuda",
            "cargo install --path ." => "cargo install --locked --path .",
            "cargo test" => "cargo test --locked",
            "cargo run --release -- run experiments/finetune.yaml" => {
                "cargo run --locked --release -- run experiments/finetune.yaml"
            }
            other => panic!("{other} has no place in .ci/run"),
        };
        assert!(ci.contains(checked), "{checked}");
    }
}
