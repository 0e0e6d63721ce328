//! Tree-structured Parzen estimators, a key at a time.

use std::convert::Infallible;

use tpe::{TpeOptimizer, categorical_range, histogram_estimator, parzen_estimator, range};

use crate::run::draw::Draws;
use crate::run::metric::Direction;
use crate::sweep::domain::Domain;
use crate::sweep::point::Point;
use crate::sweep::search::{Space, Tried, draws, random};

/// Points that are drawn at random before the estimators have something to go by.
const N_RANDOM: usize = 8;

/// The point that the earlier ones make most promising; running and failed ones count as the worst, so that it keeps away
/// from them.
pub(super) fn point(space: &Space, seed: u64, direction: Direction, history: &[Tried], attempt: u32) -> Point {
    let place = history.len();
    if history.iter().filter(|tried| loss(direction, tried).is_some()).count() < N_RANDOM {
        return random::point(space, seed, place, attempt);
    }
    let worst = history.iter().filter_map(|tried| loss(direction, tried)).fold(f64::NEG_INFINITY, f64::max);
    space.point(|parameter| {
        let (key, domain) = (&parameter.key, &parameter.domain);
        let told = history.iter().map(|tried| {
            // A key that a point has not is no number to the estimators.
            let coordinate = tried.point.values.get(key).and_then(|value| domain.coordinate(value));
            (coordinate.unwrap_or(f64::NAN), loss(direction, tried).unwrap_or(worst))
        });
        domain.at(suggestion(domain, told, draws(seed, place, attempt, key)))
    })
}

/// What is to be small; `None` where nothing is known.
fn loss(direction: Direction, tried: &Tried) -> Option<f64> {
    let value = tried.value.filter(|value| value.is_finite())?;
    Some(if direction == Direction::Minimize { value } else { -value })
}

fn suggestion(domain: &Domain, told: impl Iterator<Item = (f64, f64)>, draws: Draws) -> f64 {
    let mut draws = Stream(draws);
    let [min, max] = domain.bounds();
    if let Domain::Values { values, .. } = domain {
        let categories = categorical_range(values.len()).expect("a list has values");
        let mut optimizer = TpeOptimizer::new(histogram_estimator(), categories);
        told.for_each(|(coordinate, loss)| optimizer.tell(coordinate, loss).expect("an index is in its range"));
        return optimizer.ask(&mut draws).expect("histograms do not fail");
    }
    let mut optimizer = TpeOptimizer::new(parzen_estimator(), range(min, max).expect("the bounds are in order"));
    told.for_each(|(coordinate, loss)| {
        // The range is half open.
        let inside = if coordinate >= max { max.next_down() } else { coordinate };
        optimizer.tell(inside, loss).expect("a coordinate is in its range");
    });
    optimizer.ask(&mut draws).expect("estimators of finite numbers do not fail")
}

/// Addressed draws as the estimators take them.
struct Stream(Draws);

impl rand_core::TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.0.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}
