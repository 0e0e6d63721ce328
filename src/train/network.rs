//! A plan's network with its tensors in place, and the hashes that prove what moved.

use std::sync::Arc;

use burn::tensor::TensorData;

use crate::models::classifier::{NamedTensors, Prefix, Sources, Tail, tensors};
use crate::models::parameters::{ParametersError, RandomParameters};
use crate::run::metric::Measure;
use crate::spec::schema::Spec;
use crate::train::device::TrainDevice;
use crate::train::plan::Plan;
use crate::train::step::{Frame, Trainee};
use crate::weights::load::FileParameters;

/// A network ready to train.
#[derive(Debug)]
pub struct Network {
    pub trainee: Trainee,
    pub weights_hash: String,
    pub frozen_hash: String,
}

/// What stands for the weights' hash where there is no backbone.
const NO_WEIGHTS: &str = "none";

/// Loads or draws all tensors; the head is drawn by the spec's seed whatever the weights.
pub fn build(plan: &Plan, device: &TrainDevice) -> Result<Network, ParametersError> {
    let random = RandomParameters { seed: plan.spec.seed };
    let drawn = Sources { backbone: &random, head: &random };
    match &plan.weights {
        Some(located) => {
            let file =
                FileParameters::located(located).map_err(|error| ParametersError::Unreadable(error.to_string()))?;
            with_sources(plan, device, Sources { backbone: &file, head: &random })
        }
        None if plan.spec.model.backbone.is_some() => with_sources(plan, device, drawn),
        None => Ok(Network { weights_hash: NO_WEIGHTS.to_owned(), ..with_sources(plan, device, drawn)? }),
    }
}

fn with_sources(plan: &Plan, device: &TrainDevice, sources: Sources<'_>) -> Result<Network, ParametersError> {
    let prefix = Prefix::new(&plan.network, sources, &device.device)?;
    let tail = Tail::new(&plan.network, sources, &device.device.clone().autodiff())?;
    let frozen_hash = hash(&tensors(&plan.network, &prefix, &tail).frozen);
    let frame = Frame {
        prefix,
        preprocessing: plan.preprocessing,
        loss: plan.network.head.loss,
        label_smoothing: plan.spec.label_smoothing,
        clip_global_norm: plan.spec.clip_global_norm,
        measures: measures(&plan.spec),
        seed: plan.spec.seed,
        device: device.device.clone(),
    };
    let trainee = Trainee::new(tail, Arc::new(frame));
    Ok(Network { trainee, weights_hash: sources.backbone.hash(), frozen_hash })
}

/// What is measured of a split.
pub fn measures(spec: &Spec) -> Vec<Measure> {
    let top_k = spec.top_k.iter().map(|k| Measure::TopK(*k));
    [Measure::Loss, Measure::Accuracy].into_iter().chain(top_k).collect()
}

/// The network's tensors by name.
pub fn named_tensors(plan: &Plan, trainee: &Trainee) -> NamedTensors {
    tensors(&plan.network, &trainee.frame().prefix, &trainee.tail)
}

/// blake3 over names, shapes and bytes; the order of the tensors is the network's.
pub fn hash(tensors: &[(String, TensorData)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, data) in tensors {
        hasher.update(name.as_bytes()).update(b"\0");
        hasher.update(format!("{:?} {:?}\0", data.dtype(), data.shape()).as_bytes());
        hasher.update(data.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
