//! What a network's checkpoint holds, by the names that every file of ours has, and where burn keeps it.

use crate::models::classifier::NetworkPlan;
use crate::models::head::dense_tensors;
use crate::models::operation::Operation;
use crate::models::parameters::{Role, TensorAddress};
use crate::models::segment::Norms;

/// A tensor of the part that trains.
#[derive(Clone, Debug)]
pub struct Placed {
    pub address: TensorAddress,
    /// Its path in burn's records of a [`crate::train::step::Trainee`].
    pub path: String,
    /// Whether training may change it; the others are as the weights have them.
    pub trains: bool,
}

/// A row's tensors that do not train.
#[derive(Clone, Debug)]
pub struct FrozenRow {
    pub name: String,
    pub tensors: Vec<TensorAddress>,
}

/// Every tensor of the part that burn trains, in the network's order.
pub fn placed(plan: &NetworkPlan) -> Vec<Placed> {
    let n_prefix_nodes = plan.freeze.n_prefix_nodes;
    let mut all = Vec::new();
    for (i, node) in plan.layout.nodes.iter().enumerate().skip(n_prefix_nodes) {
        let trains = trains(plan, i);
        for address in node.operation.tensors() {
            let path = format!("tail.nodes.nodes.{}.{}", i - n_prefix_nodes, field(&node.operation, address.role));
            all.push(Placed { address, path, trains });
        }
    }
    for (i, tensors) in dense_tensors(&plan.head).into_iter().enumerate() {
        for (address, field) in tensors.into_iter().zip(["weight", "bias"]) {
            all.push(Placed { address, path: format!("tail.head.dense.{i}.{field}"), trains: true });
        }
    }
    all
}

/// The rows of which something does not train, in the network's order.
pub fn frozen_rows(plan: &NetworkPlan) -> Vec<FrozenRow> {
    let mut nodes = plan.layout.nodes.iter().enumerate();
    let rows = plan.layout.rows.iter().map(|row| {
        let frozen = nodes.by_ref().take(row.n_nodes).filter(|(i, _)| !trains(plan, *i));
        let tensors = frozen.flat_map(|(_, node)| node.operation.tensors()).collect();
        FrozenRow { name: row.name.clone(), tensors }
    });
    rows.filter(|row| !row.tensors.is_empty()).collect()
}

fn trains(plan: &NetworkPlan, node: usize) -> bool {
    let is_norm = matches!(plan.layout.nodes[node].operation, Operation::Norm(_));
    node >= plan.freeze.n_nodes() && (plan.norms == Norms::Trained || !is_norm)
}

fn field(operation: &Operation, role: Role) -> &'static str {
    match (operation, role) {
        (Operation::Norm(_), Role::NormScale) => "norm.gamma",
        (Operation::Norm(_), Role::NormShift) => "norm.beta",
        (Operation::Norm(_), Role::RunningMean) => "norm.running_mean",
        (Operation::Norm(_), Role::RunningVariance) => "norm.running_var",
        (_, Role::Bias) => "conv.bias",
        _ => "conv.weight",
    }
}
