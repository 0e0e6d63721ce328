//! Asynchronous successive halving: which point trains on. Source: Li et al. 2018, algorithm 2.

use crate::run::metric::Direction;
use crate::spec::schema::sweep::Asha;

/// The last rung: a run's last epoch, or where it stops early, whatever that is.
pub const TO_THE_END: u32 = u32::MAX;

/// Epochs at which points wait for each other: `min_epochs` times powers of the reduction factor, below all epochs, and
/// [`TO_THE_END`].
pub fn rungs(asha: Option<Asha>, epochs: u32) -> Vec<u32> {
    let mut rungs = Vec::new();
    if let Some(Asha { min_epochs, reduction_factor }) = asha {
        let mut rung = min_epochs;
        while rung < epochs {
            rungs.push(rung);
            rung = rung.saturating_mul(reduction_factor);
        }
    }
    rungs.push(TO_THE_END);
    rungs
}

/// How far a point came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Climb {
    /// Its metric at each rung that it reached, the mean over seeds.
    pub values: Vec<f64>,
    /// Whether it is on its way to the next rung, or can come no further.
    pub is_taken: bool,
}

/// The point that goes on to its next rung, if one may: of the highest rung where a point is among the best
/// `1 / reduction_factor` of those that reached it, the best; ties go to the earliest.
pub fn promoted(climbs: &[Climb], n_rungs: usize, reduction_factor: u32, direction: Direction) -> Option<usize> {
    (0..n_rungs.saturating_sub(1)).rev().find_map(|rung| {
        let mut reached: Vec<usize> = (0..climbs.len()).filter(|&point| climbs[point].values.len() > rung).collect();
        let loss = |point: usize| {
            let value = climbs[point].values[rung];
            let loss = if direction == Direction::Minimize { value } else { -value };
            if loss.is_nan() { f64::INFINITY } else { loss }
        };
        reached.sort_by(|a, b| loss(*a).total_cmp(&loss(*b)));
        let n_best = reached.len() / reduction_factor as usize;
        let waits = |point: &&usize| climbs[**point].values.len() == rung + 1 && !climbs[**point].is_taken;
        reached[..n_best].iter().find(waits).copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asha(min_epochs: u32, reduction_factor: u32) -> Option<Asha> {
        Some(Asha { min_epochs, reduction_factor })
    }

    #[test]
    fn rungs_grow_by_the_factor_and_stay_below_all_epochs() {
        assert_eq!(rungs(asha(1, 3), 20), [1, 3, 9, TO_THE_END]);
        assert_eq!(rungs(asha(2, 2), 8), [2, 4, TO_THE_END]);
        assert_eq!(rungs(asha(9, 3), 5), [TO_THE_END]);
        assert_eq!(rungs(None, 5), [TO_THE_END]);
    }

    fn climb(values: &[f64]) -> Climb {
        Climb { values: values.to_vec(), is_taken: false }
    }

    #[test]
    fn one_in_so_many_goes_on() {
        let mut climbs = vec![climb(&[0.5]), climb(&[0.3])];
        assert_eq!(promoted(&climbs, 3, 3, Direction::Minimize), None);
        climbs.push(climb(&[0.4]));
        assert_eq!(promoted(&climbs, 3, 3, Direction::Minimize), Some(1));
        assert_eq!(promoted(&climbs, 3, 3, Direction::Maximize), Some(0));
        climbs[1].is_taken = true;
        assert_eq!(promoted(&climbs, 3, 3, Direction::Minimize), None);
        climbs[1] = climb(&[0.3, 0.2]);
        assert_eq!(promoted(&climbs, 3, 3, Direction::Minimize), None);
        climbs.extend([climb(&[0.1]), climb(&[f64::NAN]), climb(&[0.2])]);
        assert_eq!(promoted(&climbs, 3, 3, Direction::Minimize), Some(3));
    }

    #[test]
    fn the_highest_rung_comes_first_and_ties_go_to_the_earliest() {
        let climbs = [climb(&[0.1, 0.5]), climb(&[0.2, 0.5]), climb(&[0.05]), climb(&[0.3])];
        assert_eq!(promoted(&climbs, 3, 2, Direction::Minimize), Some(0));
        assert_eq!(promoted(&climbs, 2, 2, Direction::Minimize), Some(2));
    }
}
