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
        let loss = |point: &usize| loss(&climbs[*point], rung, direction);
        reached.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
        let n_best = reached.len() / reduction_factor as usize;
        let waits = |point: &&usize| climbs[**point].values.len() == rung + 1 && !climbs[**point].is_taken;
        reached[..n_best].iter().find(waits).copied()
    })
}

/// The point that goes on although its rung never fills, where nothing else is left and none has come to the end: of the
/// highest rung that has a waiting point, the best.
pub fn survivor(climbs: &[Climb], n_rungs: usize, direction: Direction) -> Option<usize> {
    if climbs.iter().any(|climb| climb.values.len() >= n_rungs) {
        return None;
    }
    let waiting: Vec<usize> =
        (0..climbs.len()).filter(|&point| !climbs[point].is_taken && !climbs[point].values.is_empty()).collect();
    let rung = waiting.iter().map(|&point| climbs[point].values.len()).max()?;
    let highest = waiting.into_iter().filter(|&point| climbs[point].values.len() == rung);
    highest.min_by(|a, b| loss(&climbs[*a], rung - 1, direction).total_cmp(&loss(&climbs[*b], rung - 1, direction)))
}

/// What is to be small; a value that is no number is the worst.
fn loss(climb: &Climb, rung: usize, direction: Direction) -> f64 {
    let value = climb.values[rung];
    let loss = if direction == Direction::Minimize { value } else { -value };
    if loss.is_nan() { f64::INFINITY } else { loss }
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
    fn where_no_rung_fills_the_best_of_the_highest_goes_on_until_one_is_at_the_end() {
        let survivor = |climbs: &[Climb]| survivor(climbs, 3, Direction::Maximize);
        let mut climbs = vec![climb(&[0.5]), climb(&[0.7]), climb(&[0.6])];
        assert_eq!(survivor(&climbs), Some(1));
        climbs[0].values.push(0.4);
        assert_eq!(survivor(&climbs), Some(0));
        // One that cannot go on leaves it to the others.
        climbs[0].is_taken = true;
        assert_eq!(survivor(&climbs), Some(1));
        climbs[2].values = vec![0.6, 0.6, 0.6];
        assert_eq!(survivor(&climbs), None);
        assert_eq!(survivor(&[climb(&[]), Climb { is_taken: true, ..climb(&[0.5]) }]), None);
        assert_eq!(survivor(&[climb(&[f64::NAN]), climb(&[0.1])]), Some(1));
    }

    #[test]
    fn the_highest_rung_comes_first_and_ties_go_to_the_earliest() {
        let climbs = [climb(&[0.1, 0.5]), climb(&[0.2, 0.5]), climb(&[0.05]), climb(&[0.3])];
        assert_eq!(promoted(&climbs, 3, 2, Direction::Minimize), Some(0));
        assert_eq!(promoted(&climbs, 2, 2, Direction::Minimize), Some(2));
    }
}
