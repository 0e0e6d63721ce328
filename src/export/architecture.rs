//! A network as Keras' functional models describe it: one JSON that Keras 3 reads with the layers' older form inside.
//!
//! Source: Keras 3.15.1 reads `keras.Model` with the dictionaries of Keras 2's layers; without `module` it refuses them.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::export::Trained;
use crate::models::keras_order::keras_order;
use crate::models::layout::NodeShape;
use crate::models::operation::{Activation as NodeActivation, ConvShape, NormShape, Operation, PadShape, Padding};
use crate::models::parameters::TensorAddress;
use crate::spec::schema::model::{Activation, Dense, HeadLayer};

/// One layer of a Keras model.
#[derive(Clone, Debug, PartialEq)]
pub struct KerasLayer {
    pub name: String,
    /// `Conv2D`, `Dense`, …
    pub class: &'static str,
    pub config: Value,
    /// The layers that it takes.
    pub inputs: Vec<String>,
    /// What it holds, in Keras' order of variables.
    pub tensors: Vec<TensorAddress>,
}

/// The name of the input layer.
const INPUT: &str = "input_1";

/// All layers in an order in which they can be computed.
pub fn layers(trained: &Trained) -> Vec<KerasLayer> {
    let [channels, height, width] = trained.input_chw;
    let config = json!({ "batch_input_shape": [null, height, width, channels], "dtype": "float32", "sparse": false });
    let mut all = vec![layer(INPUT, "InputLayer", config, &[], Vec::new())];
    let layout = &trained.plan.layout;
    // The name of the layer that gives each node's output; 0 is the input.
    let mut outputs = vec![INPUT.to_owned()];
    let mut sizes = layout.outputs_chw(height, width).into_iter();
    for row in &layout.rows {
        let start = outputs.len() - 1;
        for node in &layout.nodes[start..start + row.n_nodes] {
            let input = sizes.next().unwrap_or_default();
            let name = if row.n_nodes == 1 { row.name.clone() } else { name_in_row(&row.name, &node.operation) };
            let inputs: Vec<String> = node.inputs.iter().map(|input| outputs[*input].clone()).collect();
            push_node(&mut all, &name, node, inputs, input);
            outputs.push(name);
        }
    }
    push_head(&mut all, trained, outputs.pop().unwrap_or_default());
    in_keras_order(all)
}

/// The order of `model.layers`, in which Keras gives its layers the weights of a file.
fn in_keras_order(layers: Vec<KerasLayer>) -> Vec<KerasLayer> {
    let place: HashMap<&str, usize> = layers.iter().enumerate().map(|(i, layer)| (layer.name.as_str(), i)).collect();
    let inputs: Vec<Vec<usize>> =
        layers.iter().map(|layer| layer.inputs.iter().map(|input| place[input.as_str()]).collect()).collect();
    let order = keras_order(&inputs);
    let mut layers: Vec<Option<KerasLayer>> = layers.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| layers[i].take()).collect()
}

/// The model's JSON.
pub fn json(name: &str, layers: &[KerasLayer]) -> Value {
    let last = layers.last().map(|layer| layer.name.as_str()).unwrap_or(INPUT);
    let described = layers.iter().map(|layer| {
        let inbound: Vec<Value> = layer.inputs.iter().map(|input| json!([input, 0, 0, {}])).collect();
        let inbound = if inbound.is_empty() { json!([]) } else { json!([inbound]) };
        json!({ "class_name": layer.class, "name": layer.name, "config": layer.config, "inbound_nodes": inbound })
    });
    json!({
        "module": "keras",
        "class_name": "Model",
        "registered_name": null,
        "keras_version": "2.0.8",
        "backend": "tensorflow",
        "config": {
            "name": name,
            "layers": described.collect::<Vec<_>>(),
            "input_layers": [[INPUT, 0, 0]],
            "output_layers": [[last, 0, 0]],
        },
    })
}

fn layer(name: &str, class: &'static str, config: Value, inputs: &[String], tensors: Vec<TensorAddress>) -> KerasLayer {
    let (mut config, name) = (config, undotted(name));
    config["name"] = name.as_str().into();
    KerasLayer { name, class, config, inputs: inputs.iter().map(|input| undotted(input)).collect(), tensors }
}

/// A name without the dots of PyTorch's modules: Keras' layers are modules of PyTorch where that is its backend, and may
/// have none.
fn undotted(name: &str) -> String {
    name.replace('.', "_")
}

