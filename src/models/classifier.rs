//! A whole network in two parts: the frozen prefix on plain tensors, and the tail that trains.

use std::sync::OnceLock;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::models::dropout::DropoutAddress;
use crate::models::freeze::Freeze;
use crate::models::head::{Head, HeadPlan, dense_tensors};
use crate::models::layout::{Layout, NodeShape};
use crate::models::operation::Operation;
use crate::models::parameters::{Parameters, ParametersError};
use crate::models::runner::{Runner, vector_unit};
use crate::models::segment::{Norms, Segment};
use crate::spec::schema::precision::PrefixPrecision;

/// What a network is made of, without its tensors.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    pub layout: Layout,
    pub freeze: Freeze,
    pub norms: Norms,
    pub head: HeadPlan,
    /// Of the prefix where it does not run on the CPU, which has f32 alone.
    pub prefix_precision: PrefixPrecision,
}

impl NetworkPlan {
    /// The nodes of the prefix, and those of the tail.
    fn nodes(&self) -> (&[NodeShape], &[NodeShape]) {
        self.layout.nodes.split_at(self.freeze.n_prefix_nodes)
    }

    /// Whether any batch norm computes statistics of the batch.
    pub fn trains_norms(&self) -> bool {
        self.norms == Norms::Trained && self.freeze.n_rows < self.layout.n_rows()
    }
}

/// The frozen nodes up to the deepest cut, outside autodiff.
#[derive(Debug)]
pub struct Prefix {
    engine: Engine,
    /// Made when it is first asked for.
    hash: OnceLock<String>,
}

/// What a prefix runs on.
#[derive(Debug)]
enum Engine {
    /// On the CPU, through kernels of our own.
    Runner(Runner),
    /// On other devices, through burn's.
    Nodes { segment: Segment, shapes: Vec<NodeShape>, precision: PrefixPrecision },
}

/// The nodes after the cut, and the head.
#[derive(Module, Debug)]
pub struct Tail {
    nodes: Segment,
    head: Head,
}

/// Where the tensors of the backbone and of the head come from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub backbone: &'a dyn Parameters,
    pub head: &'a dyn Parameters,
}

impl Prefix {
    /// Builds the prefix on a device without autodiff, its norms folded into its kernels.
    pub fn new(plan: &NetworkPlan, sources: Sources<'_>, device: &Device) -> Result<Self, ParametersError> {
        Self::after(0, plan, sources.backbone, device)
    }

    /// Builds the part of the prefix after the first `start` nodes, where a single tensor passes. On what the nodes before
    /// give, it gives to the bit what the whole prefix does, unless a norm stands first: the prefix has that in a kernel.
    pub fn after(
        start: usize,
        plan: &NetworkPlan,
        backbone: &dyn Parameters,
        device: &Device,
    ) -> Result<Self, ParametersError> {
        let nodes = &plan.nodes().0[start..];
        let segment = Segment::new(nodes, start, backbone, device)?.folded().valid();
        let from_start = |node: &NodeShape| {
            let inputs = node.inputs.iter().map(|input| input - start).collect();
            NodeShape { inputs, ..node.clone() }
        };
        let shapes: Vec<NodeShape> = nodes.iter().map(from_start).collect();
        let n_channels = plan.layout.channels_after(start);
        let engine = match *device == Device::flex() {
            true => Engine::Runner(Runner::new(&segment, &shapes, n_channels)),
            false => {
                let precision = plan.prefix_precision;
                Engine::Nodes { segment: segment.cast(dtype(precision)), shapes, precision }
            }
        };
        Ok(Self { engine, hash: OnceLock::new() })
    }

    pub fn is_empty(&self) -> bool {
        match &self.engine {
            Engine::Runner(runner) => runner.is_empty(),
            Engine::Nodes { shapes, .. } => shapes.is_empty(),
        }
    }

