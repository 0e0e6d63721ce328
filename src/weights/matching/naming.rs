//! What others call the modules that torchvision or timm names otherwise.

use std::collections::HashMap;

use crate::models::head::HeadPlan;
use crate::models::layout::Layout;
use crate::models::parameters::TensorAddress;

/// One convention of naming a network's tensors.
#[derive(Clone, Debug)]
pub enum Names {
    /// torchvision's or timm's, as the network's own addresses have them.
    Torch,
    /// Ours: Keras' layers with PyTorch's fields.
    Own,
    /// Another's, by torchvision's or timm's modules.
    Modules(HashMap<String, String>),
}

impl Names {
    /// What a tensor is called.
    pub fn of(&self, address: &TensorAddress) -> String {
        match (self, address.torch.rsplit_once('.')) {
            (Self::Own, _) => address.name.clone(),
            (Self::Modules(_), Some((module, field))) => format!("{}.{field}", self.module(module)),
            _ => address.torch.clone(),
        }
    }

    /// What a module of torchvision's or timm's is called; one that is not known keeps its name.
    pub fn module(&self, torch: &str) -> String {
        match self {
            Self::Torch | Self::Own => torch.to_owned(),
            Self::Modules(modules) => modules.get(torch).cloned().unwrap_or_else(|| torch.to_owned()),
        }
    }
}

/// Every convention that files of a network may follow, the usual one first.
pub fn conventions(layout: &Layout, head: &HeadPlan) -> Vec<Names> {
    let mut all = vec![Names::Torch, Names::Own];
    let mapped = match layout.name {
        name if name.starts_with("efficientnet_lite") => Some(efficientnet_pytorch(layout)),
        name if name.starts_with("resnet") => Some(hugging_face_resnet(layout, head)),
        "mobilenet_v2" => Some(timm_mobilenet_v2(layout, head)),
        _ => None,
    };
    all.extend(mapped.map(Names::Modules));
    all
}

/// torchvision's or timm's modules with tensors, in their order.
fn modules(layout: &Layout, head: &HeadPlan) -> Vec<String> {
    let tensors = layout.nodes.iter().flat_map(|node| node.operation.tensors());
    let of_backbone = tensors.filter_map(|tensor| tensor.torch.rsplit_once('.').map(|(module, _)| module.to_owned()));
    let mut all: Vec<String> = of_backbone.collect();
    all.dedup();
    all.extend(head.dense.iter().map(|dense| dense.names.torch.clone()));
    all
}

/// Those of the packages of EfficientNet-PyTorch, which count blocks through all stages.
fn efficientnet_pytorch(layout: &Layout) -> HashMap<String, String> {
    let ends = [
        ("conv_stem", "_conv_stem"),
        ("bn1", "_bn0"),
        ("conv_head", "_conv_head"),
        ("bn2", "_bn1"),
        ("classifier", "_fc"),
    ];
    let mut names: HashMap<String, String> =
        ends.into_iter().map(|(timm, theirs)| (timm.to_owned(), theirs.to_owned())).collect();
    let rows = layout.rows.iter().filter_map(|row| row.name.rsplit_once('.'));
    let mut blocks: Vec<(&str, Vec<&str>)> = Vec::new();
    for (block, conv) in rows {
        match blocks.last_mut().filter(|(last, _)| *last == block) {
            Some((_, convs)) => convs.push(conv),
            None => blocks.push((block, vec![conv])),
        }
    }
    for (n, (block, convs)) in blocks.into_iter().enumerate() {
        // The first stage does not expand: its norms keep the numbers that they have in blocks which do.
        let all = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")];
        for (i, (conv, (theirs, norm))) in convs.iter().zip(&all[all.len() - convs.len()..]).enumerate() {
            names.insert(format!("{block}.{conv}"), format!("_blocks.{n}.{theirs}"));
            names.insert(format!("{block}.bn{}", i + 1), format!("_blocks.{n}.{norm}"));
        }
    }
    names
}

