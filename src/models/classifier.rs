//! A whole network in two parts: the frozen prefix on plain tensors, and the tail that trains.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::models::conv::LayerTensors;
use crate::models::dropout::DropoutAddress;
use crate::models::freeze::Freeze;
use crate::models::head::{Head, HeadPlan};
use crate::models::layout::Layout;
use crate::models::parameters::{Parameters, ParametersError};
use crate::models::unit::{Norms, Unit};

/// What a network is made of, without its tensors.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    pub layout: Layout,
    pub freeze: Freeze,
    pub norms: Norms,
    pub head: HeadPlan,
}

impl NetworkPlan {
    /// Whether any batch norm computes statistics of the batch.
    pub fn trains_norms(&self) -> bool {
        self.norms == Norms::Trained && self.freeze.n_rows < self.layout.n_rows()
    }
}

/// The frozen units up to the deepest cut, outside autodiff.
#[derive(Module, Debug)]
pub struct Prefix {
    units: Vec<Unit>,
}

/// The units after the cut, and the head.
#[derive(Module, Debug)]
pub struct Tail {
    units: Vec<Unit>,
    head: Head,
}

/// Where the tensors of the backbone and of the head come from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub backbone: &'a dyn Parameters,
    pub head: &'a dyn Parameters,
}

impl Prefix {
    /// Builds the prefix on a device without autodiff.
    pub fn new(plan: &NetworkPlan, sources: Sources<'_>, device: &Device) -> Result<Self, ParametersError> {
        let units = plan.layout.units[..plan.freeze.n_prefix_units].iter();
        let units = units.map(|unit| Ok(Unit::new(unit, sources.backbone, device)?.folded()));
        Ok(Self { units: units.collect::<Result<Vec<_>, ParametersError>>()? }.valid())
    }

    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Shape: `[n, 3, h, w]` → `[n, c, h', w']`, see [`Layout::output_chw`].
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.units.iter().fold(images, |x, unit| unit.forward(x))
    }
}

impl Tail {
    /// Builds the trained part; on a device with autodiff its free parameters get gradients.
    pub fn new(plan: &NetworkPlan, sources: Sources<'_>, device: &Device) -> Result<Self, ParametersError> {
        let mut units = Vec::new();
        for (i, shape) in plan.layout.units[plan.freeze.n_prefix_units..].iter().enumerate() {
            let n_frozen_rows = if i == 0 { plan.freeze.n_branch_rows } else { 0 };
            units.push(Unit::new(shape, sources.backbone, device)?.frozen(n_frozen_rows, plan.norms));
        }
        Ok(Self { units, head: Head::new(&plan.head, sources.head, device)? })
    }

    /// Logits; dropout is off without an address.
    ///
    /// Shape: the prefix's output → `[n, units]`.
    pub fn forward(&self, features: Tensor<4>, dropout: Option<DropoutAddress<'_>>) -> Tensor<2> {
        let map = self.units.iter().fold(features, |x, unit| unit.forward(x));
        self.head.forward(map, dropout)
    }
}

/// Tensors by name, those that may not change apart from those that train.
#[derive(Debug, Default)]
pub struct NamedTensors {
    pub frozen: Vec<(String, TensorData)>,
    pub trained: Vec<(String, TensorData)>,
}

/// Every tensor of a network, running statistics included.
pub fn tensors(plan: &NetworkPlan, prefix: &Prefix, tail: &Tail) -> NamedTensors {
    let mut named = NamedTensors::default();
    let shapes = &plan.layout.units;
    for (unit, shape) in prefix.units.iter().zip(shapes) {
        named.frozen.extend(unit.tensors(shape).flat_map(LayerTensors::all));
    }
    for (i, (unit, shape)) in tail.units.iter().zip(&shapes[plan.freeze.n_prefix_units..]).enumerate() {
        let n_frozen_rows = if i == 0 { plan.freeze.n_branch_rows } else { 0 };
        for (row, tensors) in unit.tensors(shape).enumerate() {
            if row < n_frozen_rows {
                named.frozen.extend(tensors.all());
                continue;
            }
            named.trained.extend(tensors.conv);
            match plan.norms {
                Norms::Frozen => named.frozen.extend(tensors.norm),
                Norms::Trained => named.trained.extend(tensors.norm),
            }
        }
    }
    named.trained.extend(tail.head.tensors(&plan.head));
    named
}

/// How many of a network's parameters train; running statistics are not parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterCount {
    pub total: u64,
    pub trained: u64,
}

impl ParameterCount {
    pub fn frozen(self) -> u64 {
        self.total - self.trained
    }
}

/// Counts parameters from shapes alone.
pub fn count_parameters(plan: &NetworkPlan) -> ParameterCount {
    let head: u64 = plan.head.dense.iter().map(|[n_in, units]| (n_in * units + units) as u64).sum();
    let mut count = ParameterCount { total: head, trained: head };
    // The input is row 1.
    for (row, layer) in (2..).zip(plan.layout.layers()) {
        count.total += layer.n_parameters();
        if row > plan.freeze.n_rows {
            count.trained += match plan.norms {
                Norms::Frozen => layer.n_parameters() - layer.n_norm_parameters(),
                Norms::Trained => layer.n_parameters(),
            };
        }
    }
    count
}
