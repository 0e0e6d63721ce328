//! Which point to try next: a function of the sweep's section and of what was tried before.

mod grid;
mod random;
mod tpe;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use crate::run::draw::{Address, Draws, Purpose};
use crate::spec::effect;
use crate::spec::keys::lies_in;
use crate::spec::schema::sweep::{Distribution, Method, Sweep};
use crate::sweep::domain::Domain;
use crate::sweep::labels::Labels;
use crate::sweep::point::Point;

/// A point that was suggested, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    pub point: Point,
    /// The metric, the mean over seeds; `None` while it runs and where it failed.
    pub value: Option<f64>,
}

/// A sweep's parameters, those that others depend on first.
#[derive(Clone, Debug)]
pub struct Space {
    parameters: Vec<Parameter>,
    exclude: Vec<BTreeMap<String, Value>>,
}

#[derive(Clone, Debug)]
struct Parameter {
    key: String,
    domain: Domain,
    when: BTreeMap<String, Value>,
}

/// What is wrong with one key of a sweep's section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceProblem {
    /// Dotted, below `sweep`; `parameters.<key>` where it is about one; with a slash before it, one of the spec itself.
    pub key: String,
    pub message: String,
    pub hint: String,
}

impl SpaceProblem {
    /// One that is about a key which the sweep tries.
    pub fn of_key(key: &str, message: String, hint: String) -> Self {
        Self { key: format!("parameters.{key}"), message, hint }
    }
}

/// Draws of a point that is excluded or was tried before, until the space counts as exhausted.
const MAX_REDRAWS: u32 = 1000;

/// Drawn points that stand for all.
const N_SAMPLED: u32 = 16;

/// Combinations of a grid.
const MAX_GRID: usize = 100_000;