/// Hugging Face's of `ResNetModel`; its classifier stands outside of it.
///
/// Source: transformers/models/resnet/modeling_resnet.py.
fn hugging_face_resnet(layout: &Layout, head: &HeadPlan) -> HashMap<String, String> {
    let theirs = |module: &str| -> Option<String> {
        let parts: Vec<&str> = module.split('.').collect();
        Some(match parts[..] {
            ["conv1"] => "embedder.embedder.convolution".to_owned(),
            ["bn1"] => "embedder.embedder.normalization".to_owned(),
            ["fc"] => "classifier.1".to_owned(),
            [group, block, ref rest @ ..] => {
                let stage = group.strip_prefix("layer")?.parse::<usize>().ok()? - 1;
                let (within, kind) = match *rest {
                    ["downsample", "0"] => ("shortcut".to_owned(), "convolution"),
                    ["downsample", "1"] => ("shortcut".to_owned(), "normalization"),
                    [part] => {
                        let number = part.trim_start_matches(char::is_alphabetic).parse::<usize>().ok()? - 1;
                        let kind = if part.starts_with("conv") { "convolution" } else { "normalization" };
                        (format!("layer.{number}"), kind)
                    }
                    _ => return None,
                };
                format!("encoder.stages.{stage}.layers.{block}.{within}.{kind}")
            }
            _ => return None,
        })
    };
    modules(layout, head).into_iter().filter_map(|module| Some((module.clone(), theirs(&module)?))).collect()
}

/// timm's of `mobilenetv2_100`, which groups blocks by their stages.
fn timm_mobilenet_v2(layout: &Layout, head: &HeadPlan) -> HashMap<String, String> {
    /// Blocks of each stage. Source: Sandler et al. 2018, table 2.
    const BLOCKS: [usize; 7] = [1, 2, 3, 4, 3, 3, 1];
    let place = |block: usize| {
        let mut first = 0;
        BLOCKS.iter().enumerate().find_map(|(stage, &n)| {
            let here = (block < first + n).then(|| (stage, block - first));
            first += n;
            here
        })
    };
    let theirs = |module: &str| -> Option<String> {
        let parts: Vec<&str> = module.split('.').collect();
        Some(match parts[..] {
            ["features", "0", "0"] => "conv_stem".to_owned(),
            ["features", "0", "1"] => "bn1".to_owned(),
            ["features", "18", "0"] => "conv_head".to_owned(),
            ["features", "18", "1"] => "bn2".to_owned(),
            ["classifier", _] => "classifier".to_owned(),
            ["features", block, "conv", ref rest @ ..] => {
                let (stage, repeat) = place(block.parse::<usize>().ok()?.checked_sub(1)?)?;
                // The first block does not expand.
                let part = match (stage, rest) {
                    (0, ["0", "0"]) => "conv_dw",
                    (0, ["0", "1"]) => "bn1",
                    (0, ["1"]) => "conv_pw",
                    (0, ["2"]) => "bn2",
                    (_, ["0", "0"]) => "conv_pw",
                    (_, ["0", "1"]) => "bn1",
                    (_, ["1", "0"]) => "conv_dw",
                    (_, ["1", "1"]) => "bn2",
                    (_, ["2"]) => "conv_pwl",
                    (_, ["3"]) => "bn3",
                    _ => return None,
                };
                format!("blocks.{stage}.{repeat}.{part}")
            }
            _ => return None,
        })
    };
    modules(layout, head).into_iter().filter_map(|module| Some((module.clone(), theirs(&module)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::efficientnet_lite::{LITE0, LITE1};

    #[test]
    fn blocks_are_counted_through_all_stages() {
        let names = efficientnet_pytorch(&LITE0.layout());
        assert_eq!(names["blocks.0.0.conv_dw"], "_blocks.0._depthwise_conv");
        assert_eq!(names["blocks.0.0.bn1"], "_blocks.0._bn1");
        assert_eq!(names["blocks.0.0.conv_pw"], "_blocks.0._project_conv");
        assert_eq!(names["blocks.2.1.conv_pw"], "_blocks.4._expand_conv");
        assert_eq!(names["blocks.2.1.bn3"], "_blocks.4._bn2");
        assert_eq!(names["blocks.6.0.conv_pwl"], "_blocks.15._project_conv");
        assert_eq!(efficientnet_pytorch(&LITE1.layout())["blocks.6.0.conv_dw"], "_blocks.20._depthwise_conv");
    }
}
