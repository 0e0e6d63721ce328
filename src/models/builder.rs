//! Puts a backbone's graph together, row by row.

use crate::models::layout::{Layout, NodeShape, RowShape};
use crate::models::operation::Operation;

/// A layout that grows by nodes, which belong to the row that was begun last.
#[derive(Clone, Debug)]
pub struct Builder {
    layout: Layout,
}

impl Builder {
    /// An empty network for images.
    pub fn new(name: &'static str) -> Self {
        Self { layout: Layout { name, ..Layout::input_only(3) } }
    }

    /// Begins a row.
    pub fn row(&mut self, name: impl Into<String>, stage: u64) -> &mut Self {
        self.layout.rows.push(RowShape { name: name.into(), stage, n_nodes: 0 });
        self
    }

    /// The node that was added last; 0, the input, before any.
    pub fn last(&self) -> usize {
        self.layout.nodes.len()
    }

    /// Adds a node that takes the last one's output; returns it.
    pub fn then(&mut self, operation: Operation) -> usize {
        let last = self.last();
        self.after(&[last], operation)
    }

    /// Adds a node that takes these nodes' outputs; returns it.
    pub fn after(&mut self, inputs: &[usize], operation: Operation) -> usize {
        self.layout.rows.last_mut().expect("a row is begun before its nodes").n_nodes += 1;
        self.layout.nodes.push(NodeShape { operation, inputs: inputs.to_vec() });
        self.last()
    }

    pub fn finish(self) -> Layout {
        self.layout
    }
}
