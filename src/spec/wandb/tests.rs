use serde_json::{Value, json};

use super::*;

fn section(text: &str, maps: &[&str]) -> (Value, Vec<String>) {
    let maps: Vec<String> = maps.iter().map(|map| (*map).to_owned()).collect();
    let read = read(text, &maps).unwrap_or_else(|problems| panic!("{problems:#?}"));
    (serde_json::to_value(read.section).unwrap(), read.notes)
}

#[test]
fn a_file_is_read_as_it_is() {
    let text = "\
program: train.py
method: bayes
name: first
metric: { name: val_loss, goal: minimize }
parameters:
  lr: { distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1 }
  optimizer:
    parameters:
      adam:
        parameters:
          beta_1: { values: [0.8, 0.9], probabilities: [0.3, 0.7] }
  epochs: { value: 4 }
early_terminate: { type: hyperband, min_iter: 3 }
run_cap: 12
command: [\"${env}\", python, \"${program}\"]
";
    let (found, notes) = section(text, &["lr=optimizer.adam.learning_rate"]);
    let expected = json!({
        "method": "tpe",
        "metric": "valid.loss",
        "parameters": {
            "epochs": { "values": [4] },
            "optimizer.adam.beta_1": { "values": [0.8, 0.9], "probabilities": [0.3, 0.7] },
            "optimizer.adam.learning_rate": { "min": 1e-5, "max": 0.1, "log": true },
        },
        "trials": 12,
        "seed": 0,
        "asha": { "min_epochs": 3, "reduction_factor": 3 },
    });
    assert_eq!(found, expected);
    assert_eq!(
        notes,
        [
            "`program` is ignored",
            "`method: bayes` is TPE here, not a Gaussian process",
            "`name` is ignored",
            "the metric val_loss is valid.loss",
            "`early_terminate: hyperband` is asynchronous successive halving here, counted in epochs",
            "`command` is ignored",
        ]
    );
}

#[test]
fn every_distribution_is_drawn_from_as_it_says() {
    for (parameter, expected) in [
        ("{ min: 1, max: 9 }", json!({ "min": 1, "max": 9 })),
        ("{ min: 1, max: 9.5 }", json!({ "min": 1.0, "max": 9.5 })),
        ("{ distribution: uniform, min: 1, max: 9 }", json!({ "min": 1.0, "max": 9.0 })),
        ("{ distribution: q_uniform, min: 1, max: 9, q: 2 }", json!({ "min": 2, "max": 8, "step": 2.0 })),
        ("{ distribution: q_uniform, min: 0.0, max: 0.5, q: 0.1 }", json!({ "min": 0.0, "max": 0.5, "step": 0.1 })),
        (
            "{ distribution: log_uniform, min: 0, max: 1 }",
            json!({ "min": 1.0, "max": std::f64::consts::E, "log": true }),
        ),
        (
            "{ distribution: q_log_uniform_values, min: 10, max: 99, q: 10 }",
            json!({ "min": 10, "max": 90, "log": true, "step": 10.0 }),
        ),
        ("{ distribution: normal, mu: 2, sigma: 3 }", json!({ "mean": 2.0, "std": 3.0 })),
        ("{ distribution: q_log_normal }", json!({ "mean": 0.0, "std": 1.0, "log": true, "step": 1.0 })),
        ("{ distribution: constant, value: 7 }", json!({ "values": [7] })),
    ] {
        let text = format!("method: random\nrun_cap: 2\nparameters: {{ epochs: {parameter} }}\n");
        assert_eq!(section(&text, &[]).0["parameters"]["epochs"], expected, "{parameter}");
    }
}

#[test]
fn metrics_have_many_names_and_one_meaning() {
    for (name, goal, expected) in [
        ("val_acc", "maximize", "valid.accuracy"),
        ("val/accuracy", "maximize", "valid.accuracy"),
        ("validation_loss", "minimize", "valid.loss"),
        ("loss", "minimize", "valid.loss"),
        ("train_loss", "minimize", "train.loss"),
        ("valid.top5_accuracy", "maximize", "valid.top5_accuracy"),
    ] {
        let text = format!(
            "method: grid\nmetric: {{ name: {name}, goal: {goal} }}\nparameters: {{ epochs: {{ value: 1 }} }}\n"
        );
        assert_eq!(section(&text, &[]).0["metric"], expected, "{name}");
    }
    let text = "method: grid\nmetric: { name: score, goal: maximize }\nparameters: { epochs: { value: 1 } }\n";
    assert_eq!(section(text, &["score=valid.accuracy"]).0["metric"], "valid.accuracy");
}

#[test]
fn all_that_is_wrong_is_said_with_its_place() {
    let text = "\
method: custom
metric: { name: reward, goal: maximize }
parameters:
  lr: { values: [0.1] }
  epochs: { distribution: beta, a: 1, b: 2 }
  seed: { min: 1 }
  log_every: 3
banana: 1
early_terminate: { type: hyperband }
";
    let problems = read(text, &["nothing=epochs".to_owned()]).unwrap_err();
    let found: Vec<(Option<usize>, &str)> = problems
        .iter()
        .map(|problem| {
            let line = match &problem.place {
                Some(Place::Text { line, .. }) => Some(*line),
                _ => None,
            };
            (line, problem.message.as_str())
        })
        .collect();
    assert_eq!(
        found,
        [
            (Some(1), "`method` is none of grid, random and bayes"),
            (Some(2), "no metric is called reward"),
            (Some(4), "lr is no key of a spec"),
            (Some(5), "epochs: the distribution beta is not drawn from here"),
            (Some(6), "seed: uniform needs `min` and `max`"),
            (Some(7), "log_every: it is no map"),
            (Some(8), "no key of a sweep file"),
            (Some(9), "`early_terminate` needs `min_iter`, or `max_iter` and `s`"),
            (None, "the file has no nothing"),
        ]
    );
    assert!(problems[2].hint.as_ref().unwrap().contains("--map lr="));
    let goal = "method: grid\nmetric: { name: val_acc, goal: minimize }\nparameters: { epochs: { value: 1 } }\n";
    assert_eq!(read(goal, &[]).unwrap_err()[0].message, "the goal does not go with valid.accuracy");
    assert!(read("[1]", &[]).is_err() && read("method: grid\n", &[]).is_err());
}
