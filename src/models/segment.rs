//! A stretch of a network that one tensor enters and one leaves.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::models::layout::NodeShape;
use crate::models::node::Node;
use crate::models::operation::Operation;
use crate::models::parameters::{Parameters, ParametersError};

/// Consecutive nodes of a network.
#[derive(Module, Debug)]
pub struct Segment {
    nodes: Vec<Node>,
    /// What each node takes: 0 is what enters, `i` the `i`-th node's output.
    #[module(skip)]
    inputs: Vec<Vec<usize>>,
}

/// What the norms of nodes that are not frozen do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Inference mode, scale and shift untrained.
    Frozen,
    /// Batch statistics, scale and shift trained.
    Trained,
}

impl Segment {
    /// Builds the nodes after the first `start` of a network, where a single tensor passes.
    pub fn new(
        nodes: &[NodeShape],
        start: usize,
        parameters: &dyn Parameters,
        device: &Device,
    ) -> Result<Self, ParametersError> {
        let inputs = nodes.iter().map(|node| node.inputs.iter().map(|input| input - start).collect());
        let nodes = nodes.iter().map(|node| Node::new(&node.operation, parameters, device));
        Ok(Self { inputs: inputs.collect(), nodes: nodes.collect::<Result<_, _>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Shape: `[n, c, h, w]` → the last node's.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mut n_uses = self.n_uses();
        let mut values: Vec<Option<Tensor<4>>> = vec![None; self.nodes.len() + 1];
        values[0] = Some(input);
        for (i, (node, inputs)) in self.nodes.iter().zip(&self.inputs).enumerate() {
            if values[i + 1].is_some() {
                continue;
            }
            // A tensor goes with its last use: memory is bounded by what is still needed.
            let taken: Vec<Tensor<4>> = inputs
                .iter()
                .map(|&input| {
                    n_uses[input] -= 1;
                    let value = if n_uses[input] == 0 { values[input].take() } else { values[input].clone() };
                    value.expect("nodes come after what they take")
                })
                .collect();
            let norm = self.nodes.get(i + 1).filter(|_| n_uses[i + 1] == 1 && self.inputs[i + 1] == [i + 1]);
            match norm.and_then(|norm| node.forward_normed(norm, &taken[0])) {
                Some(normed) => values[i + 2] = Some(normed),
                None => values[i + 1] = Some(node.forward(taken.into_iter())),
            }
        }
        values.pop().flatten().expect("the last node's output is there")
    }

    /// How often each node's output is taken; what enters is the first.
    pub fn n_uses(&self) -> Vec<usize> {
        let mut n_uses = vec![0; self.nodes.len() + 1];
        self.inputs.iter().flatten().for_each(|&input| n_uses[input] += 1);
        n_uses
    }

    /// Freezes its first `n_nodes` nodes, and the norms of the others when asked.
    pub fn frozen(mut self, n_nodes: usize, norms: Norms) -> Self {
        let freeze = |(i, node): (usize, Node)| match norms {
            _ if i < n_nodes => node.freeze(),
            Norms::Frozen if !node.is_conv() => node.freeze(),
            _ => node,
        };
        self.nodes = self.nodes.into_iter().enumerate().map(freeze).collect();
        self
    }

    /// The same function in inference mode, its norms folded into the convolutions before them.
    pub fn folded(mut self) -> Self {
        let n_uses = self.n_uses();
        for i in 0..self.nodes.len() {
            let [input] = self.inputs[i][..] else { continue };
            let foldable = input > 0 && n_uses[input] == 1 && self.nodes[input - 1].is_conv();
            if let Some(norm) = self.nodes[i].take_norm_if(foldable) {
                self.nodes[input - 1].fold(&norm);
            }
        }
        self
    }

    /// With all of its tensors rounded to another kind of number.
    pub fn cast(self, dtype: DType) -> Self {
        self.map(&mut Cast(dtype))
    }

    /// The tensors of each node by name, running statistics included.
    pub fn tensors<'a>(
        &'a self,
        shapes: &'a [NodeShape],
    ) -> impl Iterator<Item = (&'a Operation, Vec<(String, TensorData)>)> {
        let nodes = self.nodes.iter().zip(shapes);
        nodes.map(|(node, shape)| (&shape.operation, node.tensors(&shape.operation)))
    }
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}
