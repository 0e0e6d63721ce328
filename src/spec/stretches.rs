//! Which stretches of a run make another training of it than its spec alone would.

use serde_json::Value;

use crate::run::stretch::Stretch;
use crate::spec::schema::Spec;
use crate::spec::schema::schedule::Schedule;

impl Schedule {
    /// Whether the rate of an epoch depends on how many there are.
    pub fn depends_on_length(&self) -> bool {
        matches!(self, Self::Linear(_) | Self::Cosine(_))
    }

    /// Whether the rate changes with the epochs, so that it makes a difference where the schedule begins.
    pub fn has_course(&self) -> bool {
        !matches!(self, Self::Constant)
    }

    /// As JSON, for the record.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).expect("a schedule has string keys and finite numbers")
    }
}

impl Spec {
    /// Whether a run that was extended may differ from one that was that long from the beginning.
    pub fn may_have_stretches(&self) -> bool {
        self.schedule.depends_on_length() || self.early_stopping.is_some()
    }
}

/// How a run that has trained some epochs is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoOn {
    /// Epochs that are done.
    pub done: u32,
    /// Whether early stopping has ended it, and more is asked for all the same.
    pub is_past_early_stop: bool,
    /// Whether its schedule starts over.
    pub restarts_schedule: bool,
}

/// The stretches of a run that goes on as the spec says; `recorded` are those so far.
///
/// A stretch in which nothing was trained yet gives way to the new one.
pub fn going_on(spec: &Spec, recorded: &[Stretch], go_on: GoOn) -> Vec<Stretch> {
    let GoOn { done, is_past_early_stop, restarts_schedule } = go_on;
    let whole = Stretch::whole(spec.epochs, spec.schedule.value());
    let mut stretches: Vec<Stretch> = recorded.iter().filter(|stretch| stretch.after_epoch < done).cloned().collect();
    let Some(last) = stretches.last() else { return vec![whole] };
    let replaced = recorded.iter().find(|stretch| stretch.after_epoch == done);
    let schedule_after = match (restarts_schedule, replaced) {
        (true, _) => done,
        (false, Some(replaced)) => replaced.schedule_after,
        (false, None) => last.schedule_after,
    };
    let is_past_early_stop = is_past_early_stop || replaced.is_some_and(|replaced| replaced.is_past_early_stop);
    let next = Stretch { after_epoch: done, schedule_after, is_past_early_stop, ..whole };
    // With all epochs done there is nothing that a new length could be for.
    let is_new = next.epochs != last.epochs || schedule_after != last.schedule_after || is_past_early_stop;
    if is_new && spec.epochs > done {
        stretches.push(next);
    }
    stretches
}

/// The stretches without those that change nothing: where rates do not depend on how many epochs there are, and in a
/// warm-up, an extended run is the long run.
pub fn effective(spec: &Spec, stretches: &[Stretch]) -> Vec<Stretch> {
    let mut kept: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        if let Some(before) = kept.last_mut().filter(|before| has_same_rates(spec, before, stretch)) {
            before.epochs = stretch.epochs;
            if !stretch.is_past_early_stop {
                continue;
            }
        }
        kept.push(stretch.clone());
    }
    kept
}

