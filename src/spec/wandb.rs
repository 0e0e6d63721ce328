//! Sweep files of Weights & Biases, read as they are and turned into a sweep's section.
//!
//! Source of the grammar: the JSON schema of the package sweeps 0.3.0. What has another meaning here, or none, is noted.

mod distribution;

use std::collections::BTreeMap;

use garde::Validate;

use crate::run::metric::{Direction, MetricKey, Split};
use crate::spec::effect;
use crate::spec::keys::Keys;
use crate::spec::node::{Entry, Kind, Node};
use crate::spec::parse::node_from_yaml;
use crate::spec::problem::{Place, Problem};
use crate::spec::schema::monitor::Monitor;
use crate::spec::schema::sweep::{Asha, Distribution, Method, Sweep};

/// A file's sweep, and what should be known of how it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct WandbSweep {
    pub section: Sweep,
    /// Where the file has each parameter, by the spec's key.
    pub places: BTreeMap<String, Place>,
    pub notes: Vec<String>,
}

/// Keys of a file that say how W&B starts and shows a sweep.
const IGNORED: [&str; 10] =
    ["program", "command", "name", "description", "project", "entity", "controller", "job", "image_uri", "metrics"];

/// Trials where a file draws points and has no `run_cap`: W&B goes on until it is stopped.
const DEFAULT_TRIALS: u32 = 50;

