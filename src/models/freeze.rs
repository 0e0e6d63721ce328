//! Which rows stay as they are, and where the part ends that runs outside autodiff.

use crate::models::layout::Layout;
use crate::spec::short_forms::FrozenLayers;

/// What `frozen_layers` comes to for one backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Frozen rows, the input included.
    pub n_rows: u64,
    /// Whole frozen units: they run on plain tensors, outside autodiff.
    pub n_prefix_units: usize,
    /// Frozen rows at the start of the unit after them, inside its residual branch.
    pub n_branch_rows: usize,
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

/// Counts the rows that `frozen` names, and the units they fill.
pub fn freeze(frozen: &FrozenLayers, layout: &Layout) -> Result<Freeze, FreezeError> {
    let n_rows = n_frozen_rows(frozen, layout)?;
    // The input is a row of no unit.
    let mut n_rows_left = n_rows.saturating_sub(1) as usize;
    let mut n_prefix_units = 0;
    for unit in &layout.units {
        if n_rows_left < unit.layers.len() {
            break;
        }
        n_rows_left -= unit.layers.len();
        n_prefix_units += 1;
    }
    Ok(Freeze { n_rows, n_prefix_units, n_branch_rows: n_rows_left })
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
        FrozenLayers::Stages(found) => {
            let in_stages = layout.units.iter().filter(|unit| unit.stage <= *found);
            Ok(1 + in_stages.map(|unit| unit.layers.len() as u64).sum::<u64>())
        }
        FrozenLayers::Through(name) => (1..=n_rows)
            .find(|row| layout.row_name(*row) == Some(name))
            .ok_or_else(|| FreezeError::UnknownRow { backbone, name: name.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::efficientnet_lite::lite0;
    use crate::models::vgg::vgg16;

    fn within(layout: &Layout, frozen: FrozenLayers) -> (u64, usize, usize) {
        let freeze = freeze(&frozen, layout).unwrap();
        (freeze.n_rows, freeze.n_prefix_units, freeze.n_branch_rows)
    }

    fn of(frozen: FrozenLayers) -> (u64, usize, usize) {
        within(&lite0(), frozen)
    }

    #[test]
    fn every_spelling_counts_the_same_rows() {
        let n_units = lite0().units.len();
        assert_eq!(of(FrozenLayers::None), (0, 0, 0));
        assert_eq!(of(FrozenLayers::Count(1)), (1, 0, 0));
        assert_eq!(of(FrozenLayers::Stages(0)), (1, 0, 0));
        assert_eq!(of(FrozenLayers::Stages(1)), of(FrozenLayers::Through("conv_stem".into())));
        assert_eq!(of(FrozenLayers::Stages(2)), of(FrozenLayers::Count(4)));
        assert_eq!(of(FrozenLayers::All), (50, n_units, 0));
        assert_eq!(of(FrozenLayers::Stages(9)), of(FrozenLayers::All));
        assert_eq!(of(FrozenLayers::Stages(8)), of(FrozenLayers::Count(49)));
    }

    #[test]
    fn pools_and_the_input_count_as_keras_counts_them() {
        let of = |frozen| within(&vgg16(), frozen);
        assert_eq!(of(FrozenLayers::Count(15)), (15, 14, 0));
        assert_eq!(of(FrozenLayers::Through("block4_pool".into())), of(FrozenLayers::Count(15)));
        assert_eq!(of(FrozenLayers::Stages(4)), of(FrozenLayers::Count(15)));
        assert_eq!(of(FrozenLayers::Stages(5)), of(FrozenLayers::All));
        assert_eq!(of(FrozenLayers::All), (19, 18, 0));
        for row in 1..=19 {
            assert_eq!(of(FrozenLayers::Count(row)), (row, row as usize - 1, 0), "a cut after any row");
        }
    }

    #[test]
    fn a_cut_inside_a_branch_leaves_its_rows_to_the_trained_part() {
        // blocks.1.1 has a residual branch: rows 8, 9 and 10.
        assert_eq!(of(FrozenLayers::Through("blocks.1.0.conv_pwl".into())), (7, 6, 0));
        assert_eq!(of(FrozenLayers::Count(8)), (8, 6, 1));
        assert_eq!(of(FrozenLayers::Count(9)), (9, 6, 2));
        assert_eq!(of(FrozenLayers::Count(10)), (10, 7, 0));
    }

    #[test]
    fn what_the_backbone_does_not_have_is_named() {
        let text = |frozen| freeze(&frozen, &lite0()).unwrap_err().to_string();
        assert_eq!(text(FrozenLayers::Count(51)), "efficientnet_lite0 has 50 rows, found 51");
        assert_eq!(text(FrozenLayers::Stages(10)), "efficientnet_lite0 has 9 stages, found 10");
        assert_eq!(text(FrozenLayers::Through("stem".into())), "efficientnet_lite0 has no row \"stem\"");
    }
}
