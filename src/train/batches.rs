//! How the splits of a plan are cut into batches: what trains as the spec says, what is measured as memory allows.

use std::sync::Arc;

use crate::data::batching::{Batching, LastSingle, Order};
use crate::data::subset;
use crate::run::metric::Split;
use crate::train::plan::Plan;

/// Images that go through a network at once where nothing depends on their number but memory.
const MAX_INFERENCE_BATCH: usize = 32;

/// Bytes that a layer's output may take for all of them.
const MAX_INFERENCE_BYTES: usize = 256 << 20;

/// The batches of a split, whose images have these labels.
pub fn of_split(plan: &Plan, split: Split, labels: &[u32]) -> Batching {
    let spec = &plan.spec;
    let measured = Batching {
        n_images: u32::try_from(labels.len()).expect("a split has fewer images"),
        batch_size: inference_batch(plan, spec.data.batch_size),
        order: Order::Sequential,
        last_single: LastSingle::Stays,
        steps_per_epoch: None,
    };
    match split {
        Split::Train => Batching {
            batch_size: spec.data.batch_size,
            order: Order::Shuffled { seed: spec.seed },
            last_single: if plan.trains_norms { LastSingle::Joins } else { LastSingle::Stays },
            steps_per_epoch: spec.steps_per_epoch,
            ..measured
        },
        Split::Valid => part_of(spec.validation_steps, plan, labels, measured),
        Split::Test => part_of(plan.test_steps, plan, labels, measured),
    }
}

/// The batches of as many images as so many steps take, the same ones every time; all images without a number.
fn part_of(steps: Option<u32>, plan: &Plan, labels: &[u32], all: Batching) -> Batching {
    let data = &plan.spec.data;
    match steps.map(|n| n as usize * data.batch_size as usize) {
        Some(n) if n < labels.len() => {
            let members = subset::stratified(labels, n, data.split_seed);
            Batching { order: Order::Members(members.into()), ..all }
        }
        _ => all,
    }
}

/// Every image of those batches once, so many at a time that memory does not grow with the batch size.
pub fn once(plan: &Plan, batching: &Batching) -> Batching {
    let order = match &batching.order {
        Order::Members(members) => Order::Members(Arc::clone(members)),
        Order::Shuffled { .. } | Order::Sequential => Order::Sequential,
    };
    Batching {
        order,
        batch_size: inference_batch(plan, batching.batch_size),
        last_single: LastSingle::Stays,
        steps_per_epoch: None,
        ..batching.clone()
    }
}

/// The same batches of a table that was filled in the order of [`once`]: it holds the members alone.
pub fn of_table(batching: Batching) -> Batching {
    let n_images = batching.n_members();
    let order = match batching.order {
        Order::Members(_) => Order::Sequential,
        order => order,
    };
    Batching { order, n_images, ..batching }
}

fn inference_batch(plan: &Plan, batch_size: u32) -> u32 {
    batch_size.min(fitting(plan, MAX_INFERENCE_BYTES))
}

/// Images whose largest layer output takes no more than so many bytes; at least one.
pub fn fitting(plan: &Plan, n_bytes: usize) -> u32 {
    let [_, height, width] = plan.input_chw;
    let rows = plan.network.layout.rows(height, width);
    let outputs = rows.iter().map(|row| row.output_chw).chain([plan.input_chw]);
    let largest = outputs.map(|chw| chw.iter().product::<usize>()).max().unwrap_or(1);
    let most = (n_bytes / (largest * size_of::<f32>())).clamp(1, MAX_INFERENCE_BATCH);
    u32::try_from(most).expect("it is clamped")
}
