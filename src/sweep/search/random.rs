//! Each key drawn on its own.

use serde_json::Value;

use crate::run::draw::Draws;
use crate::sweep::domain::Domain;
use crate::sweep::point::Point;
use crate::sweep::search::{Space, draws};

/// The draw for a place among the points.
pub(super) fn point(space: &Space, seed: u64, place: usize, attempt: u32) -> Point {
    space.point(|parameter| value(&parameter.domain, &mut draws(seed, place, attempt, &parameter.key)))
}

fn value(domain: &Domain, draws: &mut Draws) -> Value {
    match domain {
        Domain::Values { values, weights } => {
            let mut left = draws.unit() * weights.iter().sum::<f64>();
            let place = weights.iter().position(|weight| {
                left -= weight;
                left < 0.0
            });
            values[place.unwrap_or(values.len() - 1)].clone()
        }
        Domain::Range { .. } => {
            let [min, max] = domain.bounds();
            domain.at(min + (max - min) * draws.unit())
        }
        Domain::Normal { mean, std, .. } => domain.at(mean + std * draws.normal()),
    }
}
