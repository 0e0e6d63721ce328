//! burn's records in our words and back: tensors by our names, an optimizer's state by slots.
//!
//! The records of burn 0.22 are known here alone. Only their bytes are public, so that is what is taken apart.

use std::collections::BTreeMap;

use burn::module::ParamId;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::store::burn_pack::{Reader, Scalar, Tensor, Writer};
use burn::tensor::{Bytes, TensorData};

use crate::models::classifier::NetworkPlan;
use crate::models::parameters::{TensorAddress, param_id};
use crate::train::checkpoint::names::{Placed, placed};
use crate::train::checkpoint::tensors::Tensors;

/// What our files call a part of an optimizer's state, and what the optimizers do.
const SLOTS: [(&str, &str); 4] = [
    ("first_moment", "moment_1"),
    ("second_moment", "moment_2"),
    ("mean_square", "mean_square"),
    ("velocity", "velocity"),
];

/// Steps taken, which is no tensor in burn's records.
const STEPS: (&str, &str) = ("steps", "time");

/// The tensors that train, of a network's record.
pub fn trained(record: Bytes, network: &NetworkPlan) -> Result<Tensors, String> {
    let mut found: BTreeMap<String, TensorData> = BTreeMap::new();
    for tensor in reader(record)?.into_tensors().map_err(|error| error.to_string())? {
        let (path, dtype, shape, _, bytes) = tensor.into_parts().map_err(|error| error.to_string())?;
        found.insert(path, TensorData::from_bytes(bytes, shape, dtype));
    }
    let trained = placed(network).into_iter().filter(|placed| placed.trains);
    let named = trained.map(|Placed { address, path, .. }| match found.remove(&path) {
        Some(data) => Ok((address.name, data)),
        None => Err(format!("it has no {}", address.name)),
    });
    named.collect()
}

/// A record for a network whose other tensors are in place; every tensor that trains must be there, and no other.
pub fn module_record(mut tensors: Tensors, network: &NetworkPlan) -> Result<ModuleRecord, String> {
    let mut packed = Vec::new();
    for Placed { address, path, .. } in placed(network).into_iter().filter(|placed| placed.trains) {
        let data = tensors.remove(&address.name).ok_or_else(|| format!("it has no {}", address.name))?;
        check(&address, &data)?;
        packed.push(tensor(path, param_id(&address.name), data));
    }
    refuse_others(&tensors)?;
    let bytes = Writer::new(packed).into_bytes().map_err(|error| error.to_string())?;
    ModuleRecord::from_bytes(bytes).map(|record| record.allow_partial(true)).map_err(|error| error.to_string())
}

/// An optimizer's state as `<tensor>.<slot>`, of its record.
pub fn optimizer_state(record: Bytes, network: &NetworkPlan) -> Result<Tensors, String> {
    let reader = reader(record)?;
    let (scalars, paths) = (reader.scalars().clone(), reader.metadata().clone());
    let names = Names::of(network);
    let mut state = Tensors::new();
    for tensor in reader.into_tensors().map_err(|error| error.to_string())? {
        let (key, dtype, shape, _, bytes) = tensor.into_parts().map_err(|error| error.to_string())?;
        let (id, field) = key.split_once('.').ok_or_else(|| format!("it has a tensor {key}"))?;
        let slot = SLOTS.iter().find(|(_, known)| *known == field).ok_or_else(|| format!("it has a tensor {key}"))?.0;
        let name = names.find(id, paths.get(id))?;
        state.insert(format!("{name}.{slot}"), TensorData::from_bytes(bytes, shape, dtype));
    }
    for (key, value) in &scalars {
        let Some(id) = key.strip_suffix(STEPS.1).and_then(|id| id.strip_suffix('.')) else { continue };
        let steps = i64::try_from(*value).map_err(|error| format!("{key}: {error}"))?;
        let name = names.find(id, paths.get(id))?;
        state.insert(format!("{name}.{}", STEPS.0), TensorData::new(vec![steps], Vec::<usize>::new()));
    }
    Ok(state)
}

