//! The HDF5 that Keras 1 and 2 wrote and Keras 3 still writes for `.h5`: a list of layers, and a list of weights in each.

use hdf5_pure::Group;

use crate::weights::format::keras::{Listed, damaged, names};
use crate::weights::format::{FormatError, ModelName, StoredLayer};

/// What Keras keeps under this name belongs to no layer.
const TOP_LEVEL: &str = "top_level_model_weights";

/// What each variable of a layer is called, and where it is.
type Variables = Vec<(String, String)>;

pub(super) fn has_layer_names(group: &Group) -> Result<bool, FormatError> {
    let attributes = group.attrs().map_err(damaged)?;
    Ok(attributes.contains_key("layer_names") || attributes.contains_key("layer_names0"))
}

/// Every layer with weights, in the order of `layer_names`; those of a model that is a layer itself are layers of their
/// own, in the order in which its weights name them.
pub(super) fn layers(group: &Group, prefix: &str) -> Result<Vec<Listed>, FormatError> {
    let mut listed = Vec::new();
    for layer in names(group, "layer_names")?.into_iter().chain([TOP_LEVEL.to_owned()]) {
        let Ok(of_layer) = group.group(&layer) else {
            if layer == TOP_LEVEL {
                continue;
            }
            return Err(FormatError::Damaged(format!("the layer {layer} is listed and not there")));
        };
        let weights = names(&of_layer, "weight_names")?;
        listed.extend(of_group(&layer, &weights, prefix));
    }
    Ok(listed)
}

/// The layers of one group: one, or as many as its weights name.
fn of_group(layer: &str, weights: &[String], prefix: &str) -> Vec<Listed> {
    let mut found: Vec<(Vec<&str>, Variables)> = Vec::new();
    for weight in weights {
        let mut owners: Vec<&str> = weight.split('/').collect();
        let variable = owners.pop().unwrap_or_default();
        let variable = variable.split(':').next().unwrap_or(variable);
        // Keras 1 puts the layer's name and the variable's into one.
        let variable = match owners.is_empty().then(|| of_first_version(variable)).flatten() {
            Some((owner, variable)) => {
                owners.push(owner);
                variable
            }
            None => variable,
        };
        let entry = (variable.to_owned(), format!("{prefix}{layer}/{weight}"));
        match found.iter_mut().find(|(known, _)| *known == owners) {
            Some((_, variables)) => variables.push(entry),
            None => found.push((owners, vec![entry])),
        }
    }
    let is_model = found.len() > 1;
    let listed = found.into_iter().map(|(mut owners, variables)| {
        let own = owners.pop().unwrap_or(layer);
        let (models, group) = if is_model {
            let within = owners.into_iter().filter(|owner| *owner != layer);
            ([layer].into_iter().chain(within).map(ModelName::of_group).collect(), own)
        } else {
            (Vec::new(), layer)
        };
        let layer = StoredLayer {
            models,
            group: group.to_owned(),
            name: Some(own.to_owned()),
            class: None,
            tensors: Vec::new(),
        };
        Listed { layer, variables: in_order(variables) }
    });
    listed.collect()
}

/// Layer and variable of a name of Keras 1, such as `block1_conv1_W` or, of a second model of a session, `block1_conv1_W_1`.
fn of_first_version(name: &str) -> Option<(&str, &str)> {
    let digits = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let name = digits.strip_suffix('_').filter(|_| digits.len() < name.len()).unwrap_or(name);
    let variables = ["W", "b", "gamma", "beta", "running_mean", "running_std"];
    variables.into_iter().find_map(|variable| {
        let owner = name.strip_suffix(variable)?.strip_suffix('_')?;
        (!owner.is_empty()).then_some((owner, variable))
    })
}

/// The variables of a layer in Keras' order: a model's list has those that train first, and a norm's others at its end.
fn in_order(mut variables: Variables) -> Variables {
    let rank = |name: &str| match name {
        "moving_mean" | "running_mean" => 2,
        "moving_variance" | "running_std" | "running_variance" => 3,
        "beta" | "bias" => 1,
        _ => 0,
    };
    let known = ["kernel", "depthwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"];
    if variables.iter().all(|(name, _)| known.contains(&name.as_str())) {
        variables.sort_by_key(|(name, _)| rank(name));
    }
    variables
}