/// Reads a file's text; `maps` are `NAME=KEY` for its parameters and metric.
///
/// Errors: all problems, each with its place in the text.
pub fn read(text: &str, maps: &[String]) -> Result<WandbSweep, Vec<Problem>> {
    let node = node_from_yaml(text).map_err(|problem| vec![problem])?;
    let Kind::Map(entries) = &node.kind else {
        return Err(vec![located(&node, "a sweep file is a map of keys to values", "begin with `method: random`")]);
    };
    let (problems, notes) = (Vec::new(), Vec::new());
    let mut reader = Reader {
        names: names(maps)?,
        keys: Keys::default(),
        taken: BTreeMap::new(),
        seeds: Vec::new(),
        problems,
        notes,
    };
    let section = reader.section(entries);
    if let (Err(report), true) = (section.validate(), reader.problems.is_empty()) {
        let problem = |(path, error): &(garde::Path, garde::Error)| {
            let message = format!("{path}: {error}");
            let place = entries.iter().find(|entry| entry.key == "parameters").map(|entry| entry.key_place.clone());
            Problem { place, ..Problem::new("", message, "the file's values are those of a `sweep:` section here") }
        };
        // Seeds alone are something to try.
        let is_wrong =
            |(path, _): &&(garde::Path, garde::Error)| path.to_string() != "parameters" || section.seeds.is_empty();
        reader.problems.extend(report.iter().filter(is_wrong).map(problem));
    }
    if let Some(name) = reader.names.keys().next() {
        let hint = "leave it out, or write the name as the file does";
        let place = Some(Place::Argument(format!("--map {name}=…")));
        reader.problems.push(Problem { place, ..Problem::new("", format!("the file has no {name}"), hint) });
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let places = reader.taken.into_iter().map(|(key, (_, place))| (key, place)).collect();
    Ok(WandbSweep { section, places, notes: reader.notes })
}

fn names(maps: &[String]) -> Result<BTreeMap<String, String>, Vec<Problem>> {
    let pair = |map: &String| match map.split_once('=') {
        Some((name, key)) if !name.is_empty() && !key.is_empty() => Ok((name.to_owned(), key.to_owned())),
        _ => {
            let place = Some(Place::Argument(format!("--map {map}")));
            let hint = "write --map lr=optimizer.adam.learning_rate";
            Err(vec![Problem { place, ..Problem::new("", "it is no NAME=KEY", hint) }])
        }
    };
    maps.iter().map(pair).collect()
}

fn located(node: &Node, message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { place: Some(node.place.clone()), ..Problem::new("", message, hint) }
}

struct Reader {
    /// Names of the file that have not come up yet, and their keys.
    names: BTreeMap<String, String>,
    keys: Keys,
    /// What the file calls each key that it has, and where.
    taken: BTreeMap<String, (String, Place)>,
    seeds: Vec<u64>,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Reader {
    fn section(&mut self, entries: &[Entry]) -> Sweep {
        let mut section = Sweep {
            method: Method::Grid,
            metric: Monitor::default(),
            parameters: BTreeMap::new(),
            seeds: Vec::new(),
            split_seeds: Vec::new(),
            trials: None,
            seed: 0,
            exclude: Vec::new(),
            asha: None,
        };
        for entry in entries {
            let value = &entry.value;
            match entry.key.as_str() {
                "method" => section.method = self.method(value),
                "metric" => section.metric = self.metric(value),
                "parameters" => self.parameters("", value, &mut section.parameters),
                "early_terminate" => section.asha = self.early_terminate(value),
                "run_cap" => match whole(value) {
                    Some(n) if n > 0 => section.trials = Some(n),
                    _ => self.wrong(value, "`run_cap` is a whole number above 0", "write `run_cap: 20`"),
                },
                key if IGNORED.contains(&key) => self.notes.push(format!("`{key}` is ignored")),
                key => {
                    let hint = "the keys are method, metric, parameters, early_terminate and run_cap";
                    let place = Some(entry.key_place.clone());
                    self.problems.push(Problem { place, ..Problem::new(key, "no key of a sweep file", hint) });
                }
            }
        }
        section.seeds = std::mem::take(&mut self.seeds);
        for key in ["method", "parameters"] {
            if !entries.iter().any(|entry| entry.key == key) {
                let message = format!("the key `{key}` is missing");
                self.problems.push(Problem { place: None, ..Problem::new("", message, format!("add `{key}: …`")) });
            }
        }
        if section.method != Method::Grid && section.trials.is_none() {
            self.notes.push(format!("there is no `run_cap`, without which W&B never ends: {DEFAULT_TRIALS} points"));
            section.trials = Some(DEFAULT_TRIALS);
        }
        section
    }

    fn method(&mut self, node: &Node) -> Method {
        match text(node) {
            Some("grid") => Method::Grid,
            Some("random") => Method::Random,
            Some("bayes") => {
                self.notes.push("`method: bayes` is TPE here, not a Gaussian process".to_owned());
                Method::Tpe
            }
            _ => {
                self.wrong(node, "`method` is none of grid, random and bayes", "`custom` searches are not run here");
                Method::Grid
            }
        }
    }

    fn metric(&mut self, node: &Node) -> Monitor {
        let Kind::Map(entries) = &node.kind else {
            self.wrong(node, "`metric` is a map", "write `metric: { name: valid.loss, goal: minimize }`");
            return Monitor::default();
        };
        let mut monitor = None;
        let mut goal = Direction::Minimize;
        for Entry { key, value, .. } in entries {
            match (key.as_str(), text(value)) {
                ("name", Some(name)) => match self.metric_of(name) {
                    Some(key) => monitor = Some((Monitor(key), value)),
                    None => {
                        let hint = format!("--map {name}=valid.accuracy says which metric it is");
                        self.wrong(value, format!("no metric is called {name}"), hint);
                    }
                },
                ("goal", Some("minimize")) => goal = Direction::Minimize,
                ("goal", Some("maximize")) => goal = Direction::Maximize,
                ("target" | "impute" | "impute_while_running", _) => {
                    self.notes.push(format!("`metric.{key}` is ignored"));
                }
                _ => self.wrong(value, format!("`metric.{key}` is not understood"), "`name` and `goal` are"),
            }
        }
        match monitor {
            Some((monitor, node)) if monitor.key().direction() != goal => {
                let better = if goal == Direction::Minimize { "higher" } else { "lower" };
                let hint = format!("here {} is better when it is {better}; change the goal", monitor.key());
                self.wrong(node, format!("the goal does not go with {}", monitor.key()), hint);
                monitor
            }
            Some((monitor, _)) => monitor,
            None => Monitor::default(),
        }
    }

    /// `val_loss`, `val/acc`, `validation_accuracy`, `valid.loss` and what a map says.
    fn metric_of(&mut self, name: &str) -> Option<MetricKey> {
        if let Some(mapped) = self.names.remove(name) {
            return MetricKey::parse(&mapped).filter(|key| key.split != Split::Test);
        }
        let parts: Vec<&str> = name.split(['.', '_', '/', '-']).collect();
        let (split, measure) = match parts[..] {
            ["val" | "valid" | "validation" | "eval", measure] => ("valid", measure),
            ["train" | "training", measure] => ("train", measure),
            ["loss" | "acc" | "accuracy"] => ("valid", parts[0]),
            _ => return MetricKey::parse(name).filter(|key| key.split != Split::Test),
        };
        let measure = if measure == "acc" { "accuracy" } else { measure };
        let key = MetricKey::parse(&format!("{split}.{measure}"))?;
        if key.to_string() != name {
            self.notes.push(format!("the metric {name} is {key}"));
        }
        Some(key)
    }

    fn early_terminate(&mut self, node: &Node) -> Option<Asha> {
        let json = node.to_json();
        let number = |key: &str| json.get(key).and_then(serde_json::Value::as_u64);
        if json.get("type").and_then(serde_json::Value::as_str) != Some("hyperband") {
            self.wrong(node, "`early_terminate.type` is hyperband", "no other kind is known to W&B either");
            return None;
        }
        let eta = number("eta").unwrap_or(3);
        let min_epochs = match (number("min_iter"), number("max_iter"), number("s")) {
            (Some(least), ..) => least,
            (None, Some(most), Some(s)) => {
                most / eta.max(1).saturating_pow(u32::try_from(s).unwrap_or(u32::MAX)).max(1)
            }
            _ => {
                self.wrong(node, "`early_terminate` needs `min_iter`, or `max_iter` and `s`", "add `min_iter: 3`");
                return None;
            }
        };
        self.notes
            .push("`early_terminate: hyperband` is asynchronous successive halving here, counted in epochs".into());
        if json.get("strict").is_some() {
            self.notes.push("`early_terminate.strict` is ignored".to_owned());
        }
        let fits = |n: u64| u32::try_from(n.max(1)).ok();
        let asha = fits(min_epochs).zip(fits(eta).filter(|eta| *eta >= 2));
        if asha.is_none() {
            self.wrong(node, "`eta` is 2 or more", "its default is 3");
        }
        asha.map(|(min_epochs, reduction_factor)| Asha { min_epochs, reduction_factor })
    }

    /// Parameters of a map; nested ones have dots between their names.
    fn parameters(&mut self, prefix: &str, node: &Node, found: &mut BTreeMap<String, Distribution>) {
        let Kind::Map(entries) = &node.kind else {
            return self.wrong(
                node,
                "`parameters` is a map of names to distributions",
                "write `lr: { values: [0.1] }`",
            );
        };
        for entry in entries {
            let name = if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
            if let Some(nested) = child(&entry.value, "parameters") {
                self.parameters(&name, nested, found);
                continue;
            }
            let Some(key) = self.key_of(&name, entry) else { continue };
            if let Some((other, place)) = self.taken.insert(key.clone(), (name.clone(), entry.key_place.clone())) {
                let hint = "leave one of the two out";
                let of = |place, name: &str, other: &str| Problem {
                    place: Some(place),
                    ..Problem::new("", format!("{name} and {other} are both {key}"), hint)
                };
                self.problems.extend([of(place, &other, &name), of(entry.key_place.clone(), &name, &other)]);
            }
            match distribution::read(&entry.value) {
                Ok(distribution) if key == "seed" => self.seeds(&entry.value, &distribution),
                Ok(distribution) => drop(found.insert(key, distribution)),
                Err(message) => {
                    let hint = "such as `values: [1, 2]`, `min: 0.1, max: 1.0` or `distribution: log_uniform_values`";
                    self.wrong(&entry.value, format!("{name}: {message}"), hint);
                }
            }
        }
    }

    /// A seed is no choice: every point is run with each of them.
    fn seeds(&mut self, node: &Node, distribution: &Distribution) {
        let seeds: Option<Vec<u64>> =
            distribution.values.as_ref().and_then(|values| values.iter().map(serde_json::Value::as_u64).collect());
        match seeds {
            Some(seeds) => {
                let listed = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                self.notes.push(format!("`seed` is no choice: every point is run with the seeds {listed}"));
                self.seeds = seeds;
            }
            None => {
                let hint = "as in `seed: { values: [0, 1, 2] }`, with which every point is run";
                self.wrong(node, "`seed` is no choice that could be drawn: list whole numbers", hint);
            }
        }
    }

    /// The key that a parameter means: what a map says, or the name itself.
    fn key_of(&mut self, name: &str, entry: &Entry) -> Option<String> {
        if let Some(key) = self.names.remove(name) {
            return Some(key);
        }
        let path: Vec<&str> = name.split('.').collect();
        let (last, parent) = path.split_last()?;
        if self.keys.names(parent).contains(last) {
            return Some(name.to_owned());
        }
        let home = self.likely_key(last, parent);
        let hint = format!("say which key it is: --map {name}={home}");
        let place = Some(entry.key_place.clone());
        self.problems.push(Problem { place, ..Problem::new("", format!("{name} is no key of a spec"), hint) });
        None
    }

    /// The key that a name of another program may mean: one of this name where something depends on it, below the same
    /// map if there is one; or the map itself, whose choice has a name (`optimizer.name`).
    fn likely_key(&self, last: &str, parent: &[&str]) -> String {
        let under = parent.join(".");
        let key = |home: &String| if home.is_empty() { last.to_owned() } else { format!("{home}.{last}") };
        let has_effect = |key: &String| {
            !effect::is_without_effect(key)
                && !key.starts_with("plan.")
                && !["seed", "data.split_seed"].contains(&&**key)
        };
        let keys: Vec<String> = self.keys.homes(last).iter().map(key).filter(has_effect).collect();
        let below = keys.iter().find(|key| !under.is_empty() && key.starts_with(&format!("{under}.")));
        let is_map = parent.split_last().is_some_and(|(name, above)| self.keys.names(above).contains(name));
        match (below, &keys[..]) {
            (Some(key), _) => key.clone(),
            (None, _) if is_map && ["name", "type", "kind", "class"].contains(&last) => under,
            (None, [key, ..]) => key.clone(),
            (None, []) => "optimizer.adam.learning_rate".to_owned(),
        }
    }

    fn wrong(&mut self, node: &Node, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(located(node, message, hint));
    }
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Kind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

fn text(node: &Node) -> Option<&str> {
    if let Kind::Text(text) = &node.kind { Some(text) } else { None }
}

fn whole(node: &Node) -> Option<u32> {
    let Kind::Number(number) = &node.kind else { return None };
    number.as_u64().and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests;
