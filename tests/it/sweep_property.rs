//! Sweeps that nobody thought of: grids over nested, overlapping, conditional, planned and seeded keys are drawn, and every
//! trial's spec is held against its label, by what the spec says of each epoch and nothing that the check itself uses.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use xp::run::id::RunId;
use xp::run::sweep::TrialKey;
use xp::spec::LoadedSpec;
use xp::spec::fingerprint::resolved;
use xp::spec::schema::sweep::Sweep;
use xp::sweep::labels::{self, Labels};
use xp::sweep::point::Point;
use xp::sweep::search::Space;
use xp::sweep::specs::Specs;

const N_SWEEPS: u64 = 200;

/// Keys that a sweep may try, with values that differ.
fn pool() -> Vec<(&'static str, Value)> {
    vec![
        ("model.frozen_layers", json!(["all", "none", { "stages": 3 }])),
        ("optimizer", json!([{ "sgd": { "learning_rate": 0.1 } }, { "adam": {} }])),
        ("optimizer.adam.learning_rate", json!([0.001, 0.01])),
        ("optimizer.sgd.learning_rate", json!([0.2, 0.3])),
        ("optimizer.sgd.momentum", json!([0.0, 0.9])),
        ("epochs", json!([4, 5])),
        ("data.batch_size", json!([2, 4])),
        ("learning_rates", json!([{ "head": 0.5 }, {}])),
        ("learning_rates.head", json!([0.25, 0.75])),
        ("plan.0.learning_rate", json!([0.4, 0.6])),
        ("plan.1.frozen_layers", json!(["none", { "stages": 2 }])),
        ("plan", json!([[{ "epochs": 3, "learning_rate": 0.7 }], []])),
        ("schedule", json!(["constant", { "cosine": {} }])),
        ("seed", json!([1, 2])),
        ("name", json!(["a", "b"])),
    ]
}

const BASES: [&str; 4] = [
    "",
    "learning_rates: { head: 0.125 }\n",
    "plan: [{ epochs: 1, frozen_layers: all, learning_rate: 0.1 }, { epochs: 2, frozen_layers: { stages: 4 }, learning_rate: 0.2 }]\n",
    "plan: [{ epochs: 1, frozen_layers: all }, { epochs: 2, learning_rate: { head: 0.2 } }]\n",
];

/// A small generator: any of `n`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn section(dice: &mut Dice) -> Sweep {
    let pool = pool();
    let mut parameters: Map<String, Value> = Map::new();
    for _ in 0..=dice.roll(3) {
        let (key, values) = &pool[dice.roll(pool.len() as u64) as usize];
        parameters.insert((*key).to_owned(), json!({ "values": values }));
    }
    let keys: Vec<String> = parameters.keys().cloned().collect();
    for key in &keys {
        let other = &keys[dice.roll(keys.len() as u64) as usize];
        if other != key && dice.roll(2) == 0 {
            let values = parameters[other]["values"].as_array().unwrap().clone();
            let value = values[dice.roll(values.len() as u64) as usize].clone();
            parameters[key]["when"] = json!({ other.as_str(): value });
        }
    }
    serde_json::from_value(json!({ "parameters": parameters, "seeds": [3, 4] })).unwrap()
}

/// What each epoch trains with, read from the complete spec: layers, optimizer, the rates of all and of the head.
fn epochs(spec: &Value) -> Vec<Value> {
    let plan = spec["plan"].as_array().cloned().unwrap_or_default();
    let (optimizer, settings) = spec["optimizer"].as_object().unwrap().iter().next().unwrap();
    let mut ends: Vec<u64> = plan
        .iter()
        .scan(0, |end, step| {
            *end += step["epochs"].as_u64().unwrap();
            Some(*end)
        })
        .collect();
    if let Some(last) = ends.last_mut() {
        *last = u64::MAX;
    }
    let n_epochs = spec["epochs"].as_u64().unwrap();
    let of = |epoch: u64| {
        let step = ends.iter().position(|end| epoch <= *end).map_or(&Value::Null, |step| &plan[step]);
        let frozen =
            if step["frozen_layers"].is_null() { &spec["model"]["frozen_layers"] } else { &step["frozen_layers"] };
        let own = settings["learning_rate"].as_f64().unwrap();
        let head = |rates: &Value| rates["head"].as_f64();
        let (rate, head) = match &step["learning_rate"] {
            Value::Number(rate) => (rate.as_f64().unwrap(), None),
            Value::Null => (own, head(&spec["learning_rates"])),
            parts => (own, head(parts)),
        };
        json!([
            frozen,
            optimizer,
            settings["momentum"],
            rate,
            head,
            spec["schedule"],
            spec["data"]["batch_size"],
            spec["seed"],
            n_epochs
        ])
    };
    (1..=n_epochs).map(of).collect()
}

