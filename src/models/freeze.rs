//! Which rows stay as they are, and where the part ends that runs outside autodiff.

use crate::models::layout::Layout;
use crate::spec::short_forms::FrozenLayers;

/// What `frozen_layers` comes to for one backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Frozen rows, the input included.
    pub n_rows: u64,
    /// Nodes up to the deepest cut within those rows: they run on plain tensors, outside autodiff.
    pub n_prefix_nodes: usize,
    /// Frozen nodes after them, between which and the cut more than one tensor passes.
    pub n_branch_nodes: usize,
}

/// Why a `frozen_layers` does not fit a backbone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    #[error("{backbone} has {n_rows} rows, found {found}")]
    TooManyRows { backbone: &'static str, n_rows: u64, found: u64 },
    #[error("{backbone} has {n_stages} stages, found {found}")]
    TooManyStages { backbone: &'static str, n_stages: u64, found: u64 },
    #[error("{backbone} has no row {name:?}")]
    UnknownRow { backbone: &'static str, name: String },
}

impl Freeze {
    /// A network whose tail is all there is.
    pub const NONE: Self = Self { n_rows: 0, n_prefix_nodes: 0, n_branch_nodes: 0 };

    pub fn n_nodes(self) -> usize {
        self.n_prefix_nodes + self.n_branch_nodes
    }
}

/// Counts the rows that `frozen` names, and finds the cut.
pub fn freeze(frozen: &FrozenLayers, layout: &Layout) -> Result<Freeze, FreezeError> {
    let n_rows = n_frozen_rows(frozen, layout)?;
    let n_nodes = layout.n_nodes(n_rows);
    let ends = (1..=n_rows).map(|n_rows| layout.n_nodes(n_rows));
    let n_prefix_nodes = ends.rev().find(|&end| layout.is_cut(end)).unwrap_or(0);
    Ok(Freeze { n_rows, n_prefix_nodes, n_branch_nodes: n_nodes - n_prefix_nodes })
}

fn n_frozen_rows(frozen: &FrozenLayers, layout: &Layout) -> Result<u64, FreezeError> {
    let backbone = layout.name;
    let n_rows = layout.n_rows();
    match frozen {
        FrozenLayers::None => Ok(0),
        FrozenLayers::All => Ok(n_rows),
        FrozenLayers::Count(found) if *found > n_rows => {
            Err(FreezeError::TooManyRows { backbone, n_rows, found: *found })
        }
        FrozenLayers::Count(found) => Ok(*found),
        FrozenLayers::Stages(found) if *found > layout.n_stages() => {
            Err(FreezeError::TooManyStages { backbone, n_stages: layout.n_stages(), found: *found })
        }
        FrozenLayers::Stages(found) => Ok(1 + layout.rows.iter().filter(|row| row.stage <= *found).count() as u64),
        FrozenLayers::Through(name) => (1..=n_rows)
            .find(|row| layout.row_name(*row) == Some(name))
            .ok_or_else(|| FreezeError::UnknownRow { backbone, name: name.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::efficientnet_lite::LITE0;
    use crate::models::layout::Form;
    use crate::models::resnet::{RESNET18, RESNET50};
    use crate::models::vgg::VGG16;

    /// Frozen rows, rows up to the cut, and frozen nodes after it.
    fn within(layout: &Layout, frozen: FrozenLayers) -> (u64, u64, usize) {
        let freeze = freeze(&frozen, layout).unwrap();
        let cut = (1..=layout.n_rows()).find(|&n_rows| layout.n_nodes(n_rows) == freeze.n_prefix_nodes).unwrap();
        (freeze.n_rows, cut, freeze.n_branch_nodes)
    }

    fn of(frozen: FrozenLayers) -> (u64, u64, usize) {
        within(&LITE0.layout(), frozen)
    }

    #[test]
    fn every_spelling_counts_the_same_rows() {
        assert_eq!(of(FrozenLayers::None), (0, 1, 0));
        assert_eq!(of(FrozenLayers::Count(1)), (1, 1, 0));
        assert_eq!(of(FrozenLayers::Stages(0)), (1, 1, 0));
        assert_eq!(of(FrozenLayers::Stages(1)), of(FrozenLayers::Through("conv_stem".into())));
        assert_eq!(of(FrozenLayers::Stages(2)), of(FrozenLayers::Count(4)));
        assert_eq!(of(FrozenLayers::All), (50, 50, 0));
        assert_eq!(of(FrozenLayers::Stages(9)), of(FrozenLayers::All));
        assert_eq!(of(FrozenLayers::Stages(8)), of(FrozenLayers::Count(49)));
    }

    #[test]
    fn pools_and_the_input_count_as_keras_counts_them() {
        let of = |frozen| within(&VGG16.layout(), frozen);
        assert_eq!(of(FrozenLayers::Count(15)), (15, 15, 0));
        assert_eq!(of(FrozenLayers::Through("block4_pool".into())), of(FrozenLayers::Count(15)));
        assert_eq!(of(FrozenLayers::Stages(4)), of(FrozenLayers::Count(15)));
        assert_eq!(of(FrozenLayers::Stages(5)), of(FrozenLayers::All));
        assert_eq!(of(FrozenLayers::All), (19, 19, 0));
        for row in 1..=19 {
            assert_eq!(of(FrozenLayers::Count(row)), (row, row, 0), "a cut after any row");
        }
    }

    #[test]
    fn a_cut_inside_a_branch_leaves_its_rows_to_the_trained_part() {
        // blocks.1.1 has a residual branch: rows 8, 9 and 10, of which the first two are three nodes each.
        assert_eq!(of(FrozenLayers::Through("blocks.1.0.conv_pwl".into())), (7, 7, 0));
        assert_eq!(of(FrozenLayers::Count(8)), (8, 7, 3));
        assert_eq!(of(FrozenLayers::Count(9)), (9, 7, 6));
        assert_eq!(of(FrozenLayers::Count(10)), (10, 10, 0));
    }

    #[test]
    fn in_a_residual_network_the_cuts_are_where_its_blocks_end() {
        let resnet18 = RESNET18.basic_layout();
        let cuts = |layout: &Layout| {
            let rows = layout.rows(64, 64);
            rows.into_iter().filter(|row| row.is_cut).map(|row| row.name).collect::<Vec<_>>()
        };
        assert_eq!(
            cuts(&resnet18)[..6],
            ["input", "conv1", "maxpool", "layer1.0.conv2", "layer1.1.conv2", "layer2.0.downsample.0"]
        );
        let stage = |stages| within(&resnet18, FrozenLayers::Stages(stages));
        assert_eq!(stage(2), (7, 7, 0));
        let resnet50 = RESNET50.bottleneck_layout(Form::Keras);
        assert_eq!(cuts(&resnet50)[6..9], ["pool1_pool", "conv2_block1_add", "conv2_block1_out"]);
        // Keras orders a shortcut's rows beside the branch's last ones.
        let frozen = within(&resnet50, FrozenLayers::Through("conv2_block1_0_conv".into()));
        assert_eq!(frozen, (14, 7, 7));
    }

    #[test]
    fn what_the_backbone_does_not_have_is_named() {
        let text = |frozen| freeze(&frozen, &LITE0.layout()).unwrap_err().to_string();
        assert_eq!(text(FrozenLayers::Count(51)), "efficientnet_lite0 has 50 rows, found 51");
        assert_eq!(text(FrozenLayers::Stages(10)), "efficientnet_lite0 has 9 stages, found 10");
        assert_eq!(text(FrozenLayers::Through("stem".into())), "efficientnet_lite0 has no row \"stem\"");
    }
}
