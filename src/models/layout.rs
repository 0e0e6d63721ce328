//! A backbone as a graph of operations and as a list of rows: what `xp summary` prints and what `frozen_layers` counts.
//!
//! Shapes and names only, no tensors.

use crate::models::operation::Operation;

/// Whose form of a network it is. Keras' and PyTorch's weights of ResNet50 and MobileNetV2 were trained with different
/// ones, and so were TensorFlow's and timm's own of EfficientNet-Lite; of the other networks there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Keras,
    /// torchvision's; of EfficientNet-Lite TensorFlow's, as timm's networks whose names begin with `tf_` keep it.
    Torch,
    /// timm's own EfficientNet-Lite, with even padding and epsilon 1e-5.
    TimmEven,
}

/// One operation and what goes into it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeShape {
    pub operation: Operation,
    /// The nodes whose outputs it takes, 1-based and all before it; 0 is the network's input.
    pub inputs: Vec<usize>,
}

/// One row: as many nodes as follow the row before.
#[derive(Clone, Debug, PartialEq)]
pub struct RowShape {
    pub name: String,
    /// 1-based, as the family's paper numbers its stages.
    pub stage: u64,
    pub n_nodes: usize,
}

/// A backbone without its classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub name: &'static str,
    /// Channels of the input: 3 of an image.
    pub n_input_channels: usize,
    /// In an order in which they can be computed; the last gives the output.
    pub nodes: Vec<NodeShape>,
    /// All rows but the input.
    pub rows: Vec<RowShape>,
}

/// One row of `xp summary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub kind: String,
    /// 0 for the input.
    pub stage: u64,
    /// Channels, height and width of its output.
    pub output_chw: [usize; 3],
    pub n_parameters: u64,
    /// Whether its output is all that the rows after it see.
    pub is_cut: bool,
}

/// Images need not be larger than this for any network.
const MAX_SMALLEST_SIZE: usize = 64;

impl Layout {
    /// Nothing but an input of so many channels: what a head on stored features stands on.
    pub fn input_only(n_input_channels: usize) -> Self {
        Self { name: "features", n_input_channels, nodes: Vec::new(), rows: Vec::new() }
    }

    /// The same network up to a row after which a single tensor passes; `None` where there is no such row.
    pub fn through(&self, row: &str) -> Option<Self> {
        if row == "input" {
            return Some(Self { nodes: Vec::new(), rows: Vec::new(), ..self.clone() });
        }
        let n_rows = 1 + self.rows.iter().position(|known| known.name == row)?;
        let n_nodes = self.rows[..n_rows].iter().map(|row| row.n_nodes).sum();
        if !self.is_cut(n_nodes) {
            return None;
        }
        Some(Self { nodes: self.nodes[..n_nodes].to_vec(), rows: self.rows[..n_rows].to_vec(), ..self.clone() })
    }

    /// Rows, the input included.
    pub fn n_rows(&self) -> u64 {
        1 + self.rows.len() as u64
    }

    pub fn n_stages(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.stage)
    }

    /// Nodes of the first so many rows, of which the input is the first and has none.
    pub fn n_nodes(&self, n_rows: u64) -> usize {
        let n_rows = usize::try_from(n_rows.saturating_sub(1)).unwrap_or(usize::MAX);
        self.rows.iter().take(n_rows).map(|row| row.n_nodes).sum()
    }

    pub fn has_norms(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.operation, Operation::Norm(_)))
    }

    /// Whether one tensor passes after the first so many nodes, which is the last one's output.
    pub fn is_cut(&self, n_nodes: usize) -> bool {
        let later = self.nodes[n_nodes..].iter().flat_map(|node| &node.inputs);
        later.copied().all(|input| input >= n_nodes)
    }

    /// The rows for an input of this size in pixels, the input first.
    pub fn rows(&self, height: usize, width: usize) -> Vec<Row> {
        let outputs = self.outputs_chw(height, width);
        let input = Row {
            name: "input".to_owned(),
            kind: "input".to_owned(),
            stage: 0,
            output_chw: outputs[0],
            n_parameters: 0,
            is_cut: true,
        };
        let mut rows = vec![input];
        let mut end = 0;
        for row in &self.rows {
            let nodes = &self.nodes[end..end + row.n_nodes];
            end += row.n_nodes;
            rows.push(Row {
                name: row.name.clone(),
                kind: nodes.first().map(|node| node.operation.describe()).unwrap_or_default(),
                stage: row.stage,
                output_chw: outputs[end],
                n_parameters: nodes.iter().map(|node| node.operation.n_parameters()).sum(),
                is_cut: self.is_cut(end),
            });
        }
        rows
    }

    /// The name of a row, 1-based; the input is row 1.
    pub fn row_name(&self, row: u64) -> Option<&str> {
        match row {
            0 => None,
            1 => Some("input"),
            _ => self.rows.get(usize::try_from(row).ok()? - 2).map(|row| row.name.as_str()),
        }
    }

    /// Channels, height and width of the input and of every node's output.
    pub fn outputs_chw(&self, height: usize, width: usize) -> Vec<[usize; 3]> {
        let mut outputs = vec![[self.n_input_channels, height, width]];
        for node in &self.nodes {
            let input = node.inputs.first().map_or(outputs[0], |input| outputs[*input]);
            outputs.push(node.operation.output_chw(input));
        }
        outputs
    }

    /// Channels, height and width after the first so many nodes.
    pub fn output_chw(&self, n_nodes: usize, height: usize, width: usize) -> [usize; 3] {
        self.outputs_chw(height, width)[n_nodes]
    }

    /// Channels after the first so many nodes.
    pub fn channels_after(&self, n_nodes: usize) -> usize {
        let side = self.smallest_size();
        self.output_chw(n_nodes, side, side)[0]
    }

    /// The fewest pixels an image needs along each axis for every node to have an output.
    pub fn smallest_size(&self) -> usize {
        let fits = |size: &usize| self.outputs_chw(*size, *size).iter().all(|[_, height, _]| *height > 0);
        (1..MAX_SMALLEST_SIZE).find(fits).unwrap_or(MAX_SMALLEST_SIZE)
    }
}