/// Nodes with tensors have names of their own; the others are called by their row.
fn name_in_row(row: &str, operation: &Operation) -> String {
    match operation {
        Operation::Conv(conv) => conv.names.own().to_owned(),
        Operation::Norm(norm) => norm.names.own().to_owned(),
        Operation::Activation(_) => format!("{row}_relu"),
        Operation::MaxPool(_) => format!("{row}_pool"),
        Operation::Pad(_) => format!("{row}_pad"),
        Operation::Add => format!("{row}_add"),
    }
}

fn push_node(all: &mut Vec<KerasLayer>, name: &str, node: &NodeShape, inputs: Vec<String>, input_chw: [usize; 3]) {
    let tensors = node.operation.tensors();
    let (class, config) = match &node.operation {
        Operation::Conv(conv) => {
            let side = (conv.kernel - 1) / 2;
            // Keras' own `same` is not even where the stride is more than one.
            let is_padded = conv.padding == Padding::Symmetric && conv.stride > 1 && side > 0;
            let mut inputs = inputs;
            if is_padded {
                let pad_name = format!("{name}_pad");
                let config = json!({ "padding": [[side, side], [side, side]], "data_format": "channels_last" });
                all.push(layer(&pad_name, "ZeroPadding2D", config, &inputs, Vec::new()));
                inputs = vec![pad_name];
            }
            let (class, config) = conv_config(conv, is_padded);
            all.push(layer(name, class, config, &inputs, tensors));
            return;
        }
        Operation::Norm(norm) => ("BatchNormalization", norm_config(norm)),
        Operation::Activation(NodeActivation::Relu) => ("Activation", json!({ "activation": "relu" })),
        Operation::Activation(NodeActivation::Relu6) => ("ReLU", json!({ "max_value": 6.0 })),
        Operation::MaxPool(pool) => {
            let (window, stride) = ([pool.window; 2], [pool.stride; 2]);
            (
                "MaxPooling2D",
                json!({ "pool_size": window, "strides": stride, "padding": "valid", "data_format": "channels_last" }),
            )
        }
        Operation::Pad(pad) => ("ZeroPadding2D", pad_config(*pad, input_chw)),
        Operation::Add => ("Add", json!({})),
    };
    all.push(layer(name, class, config, &inputs, tensors));
}

fn conv_config(conv: &ConvShape, is_padded: bool) -> (&'static str, Value) {
    let padding = match conv.padding {
        Padding::Valid => "valid",
        Padding::Symmetric if is_padded || conv.kernel == 1 => "valid",
        Padding::Same | Padding::Symmetric => "same",
    };
    let mut config = json!({
        "kernel_size": [conv.kernel, conv.kernel],
        "strides": [conv.stride, conv.stride],
        "padding": padding,
        "data_format": "channels_last",
        "activation": "linear",
        "use_bias": conv.bias,
    });
    if conv.depthwise {
        config["depth_multiplier"] = 1.into();
        ("DepthwiseConv2D", config)
    } else {
        config["filters"] = conv.n_out.into();
        ("Conv2D", config)
    }
}

/// Keras' momentum is the share that the running statistics keep.
fn norm_config(norm: &NormShape) -> Value {
    json!({ "axis": -1, "momentum": 1.0 - norm.momentum, "epsilon": norm.epsilon, "center": true, "scale": true })
}

fn pad_config(pad: PadShape, [_, height, width]: [usize; 3]) -> Value {
    let ((top, bottom), (left, right)) = (pad.amounts(height), pad.amounts(width));
    json!({ "padding": [[top, bottom], [left, right]], "data_format": "channels_last" })
}

fn push_head(all: &mut Vec<KerasLayer>, trained: &Trained, mut before: String) {
    let head = &trained.plan.head;
    let mut dense = head.dense.iter();
    for (i, part) in head.layers.iter().enumerate() {
        let (name, class, config, tensors) = match part {
            HeadLayer::GlobalAveragePool => {
                let config = json!({ "data_format": "channels_last" });
                (format!("head.{i}"), "GlobalAveragePooling2D", config, Vec::new())
            }
            HeadLayer::Flatten => (format!("head.{i}"), "Flatten", json!({}), Vec::new()),
            HeadLayer::Dropout(rate) => (format!("head.{i}"), "Dropout", json!({ "rate": rate }), Vec::new()),
            HeadLayer::Dense(Dense { units, activation }) => {
                let shape = dense.next().expect("a plan has a shape for every dense layer");
                let activation = match activation {
                    Activation::Relu => "relu",
                    Activation::Softmax => "softmax",
                    Activation::Sigmoid => "sigmoid",
                };
                let config = json!({ "units": units, "activation": activation, "use_bias": true });
                (shape.names.own().to_owned(), "Dense", config, shape.tensors().to_vec())
            }
        };
        all.push(layer(&name, class, config, &[before], tensors));
        before = name;
    }
}
