//! Which tensor of a file is which of a network's.
//!
//! Files of PyTorch name every tensor, under a prefix that a wrapper put before it. Keras' files are matched as Keras
//! matches them, by the order of their layers, and by their names; shapes must fit either way. What fits in several ways
//! is an error until the user has chosen.

mod keras;
pub mod naming;
mod torch;

use std::collections::{BTreeSet, HashMap};

use regex::Regex;

use crate::models::head::{HeadPlan, dense_tensors};
use crate::models::layout::Layout;
use crate::models::parameters::TensorAddress;
use crate::spec::schema::weights::Selection;
use crate::weights::axes;
use crate::weights::format::{Convention, TensorFile};

/// The network that a file's tensors are for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub layout: &'a Layout,
    pub top: Top<'a>,
}

/// What of a classifier is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Top<'a> {
    /// Nothing; what a file has of this one is no surprise.
    Known(&'a HeadPlan),
    /// All of it.
    Needed(&'a HeadPlan),
}

/// Which tensor of a file is which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Tensors of the file by the network's own names.
    pub indices: HashMap<String, usize>,
    pub how: How,
    /// What of the file was taken where it has more than the network: a prefix, a dictionary, a model.
    pub taken: Option<String>,
    /// What the user should know of the choice.
    pub warnings: Vec<String>,
    /// The file's names for what is neither the network's nor its classifier's.
    pub unused: Vec<String>,
}

/// What told which tensor is which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    #[default]
    Names,
    /// The names and the order of the layers, which say the same.
    NamesAndPosition,
    /// Names after `rename`.
    Renamed,
    /// The order of the layers, as Keras does it.
    Position,
    /// Shapes that no other layer has.
    Shapes,
}

/// Why a file does not fit a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    /// The network's names for what the file does not have.
    pub missing: Vec<String>,
    /// What has another shape than the network's.
    pub misshaped: Vec<Misshaped>,
    /// The file's names for what the network does not have.
    pub unused: Vec<String>,
    /// What else is to be said: what fits in several ways, or which choice leads nowhere.
    pub reason: Option<String>,
    /// What the user can do.
    pub hint: Option<String>,
}

/// A tensor of another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshaped {
    /// The file's name for it.
    pub name: String,
    /// In the file's order of axes.
    pub found: Vec<usize>,
    pub expected: Vec<usize>,
}

/// Tensors that a message names; more are only counted.
const MAX_LISTED: usize = 10;

/// Parts of names that no network of ours has and no file is wrong for: counters and random states.
const NO_WEIGHTS: [&str; 4] = ["num_batches_tracked", "n_averaged", "seed_generator", "seed_generator_state"];

impl Wanted<'_> {
    /// Tensors of the backbone, in its order.
    fn of_backbone(&self) -> Vec<TensorAddress> {
        self.layout.nodes.iter().flat_map(|node| node.operation.tensors()).collect()
    }

    /// Tensors of the classifier, if it is needed.
    fn of_top(&self) -> Vec<TensorAddress> {
        match self.top {
            Top::Known(_) => Vec::new(),
            Top::Needed(head) => dense_tensors(head).into_iter().flatten().collect(),
        }
    }

    fn head(&self) -> &HeadPlan {
        let (Top::Known(head) | Top::Needed(head)) = self.top;
        head
    }
}

/// Finds a network's tensors in a file.
pub fn matched(file: &dyn TensorFile, wanted: Wanted<'_>, selection: &Selection) -> Result<Matched, Unfit> {
    let renames = renames(selection)?;
    let convention = file.kind().convention();
    let foreign = match convention {
        Convention::Keras => [("key", selection.key.is_some()), ("prefix", selection.prefix.is_some())],
        Convention::Torch => [("part", selection.part.is_some()), ("by", selection.by.is_some())],
    };
    if let Some((key, _)) = foreign.iter().find(|(_, is_given)| *is_given) {
        let own =
            if convention == Convention::Keras { "`part`, `by` and `rename`" } else { "`key`, `prefix` and `rename`" };
        let reason = format!("`{key}` means nothing for a file of {}", file.kind());
        return Err(Unfit {
            reason: Some(reason),
            hint: Some(format!("{own} choose among its tensors")),
            ..Unfit::default()
        });
    }
    if let Some(pattern) = idle(file, &renames) {
        let reason = format!("`rename` has {pattern:?}, which matches none of its names");
        let examples: Vec<String> = (0..file.tensors().len()).map(|i| printable(&full_name(file, i))).collect();
        return Err(Unfit { reason: Some(reason), unused: examples, ..Unfit::default() });
    }
    match convention {
        Convention::Keras => keras::matched(file, wanted, selection, &renames),
        Convention::Torch => torch::matched(file, wanted, selection, &renames),
    }
}

/// The patterns of `rename`, in its order.
fn renames(selection: &Selection) -> Result<Vec<(Regex, String)>, Unfit> {
    let compiled = selection.rename.iter().map(|(pattern, replacement)| {
        let regex = Regex::new(pattern).map_err(|error| Unfit {
            reason: Some(format!("`rename` has {pattern:?}, which is no regular expression: {error}")),
            ..Unfit::default()
        })?;
        Ok((regex, braced(replacement)))
    });
    compiled.collect()
}

