//! What of a plan decides how it trains, where a spec can say the same in several ways.

use crate::models::classifier::NetworkPlan;
use crate::models::freeze::freeze;
use crate::spec::effect;
use crate::spec::schema::Spec;
use crate::spec::schema::model::BatchNormMode;
use crate::spec::short_forms::FrozenLayers;
use crate::train::plan::Plan;
use crate::train::rate_groups;

/// Equal for plans that train the same: layers are told by how many are frozen, a norm's mode counts where one trains, and
/// the optimizer's rate where a part has it.
pub fn of(plan: &Plan) -> String {
    effect::steps(&plan.spec, |spec| in_plain_words(plan, spec)).to_string()
}

fn in_plain_words(plan: &Plan, mut spec: Spec) -> Spec {
    let layout = &plan.network.layout;
    if let Some(freeze) = spec.model.backbone.and_then(|_| freeze(&spec.model.frozen_layers, layout).ok()) {
        spec.model.frozen_layers = FrozenLayers::Count(freeze.n_rows);
        let network = NetworkPlan { freeze, ..plan.network.clone() };
        let (groups, _) = rate_groups::of(&spec, &network);
        if rate_groups::have_all(&groups, &network) {
            spec.optimizer = spec.optimizer.with_learning_rate(1.0);
        }
    }
    if !plan.trains_norms {
        spec.model.batch_norm = BatchNormMode::Frozen;
    }
    spec
}
