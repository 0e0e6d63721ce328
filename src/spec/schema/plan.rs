//! `plan`: a training in steps that unfreeze more and more of the network.

use std::borrow::Cow;
use std::collections::BTreeMap;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::spec::schema::optimizer::LEARNING_RATES;
use crate::spec::schema::{Spec, rates_in_range, rates_schema};
use crate::spec::short_forms::FrozenLayers;

/// A stretch of epochs with layers and rates of its own; what it leaves out is as the spec has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// How long it is.
    #[garde(range(min = 1, max = 1_000_000))]
    pub epochs: u32,
    /// The layers that stay as they are, no more than in the step before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub frozen_layers: Option<FrozenLayers>,
    /// A number for all, or a rate for each part, before the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub learning_rate: Option<StepRate>,
}

/// The learning rates of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StepRate {
    All(f64),
    /// As `learning_rates`; the others have the optimizer's.
    Parts(BTreeMap<String, f64>),
}

impl Validate for StepRate {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        let outcome = match self {
            Self::All(rate) if LEARNING_RATES.contains(rate) => Ok(()),
            Self::All(_) => Err(garde::Error::new("not within 1e-12 and 1e3")),
            Self::Parts(rates) => rates_in_range(rates, &()),
        };
        if let Err(error) = outcome {
            report.append(parent(), error);
        }
    }
}

impl JsonSchema for StepRate {
    fn schema_name() -> Cow<'static, str> {
        "StepRate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let number = json_schema!({
            "type": "number",
            "minimum": LEARNING_RATES.start(),
            "maximum": LEARNING_RATES.end(),
            "description": "The size of every part's steps.",
        });
        let mut parts = rates_schema(generator);
        parts.insert("description".into(), "As `learning_rates`; the others have the optimizer's.".into());
        json_schema!({ "anyOf": [number, parts] })
    }
}

impl Spec {
    /// The epochs after which the plan's steps begin, the first being 0; of a spec without a plan that alone.
    pub fn step_starts(&self) -> Vec<u32> {
        let steps = self.plan.iter().take(self.plan.len().saturating_sub(1));
        let ends = steps.scan(0_u32, |end, step| {
            *end = end.saturating_add(step.epochs);
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// The index of the step that an epoch, counted from 1, is part of; the last step has all that come after.
    pub fn step_of(&self, epoch: u32) -> usize {
        self.step_starts().iter().rposition(|start| *start < epoch).unwrap_or(0)
    }

    /// The spec as it is in an epoch, counted from 1: with the layers and rates of its step, and without a plan.
    pub fn in_epoch(&self, epoch: u32) -> Self {
        let mut spec = Self { plan: Vec::new(), ..self.clone() };
        let Some(step) = self.plan.get(self.step_of(epoch)) else { return spec };
        spec.model.frozen_layers = step.frozen_layers.clone().unwrap_or(spec.model.frozen_layers);
        match &step.learning_rate {
            None => {}
            Some(StepRate::All(rate)) => {
                spec.optimizer = spec.optimizer.with_learning_rate(*rate);
                spec.learning_rates.clear();
            }
            Some(StepRate::Parts(rates)) => spec.learning_rates = rates.clone(),
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::spec::LoadedSpec;
    use crate::spec::short_forms::FrozenLayers;

    const SPEC: &str = "{ name: a, data: { train: t, valid: v, image_size: 8 }, model: { backbone: efficientnet_lite0, \
                        frozen_layers: 9 }, optimizer: { sgd: { learning_rate: 0.5 } }, learning_rates: { head: 0.25 }, \
                        plan: [{ epochs: 2, frozen_layers: all }, { epochs: 1, learning_rate: 0.125 }, \
                        { epochs: 3, learning_rate: { head: 0.0625 } }] }";

    #[test]
    fn an_epoch_has_the_layers_and_rates_of_its_step() {
        let spec = LoadedSpec::from_text(Path::new("a.yaml"), SPEC.to_owned(), &[]).unwrap().spec;
        assert_eq!((spec.epochs, spec.step_starts()), (6, vec![0, 2, 3]));
        assert_eq!([1, 2, 3, 4, 6, 9].map(|epoch| spec.step_of(epoch)), [0, 0, 1, 2, 2, 2]);
        let of = |epoch| {
            let spec = spec.in_epoch(epoch);
            assert!(spec.plan.is_empty());
            (spec.model.frozen_layers, spec.optimizer.learning_rate(), spec.learning_rates.get("head").copied())
        };
        assert_eq!(of(2), (FrozenLayers::All, 0.5, Some(0.25)));
        assert_eq!(of(3), (FrozenLayers::Count(9), 0.125, None));
        assert_eq!(of(4), (FrozenLayers::Count(9), 0.5, Some(0.0625)));
    }
}
