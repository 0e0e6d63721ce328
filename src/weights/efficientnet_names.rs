//! What the packages of EfficientNet-PyTorch call the modules that timm names otherwise.

use std::collections::BTreeMap;

use crate::models::layout::Layout;

/// A tensor that only files with those names have.
pub const MARK: &str = "_conv_stem.weight";

/// Module by module, theirs by timm's; theirs count blocks through all stages.
pub fn modules(layout: &Layout) -> BTreeMap<String, String> {
    let ends = [
        ("conv_stem", "_conv_stem"),
        ("bn1", "_bn0"),
        ("conv_head", "_conv_head"),
        ("bn2", "_bn1"),
        ("classifier", "_fc"),
    ];
    let mut names: BTreeMap<String, String> =
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::efficientnet_lite::{LITE0, LITE1};

    #[test]
    fn blocks_are_counted_through_all_stages() {
        let names = modules(&LITE0.layout());
        assert_eq!(names["blocks.0.0.conv_dw"], "_blocks.0._depthwise_conv");
        assert_eq!(names["blocks.0.0.bn1"], "_blocks.0._bn1");
        assert_eq!(names["blocks.0.0.conv_pw"], "_blocks.0._project_conv");
        assert_eq!(names["blocks.2.1.conv_pw"], "_blocks.4._expand_conv");
        assert_eq!(names["blocks.2.1.bn3"], "_blocks.4._bn2");
        assert_eq!(names["blocks.6.0.conv_pwl"], "_blocks.15._project_conv");
        assert_eq!(modules(&LITE1.layout())["blocks.6.0.conv_dw"], "_blocks.20._depthwise_conv");
    }
}
