//! What proves that frozen tensors stayed frozen: their hashes before and after training, and what they made of one image.

use serde::Serialize;

/// The tensors of a network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// In the network's order.
    pub tensors: Vec<TensorHash>,
    /// Hash of what the frozen layers give for a made-up image; `None` where there are none.
    pub probe: Option<String>,
}

/// One tensor as it really runs: a kernel that took a norm in is hashed with the norm in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHash {
    pub name: String,
    pub is_frozen: bool,
    /// blake3 of its shape and values, hexadecimal.
    pub hash: String,
}

/// The tensors of a run before its first step and after its last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    pub tensors: Vec<TensorProof>,
    pub probe_before: Option<String>,
    pub probe_after: Option<String>,
}

/// One tensor before and after; `None` until the last epoch is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorProof {
    pub name: String,
    #[serde(rename = "frozen")]
    pub is_frozen: bool,
    pub before: String,
    pub after: Option<String>,
}

/// What training must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// These frozen tensors are not what they were.
    FrozenMoved(Vec<String>),
    /// The frozen layers make something else of the same image.
    ProbeMoved,
    /// No tensor that trains has changed.
    NothingMoved,
}

impl Proof {
    /// Puts two moments of one network together.
    pub fn of(before: &Moment, after: &Moment) -> Self {
        let tensors = before.tensors.iter().map(|tensor| TensorProof {
            name: tensor.name.clone(),
            is_frozen: tensor.is_frozen,
            before: tensor.hash.clone(),
            after: after.tensors.iter().find(|other| other.name == tensor.name).map(|other| other.hash.clone()),
        });
        Self { tensors: tensors.collect(), probe_before: before.probe.clone(), probe_after: after.probe.clone() }
    }

    /// What is wrong once training is over.
    pub fn breach(&self) -> Option<Breach> {
        let moved = |is_frozen: bool| {
            self.tensors.iter().filter(move |tensor| tensor.is_frozen == is_frozen && tensor.has_moved() != Some(false))
        };
        let frozen: Vec<String> = moved(true).map(|tensor| tensor.name.clone()).collect();
        let trains = self.tensors.iter().any(|tensor| !tensor.is_frozen);
        if !frozen.is_empty() {
            Some(Breach::FrozenMoved(frozen))
        } else if self.probe_before != self.probe_after {
            Some(Breach::ProbeMoved)
        } else if trains && moved(false).next().is_none() {
            Some(Breach::NothingMoved)
        } else {
            None
        }
    }
}

impl TensorProof {
    /// Whether it is another one than before; `None` until it is known.
    pub fn has_moved(&self) -> Option<bool> {
        self.after.as_ref().map(|after| *after != self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(hashes: [&str; 4], probe: &str) -> Moment {
        let names =
            [("conv1.weight", true), ("norm1.running_mean", true), ("conv2.weight", false), ("head.bias", false)];
        let tensors = names.into_iter().zip(hashes).map(|((name, is_frozen), hash)| TensorHash {
            name: name.to_owned(),
            is_frozen,
            hash: hash.to_owned(),
        });
        Moment { tensors: tensors.collect(), probe: Some(probe.to_owned()) }
    }

    #[test]
    fn what_moved_and_should_not_is_named() {
        let before = moment(["a", "b", "c", "d"], "p");
        let breach = |after: &Moment| Proof::of(&before, after).breach();
        assert_eq!(breach(&moment(["a", "b", "C", "D"], "p")), None);
        // A tensor whose gradient is nothing may stay.
        assert_eq!(breach(&moment(["a", "b", "c", "D"], "p")), None);
        assert_eq!(breach(&moment(["a", "b", "c", "d"], "p")), Some(Breach::NothingMoved));
        assert_eq!(breach(&moment(["a", "b", "C", "D"], "q")), Some(Breach::ProbeMoved));
        let moved = Breach::FrozenMoved(vec!["norm1.running_mean".to_owned()]);
        assert_eq!(breach(&moment(["a", "B", "C", "D"], "p")), Some(moved));
        // One that is no longer there has moved too.
        let mut lost = moment(["a", "b", "C", "D"], "p");
        lost.tensors.remove(0);
        assert_eq!(breach(&lost), Some(Breach::FrozenMoved(vec!["conv1.weight".to_owned()])));
    }
}
