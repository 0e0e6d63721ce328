//! A backbone as a list of rows: what `xp summary` prints and what `frozen_layers` counts.
//!
//! Shapes and names only, no tensors.

use crate::models::layer::LayerShape;

/// Rows between two places where a single tensor passes: one layer, or a block with a residual branch.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitShape {
    /// 1-based, as the family's paper numbers its stages.
    pub stage: u64,
    /// A row each.
    pub layers: Vec<LayerShape>,
    /// Whether the input is added to the output.
    pub residual: bool,
}

/// A backbone without its classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub name: &'static str,
    pub units: Vec<UnitShape>,
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
}

impl UnitShape {
    /// A unit of one layer.
    pub fn single(stage: u64, layer: LayerShape) -> Self {
        Self { stage, layers: vec![layer], residual: false }
    }
}

impl Layout {
    /// All rows but the input.
    pub fn layers(&self) -> impl DoubleEndedIterator<Item = &LayerShape> {
        self.units.iter().flat_map(|unit| &unit.layers)
    }

    /// Rows, the input included.
    pub fn n_rows(&self) -> u64 {
        1 + self.layers().count() as u64
    }

    pub fn n_stages(&self) -> u64 {
        self.units.last().map_or(0, |unit| unit.stage)
    }

    pub fn has_norms(&self) -> bool {
        self.layers().any(|layer| layer.n_norm_parameters() > 0)
    }

    /// The rows for an image of this size in pixels, the input first.
    pub fn rows(&self, height: usize, width: usize) -> Vec<Row> {
        let mut output_chw = [3, height, width];
        let input = Row { name: "input".to_owned(), kind: "input".to_owned(), stage: 0, output_chw, n_parameters: 0 };
        let mut rows = vec![input];
        for unit in &self.units {
            for layer in &unit.layers {
                output_chw = layer.output_chw(output_chw);
                rows.push(Row {
                    name: layer.name().to_owned(),
                    kind: layer.describe(),
                    stage: unit.stage,
                    output_chw,
                    n_parameters: layer.n_parameters(),
                });
            }
        }
        rows
    }

    /// The name of a row, 1-based; the input is row 1.
    pub fn row_name(&self, row: u64) -> Option<&str> {
        match row {
            0 => None,
            1 => Some("input"),
            _ => self.layers().nth(usize::try_from(row).ok()? - 2).map(LayerShape::name),
        }
    }

    /// Channels, height and width after the first `n_units` units.
    pub fn output_chw(&self, n_units: usize, height: usize, width: usize) -> [usize; 3] {
        let layers = self.units[..n_units].iter().flat_map(|unit| &unit.layers);
        layers.fold([3, height, width], |chw, layer| layer.output_chw(chw))
    }

    /// The fewest pixels an image needs along each axis for every row to have an output.
    pub fn smallest_size(&self) -> usize {
        self.layers().rev().fold(1, |output, layer| layer.input_size(output))
    }
}
