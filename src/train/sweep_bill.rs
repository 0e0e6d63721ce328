//! What the trials of a sweep cost, alone and together.

use std::collections::BTreeMap;

use serde_json::json;

use crate::run::bill::SweepBill;
use crate::run::metric::Split;
use crate::spec::schema::weights::Weights;
use crate::train::keeping;
use crate::train::plan::Plan;

/// A training step is a forward pass, and as much again for each of the two gradients.
const STEP: u64 = 3;

/// The bill of a plan a point, each run with so many seeds.
pub fn of(plans: &[Plan], n_seeds: u64) -> SweepBill {
    let mut bill = SweepBill { n_trials: plans.len() as u64 * n_seeds, ..SweepBill::default() };
    // The deepest frozen part by the network and the images that it is run on.
    let mut shared: BTreeMap<String, u64> = BTreeMap::new();
    for plan in plans {
        let (all, frozen) = plan.multiply_adds();
        let (tail, epochs) = (all - frozen, u64::from(plan.spec.epochs));
        for (split, listing) in &plan.listings {
            let n_images = listing.images.len() as u64;
            let (n_passes, per_image) = match split {
                Split::Train => (epochs, STEP * tail),
                Split::Valid => (epochs, tail),
                Split::Test => (1, tail),
            };
            let trained = n_images * n_passes * per_image * n_seeds;
            bill.every_time += trained + n_images * n_passes * frozen * n_seeds;
            let augment = keeping::augment_of(&plan.spec, *split);
            if augment.draws() && augment.views.is_none() {
                let every_time = n_images * n_passes * frozen * n_seeds;
                bill.once_a_trial += trained + every_time;
                bill.shared += trained + every_time;
                continue;
            }
            let once = keeping::n_rows(&plan.spec, *split, n_images) * frozen;
            bill.once_a_trial += trained + once * n_seeds;
            bill.shared += trained;
            let deepest = shared.entry(format!("{} {split}", network(plan))).or_insert(0);
            *deepest = once.max(*deepest);
        }
    }
    bill.shared += shared.values().sum::<u64>();
    bill
}

/// What two plans must have in common for the frozen part of one to be the beginning of the other's.
pub fn network(plan: &Plan) -> String {
    let spec = &plan.spec;
    json!([
        plan.network.layout.name,
        spec.model.weights,
        (spec.model.weights == Weights::Random).then_some(spec.seed),
        plan.preprocessing,
        plan.images_json(),
        spec.data,
        spec.augment,
        spec.cache.precision,
        spec.precision,
    ])
    .to_string()
}
