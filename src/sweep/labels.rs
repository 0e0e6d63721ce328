//! Whether the points of a sweep are what their labels say, found out before the first trial: no key undoes another, and no
//! two points train the same.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::spec::effect;
use crate::spec::keys::lies_in;
use crate::spec::problem::SpecError;
use crate::spec::schema::Spec;
use crate::spec::schema::sweep::{Method, Sweep};
use crate::sweep::point::Point;
use crate::sweep::search::{Space, SpaceProblem};
use crate::sweep::specs::Specs;

/// Problems that are told; of more nobody reads on.
const MAX_PROBLEMS: usize = 8;

/// Tells points apart by what their specs come to.
#[derive(Clone, Debug)]
pub struct Labels {
    specs: Option<Specs>,
    known: RefCell<HashMap<String, String>>,
}

impl Labels {
    pub fn of(specs: Specs) -> Self {
        Self { specs: Some(specs), known: RefCell::default() }
    }

    /// Points that differ are taken to train differently.
    pub fn as_written() -> Self {
        Self { specs: None, known: RefCell::default() }
    }

    /// Equal for points that train the same.
    pub fn effect(&self, point: &Point) -> String {
        let Some(specs) = &self.specs else { return point.json() };
        // What cannot be read is its trial's own failure.
        self.known_or(point, |label| {
            specs.of_point(point).map_or_else(|_| label.to_owned(), |loaded| hash(&loaded.spec))
        })
    }

    /// The same of a point whose spec is read already.
    fn effect_of(&self, point: &Point, spec: &Spec) -> String {
        self.known_or(point, |_| hash(spec))
    }

    fn known_or(&self, point: &Point, effect: impl FnOnce(&str) -> String) -> String {
        let label = point.json();
        let known = self.known.borrow().get(&label).cloned();
        known.unwrap_or_else(|| {
            let effect = effect(&label);
            self.known.borrow_mut().insert(label, effect.clone());
            effect
        })
    }
}

fn hash(spec: &Spec) -> String {
    blake3::hash(effect::of(spec).to_string().as_bytes()).to_hex().to_string()
}

/// What is wrong with the labels of these points; each problem has the key that it is about.
///
/// Errors: a point's spec cannot be read.
pub fn problems(
    (specs, labels): (&Specs, &Labels),
    section: &Sweep,
    space: &Space,
    points: &[Point],
) -> Result<Vec<SpaceProblem>, SpecError> {
    let mut problems = Vec::new();
    if section.method == Method::Grid {
        // All of the grid, also where only a part of it is tried.
        let points = space.sample(section, labels);
        let keys = section.parameters.keys().filter(|key| !points.iter().any(|point| point.values.contains_key(*key)));
        problems.extend(keys.map(|key| {
            let hint = "name values of the other key as `values` has them".to_owned();
            SpaceProblem::of_key(key, "is tried at no point: its `when` never holds".to_owned(), hint)
        }));
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (place, point) in points.iter().enumerate() {
        let loaded = specs.of_point(point)?;
        if let Some(set) = specs.lost_argument(&loaded, section) {
            let message = format!("takes the place of `--set {set}` in the point {point}");
            let hint = "leave the argument out, or set `sweep.…`".to_owned();
            add(&mut problems, vec![SpaceProblem { key: "parameters".to_owned(), message, hint }]);
        }
        for (key, _) in point.values.iter().filter(|(key, value)| !loaded.holds(key, value)) {
            add(&mut problems, undone(specs, point, key));
        }
        let (effect, has_no_plan) = (labels.effect_of(point, &loaded.spec), loaded.spec.plan.is_empty());
        for key in point.values.keys().filter(|key| changes_nothing(labels, space, point, key)) {
            add(&mut problems, without_effect(key, &format!(" in the point {point}"), has_no_plan));
        }
        match seen.get(&effect) {
            Some(first) => add(&mut problems, same(&points[*first], point, has_no_plan)),
            None => drop(seen.insert(effect, place)),
        }
        if problems.len() >= MAX_PROBLEMS {
            break;
        }
    }
    Ok(problems)
}

/// What is said of a key is said once, and so is where the other one stands.
fn add(problems: &mut Vec<SpaceProblem>, found: Vec<SpaceProblem>) {
    for problem in found {
        if !problems.iter().any(|known| known.key == problem.key) {
            problems.push(problem);
        }
    }
}

/// A key whose value is not in the spec, and the one that took its place.
fn undone(specs: &Specs, point: &Point, key: &str) -> Vec<SpaceProblem> {
    let holds_without = |other: &str| {
        let mut rest = point.clone();
        rest.values.remove(other);
        specs.of_point(&rest).is_ok_and(|loaded| loaded.holds(key, &point.values[key]))
    };
    let culprit = point.values.keys().find(|other| *other != key && holds_without(other));
    let hint = "give one of them `when: { OTHER: VALUE }`, so that they do not meet, or leave it out".to_owned();
    let problem = |key: &str, message: String| SpaceProblem::of_key(key, message, hint.clone());
    match culprit {
        Some(other) => vec![
            problem(key, format!("{other} undoes it in the point {point}")),
            problem(other, format!("undoes {key} in the point {point}")),
        ],
        None => vec![problem(key, format!("has no effect in the point {point}: the spec does not come to it"))],
    }
}

/// Whether a point trains the same with every other value that a key may have.
fn changes_nothing(labels: &Labels, space: &Space, point: &Point, key: &str) -> bool {
    let with = |mut other: Point| {
        let value = other.values.remove(key).expect("it is a point of this key alone");
        let mut changed = point.clone();
        changed.values.insert(key.to_owned(), value);
        // Keys in it belong to its value; others stay, also where they are there on its condition.
        changed.values.retain(|other, _| !lies_in(other, key));
        changed
    };
    let mut others = space.ends(|other| other == key).into_iter().map(with).filter(|other| other != point).peekable();
    others.peek().is_some() && others.all(|other| labels.effect(&other) == labels.effect(point))
}

/// A key that changes nothing, and the plan where that says why.
fn without_effect(key: &str, means: &str, has_no_plan: bool) -> Vec<SpaceProblem> {
    let hint = if has_no_plan {
        "leave it out, or let `when` or `exclude` leave out the points where it changes nothing"
    } else {
        "the steps of the plan say it for every epoch: leave it out of them, or out of the sweep"
    };
    let problem = SpaceProblem::of_key(key, format!("has no effect{means}"), hint.to_owned());
    let plan = (!has_no_plan).then(|| {
        let message = format!("says for every epoch what {key} says");
        SpaceProblem { key: "/plan".to_owned(), message, hint: String::new() }
    });
    std::iter::once(problem).chain(plan).collect()
}

/// Two points that train the same, by the keys in which their labels differ.
pub fn same(first: &Point, second: &Point, has_no_plan: bool) -> Vec<SpaceProblem> {
    let keys = first.values.keys().chain(second.values.keys());
    let mut differing: Vec<&String> = keys.filter(|key| first.values.get(*key) != second.values.get(*key)).collect();
    differing.sort();
    differing.dedup();
    let means = format!(": the points {first} and {second} train the same");
    differing.into_iter().flat_map(|key| without_effect(key, &means, has_no_plan)).collect()
}