/// A record for the optimizer of a network, of its state as `<tensor>.<slot>`.
pub fn optimizer_record(mut state: Tensors, network: &NetworkPlan) -> Result<OptimizerRecord, String> {
    let (mut packed, mut scalars) = (Vec::new(), Vec::new());
    for Placed { address, .. } in placed(network).into_iter().filter(|placed| placed.trains) {
        let id = param_id(&address.name);
        for (slot, field) in SLOTS {
            if let Some(data) = state.remove(&format!("{}.{slot}", address.name)) {
                check(&address, &data)?;
                packed.push(tensor(format!("{}.{field}", id.val()), id, data));
            }
        }
        if let Some(data) = state.remove(&format!("{}.{}", address.name, STEPS.0)) {
            let steps = data.as_slice::<i64>().map_err(|error| error.to_string())?.first().copied();
            let steps = steps.and_then(|steps| usize::try_from(steps).ok());
            let steps = steps.ok_or_else(|| format!("{} has taken no steps", address.name))?;
            scalars.push((format!("{}.{}", id.val(), STEPS.1), Scalar::from(steps)));
        }
    }
    refuse_others(&state)?;
    let writer = scalars.into_iter().fold(Writer::new(packed), |writer, (key, value)| writer.with_scalar(&key, value));
    let bytes = writer.into_bytes().map_err(|error| error.to_string())?;
    OptimizerRecord::from_bytes(bytes).map_err(|error| error.to_string())
}

/// Our names of what burn numbers.
struct Names {
    by_id: BTreeMap<String, String>,
    by_path: BTreeMap<String, String>,
}

impl Names {
    fn of(network: &NetworkPlan) -> Self {
        let placed = placed(network);
        let by_id = placed
            .iter()
            .map(|Placed { address, .. }| (param_id(&address.name).val().to_string(), address.name.clone()));
        let by_id = by_id.collect();
        Self { by_id, by_path: placed.into_iter().map(|placed| (placed.path, placed.address.name)).collect() }
    }

    /// Numbers come from names since there are plans of several steps; before that the path tells.
    fn find(&self, id: &str, path: Option<&String>) -> Result<&String, String> {
        self.by_id
            .get(id)
            .or_else(|| self.by_path.get(path?))
            .ok_or_else(|| format!("it has state of a parameter {id} that the network does not have"))
    }
}

fn reader(record: Bytes) -> Result<Reader, String> {
    Reader::from_bytes(record).map_err(|error| error.to_string())
}

fn tensor(name: String, id: ParamId, data: TensorData) -> Tensor {
    let (bytes, shape, dtype) = data.into_parts();
    Tensor::new(name, dtype, shape, Some(id.val()), bytes)
}

fn check(address: &TensorAddress, data: &TensorData) -> Result<(), String> {
    match data.shape().to_vec() == address.shape {
        true => Ok(()),
        false => Err(format!("{} has shape {:?}, expected {:?}", address.name, data.shape(), address.shape)),
    }
}

