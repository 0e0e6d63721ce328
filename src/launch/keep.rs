//! Which checkpoints stay: the best and the last.

use crate::run::metric::Direction;

/// A committed checkpoint as far as this decision goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Committed {
    pub epoch: u32,
    /// The monitored metric; NaN is never best.
    pub monitor_value: f64,
}

/// The epochs whose checkpoints are neither the best nor the last; ties go to the earliest.
///
/// `committed` is by epoch.
pub fn superseded(committed: &[Committed], direction: Direction) -> Vec<u32> {
    let mut best: Option<Committed> = None;
    for checkpoint in committed {
        if direction.improves(checkpoint.monitor_value, best.map(|best| best.monitor_value)) {
            best = Some(*checkpoint);
        }
    }
    let kept = [best.map(|best| best.epoch), committed.last().map(|last| last.epoch)];
    committed.iter().map(|checkpoint| checkpoint.epoch).filter(|epoch| !kept.contains(&Some(*epoch))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Vec<u32> {
        let committed: Vec<Committed> =
            (1..).zip(values).map(|(epoch, &monitor_value)| Committed { epoch, monitor_value }).collect();
        superseded(&committed, Direction::Minimize)
    }

    #[test]
    fn the_best_and_the_last_stay() {
        assert_eq!(of(&[]), [0; 0]);
        assert_eq!(of(&[0.5]), [0; 0]);
        assert_eq!(of(&[0.5, 0.4]), [1]);
        assert_eq!(of(&[0.4, 0.5]), [0; 0]);
        assert_eq!(of(&[0.5, 0.3, 0.4, 0.3]), [1, 3]);
        assert_eq!(of(&[f64::NAN, f64::NAN]), [1]);
        assert_eq!(of(&[f64::NAN, 0.3, f64::NAN]), [1]);
    }
}