/// Whether the epochs of a stretch would have had the same rates under the length of the next.
fn has_same_rates(spec: &Spec, stretch: &Stretch, next: &Stretch) -> bool {
    let is_warming_up = next.after_epoch <= stretch.schedule_after.saturating_add(spec.schedule.warmup_epochs());
    let same_length = stretch.epochs == next.epochs || !spec.schedule.depends_on_length() || is_warming_up;
    same_length && stretch.schedule_after == next.schedule_after
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::LoadedSpec;

    fn spec(schedule: &str, epochs: u32) -> Spec {
        let text = format!(
            "{{ name: a, data: {{ train: t, valid: v, image_size: 8 }}, model: {{ backbone: vgg_tiny }}, \
             epochs: {epochs}, schedule: {schedule} }}"
        );
        LoadedSpec::from_text(Path::new("a.yaml"), text, &[]).unwrap().spec
    }

    /// Each stretch as epochs before it, epochs asked for, and epochs before its schedule.
    fn short(stretches: &[Stretch]) -> Vec<(u32, u32, u32)> {
        stretches.iter().map(|stretch| (stretch.after_epoch, stretch.epochs, stretch.schedule_after)).collect()
    }

    fn extended(schedule: &str, steps: &[(u32, u32, bool)]) -> (Spec, Vec<Stretch>) {
        let mut spec = spec(schedule, 3);
        let mut stretches = vec![Stretch::whole(3, spec.schedule.value())];
        for &(done, epochs, restarts_schedule) in steps {
            spec.epochs = epochs;
            stretches = going_on(&spec, &stretches, GoOn { done, restarts_schedule, is_past_early_stop: false });
        }
        (spec, stretches)
    }

    #[test]
    fn a_run_that_goes_on_as_before_has_one_stretch_and_one_that_is_extended_two() {
        let of = |steps: &[(u32, u32, bool)]| short(&extended("{ cosine: {} }", steps).1);
        assert_eq!(of(&[(2, 3, false)]), [(0, 3, 0)]);
        assert_eq!(of(&[(3, 5, false)]), [(0, 3, 0), (3, 5, 0)]);
        // No epoch was trained under the length of 3, and then none under that of 5.
        assert_eq!(of(&[(0, 5, false)]), [(0, 5, 0)]);
        assert_eq!(of(&[(3, 5, false), (3, 7, false)]), [(0, 3, 0), (3, 7, 0)]);
        assert_eq!(of(&[(3, 5, false), (3, 3, false)]), [(0, 3, 0)]);
        assert_eq!(of(&[(3, 5, false), (4, 5, false), (5, 9, false)]), [(0, 3, 0), (3, 5, 0), (5, 9, 0)]);
        // A schedule that was started over goes on from there.
        assert_eq!(of(&[(3, 5, true), (3, 5, false), (4, 8, false)]), [(0, 3, 0), (3, 5, 3), (4, 8, 3)]);
    }

    #[test]
    fn stretches_count_where_rates_depend_on_the_length() {
        let of = |schedule: &str, steps: &[(u32, u32, bool)]| {
            let (spec, stretches) = extended(schedule, steps);
            short(&effective(&spec, &stretches))
        };
        for schedule in ["constant", "{ exponential: { rate: 0.5 } }", "{ plateau: {} }"] {
            assert_eq!(of(schedule, &[(3, 5, false), (5, 9, false)]), [(0, 9, 0)], "{schedule}");
        }
        assert_eq!(of("{ exponential: { rate: 0.5 } }", &[(3, 5, true)]), [(0, 3, 0), (3, 5, 3)]);
        for name in ["linear", "cosine"] {
            let schedule = format!("{{ {name}: {{ warmup_epochs: 2 }} }}");
            assert_eq!(of(&schedule, &[(3, 5, false)]), [(0, 3, 0), (3, 5, 0)]);
            // What is trained in the warm-up is the same for any length.
            assert_eq!(of(&schedule, &[(2, 5, false)]), [(0, 5, 0)]);
            assert_eq!(of(&schedule, &[(2, 5, false), (4, 9, false)]), [(0, 5, 0), (4, 9, 0)]);
        }
    }

    #[test]
    fn epochs_past_an_early_stop_count_under_every_schedule() {
        let spec = spec("constant", 9);
        let before = [Stretch::whole(9, spec.schedule.value())];
        let past = GoOn { done: 4, is_past_early_stop: true, restarts_schedule: false };
        let stretches = going_on(&spec, &before, past);
        assert_eq!(effective(&spec, &stretches), stretches);
        assert_eq!((stretches.len(), stretches[1].is_past_early_stop), (2, true));
        // Killed before another epoch was done, it goes on past it all the same.
        let again = going_on(&spec, &stretches, GoOn { is_past_early_stop: false, ..past });
        assert_eq!(again, stretches);
        // How many epochs were asked for before makes no difference here.
        let other = going_on(&spec, &[Stretch::whole(6, spec.schedule.value())], past);
        assert_eq!(effective(&spec, &other), stretches);
    }
}
