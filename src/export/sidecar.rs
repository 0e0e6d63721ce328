//! What stands beside an export: all that a program needs to give an image to the network and to read its answer.

use serde_json::{Value, json};

use crate::export::Trained;
use crate::export::framework::Framework;
use crate::models::layout::Layout;
use crate::models::operation::{Operation, PadShape, Padding};
use crate::spec::schema::Loss;
use crate::spec::schema::data::{Decode, Exif, Resize};
use crate::spec::schema::model::{Activation, Dense, HeadLayer};
use crate::weights::locate::Located;
use crate::weights::preprocessing::PixelTransform;
use crate::weights::registry::Source;

/// Where an export comes from, and what its network sees.
#[derive(Clone, Debug)]
pub struct Sidecar<'a> {
    pub run: Value,
    pub name: &'a str,
    pub format: &'static str,
    pub trained: &'a Trained,
    /// Whose weights the backbone began with, and so its form; `None` without a backbone.
    pub source: Option<&'static Source>,
    /// The file of those weights; `None` where they were drawn.
    pub weights: Option<&'a Located>,
    /// `None` where it takes features.
    pub input: Option<ImageInput>,
    /// What made the features that it takes, where that is known.
    pub features: Value,
    pub classes: &'a [String],
    pub framework: Option<&'a Framework>,
    pub order: AxisOrder,
}

/// What an image goes through before it enters the network.
#[derive(Clone, Debug)]
pub struct ImageInput {
    /// As the spec says it: one number or height and width.
    pub image_size: Value,
    pub pixels: PixelTransform,
    pub filter: Resize,
    pub exif: Exif,
    pub decode: Decode,
}

/// Whether channels stand before or behind the pixels of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisOrder {
    ChannelsFirst,
    ChannelsLast,
}

impl Sidecar<'_> {
    pub fn json(&self) -> Value {
        let [channels, height, width] = self.trained.input_chw;
        let shape = match self.order {
            AxisOrder::ChannelsFirst => json!([null, channels, height, width]),
            AxisOrder::ChannelsLast => json!([null, height, width, channels]),
        };
        let mut described = json!({
            "schema": 1,
            "run": self.run,
            "name": self.name,
            "format": self.format,
            "classes": self.classes,
            "input": { "dtype": "float32", "shape": shape, "axes": self.axes() },
            "backbone": self.backbone(),
            "head": self.head(),
            "output": self.output(),
            "framework": self.framework.map(|framework| framework.json(&self.trained.plan.head)),
        });
        if self.input.is_none() {
            described["features"] = self.features.clone();
        }
        if let Some(input) = &self.input {
            described["image_size"] = input.image_size.clone();
            described["resize"] = json!(input.filter);
            described["pixels"] = json!(input.pixels);
            described["preprocessing"] = json!(steps(input, height, width));
        }
        described
    }

    fn axes(&self) -> &'static str {
        match self.order {
            AxisOrder::ChannelsFirst => "batch, channels, height, width",
            AxisOrder::ChannelsLast => "batch, height, width, channels",
        }
    }

    fn backbone(&self) -> Value {
        let Some(source) = self.source else { return Value::Null };
        let layout = &self.trained.plan.layout;
        json!({
            "name": layout.name,
            "as": source.name,
            "weights": self.weights.map(|weights| weights.source.name),
            "weights_blake3": self.weights.map(|weights| weights.blake3.clone()),
            "origin": self.weights.filter(|weights| weights.published.is_some()).map(|_| source.origin),
            "padding": padding(layout),
            "norm_epsilon": norm_epsilon(layout),
            "last_layer": layout.rows.last().map(|row| row.name.clone()),
        })
    }

    fn head(&self) -> Vec<Value> {
        let head = &self.trained.plan.head;
        let mut dense = head.dense.iter();
        let layers = head.layers.iter().map(|layer| match layer {
            HeadLayer::GlobalAveragePool => json!({ "layer": "global_average_pool" }),
            HeadLayer::Flatten => json!({ "layer": "flatten", "axes": self.axes() }),
            HeadLayer::Dropout(rate) => json!({ "layer": "dropout", "rate": rate, "at_inference": "none" }),
            HeadLayer::Dense(Dense { units, activation }) => {
                let shape = dense.next().expect("a plan has a shape for every dense layer");
                let name = match self.order {
                    AxisOrder::ChannelsLast => shape.names.keras_layer(),
                    AxisOrder::ChannelsFirst if self.framework.is_some() => shape.names.torch.clone(),
                    AxisOrder::ChannelsFirst => shape.names.own().to_owned(),
                };
                json!({ "layer": "dense", "name": name, "inputs": shape.n_in, "units": units, "activation": activation })
            }
        });
        layers.collect()
    }

    /// What comes out: what Keras' models compute ends with the activation, tensors alone end with logits.
    fn output(&self) -> Value {
        let last = match self.trained.plan.head.layers.last() {
            Some(HeadLayer::Dense(dense)) => dense.activation,
            _ => Activation::Softmax,
        };
        let class = |i: usize| self.classes.get(i).cloned();
        match self.trained.plan.head.loss {
            Loss::BinaryCrossEntropy => json!({
                "activation": last,
                "units": 1,
                "means": "the probability of the second class, after the activation",
                "class_of_one": class(1),
                "class_of_zero": class(0),
                "threshold": 0.5,
            }),
            _ => json!({
                "activation": last,
                "units": self.classes.len(),
                "means": "the probability of each class in the order of `classes`, after the activation",
            }),
        }
    }
}

