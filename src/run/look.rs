//! Looks at test images. A test that was looked at to choose is none any more, so that each one is recorded and counted.

use crate::run::id::RunId;

/// What measured test images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookedBy {
    /// A run at its end.
    Run,
    /// A sweep, the runs of the point that it chose.
    Sweep { sweep: RunId, point: u32 },
    /// Someone who asked for it.
    Evaluate,
}

/// One measurement of one run on test images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub at_ms: i64,
    /// `None` when the run was deleted since.
    pub run: Option<RunId>,
    /// The hash of the images.
    pub split_hash: String,
    pub by: LookedBy,
}

/// Looks that are one: the seeds of a sweep's point are measured together.
pub fn count(looks: &[Look]) -> usize {
    let mut points: Vec<&LookedBy> = Vec::new();
    looks
        .iter()
        .filter(|look| match &look.by {
            LookedBy::Sweep { .. } if points.contains(&&look.by) => false,
            LookedBy::Sweep { .. } => {
                points.push(&look.by);
                true
            }
            LookedBy::Run | LookedBy::Evaluate => true,
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_of_a_point_are_one_look() {
        let look = |by| Look { at_ms: 0, run: None, split_hash: "h".to_owned(), by };
        let sweep = |point| LookedBy::Sweep { sweep: RunId::from_stored("S".to_owned()), point };
        let looks = [LookedBy::Run, sweep(1), sweep(1), LookedBy::Evaluate, sweep(2), LookedBy::Run].map(look);
        assert_eq!(count(&looks), 5);
        assert_eq!(count(&[]), 0);
    }
}
