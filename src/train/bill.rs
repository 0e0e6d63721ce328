//! What a plan's frozen layers cost, before anything is done.

use std::time::Instant;

use crate::data::feature_cache::FeatureCache;
use crate::models::parameters::ParametersError;
use crate::run::bill::{Bill, SplitBill};
use crate::run::metric::Split;
use crate::settings::Resources;
use crate::train::device::TrainDevice;
use crate::train::keeping;
use crate::train::network;
use crate::train::plan::Plan;
use crate::train::values::Values;

/// The bill for so many images of each split.
pub fn of(plan: &Plan, images: &[(Split, u64)], resources: Resources, cache: Option<&FeatureCache>) -> Bill {
    let (multiply_adds, frozen_multiply_adds) = plan.multiply_adds();
    let split = |&(split, n_images): &(Split, u64)| SplitBill {
        split,
        n_images,
        n_rows: keeping::n_rows(&plan.spec, split, n_images),
        keeping: keeping::decide(plan, split, n_images, resources, cache),
    };
    Bill {
        multiply_adds,
        frozen_multiply_adds,
        row_bytes: keeping::row_bytes(plan),
        splits: images.iter().map(split).collect(),
    }
}

/// Images that are measured at once on a CPU; on a GPU they are a batch.
const N_IMAGES: usize = 8;

/// How long is measured at least.
const MEASURED_S: f64 = 1.0;

/// Images a second that go through the frozen layers on a device; `None` where there are none.
pub fn images_per_s(plan: &Plan, device: &TrainDevice) -> Result<Option<f64>, ParametersError> {
    let network = network::build(plan, device)?;
    let frame = network.trainee.frame();
    if frame.prefix.is_empty() {
        return Ok(None);
    }
    let n_images = if frame.is_tuned() { plan.spec.data.batch_size as usize } else { N_IMAGES };
    let pixels = Values::made_up(n_images, plan.input_chw);
    let pass = || drop(frame.features(pixels.clone(), plan.input_chw).into_data());
    // The first one fills caches and buffers.
    pass();
    let began = Instant::now();
    let mut n_passes = 0;
    while began.elapsed().as_secs_f64() < MEASURED_S {
        pass();
        n_passes += 1;
    }
    Ok(Some((n_passes * n_images) as f64 / began.elapsed().as_secs_f64()))
}