/// Whether some epoch trains with what a label says of a key.
fn is_true(spec: &Value, key: &str, value: &Value) -> bool {
    let same = |a: &Value, b: &Value| a == b || (a.is_number() && a.as_f64() == b.as_f64());
    let optimizer = |name: &str| &spec["optimizer"][name];
    let in_some = |place: usize, value: &Value| epochs(spec).iter().any(|epoch| same(&epoch[place], value));
    let part = |of: &Value, says: &Value| says.as_object().unwrap().iter().all(|(name, says)| same(&of[name], says));
    match key {
        "model.frozen_layers" => same(&spec["model"]["frozen_layers"], value) && in_some(0, value),
        "optimizer" => {
            let (name, settings) = value.as_object().unwrap().iter().next().unwrap();
            !optimizer(name).is_null() && part(optimizer(name), settings)
        }
        "optimizer.adam.learning_rate" => same(&optimizer("adam")["learning_rate"], value) && in_some(3, value),
        "optimizer.sgd.learning_rate" => same(&optimizer("sgd")["learning_rate"], value) && in_some(3, value),
        "optimizer.sgd.momentum" => same(&optimizer("sgd")["momentum"], value),
        "epochs" => same(&spec["epochs"], value),
        "data.batch_size" => same(&spec["data"]["batch_size"], value),
        "learning_rates" => value["head"].is_null() || in_some(4, &value["head"]),
        "learning_rates.head" => in_some(4, value),
        "plan.0.learning_rate" => same(&spec["plan"][0]["learning_rate"], value),
        "plan.1.frozen_layers" => same(&spec["plan"][1]["frozen_layers"], value),
        "plan" => spec["plan"].as_array().map_or(0, Vec::len) == value.as_array().unwrap().len(),
        "schedule" => match value {
            Value::String(name) => spec["schedule"] == name.as_str(),
            map => !spec["schedule"][map.as_object().unwrap().keys().next().unwrap()].is_null(),
        },
        other => panic!("{other} may not be tried"),
    }
}

/// Whether all points are what they say and no two train the same.
fn is_sound(specs: &Specs, points: &[Point]) -> bool {
    let mut seen = BTreeSet::new();
    points.iter().all(|point| {
        let spec = resolved(&specs.of_point(point).unwrap().spec);
        let is_new = seen.insert(json!(epochs(&spec)).to_string());
        is_new && point.values.iter().all(|(key, value)| is_true(&spec, key, value))
    })
}

#[test]
fn every_label_of_a_drawn_sweep_is_what_its_trial_trains_with() {
    let (mut n_run, mut n_refused) = (0, 0);
    for seed in 0..N_SWEEPS {
        let mut dice = Dice(seed);
        let section = section(&mut dice);
        let base = BASES[dice.roll(BASES.len() as u64) as usize];
        let epochs_of_spec = if base.starts_with("plan") { "" } else { "epochs: 3\n" };
        let yaml = format!(
            "name: a\nseed: 7\ndata: {{ train: t, valid: v, image_size: 8 }}\nmodel: {{ backbone: efficientnet_lite0 }}\noptimizer: {{ adam: {{ learning_rate: 0.5 }} }}\n{base}{epochs_of_spec}"
        );
        let specs = Specs::of_text("a.yaml".as_ref(), &yaml, &[], &section);
        // Keys that are no choice, and keys within each other, need no spec to be refused.
        let Ok(space) = Space::new(&section) else {
            n_refused += 1;
            continue;
        };
        let labels = Labels::of(specs.clone());
        let points = space.planned(&section, &labels);
        // A value that is out of its range, or a plan's step that is not there, is an error of the spec.
        let is_in_range = |point: &Point| specs.of_point(point).is_ok_and(|loaded| loaded.out_of_range().is_empty());
        let Ok(problems) = labels::problems((&specs, &labels), &section, &space, &points)
            .map_err(drop)
            .and_then(|problems| if points.iter().all(is_in_range) { Ok(problems) } else { Err(()) })
        else {
            n_refused += 1;
            continue;
        };
        let never_tried =
            section.parameters.keys().any(|key| !points.iter().any(|point| point.values.contains_key(key)));
        assert_eq!(
            problems.is_empty(),
            is_sound(&specs, &points) && !never_tried,
            "{seed}: {section:#?}\n{base}\n{problems:#?}"
        );
        if !problems.is_empty() {
            n_refused += 1;
            continue;
        }
        n_run += 1;
        for point in &points {
            let key = TrialKey { sweep: RunId::from_stored("S".to_owned()), point: 0, split_seed: Some(5), seed: 3 };
            let record = resolved(&specs.of_trial(point, &key, &[]).unwrap().spec);
            assert_eq!((record["seed"].as_u64(), record["data"]["split_seed"].as_u64()), (Some(3), Some(5)));
            assert!(specs.are_in(&record.to_string(), point, &key), "{seed}: {point}");
            // Any other record is not the label's.
            let other = TrialKey { seed: 4, ..key };
            assert!(!specs.are_in(&record.to_string(), point, &other), "{seed}: {point}");
            for another in points.iter().filter(|another| *another != point) {
                assert!(
                    !specs.are_in(&record.to_string(), another, &TrialKey { seed: 3, ..other.clone() }),
                    "{another}"
                );
            }
        }
    }
    assert!(n_run > N_SWEEPS / 6 && n_refused > N_SWEEPS / 6, "{n_run} were run and {n_refused} refused");
    // The generator's specs are specs.
    assert!(LoadedSpec::from_text("a.yaml".as_ref(), "name: a".to_owned(), &[]).is_err());
}
