//! A plan's network with its tensors in place.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::TensorData;

use crate::models::backbone;
use crate::models::classifier::{NamedTensors, Prefix, Sources, Tail, tensors};
use crate::models::head::dense_tensors;
use crate::models::parameters::{Parameters, ParametersError, RandomParameters, TensorAddress};
use crate::models::top;
use crate::run::metric::Measure;
use crate::spec::schema::Spec;
use crate::train::device::TrainDevice;
use crate::train::plan::Plan;
use crate::train::step::{Frame, Trainee};
use crate::weights::golden;
use crate::weights::load::FileParameters;
use crate::weights::matching::{Top, Wanted};

/// A network ready to train.
#[derive(Debug)]
pub struct Network {
    pub trainee: Trainee,
    pub weights_hash: String,
}

/// What stands for the weights' hash where there is no backbone.
const NO_WEIGHTS: &str = "none";

/// Loads or draws all tensors; the head is drawn by the spec's seed whatever the weights.
///
/// Errors: the weights cannot be read, or a published file gives other answers than those that are known of it.
pub fn build(plan: &Plan, device: &TrainDevice) -> Result<Network, ParametersError> {
    if let Some(located) = &plan.weights {
        golden::check(located).map_err(|error| ParametersError::Unreadable(error.to_string()))?;
    }
    let network = with_parameters(plan, |sources| with_sources(plan, device, sources))?;
    Ok(match plan.spec.model.backbone {
        Some(_) => network,
        None => Network { weights_hash: NO_WEIGHTS.to_owned(), ..network },
    })
}

/// The plan's network with backbone and head from one place, such as a file that it was written to.
pub fn of_parameters(
    plan: &Plan,
    device: &TrainDevice,
    parameters: &dyn Parameters,
) -> Result<Network, ParametersError> {
    with_sources(plan, device, Sources { backbone: parameters, head: parameters })
}

/// A trained network with its cut where another step of its plan has it; every tensor is as it was.
pub fn recut(from: &Plan, trainee: &Trainee, to: &Plan, device: &TrainDevice) -> Result<Trainee, ParametersError> {
    let tensors = all_tensors(from, trainee)?.into_iter().map(|(address, values)| (address.name, values)).collect();
    Ok(of_parameters(to, device, &Held { tensors })?.trainee)
}

/// A network's own tensors.
struct Held {
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Parameters for Held {
    fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
        Ok(self.tensors[&address.name].clone())
    }

    fn hash(&self) -> String {
        NO_WEIGHTS.to_owned()
    }
}

/// Opens the weights that a plan begins with.
pub fn with_parameters<T>(
    plan: &Plan,
    use_them: impl FnOnce(Sources<'_>) -> Result<T, ParametersError>,
) -> Result<T, ParametersError> {
    let random = RandomParameters { seed: plan.spec.seed };
    match &plan.weights {
        Some(located) => {
            // A head may stand on an earlier row, and the file still holds the whole backbone.
            let (backbone, form) = (located.source.backbone, located.source.form);
            let (layout, known) = (backbone::layout(backbone, form), top::imagenet(backbone, [1; 3]));
            let wanted = Wanted { layout: &layout, top: Top::Known(&known) };
            let file = FileParameters::located(located, wanted)
                .map_err(|error| ParametersError::Unreadable(error.to_string()))?;
            use_them(Sources { backbone: &file, head: &random })
        }
        None => use_them(Sources { backbone: &random, head: &random }),
    }
}

/// Every tensor of a trained network by its address, no norm folded: those of the frozen prefix as the weights have them,
/// the others from the tail.
pub fn all_tensors(plan: &Plan, trainee: &Trainee) -> Result<Vec<(TensorAddress, Vec<f32>)>, ParametersError> {
    let named = named_tensors(plan, trainee);
    let by_name: BTreeMap<String, TensorData> = named.frozen.into_iter().chain(named.trained).collect();
    let n_prefix_nodes = plan.network.freeze.n_prefix_nodes;
    with_parameters(plan, |sources| {
        let mut all = Vec::new();
        for (i, node) in plan.network.layout.nodes.iter().enumerate() {
            for address in node.operation.tensors() {
                let values = match by_name.get(&address.name).filter(|_| i >= n_prefix_nodes) {
                    Some(data) => values_of(data),
                    None => sources.backbone.values(&address)?,
                };
                all.push((address, values));
            }
        }
        for address in dense_tensors(&plan.network.head).into_iter().flatten() {
            let values = values_of(&by_name[&address.name]);
            all.push((address, values));
        }
        Ok(all)
    })
}

fn values_of(data: &TensorData) -> Vec<f32> {
    data.clone().try_into_vec().expect("a network's tensors are f32")
}

fn with_sources(plan: &Plan, device: &TrainDevice, sources: Sources<'_>) -> Result<Network, ParametersError> {
    let prefix = Prefix::new(&plan.network, sources, &device.device)?;
    let tail = Tail::new(&plan.network, sources, &device.device.clone().autodiff())?;
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
    Ok(Network { trainee, weights_hash: sources.backbone.hash() })
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
