//! What of a spec decides how a training comes out: two specs of which that is the same train the same.

use serde_json::{Value, json};

use crate::spec::fingerprint::resolved;
use crate::spec::keys::lies_in;
use crate::spec::schema::Spec;
use crate::spec::schema::cache::Precision;

/// Keys that say where a run computes, what it is called and what is kept of it, and change no number that comes out.
pub const WITHOUT_EFFECT: [&str; 8] = [
    "name",
    "device",
    "cache.enabled",
    "cache.budget",
    "log_every",
    "checkpoint.keep",
    "max_recorded_predictions",
    "sweep",
];

/// Whether a key, or one that it lies in, changes nothing that comes out.
pub fn is_without_effect(key: &str) -> bool {
    WITHOUT_EFFECT.iter().any(|of| key == *of || lies_in(key, of))
}

/// The same in a spec: rows that are rounded where they are kept make it count whether they are.
pub fn is_without_effect_in(spec: &Spec, key: &str) -> bool {
    is_without_effect(key) && (spec.cache.precision == Precision::F32 || !lies_in(key, "cache"))
}

/// What decides how a spec trains, a plan's steps resolved: a key that every step says otherwise is not part of it.
pub fn of(spec: &Spec) -> Value {
    steps(spec, |spec| spec)
}

/// The same with each step's spec as it is given back for it.
pub fn steps(spec: &Spec, mut adapted: impl FnMut(Spec) -> Spec) -> Value {
    let starts = spec.step_starts();
    let step = |start: &u32| json!([start, without_recording(spec, resolved(&adapted(spec.in_epoch(start + 1))))]);
    starts.iter().map(step).collect()
}

fn without_recording(of: &Spec, mut spec: Value) -> Value {
    for key in WITHOUT_EFFECT.iter().filter(|key| is_without_effect_in(of, key)) {
        let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
        let map = if parent.is_empty() { Some(&mut spec) } else { spec.get_mut(parent) };
        map.and_then(Value::as_object_mut).map(|map| map.remove(name));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LoadedSpec;

    const SPEC: &str = "{ name: a, data: { train: t, valid: v, image_size: 8 }, model: { backbone: efficientnet_lite0 }, \
                        epochs: 3 }";

    fn effect(sets: &[&str]) -> Value {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        of(&LoadedSpec::from_text("a.yaml".as_ref(), SPEC.to_owned(), &sets).unwrap().spec)
    }

    #[test]
    fn what_is_recorded_and_where_it_runs_is_no_part_of_it() {
        for set in ["name=b", "device=cpu", "cache.enabled=false", "log_every=3", "checkpoint.keep.best=4"] {
            assert_eq!(effect(&[set]), effect(&[]), "{set}");
            assert!(is_without_effect(set.split_once('=').unwrap().0), "{set}");
        }
        for set in [
            "seed=1",
            "checkpoint.monitor=valid.accuracy",
            "epochs=4",
            "data.batch_size=8",
            "optimizer.sgd.learning_rate=0.1",
        ] {
            assert_ne!(effect(&[set]), effect(&[]), "{set}");
            assert!(!is_without_effect(set.split_once('=').unwrap().0), "{set}");
        }
    }

    #[test]
    fn what_every_step_of_a_plan_says_hides_what_the_spec_says() {
        let whole = "plan=[{ epochs: 1, frozen_layers: all, learning_rate: 0.1 }, { epochs: 2, frozen_layers: 3, learning_rate: 0.2 }]";
        let part = "plan=[{ epochs: 1, frozen_layers: all, learning_rate: 0.1 }, { epochs: 2, frozen_layers: 3 }]";
        for (plan, rate_counts) in [(whole, false), (part, true)] {
            assert_eq!(effect(&[plan, "model.frozen_layers=5"]), effect(&[plan]));
            assert_eq!(effect(&[plan, "optimizer.adam.learning_rate=0.5"]) != effect(&[plan]), rate_counts);
        }
    }
}