fn refuse_others(tensors: &Tensors) -> Result<(), String> {
    let first = tensors.keys().next();
    first.map_or(Ok(()), |name| Err(format!("it has {name}, which the network does not train")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use burn::module::Module;
    use burn::tensor::Device;

    use super::*;
    use crate::models::backbone;
    use crate::models::classifier::{Sources, Tail};
    use crate::models::freeze::freeze;
    use crate::models::head;
    use crate::models::layout::Form;
    use crate::models::parameters::{Parameters, ParametersError};
    use crate::models::segment::Norms;
    use crate::spec::schema::model::BackboneName;
    use crate::spec::schema::precision::PrefixPrecision;
    use crate::spec::short_forms::FrozenLayers;
    use crate::train::checkpoint::names::frozen_rows;

    fn network(name: BackboneName, frozen: &FrozenLayers, norms: Norms) -> NetworkPlan {
        let layout = backbone::layout(name, Form::Torch);
        let freeze = freeze(frozen, &layout).unwrap();
        let head = head::plan(&head::default_layers(2), 2, layout.output_chw(layout.nodes.len(), 64, 64)).unwrap();
        NetworkPlan { layout, freeze, norms, head, prefix_precision: PrefixPrecision::F32 }
    }

    struct Zeros;

    impl Parameters for Zeros {
        fn values(&self, address: &TensorAddress) -> Result<Vec<f32>, ParametersError> {
            Ok(vec![0.0; address.n_values()])
        }

        fn hash(&self) -> String {
            String::new()
        }
    }

    /// The names of burn's fields are known to [`placed`], and every tensor of a network is in one place: it trains, or it is
    /// in a row's object.
    #[test]
    fn every_tensor_of_a_network_is_found_in_burns_record_of_it() {
        use BackboneName::{EfficientnetLite0, MobilenetV2, Resnet18, Resnet50, Vgg11Bn, VggTiny};
        for name in [EfficientnetLite0, MobilenetV2, Resnet18, Resnet50, Vgg11Bn, VggTiny] {
            for (frozen, norms) in [
                (FrozenLayers::None, Norms::Trained),
                (FrozenLayers::Stages(2), Norms::Frozen),
                (FrozenLayers::Count(7), Norms::Trained),
                (FrozenLayers::All, Norms::Frozen),
            ] {
                let network = network(name, &frozen, norms);
                let sources = Sources { backbone: &Zeros, head: &Zeros };
                let tail = Tail::new(&network, sources, &Device::flex()).unwrap();
                let record = tail.into_record().into_bytes().unwrap();
                let reader = reader(record).unwrap();
                // The record of a training is that of the tail under its field's name.
                let found: BTreeSet<String> =
                    reader.tensor_names().into_iter().map(|name| format!("tail.{name}")).collect();
                let known: BTreeSet<String> = placed(&network).into_iter().map(|placed| placed.path).collect();
                assert_eq!(found, known, "{}", name.as_str());
                let trained = placed(&network).into_iter().filter(|placed| placed.trains).map(|p| p.address.name);
                let rows = frozen_rows(&network);
                let frozen = rows.iter().flat_map(|row| row.tensors.iter().map(|address| address.name.clone()));
                let all: Vec<String> = trained.chain(frozen).collect();
                let backbone = network.layout.nodes.iter().map(|node| node.operation.tensors().len()).sum::<usize>();
                assert_eq!(all.len(), backbone + 2);
                assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
                assert_eq!(rows.iter().map(|row| &row.name).collect::<BTreeSet<_>>().len(), rows.len());
            }
        }
    }

    #[test]
    fn what_does_not_fit_a_network_is_named() {
        let network = network(BackboneName::VggTiny, &FrozenLayers::All, Norms::Frozen);
        let kernel = || TensorData::new(vec![0.0_f32; 16], [8, 2]);
        let of = |tensors: &[(&str, TensorData)]| {
            let tensors = tensors.iter().map(|(name, data)| ((*name).to_owned(), data.clone())).collect();
            module_record(tensors, &network).map(|record| record.len())
        };
        let bias = || TensorData::new(vec![0.0_f32; 2], [2]);
        assert_eq!(of(&[("head.1.weight", kernel()), ("head.1.bias", bias())]), Ok(2));
        assert_eq!(of(&[("head.1.weight", kernel())]).unwrap_err(), "it has no head.1.bias");
        let error = of(&[("head.1.weight", bias()), ("head.1.bias", bias())]).unwrap_err();
        assert!(error.contains("head.1.weight has shape"), "{error}");
        let error = of(&[("head.1.weight", kernel()), ("head.1.bias", bias()), ("a", bias())]).unwrap_err();
        assert_eq!(error, "it has a, which the network does not train");
    }
}
