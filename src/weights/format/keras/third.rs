//! The HDF5 of Keras 2.13 and later for `.weights.h5` and `.keras`: groups within groups as objects lie within objects,
//! and the variables of each in a group `vars`.

use hdf5_pure::Group;

use crate::weights::format::keras::{Listed, damaged, names};
use crate::weights::format::{FormatError, ModelName, StoredLayer};

/// Groups within groups that are looked into.
const MAX_DEPTH: usize = 16;

const MAX_GROUPS: usize = 100_000;

/// The group of an object's own variables.
const VARIABLES: &str = "vars";

/// What a model's layers stand in: the second since Keras 2.14.
const OF_LAYERS: [&str; 2] = ["_layer_checkpoint_dependencies", "layers"];

/// What is saved beside the layers and is no weight of theirs.
const NOT_LAYERS: [&str; 2] = ["optimizer", "optimizer_weights"];

/// Every layer with variables. Groups of one kind are in the order of their numbers: `conv2d`, `conv2d_1`, …, `conv2d_10`.
pub(super) fn layers(root: &Group) -> Result<Vec<Listed>, FormatError> {
    let mut listed = Vec::new();
    Walk { listed: &mut listed, n_groups: 0 }.group(root, &At::default())?;
    Ok(listed)
}

/// Where a walk is.
#[derive(Clone, Default)]
struct At {
    path: String,
    models: Vec<ModelName>,
    /// What the group itself is called.
    group: String,
    /// Whether the group stands in a list of layers, where groups are called by their class.
    is_listed: bool,
    depth: usize,
}

struct Walk<'a> {
    listed: &'a mut Vec<Listed>,
    n_groups: usize,
}

impl Walk<'_> {
    fn group(&mut self, group: &Group, at: &At) -> Result<(), FormatError> {
        self.n_groups += 1;
        // Groups may lie in each other.
        if self.n_groups > MAX_GROUPS {
            return Err(FormatError::Damaged(format!("it has more than {MAX_GROUPS} groups")));
        }
        if at.depth > MAX_DEPTH {
            return Err(FormatError::Damaged(format!("its groups are nested more than {MAX_DEPTH} deep")));
        }
        let mut children = group.groups().map_err(damaged)?;
        children.sort_by_cached_key(|name| natural(name));
        let has_variables = children.iter().any(|name| name == VARIABLES);
        let mut own_name = None;
        if has_variables {
            let variables = group.group(VARIABLES).map_err(damaged)?;
            own_name = names(&variables, "name")?.into_iter().next().filter(|name| !name.is_empty());
            self.variables(&variables, at, own_name.clone())?;
        }
        for name in children.iter().filter(|name| *name != VARIABLES) {
            if at.depth == 0 && NOT_LAYERS.contains(&name.as_str()) {
                continue;
            }
            let child = group.group(name).map_err(damaged)?;
            let child_at = at.child(name, own_name.clone(), has_variables);
            self.group(&child, &child_at)?;
        }
        Ok(())
    }

    fn variables(&mut self, group: &Group, at: &At, name: Option<String>) -> Result<(), FormatError> {
        let mut variables = group.datasets().map_err(damaged)?;
        if variables.is_empty() {
            return Ok(());
        }
        variables.sort_by_cached_key(|name| natural(name));
        let class = at.is_listed.then(|| class_of(&at.group).to_owned());
        let layer =
            StoredLayer { models: at.models.clone(), group: at.group.clone(), name, class, tensors: Vec::new() };
        let path = |variable: &String| joined(&joined(&at.path, VARIABLES), variable);
        let variables = variables.iter().map(|variable| (variable.clone(), path(variable))).collect();
        self.listed.push(Listed { layer, variables });
        Ok(())
    }
}

impl At {
    /// A group within this one.
    fn child(&self, name: &str, own_name: Option<String>, is_object: bool) -> Self {
        // Keras 2.13 joins the groups' names by the other slash.
        let parts: Vec<&str> = name.split('\\').collect();
        let (own, before) = parts.split_last().expect("a name has at least one part");
        let mut models = self.models.clone();
        let of_layers = |part: &str| OF_LAYERS.contains(&part);
        if !self.group.is_empty() && !OF_LAYERS.contains(&self.group.as_str()) {
            models.push(ModelName { group: self.group.clone(), name: own_name });
        }
        models.extend(before.iter().filter(|part| !of_layers(part)).map(|part| ModelName::of_group(part)));
        // Whatever has no variables of its own is a list: a model's layers, or an attribute that is one.
        let is_listed = before.last().map_or(!is_object, |last| of_layers(last));
        Self {
            path: joined(&self.path, name),
            models,
            group: (*own).to_owned(),
            is_listed: is_listed && !of_layers(own),
            depth: self.depth + 1,
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// `conv2d` of `conv2d_12`.
fn class_of(group: &str) -> &str {
    match group.rsplit_once('_') {
        Some((class, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => class,
        _ => group,
    }
}

/// A name in the order of the number at its end: without one first.
pub(super) fn natural(name: &str) -> (String, Option<u64>) {
    let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (stem, number) = name.split_at(digits);
    (stem.trim_end_matches('_').to_owned(), number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_in_the_order_of_their_numbers() {
        let mut names = ["conv2d_10", "conv2d_2", "batch_normalization", "conv2d", "c1", "c10", "c2"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(names, ["batch_normalization", "c1", "c2", "c10", "conv2d", "conv2d_2", "conv2d_10"]);
        assert_eq!(["conv2d", "conv2d_12", "conv2d_x"].map(class_of), ["conv2d", "conv2d", "conv2d_x"]);
    }
}
