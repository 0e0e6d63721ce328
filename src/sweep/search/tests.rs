use serde_json::json;

use super::*;

fn section(text: Value) -> Sweep {
    serde_json::from_value(text).unwrap()
}

/// All points of a sweep whose points have a value each.
fn run(section: &Sweep, value_of: impl Fn(&Point) -> f64) -> Vec<Tried> {
    let space = Space::new(section).unwrap();
    let mut history: Vec<Tried> = Vec::new();
    while let Some(point) = space.next(section, &history, &Labels::as_written()) {
        let value = Some(value_of(&point));
        history.push(Tried { point, value });
    }
    history
}

fn texts(history: &[Tried]) -> Vec<String> {
    history.iter().map(|tried| tried.point.to_string()).collect()
}

#[test]
fn a_grid_is_all_that_is_not_excluded_with_the_last_key_fastest() {
    let section = section(json!({
        "parameters": { "a.x": { "values": [1, 2] }, "b.y": { "values": ["u", "v"] }, "c.z": { "min": 1, "max": 2 } },
        "exclude": [{ "a.x": 1, "c.z": [2, 3] }, { "a.x": 2, "b.y": "v" }],
    }));
    let found = texts(&run(&section, |_| 0.0));
    assert_eq!(found, ["x=1 y=u z=1", "x=1 y=v z=1", "x=2 y=u z=1", "x=2 y=u z=2"]);
    let points = Space::new(&section).unwrap().planned(&section, &Labels::as_written());
    assert_eq!(points.iter().map(Point::to_string).collect::<Vec<_>>(), found);
}

#[test]
fn a_key_is_there_only_where_its_condition_holds() {
    let section = section(json!({
        "parameters": {
            "a.momentum": { "values": [0.8, 0.9], "when": { "b.kind": ["sgd", "rmsprop"] } },
            "b.kind": { "values": ["adam", "sgd"] },
        },
    }));
    assert_eq!(texts(&run(&section, |_| 0.0)), ["kind=adam", "momentum=0.8 kind=sgd", "momentum=0.9 kind=sgd"]);
}

#[test]
fn what_cannot_be_swept_is_said_with_its_key() {
    for (text, key, message) in [
        (
            json!({ "parameters": { "a": { "min": 0.0, "max": 1.0 } } }),
            "parameters.a",
            "a grid needs values that can be counted",
        ),
        (
            json!({ "method": "random", "parameters": { "a": { "values": [1] } } }),
            "trials",
            "says how many points to draw, and is missing",
        ),
        (
            json!({ "parameters": { "a": { "values": [1], "when": { "b": 1 } } } }),
            "parameters.a",
            "`when` names b, which this sweep does not try",
        ),
        (
            json!({ "parameters": { "a": { "values": [1] } }, "exclude": [{ "b": 1 }] }),
            "exclude[0]",
            "names b, which this sweep does not try",
        ),
        (
            json!({ "parameters": { "a": { "values": [1], "when": { "b": 1 } }, "b": { "values": [1], "when": { "a": 1 } } } }),
            "parameters",
            "a, b depend on each other by `when`",
        ),
        (
            json!({ "parameters": { "a": { "min": 1, "max": 1000 }, "b": { "min": 1, "max": 1000 } } }),
            "parameters",
            "the grid has 1000000 combinations, more than 100000",
        ),
    ] {
        let problems = Space::new(&section(text)).unwrap_err();
        assert_eq!((problems[0].key.as_str(), problems[0].message.as_str()), (key, message));
    }
}

