//! The proof of what training moved, as the text of `xp show --freezing`.

use crate::report::number::{ABSENT, count_text};
use crate::report::table::{Alignment, Column, table};
use crate::run::freezing::{Proof, TensorProof};

/// Characters of a hash that tell it apart at a glance.
const SHOWN_HASH: usize = 12;

/// Totals, the probe, and every tensor.
pub fn text(name: &str, proof: &Proof, width: usize) -> String {
    let short =
        |hash: &Option<String>| hash.as_ref().map_or(ABSENT, |hash| &hash[..SHOWN_HASH.min(hash.len())]).to_owned();
    let mut text = format!("{name}\n");
    for (is_frozen, what) in [(true, "frozen"), (false, "trained")] {
        let of: Vec<&TensorProof> = proof.tensors.iter().filter(|tensor| tensor.is_frozen == is_frozen).collect();
        let known = of.iter().filter(|tensor| tensor.after.is_some()).count();
        let moved = of.iter().filter(|tensor| tensor.has_moved() == Some(true)).count();
        let outcome = match (of.len(), known, moved) {
            (0, ..) => String::new(),
            (_, 0, _) => ", not known yet what moved".to_owned(),
            (_, _, 0) => ", none moved".to_owned(),
            (n, _, moved) if n == moved => ", all moved".to_owned(),
            (_, _, moved) => format!(", {} moved", count_text(moved as u64)),
        };
        let noun = if of.len() == 1 { "tensor" } else { "tensors" };
        text += &format!("  {} {noun} {what}{outcome}\n", count_text(of.len() as u64));
    }
    text += &match (&proof.probe_before, &proof.probe_after) {
        (None, _) => "  no probe image: nothing is frozen, or it ran on a GPU, whose last bits vary\n".to_owned(),
        (before, None) => format!("  probe image through the frozen layers {}\n", short(before)),
        (before, after) if before == after => {
            format!("  probe image through the frozen layers {}, the same after training\n", short(before))
        }
        (before, after) => {
            format!("  probe image through the frozen layers {}, BUT {} AFTER TRAINING\n", short(before), short(after))
        }
    };
    let column = |header, cell: &dyn Fn(&TensorProof) -> String| {
        Column::new(header, Alignment::Left, proof.tensors.iter().map(cell))
    };
    let columns = [
        column("tensor", &|tensor| tensor.name.clone()).shrinking_to(20),
        column("state", &|tensor| if tensor.is_frozen { "frozen" } else { "trained" }.to_owned()),
        column("moved", &|tensor| match tensor.has_moved() {
            None => ABSENT.to_owned(),
            Some(true) => "yes".to_owned(),
            Some(false) => "no".to_owned(),
        }),
        column("before", &|tensor| short(&Some(tensor.before.clone()))),
        column("after", &|tensor| short(&tensor.after)),
    ];
    text + "\n" + &table(&columns, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::freezing::{Moment, TensorHash};

    #[test]
    fn what_moved_is_told_at_a_glance() {
        let moment = |moved: &str| {
            let tensor = |name: &str, is_frozen, hash: &str| TensorHash {
                name: name.to_owned(),
                is_frozen,
                hash: format!("{hash}0123456789abcdef"),
            };
            Moment {
                tensors: vec![
                    tensor("block1_conv1.weight", true, "aa"),
                    tensor("block5_conv3.weight", false, moved),
                    tensor("head.1.bias", false, moved),
                ],
                probe: Some("0011223344556677".to_owned()),
            }
        };
        insta::assert_snapshot!(text("fashion-calm-otter", &Proof::of(&moment("bb"), &moment("cc")), 80), @r"
        fashion-calm-otter
          1 tensor frozen, none moved
          2 tensors trained, all moved
          probe image through the frozen layers 001122334455, the same after training

        tensor               state    moved  before        after
        ───────────────────────────────────────────────────────────────
        block1_conv1.weight  frozen   no     aa0123456789  aa0123456789
        block5_conv3.weight  trained  yes    bb0123456789  cc0123456789
        head.1.bias          trained  yes    bb0123456789  cc0123456789
        ");
        let begun = Proof::of(&moment("bb"), &Moment::default());
        assert!(text("x", &begun, 80).contains("not known yet what moved"));
    }
}
