//! Which checkpoints stay: the best, the last, and every so many.

use crate::run::metric::Direction;
use crate::spec::schema::Keep;

/// A committed checkpoint as far as this decision goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Committed {
    pub epoch: u32,
    /// The monitored metric; NaN is never best.
    pub monitor_value: f64,
}

/// The epochs whose checkpoints nothing keeps; among equals the earliest is the best.
///
/// `committed` is by epoch.
pub fn superseded(committed: &[Committed], direction: Direction, keep: Keep) -> Vec<u32> {
    let mut best: Vec<Committed> = committed.iter().filter(|kept| !kept.monitor_value.is_nan()).copied().collect();
    best.sort_by(|a, b| {
        let ascending = a.monitor_value.total_cmp(&b.monitor_value);
        if direction == Direction::Minimize { ascending } else { ascending.reverse() }
    });
    best.truncate(keep.best as usize);
    let n_before_last = committed.len().saturating_sub(keep.last as usize);
    let is_kept = |(i, checkpoint): (usize, &Committed)| {
        i >= n_before_last
            || best.contains(checkpoint)
            || keep.every.is_some_and(|every| checkpoint.epoch.is_multiple_of(every))
    };
    let superseded = committed.iter().enumerate().filter(|candidate| !is_kept(*candidate));
    superseded.map(|(_, checkpoint)| checkpoint.epoch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64], keep: Keep) -> Vec<u32> {
        let committed: Vec<Committed> =
            (1..).zip(values).map(|(epoch, &monitor_value)| Committed { epoch, monitor_value }).collect();
        superseded(&committed, Direction::Minimize, keep)
    }

    #[test]
    fn the_best_and_the_last_stay() {
        let keep = Keep::default();
        assert_eq!(of(&[], keep), [0; 0]);
        assert_eq!(of(&[0.5], keep), [0; 0]);
        assert_eq!(of(&[0.5, 0.4], keep), [1]);
        assert_eq!(of(&[0.4, 0.5], keep), [0; 0]);
        assert_eq!(of(&[0.5, 0.3, 0.4, 0.3], keep), [1, 3]);
        assert_eq!(of(&[f64::NAN, f64::NAN], keep), [1]);
        assert_eq!(of(&[f64::NAN, 0.3, f64::NAN], keep), [1]);
    }

    #[test]
    fn so_many_of_the_best_and_of_the_last_and_every_so_many_stay() {
        let values = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7];
        assert_eq!(of(&values, Keep { best: 2, last: 1, every: None }), [2, 4, 5]);
        assert_eq!(of(&values, Keep { best: 1, last: 3, every: None }), [2, 3]);
        assert_eq!(of(&values, Keep { best: 1, last: 1, every: Some(2) }), [3, 5]);
        assert_eq!(superseded(&[], Direction::Maximize, Keep::default()), [0; 0]);
    }
}