#[test]
fn random_points_follow_their_distributions_and_the_seed_alone() {
    let text = |seed: u64| {
        section(json!({
            "method": "random", "trials": 400, "seed": seed,
            "parameters": {
                "layers": { "min": 1, "max": 4 },
                "lr": { "min": 1e-6, "max": 1.0, "log": true },
                "which": { "values": ["a", "b", "c"], "probabilities": [0.5, 0.5, 0.0] },
                "noise": { "mean": 2.0, "std": 0.5 },
            },
        }))
    };
    let points = run(&text(1), |_| 0.0);
    assert!(texts(&points) == texts(&run(&text(1), |point| point.values["lr"].as_f64().unwrap())));
    assert!(texts(&points) != texts(&run(&text(2), |_| 0.0)));
    let all = |key: &str| points.iter().map(|tried| tried.point.values[key].clone()).collect::<Vec<_>>();
    let share = |count: usize| count as f64 / points.len() as f64;
    for layers in 1..=4 {
        let n = all("layers").iter().filter(|value| **value == json!(layers)).count();
        assert!((share(n) - 0.25).abs() < 0.08, "{layers}: {n}");
    }
    let small = all("lr").iter().filter(|value| value.as_f64().unwrap() < 1e-3).count();
    assert!((share(small) - 0.5).abs() < 0.08, "{small}");
    let a = all("which").iter().filter(|value| **value == json!("a")).count();
    assert!((share(a) - 0.5).abs() < 0.08 && !all("which").contains(&json!("c")), "{a}");
    let mean = all("noise").iter().map(|value| value.as_f64().unwrap()).sum::<f64>() / points.len() as f64;
    assert!((mean - 2.0).abs() < 0.1, "{mean}");
}

#[test]
fn a_space_that_is_used_up_ends_the_search() {
    for method in ["random", "tpe"] {
        let section = section(json!({
            "method": method, "trials": 50,
            "parameters": { "a": { "values": [1, 2, 3] }, "b": { "values": [true, false] } },
            "exclude": [{ "a": 3, "b": true }],
        }));
        let mut found = texts(&run(&section, |point| point.values["a"].as_f64().unwrap()));
        found.sort();
        assert_eq!(found, ["a=1 b=false", "a=1 b=true", "a=2 b=false", "a=2 b=true", "a=3 b=false"], "{method}");
    }
}

/// Points that run at once have no values yet and are not suggested twice.
#[test]
fn tpe_keeps_away_from_what_runs() {
    let section = section(json!({
        "method": "tpe", "trials": 30, "parameters": { "x": { "min": 0.0, "max": 1.0 } },
    }));
    let space = Space::new(&section).unwrap();
    let value = |point: &Point| (point.values["x"].as_f64().unwrap() - 0.3).powi(2);
    let mut history: Vec<Tried> = Vec::new();
    for i in 0..30 {
        let point = space.next(&section, &history, &Labels::as_written()).unwrap();
        assert!(!history.iter().any(|tried| tried.point == point));
        history.push(Tried { point, value: None });
        // Four run at once.
        if i >= 4 {
            history[i - 4].value = Some(value(&history[i - 4].point));
        }
    }
    assert!(history.iter().filter_map(|tried| tried.value).fold(1.0, f64::min) < 1e-3);
}

/// The bound is what was asked for; Optuna 5.0 reaches 0.028 here and random search 0.44.
#[test]
fn tpe_finds_the_valley_of_a_toy() {
    let value = |point: &Point| {
        let at = |key: &str| point.values[key].as_f64().unwrap();
        (at("lr").log10() + 3.0).powi(2) + 0.3 * (at("wd").log10() + 4.0).powi(2) + 0.05 * (at("layers") - 5.0).powi(2)
    };
    let median = |method: &str| {
        let best = |seed: u64| {
            let section = section(json!({
                "method": method, "trials": 60, "seed": seed,
                "parameters": {
                    "layers": { "min": 1, "max": 20 },
                    "lr": { "min": 1e-6, "max": 1.0, "log": true },
                    "wd": { "min": 1e-8, "max": 0.1, "log": true },
                },
            }));
            run(&section, value).iter().filter_map(|tried| tried.value).fold(f64::INFINITY, f64::min)
        };
        let mut bests: Vec<f64> = (0..41).map(best).collect();
        bests.sort_by(f64::total_cmp);
        bests[20]
    };
    let (tpe, random) = (median("tpe"), median("random"));
    assert!(tpe <= 0.1 && random > 0.2, "TPE {tpe}, random {random}");
}