/// The steps from a file to the tensor, in their order.
fn steps(input: &ImageInput, height: usize, width: usize) -> Vec<Value> {
    let order = input.pixels.order.as_str();
    let mut steps = vec![json!({
        "step": "decode",
        "to": "RGB, 8 bits",
        "as": match input.decode {
            Decode::LibjpegTurbo => "Pillow's Image.open(file).convert(\"RGB\")",
            Decode::Plain => "Pillow's Image.open(file).convert(\"RGB\"), but JPEG's colours less exactly",
        },
        "alpha": "dropped",
        "exif_orientation": match input.exif {
            Exif::Ignore => "ignored",
            Exif::Apply => "applied, as Pillow's ImageOps.exif_transpose",
        },
    })];
    steps.push(json!({
        "step": "resize",
        "height": height,
        "width": width,
        "filter": input.filter,
        "as": format!("Pillow's image.resize(({width}, {height}), Image.Resampling.{})", pillow(input.filter)),
        "aspect": "squashed: both sides become what is asked for",
    }));
    steps.push(json!({ "step": "crop", "to": "none: the whole image is used" }));
    steps.push(json!({ "step": "order", "channels": order }));
    steps.push(json!({
        "step": "normalize",
        "formula": "(x - mean) / std, x from 0 to 255",
        "mean": input.pixels.mean,
        "std": input.pixels.deviation,
        "channels": order,
    }));
    steps
}

fn pillow(filter: Resize) -> &'static str {
    match filter {
        Resize::Nearest => "NEAREST",
        Resize::Bilinear => "BILINEAR",
        Resize::Bicubic => "BICUBIC",
    }
}

/// Where zeros go in convolutions with a stride, which tells networks of the same tensors apart.
fn padding(layout: &Layout) -> &'static str {
    let is_same = layout.nodes.iter().any(|node| match &node.operation {
        Operation::Conv(conv) => conv.stride > 1 && conv.kernel > 1 && conv.padding == Padding::Same,
        Operation::Pad(PadShape::Same { .. }) => true,
        _ => false,
    });
    if is_same { "same: as TensorFlow, the odd pixel below and right" } else { "even: as many zeros on every side" }
}

/// What is added to the variance; all norms of a network have the same.
fn norm_epsilon(layout: &Layout) -> Option<f64> {
    layout.nodes.iter().find_map(|node| match &node.operation {
        Operation::Norm(norm) => Some(norm.epsilon),
        _ => None,
    })
}
