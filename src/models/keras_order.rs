//! The order of `model.layers`, in which Keras counts layers and gives them the weights of a file.

use std::cmp::Reverse;

use crate::models::layout::Layout;

/// Indices in Keras' order: by the longest way to the output, and where that is the same, as a walk from the output meets
/// them, a sum's first input first.
///
/// `inputs` names what each takes, all before it; the last is the output. Source: `map_graph` in
/// keras/src/ops/function.py.
pub fn keras_order(inputs: &[Vec<usize>]) -> Vec<usize> {
    let mut depths = vec![0_usize; inputs.len()];
    for i in (0..inputs.len()).rev() {
        for &input in &inputs[i] {
            depths[input] = depths[input].max(depths[i] + 1);
        }
    }
    let mut met: Vec<Option<usize>> = vec![None; inputs.len()];
    let mut n_met = 0;
    let mut pending: Vec<usize> = inputs.len().checked_sub(1).into_iter().collect();
    while let Some(i) = pending.pop() {
        if met[i].is_none() {
            met[i] = Some(n_met);
            n_met += 1;
            pending.extend(inputs[i].iter().rev());
        }
    }
    let mut ordered: Vec<usize> = (0..inputs.len()).collect();
    ordered.sort_by_key(|&i| (Reverse(depths[i]), met[i]));
    ordered
}

impl Layout {
    /// The nodes by index, in the order of `model.layers`.
    pub fn nodes_in_keras_order(&self) -> Vec<usize> {
        // Nodes count from 1, the input is 0.
        let of_nodes = self.nodes.iter().map(|node| node.inputs.clone());
        let inputs: Vec<Vec<usize>> = [Vec::new()].into_iter().chain(of_nodes).collect();
        keras_order(&inputs).into_iter().filter_map(|i| i.checked_sub(1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::models::backbone;
    use crate::models::layout::Form;
    use crate::spec::schema::model::BackboneName;

    /// Their rows are committed as Keras lists them.
    #[test]
    fn rows_of_networks_that_keras_has_are_in_its_order() {
        for name in [BackboneName::Vgg16, BackboneName::Vgg19, BackboneName::Resnet50, BackboneName::MobilenetV2] {
            let layout = backbone::layout(name, Form::Keras);
            let order = layout.nodes_in_keras_order();
            let weighted = |nodes: Vec<usize>| -> Vec<usize> {
                nodes.into_iter().filter(|i| !layout.nodes[*i].operation.tensors().is_empty()).collect()
            };
            assert_eq!(weighted(order), weighted((0..layout.nodes.len()).collect()), "{}", layout.name);
        }
    }
}
