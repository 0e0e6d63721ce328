//! Whether the frozen layers' output is kept, and where: decided from sizes and costs alone.

use serde_json::json;

use crate::data::feature_cache::{FORMAT, Facts, FeatureCache};
use crate::report::number::bytes_text;
use crate::run::bill::Keeping;
use crate::run::metric::Split;
use crate::settings::Resources;
use crate::spec::schema::Spec;
use crate::spec::schema::augment::Augment;
use crate::train::features::FeatureTable;
use crate::train::plan::Plan;
use crate::train::step::Frame;

/// Multiply-adds a second that a CPU surely does, and bytes a second that a disk surely gives: only their ratio counts.
const MULTIPLY_ADDS_PER_S: f64 = 50e9;
const DISK_BYTES_PER_S: f64 = 1e9;

/// The random changes to a split's images.
pub fn augment_of(spec: &Spec, split: Split) -> Augment {
    match split {
        Split::Train => spec.augment,
        Split::Valid | Split::Test => Augment::NONE,
    }
}

/// Rows that a split's images make: their views.
pub fn n_rows(spec: &Spec, split: Split, n_images: u64) -> u64 {
    n_images * u64::from(augment_of(spec, split).n_views())
}

/// Bytes of a row on disk.
pub fn row_bytes(plan: &Plan) -> u64 {
    (plan.prefix_chw().iter().product::<usize>() * plan.spec.cache.precision.n_bytes()) as u64
}

/// Decides for a split of so many images.
pub fn decide(plan: &Plan, split: Split, n_images: u64, resources: Resources, cache: Option<&FeatureCache>) -> Keeping {
    let augment = augment_of(&plan.spec, split);
    if plan.network.freeze.n_prefix_nodes == 0 || (augment.draws() && augment.views.is_none()) {
        return Keeping::EveryTime { reason: None };
    }
    let n_rows = n_rows(&plan.spec, split, n_images);
    let (n_bytes, n_disk_bytes) = (FeatureTable::n_bytes(n_rows, plan.prefix_chw()), n_rows * row_bytes(plan));
    let fits = n_bytes <= resources.feature_budget_bytes;
    let time_s = plan.multiply_adds().1 as f64 / MULTIPLY_ADDS_PER_S;
    let is_worth_it = time_s > row_bytes(plan) as f64 / DISK_BYTES_PER_S;
    let every_time = |reason| Keeping::EveryTime { reason: Some(reason) };
    let too_much = |limit: u64, what: &str| {
        let (needed, limit) = (bytes_text(n_disk_bytes), bytes_text(limit));
        every_time(format!("what they give takes {needed}, more than {what} of {limit}"))
    };
    match cache {
        Some(cache) if is_worth_it && n_disk_bytes <= cache.budget_bytes => Keeping::OnDisk { into_memory: fits },
        _ if fits => Keeping::InMemory,
        Some(_) if !is_worth_it => {
            every_time("reading what they give from disk would take longer than they do".to_owned())
        }
        Some(cache) => too_much(cache.budget_bytes, "`cache.budget`"),
        None => {
            let (needed, limit) = (bytes_text(n_bytes), bytes_text(resources.feature_budget_bytes));
            every_time(format!(
                "what they give takes {needed}, more than the {limit} that are kept in memory, and the cache on disk is off"
            ))
        }
    }
}

/// What the rows of a split have in common.
pub fn facts(plan: &Plan, split: Split, frame: &Frame) -> Facts {
    facts_of(plan, split, frame.prefix.hash(), &frame.prefix.kernel())
}

/// The same, for a frozen part of this hash that runs on this kernel.
pub fn facts_of(plan: &Plan, split: Split, weights: &str, kernel: &str) -> Facts {
    let spec = &plan.spec;
    let augment = augment_of(spec, split);
    let views = augment.draws().then(|| json!({ "augment": Augment { views: None, ..augment }, "seed": spec.seed }));
    Facts {
        format: FORMAT,
        backbone: plan.network.layout.name.to_owned(),
        cut: plan.cut().to_owned(),
        weights: weights.to_owned(),
        preprocessing: json!(plan.preprocessing),
        images: plan.images_json(),
        views,
        precision: spec.cache.precision,
        shape: plan.prefix_chw(),
        kernel: format!("{kernel}, xp {}", env!("CARGO_PKG_VERSION")),
    }
}