impl Space {
    /// Errors: all problems of the section that can be seen without the rest of the spec.
    pub fn new(section: &Sweep) -> Result<Self, Vec<SpaceProblem>> {
        let mut problems = Vec::new();
        let mut parameters = Vec::new();
        for (key, distribution) in &section.parameters {
            let at = format!("parameters.{key}");
            let problem =
                |message: String, hint: &str| SpaceProblem { key: at.clone(), message, hint: hint.to_owned() };
            if let Some(other) = distribution.when.keys().find(|other| !section.parameters.contains_key(*other)) {
                let message = format!("`when` names {other}, which this sweep does not try");
                problems.push(problem(message, "name another key of `parameters`"));
            }
            if let Some((message, hint)) = no_choice(key, distribution) {
                problems.push(problem(message, &hint));
                continue;
            }
            match Domain::of(distribution) {
                Ok(domain) if section.method == Method::Grid && domain.all().is_none() => {
                    let message = "a grid needs values that can be counted".to_owned();
                    problems.push(problem(message, "give `values`, or a `step`, or use `method: random`"));
                }
                Ok(domain) => {
                    parameters.push(Parameter { key: key.clone(), domain, when: distribution.when.clone() });
                }
                Err(message) => problems.push(problem(message, "as in `{ min: 1.0e-5, max: 1.0e-2, log: true }`")),
            }
        }
        problems.extend(nested(section));
        if section.method != Method::Grid && section.trials.is_none() {
            let (key, message) = ("trials".to_owned(), "says how many points to draw, and is missing".to_owned());
            problems.push(SpaceProblem { key, message, hint: "add `trials: 20`".to_owned() });
        }
        for (i, values) in section.exclude.iter().enumerate() {
            for key in values.keys().filter(|key| !section.parameters.contains_key(*key)) {
                let (at, message) = (format!("exclude[{i}]"), format!("names {key}, which this sweep does not try"));
                problems.push(SpaceProblem { key: at, message, hint: "name keys of `parameters`".to_owned() });
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let parameters = conditions_first(parameters).map_err(|keys| {
            let message = format!("{} depend on each other by `when`", keys.join(", "));
            vec![SpaceProblem { key: "parameters".to_owned(), message, hint: "take one `when` away".to_owned() }]
        })?;
        let space = Self { parameters, exclude: section.exclude.clone() };
        let n = space.parameters.iter().filter_map(|parameter| Some(parameter.domain.all()?.len()));
        let n_grid = n.fold(1_usize, usize::saturating_mul);
        if section.method == Method::Grid && n_grid > MAX_GRID {
            let message = format!("the grid has {n_grid} combinations, more than {MAX_GRID}");
            let hint = "use `method: random` or `tpe` with `trials`".to_owned();
            return Err(vec![SpaceProblem { key: "parameters".to_owned(), message, hint }]);
        }
        Ok(space)
    }

    /// The point that is tried after these; `None` when there is none left.
    ///
    /// A drawn point that trains the same as an earlier one is drawn again.
    pub fn next(&self, section: &Sweep, history: &[Tried], labels: &Labels) -> Option<Point> {
        if section.trials.is_some_and(|trials| history.len() >= trials as usize) {
            return None;
        }
        let known = || history.iter().map(|tried| labels.effect(&tried.point)).collect();
        match section.method {
            Method::Grid => grid::next(self, history),
            Method::Random => self.drawn(section, history.len(), labels, &known()),
            Method::Tpe => {
                let direction = section.metric.key().direction();
                let draw = |attempt| tpe::point(self, section.seed, direction, history, attempt);
                self.first_new(labels, &known(), draw)
            }
        }
    }

    /// The points that will be tried, as far as they do not depend on what comes out.
    pub fn planned(&self, section: &Sweep, labels: &Labels) -> Vec<Point> {
        let n_most = section.trials.map_or(usize::MAX, |trials| trials as usize);
        match section.method {
            Method::Grid => grid::all(self).into_iter().take(n_most).collect(),
            Method::Random => {
                let (mut points, mut known) = (Vec::new(), HashSet::new());
                while points.len() < n_most
                    && let Some(point) = self.drawn(section, points.len(), labels, &known)
                {
                    known.insert(labels.effect(&point));
                    points.push(point);
                }
                points
            }
            Method::Tpe => Vec::new(),
        }
    }

    /// All combinations of a grid, and of what is drawn the first points, whatever came out before them.
    pub fn sample(&self, section: &Sweep, labels: &Labels) -> Vec<Point> {
        let method = if section.method == Method::Tpe { Method::Random } else { section.method };
        let trials = (method == Method::Random).then_some(N_SAMPLED);
        self.planned(&Sweep { method, trials, ..section.clone() }, labels)
    }

    /// The random point of a place among the points.
    fn drawn(&self, section: &Sweep, place: usize, labels: &Labels, known: &HashSet<String>) -> Option<Point> {
        self.first_new(labels, known, |attempt| random::point(self, section.seed, place, attempt))
    }

    /// The values of some keys, or their ends, each as a point of its own.
    pub fn ends(&self, is_meant: impl Fn(&str) -> bool) -> Vec<Point> {
        let meant = self.parameters.iter().filter(|parameter| is_meant(&parameter.key));
        let point = |key: &str, value| Point { values: [(key.to_owned(), value)].into() };
        meant.flat_map(|parameter| parameter.domain.ends().into_iter().map(|end| point(&parameter.key, end))).collect()
    }

    /// The first of the drawn points that is allowed and trains otherwise than those that are known.
    fn first_new(&self, labels: &Labels, known: &HashSet<String>, draw: impl Fn(u32) -> Point) -> Option<Point> {
        (0..MAX_REDRAWS).map(draw).find(|point| self.allows(point) && !known.contains(&labels.effect(point)))
    }

    fn allows(&self, point: &Point) -> bool {
        !self.exclude.iter().any(|values| point.has(values))
    }

    /// A point whose keys get their values one after the other, where their conditions hold.
    fn point(&self, mut value_of: impl FnMut(&Parameter) -> Value) -> Point {
        let mut point = Point::default();
        for parameter in &self.parameters {
            if point.has(&parameter.when) {
                point.values.insert(parameter.key.clone(), value_of(parameter));
            }
        }
        point
    }
}

/// Why a key cannot be tried, and what to do instead.
fn no_choice(key: &str, distribution: &Distribution) -> Option<(String, String)> {
    let n_values = distribution.values.as_ref().map_or(2, Vec::len);
    match key {
        "seed" => Some((
            "is no choice: every point is run with the same seeds".to_owned(),
            "write `sweep: { seeds: [1, 2, 3] }`; the points are ranked by their means".to_owned(),
        )),
        "data.split_seed" => Some((
            "is no choice: a split that suits a point says nothing of the point".to_owned(),
            "write `sweep: { split_seeds: [0, 1, 2] }`; every point is run on every split".to_owned(),
        )),
        "checkpoint" | "checkpoint.monitor" => Some((
            "is no choice: the metric that ranks points decides which epoch a trial keeps".to_owned(),
            "write `sweep: { metric: … }`".to_owned(),
        )),
        key if effect::is_without_effect(key) && (n_values > 1 || key == "name" || key.starts_with("sweep")) => {
            Some(("changes nothing that trains".to_owned(), "leave it out of the sweep".to_owned()))
        }
        _ => None,
    }
}

/// Keys that lie in one another, but for those whose condition makes them a part of the other's value.
fn nested(section: &Sweep) -> Vec<SpaceProblem> {
    let pairs = section.parameters.iter().flat_map(|(inner, distribution)| {
        let outer = section.parameters.keys().filter(|outer| lies_in(inner, outer));
        outer.filter(|outer| !is_part(inner, outer, distribution)).map(move |outer| (inner, outer))
    });
    let both = pairs.flat_map(|(inner, outer)| {
        let part = inner[outer.len() + 1..].split('.').next().unwrap_or_default();
        let hint = format!("give it `when: {{ {outer}: {part} }}`, or leave one of the two out");
        [
            SpaceProblem::of_key(
                inner,
                format!("lies in {outer}, which the sweep tries too: one undoes the other"),
                hint,
            ),
            SpaceProblem::of_key(outer, format!("has {inner} in it, which the sweep tries too"), String::new()),
        ]
    });
    both.collect()
}

/// Whether the inner key is there only where the outer one is the name of what it is in: `optimizer: adam` for
/// `optimizer.adam.learning_rate`.
fn is_part(inner: &str, outer: &str, distribution: &Distribution) -> bool {
    let rest: Vec<&str> = inner[outer.len() + 1..].split('.').collect();
    let is_name = |value: &Value| value.as_str() == Some(rest[0]) || leaves_open(value, &rest);
    match distribution.when.get(outer) {
        Some(Value::Array(values)) => !values.is_empty() && values.iter().all(is_name),
        Some(value) => is_name(value),
        None => false,
    }
}

/// Whether a value is a map on the way to a key, and says nothing of the key itself.
fn leaves_open(value: &Value, path: &[&str]) -> bool {
    match (value.as_object(), path) {
        (Some(map), [first, rest @ ..]) if !rest.is_empty() => map.get(*first).is_some_and(|value| {
            value.as_object().is_some_and(|map| !map.contains_key(rest[0])) || leaves_open(value, rest)
        }),
        _ => false,
    }
}

/// The numbers that a point's key is drawn from.
fn draws(seed: u64, place: usize, attempt: u32, key: &str) -> Draws {
    Draws::at(Address { seed, epoch: attempt, sample: place as u64, purpose: Purpose::SweepPoint, name: key })
}

/// Orders parameters so that each comes after those that its condition names. Errors: the keys that go in a circle.
fn conditions_first(mut waiting: Vec<Parameter>) -> Result<Vec<Parameter>, Vec<String>> {
    let mut ordered: Vec<Parameter> = Vec::new();
    let mut known = BTreeSet::new();
    while !waiting.is_empty() {
        let (ready, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|parameter| parameter.when.keys().all(|key| known.contains(key)));
        if ready.is_empty() {
            return Err(later.into_iter().map(|parameter| parameter.key).collect());
        }
        known.extend(ready.iter().map(|parameter| parameter.key.clone()));
        ordered.extend(ready);
        waiting = later;
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests;
