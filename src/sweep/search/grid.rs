//! All combinations, in order.

use crate::sweep::point::Point;
use crate::sweep::search::{Space, Tried};

/// The first combination that was not tried.
pub(super) fn next(space: &Space, history: &[Tried]) -> Option<Point> {
    all(space).into_iter().find(|point| !history.iter().any(|tried| tried.point == *point))
}

/// All combinations that are allowed; the last key changes fastest, and keys whose condition does not hold are left out.
pub(super) fn all(space: &Space) -> Vec<Point> {
    let mut points = vec![Point::default()];
    for parameter in &space.parameters {
        let values = parameter.domain.all().expect("a grid's values can be counted");
        points = points
            .into_iter()
            .flat_map(|point| {
                let choices = if point.has(&parameter.when) { &values[..] } else { &[] };
                let with = |value: &serde_json::Value| {
                    let mut point = point.clone();
                    point.values.insert(parameter.key.clone(), value.clone());
                    point
                };
                if choices.is_empty() { vec![point] } else { choices.iter().map(with).collect() }
            })
            .collect();
    }
    points.retain(|point| space.allows(point));
    points
}
