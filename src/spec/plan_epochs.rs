//! A plan's steps say how long the training is where `epochs` does not.

use crate::spec::node::{Entry, Kind, Node};

/// Adds `epochs`, the sum of the plan's, where it is left out. What is no number is for later checks.
pub fn fill_in(spec: &mut Node) {
    let Kind::Map(entries) = &mut spec.kind else { return };
    let find = |key: &str| entries.iter().find(|entry| entry.key == key);
    let (Some(plan), None) = (find("plan"), find("epochs")) else { return };
    let Kind::List(steps) = &plan.value.kind else { return };
    let epochs = steps.iter().map(|step| match &step.kind {
        Kind::Map(entries) => entries.iter().find(|entry| entry.key == "epochs").map(|entry| &entry.value.kind),
        _ => None,
    });
    let of_step = |kind: Option<&Kind>| match kind {
        Some(Kind::Number(number)) => number.as_u64(),
        _ => None,
    };
    let Some(total) = epochs.map(of_step).try_fold(0_u64, |total, epochs| total.checked_add(epochs?)) else { return };
    let place = plan.value.place.clone();
    let value = Node { kind: Kind::Number(total.into()), place: place.clone() };
    entries.push(Entry { key: "epochs".to_owned(), key_place: place, value });
}
