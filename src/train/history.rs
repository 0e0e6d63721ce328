//! The epochs' metrics as they come, and what is decided from them: the best epoch, an early end, a lower rate.
//!
//! The decisions are functions of all values since the first epoch, so a resumed run decides as an unbroken one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::run::metric::{Direction, MetricKey};
use crate::spec::schema::EarlyStopping;
use crate::spec::schema::schedule::Plateau;

/// Each metric's value by epoch.
pub type EpochValues = BTreeMap<MetricKey, Vec<(u32, f64)>>;

/// The values of all epochs so far; shared between burn-train's threads and ours.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<EpochValues>>);

impl History {
    /// Begins with what was measured before.
    pub fn new(before: EpochValues) -> Self {
        Self(Arc::new(Mutex::new(before)))
    }

    pub fn push(&self, key: MetricKey, epoch: u32, value: f64) {
        self.lock().entry(key).or_default().push((epoch, value));
    }

    /// A metric's values so far, by epoch.
    pub fn values(&self, key: MetricKey) -> Vec<(u32, f64)> {
        self.lock().get(&key).cloned().unwrap_or_default()
    }

    /// The best epoch by a metric; `None` while every value is NaN.
    pub fn best_epoch(&self, key: MetricKey) -> Option<u32> {
        best(&self.values(key), key.direction())
    }

    fn lock(&self) -> MutexGuard<'_, EpochValues> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// The epoch with the best value: NaN is never it, ties go to the earliest.
pub fn best(values: &[(u32, f64)], direction: Direction) -> Option<u32> {
    let mut best: Option<(u32, f64)> = None;
    for &(epoch, value) in values {
        if direction.improves(value, best.map(|(_, value)| value)) {
            best = Some((epoch, value));
        }
    }
    best.map(|(epoch, _)| epoch)
}

/// Whether training ends after the last of these epochs.
///
/// Source: Keras 3, `EarlyStopping`: a change counts when it is larger than `min_delta`, and the first epoch is never
/// the last.
pub fn stops_early(values: &[(u32, f64)], stopping: &EarlyStopping) -> bool {
    let mut patience = Patience::new(stopping.monitor.key().direction(), stopping.min_delta);
    let mut stops = false;
    for (i, &(_, value)) in values.iter().enumerate() {
        patience.see(value);
        stops = patience.n_waited >= stopping.patience && i > 0;
    }
    stops
}

/// The learning rate after these epochs, which begins with `base`.
///
/// Source: Keras 3, `ReduceLROnPlateau`, in f64.
pub fn rate_on_plateau(values: &[(u32, f64)], plateau: &Plateau, base: f64) -> f64 {
    let mut patience = Patience::new(plateau.monitor.key().direction(), plateau.min_delta);
    let (mut rate, mut cooldown) = (base, 0);
    for &(_, value) in values {
        if cooldown > 0 {
            cooldown -= 1;
            patience.n_waited = 0;
        }
        let n_waited = patience.n_waited;
        if patience.see(value) {
            continue;
        }
        if cooldown > 0 {
            patience.n_waited = n_waited;
        } else if patience.n_waited >= plateau.patience && rate > plateau.min_learning_rate {
            rate = (rate * plateau.factor).max(plateau.min_learning_rate);
            cooldown = plateau.cooldown_epochs;
            patience.n_waited = 0;
        }
    }
    rate
}

/// Epochs since a value was better than the best before by more than `min_delta`.
struct Patience {
    direction: Direction,
    min_delta: f64,
    best: Option<f64>,
    n_waited: u32,
}

impl Patience {
    fn new(direction: Direction, min_delta: f64) -> Self {
        Self { direction, min_delta, best: None, n_waited: 0 }
    }

    /// Whether this value is better than all before.
    fn see(&mut self, value: f64) -> bool {
        let better_by = match self.direction {
            Direction::Minimize => value + self.min_delta,
            Direction::Maximize => value - self.min_delta,
        };
        let improves = self.direction.improves(better_by, self.best);
        if improves {
            self.best = Some(value);
            self.n_waited = 0;
        } else {
            self.n_waited += 1;
        }
        improves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::schema::monitor::Monitor;

    fn numbered(values: &[f64]) -> Vec<(u32, f64)> {
        (1..).zip(values.iter().copied()).collect()
    }

    #[test]
    fn the_best_epoch_is_the_earliest_of_equals_and_never_nan() {
        assert_eq!(best(&numbered(&[f64::NAN, 0.5, 0.4, 0.4]), Direction::Minimize), Some(3));
        assert_eq!(best(&numbered(&[f64::NAN]), Direction::Maximize), None);
    }

    fn ends_after(values: &[f64], patience: u32, min_delta: f64) -> Option<usize> {
        let stopping = EarlyStopping { monitor: Monitor::default(), patience, min_delta };
        let values = numbered(values);
        (1..=values.len()).find(|&n| stops_early(&values[..n], &stopping))
    }

    #[test]
    fn training_ends_when_nothing_improved_for_so_many_epochs() {
        assert_eq!(ends_after(&[0.5, 0.4, 0.45, 0.41, 0.3], 2, 0.0), Some(4));
        assert_eq!(ends_after(&[0.5, 0.4, 0.45, 0.39, 0.3], 2, 0.0), None);
        assert_eq!(ends_after(&[0.5, 0.49, 0.48, 0.47], 2, 0.05), Some(3));
        // Not after the first epoch, whatever it was.
        assert_eq!(ends_after(&[f64::NAN, f64::NAN], 1, 0.0), Some(2));
    }

    /// Keras 3's `ReduceLROnPlateau`: tests/fixtures/make_plateau_golden.py.
    #[test]
    fn the_rate_falls_as_keras_lets_it() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/plateau_golden.json")).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let plateau: Plateau = serde_json::from_value(case["plateau"].clone()).unwrap();
            // A value that is no number is written as a string.
            let values: Vec<f64> =
                case["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect();
            let values = numbered(&values);
            for (n, expected) in (1..).zip(case["rates"].as_array().unwrap()) {
                let found = rate_on_plateau(&values[..n], &plateau, golden["base"].as_f64().unwrap());
                let expected = expected.as_f64().unwrap();
                // Keras keeps the rate in f32.
                assert!((found - expected).abs() <= 1e-6 * expected, "{plateau:?} after {n}: {found} {expected}");
            }
        }
    }
}