    /// Shape: `[n, 3, h, w]` → `[n, c, h', w']`, see [`Layout::output_chw`].
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        match &self.engine {
            Engine::Nodes { segment, precision, .. } => {
                segment.forward(images.cast(dtype(*precision))).cast(DType::F32)
            }
            Engine::Runner(runner) if runner.is_empty() => images,
            Engine::Runner(runner) => {
                let ([n, c, h, w], device) = (images.dims(), images.device());
                let images: Vec<f32> = images.into_data().try_into_vec().expect("images are f32");
                let (output, [c, h, w]) = runner.forward(&images, [c, h, w]);
                Tensor::from_data(TensorData::new(output, [n, c, h, w]), &device)
            }
        }
    }

    /// What computes its output, as far as that can matter to the last bit.
    pub fn kernel(&self) -> String {
        match &self.engine {
            Engine::Runner(_) => format!("cpu, {}", vector_unit()),
            Engine::Nodes { precision, .. } => format!("burn, {}", precision.as_str()),
        }
    }

    /// Its tensors by name, as they run.
    pub fn tensors(&self) -> Vec<(String, TensorData)> {
        match &self.engine {
            Engine::Runner(runner) => runner.tensors(),
            Engine::Nodes { segment, shapes, .. } => segment.tensors(shapes).flat_map(|(_, tensors)| tensors).collect(),
        }
    }

    /// The hash of its tensors.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| hash(&self.tensors()))
    }
}

impl Tail {
    /// Builds the trained part; on a device with autodiff its free parameters get gradients.
    pub fn new(plan: &NetworkPlan, sources: Sources<'_>, device: &Device) -> Result<Self, ParametersError> {
        let nodes = Segment::new(plan.nodes().1, plan.freeze.n_prefix_nodes, sources.backbone, device)?;
        let nodes = nodes.frozen(plan.freeze.n_branch_nodes, plan.norms);
        Ok(Self { nodes, head: Head::new(&plan.head, sources.head, device)? })
    }

    /// Logits; dropout is off without an address.
    ///
    /// Shape: the prefix's output → `[n, units]`.
    pub fn forward(&self, features: Tensor<4>, dropout: Option<DropoutAddress<'_>>) -> Tensor<2> {
        self.head.forward(self.nodes.forward(features), dropout)
    }
}

fn dtype(precision: PrefixPrecision) -> DType {
    match precision {
        PrefixPrecision::F32 => DType::F32,
        PrefixPrecision::Bf16 => DType::BF16,
    }
}

/// Tensors by name, those that may not change apart from those that train.
#[derive(Debug, Default)]
pub struct NamedTensors {
    pub frozen: Vec<(String, TensorData)>,
    pub trained: Vec<(String, TensorData)>,
}

/// blake3 over names, shapes and bytes, in hexadecimal; the order of the tensors is the network's.
pub fn hash(tensors: &[(String, TensorData)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, data) in tensors {
        hasher.update(name.as_bytes()).update(b"\0");
        hasher.update(format!("{:?} {:?}\0", data.dtype(), data.shape()).as_bytes());
        hasher.update(data.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Every tensor of a network, running statistics included.
pub fn tensors(plan: &NetworkPlan, prefix: &Prefix, tail: &Tail) -> NamedTensors {
    let mut named = NamedTensors::default();
    let tail_nodes = plan.nodes().1;
    named.frozen.extend(prefix.tensors());
    for (i, (operation, tensors)) in tail.nodes.tensors(tail_nodes).enumerate() {
        let is_frozen_norm = plan.norms == Norms::Frozen && matches!(operation, Operation::Norm(_));
        if i < plan.freeze.n_branch_nodes || is_frozen_norm {
            named.frozen.extend(tensors);
        } else {
            named.trained.extend(tensors);
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
    let head: u64 = dense_tensors(&plan.head).iter().flatten().map(|tensor| tensor.n_values() as u64).sum();
    let mut count = ParameterCount { total: head, trained: head };
    for (i, node) in plan.layout.nodes.iter().enumerate() {
        let n_parameters = node.operation.n_parameters();
        count.total += n_parameters;
        let is_frozen_norm = plan.norms == Norms::Frozen && matches!(node.operation, Operation::Norm(_));
        if i >= plan.freeze.n_nodes() && !is_frozen_norm {
            count.trained += n_parameters;
        }
    }
    count
}
