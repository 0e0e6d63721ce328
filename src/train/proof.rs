//! A network's tensors at one moment, hashed, and what its frozen layers make of a made-up image.

use burn::tensor::TensorReadError;

use crate::models::classifier::{NamedTensors, hash};
use crate::run::freezing::{Moment, TensorHash};
use crate::train::plan::Plan;
use crate::train::step::Trainee;
use crate::train::values::Values;

/// Hashes every tensor of a network as it really runs, running statistics included, and the probe image's output.
pub fn moment(plan: &Plan, trainee: &Trainee, named: &NamedTensors) -> Result<Moment, TensorReadError> {
    let of = |is_frozen| {
        move |tensor: &(String, burn::tensor::TensorData)| TensorHash {
            name: tensor.0.clone(),
            is_frozen,
            hash: hash(std::slice::from_ref(tensor)),
        }
    };
    let tensors = named.frozen.iter().map(of(true)).chain(named.trained.iter().map(of(false)));
    Ok(Moment { tensors: tensors.collect(), probe: probe(plan, trainee)? })
}

/// `None` without frozen layers, and on a GPU: which kernels it takes, and so its last bits, may change from call to call.
fn probe(plan: &Plan, trainee: &Trainee) -> Result<Option<String>, TensorReadError> {
    let frame = trainee.frame();
    if frame.prefix.is_empty() || frame.is_tuned() {
        return Ok(None);
    }
    let image = Values::made_up(1, plan.input_chw);
    let output = frame.features(image, plan.input_chw).try_into_vec_as::<f32>()?;
    let mut hasher = blake3::Hasher::new();
    for value in output {
        hasher.update(&value.to_le_bytes());
    }
    Ok(Some(hasher.finalize().to_hex().to_string()))
}