/// `\1` of Python's replacements, and `$1`, as `${1}`: `$1_a` would name a group `1_a`.
fn braced(replacement: &str) -> String {
    let group = Regex::new(r"[\\$](\d+)").expect("the pattern is sound");
    group.replace_all(replacement, "$${${1}}").into_owned()
}

/// A pattern of `rename` that changes no name.
fn idle(file: &dyn TensorFile, renames: &[(Regex, String)]) -> Option<String> {
    let mut names: Vec<String> = match file.kind().convention() {
        Convention::Torch => file.tensors().iter().map(|tensor| tensor.name.clone()).collect(),
        Convention::Keras => file.layers().iter().flat_map(keras::paths).collect(),
    };
    for (pattern, replacement) in renames {
        if !names.iter().any(|name| pattern.is_match(name)) {
            return Some(pattern.to_string());
        }
        for name in &mut names {
            *name = pattern.replace_all(name, replacement.as_str()).into_owned();
        }
    }
    None
}

fn renamed(name: &str, renames: &[(Regex, String)]) -> String {
    renames.iter().fold(name.to_owned(), |name, (pattern, replacement)| {
        pattern.replace_all(&name, replacement.as_str()).into_owned()
    })
}

/// A tensor whose shape is not the network's, where it is not.
fn misshaped(file: &dyn TensorFile, index: usize, address: &TensorAddress) -> Option<Misshaped> {
    let tensor = &file.tensors()[index];
    let expected = axes::stored_shape(address, file.kind().convention());
    (tensor.shape != expected).then(|| Misshaped {
        name: printable(&tensor.name),
        found: tensor.shape.clone(),
        expected,
    })
}

/// Whether a name is one that a file has beside its weights.
fn is_no_weight(name: &str) -> bool {
    name.rsplit(['.', '/']).take(3).any(|part| NO_WEIGHTS.contains(&part))
}

/// A name from a file, without what would steer a terminal.
fn printable(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

/// A tensor's whole name: what it stands in, and its name there.
fn full_name(file: &dyn TensorFile, index: usize) -> String {
    let tensor = &file.tensors()[index];
    let separator = match file.kind().convention() {
        Convention::Keras => '/',
        Convention::Torch => '.',
    };
    if tensor.group.is_empty() { tensor.name.clone() } else { format!("{}{separator}{}", tensor.group, tensor.name) }
}

/// Tensors of the file that were not taken, those aside whose name, less what `own_name` takes away, is of a classifier.
fn unused(
    file: &dyn TensorFile,
    indices: &HashMap<String, usize>,
    classifiers: &[String],
    own_name: impl Fn(usize) -> String,
) -> Vec<String> {
    let used: BTreeSet<usize> = indices.values().copied().collect();
    let of_classifier = |name: &str| {
        classifiers
            .iter()
            .map(String::as_str)
            .chain(["head"])
            .any(|module| name.strip_prefix(module).is_some_and(|rest| rest.starts_with(['.', '/', '_'])))
    };
    let all = (0..file.tensors().len()).filter(|i| !used.contains(i));
    let unused = all.filter(|i| !is_no_weight(&file.tensors()[*i].name) && !of_classifier(&own_name(*i)));
    unused.map(|i| printable(&full_name(file, i))).collect()
}

impl Matched {
    /// How the file was read.
    pub fn note(&self) -> String {
        let how = match self.how {
            How::Names => "by name",
            How::NamesAndPosition => "by name and by position",
            How::Renamed => "by name after `rename`",
            How::Position => "by position, as Keras does",
            How::Shapes => "by shapes, which are all different",
        };
        match &self.taken {
            None => format!("weights: matched {how}; all shapes fit"),
            Some(taken) => format!("weights: those of {taken}, matched {how}; all shapes fit"),
        }
    }

    /// What should be known of tensors that are not used.
    pub fn unused_warning(&self) -> Option<String> {
        let example = self.unused.first()?;
        Some(match self.unused.len() {
            1 => format!("a tensor of the weights is not used: {example}"),
            n => format!("{n} tensors of the weights are not used, such as {example}"),
        })
    }
}

impl Unfit {
    pub fn describe(&self) -> String {
        let mut parts: Vec<String> = self.reason.iter().cloned().collect();
        if !self.misshaped.is_empty() {
            let shapes = self
                .misshaped
                .iter()
                .map(|Misshaped { name, found, expected }| format!("{name} of shape {found:?} and not {expected:?}"));
            parts.push(format!("it has {}", listed(&shapes.collect::<Vec<_>>())));
        }
        if !self.missing.is_empty() {
            parts.push(format!("it has no {}", listed(&self.missing)));
        }
        let is_said = self.reason.is_some() || !self.missing.is_empty() || !self.misshaped.is_empty();
        if !is_said {
            parts.push("neither names nor order tell which of its tensors are the network's".to_owned());
        }
        if (!self.missing.is_empty() || !is_said || self.misshaped.is_empty()) && !self.unused.is_empty() {
            parts.push(format!("it has also {}", listed(&self.unused)));
        }
        parts.join("; ")
    }
}

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown,
        n_more => format!("{shown} and {n_more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_take_groups_as_python_and_as_rust_write_them() {
        let pattern = Regex::new("^c([0-9])_([0-9])$").unwrap();
        for replacement in [r"block\1_conv\2", "block$1_conv$2", "block${1}_conv${2}"] {
            assert_eq!(renamed("c3_2", &[(pattern.clone(), braced(replacement))]), "block3_conv2", "{replacement}");
        }
    }
}
