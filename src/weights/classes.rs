//! The classes that the pretrained classifiers answer with.

use std::sync::LazyLock;

/// One class of ImageNet-1k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// WordNet's number of the noun: `n07920052`.
    pub wnid: &'static str,
    /// As Keras' `decode_predictions` spells it, with underscores: `espresso`, `Egyptian_cat`.
    pub name: &'static str,
}

/// The 1,000 classes of ImageNet-1k by label.
///
/// Names are not unique: `crane` and `maillot` stand there twice.
pub fn imagenet() -> &'static [Class] {
    static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
        let lines = include_str!("imagenet_classes.tsv").lines();
        let class = |line: &'static str| line.split_once('\t').map(|(wnid, name)| Class { wnid, name });
        lines.filter_map(class).collect()
    });
    &CLASSES
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};

    use super::*;

    /// Written as Keras' imagenet_class_index.json is, the list has the MD5 that Keras checks that file against.
    #[test]
    fn the_list_is_the_one_that_keras_decodes_with() {
        let entry = |(label, class): (usize, &Class)| format!("\"{label}\": [\"{}\", \"{}\"]", class.wnid, class.name);
        let entries: Vec<String> = imagenet().iter().enumerate().map(entry).collect();
        let json = format!("{{{}}}", entries.join(", "));
        let md5: String = Md5::digest(json.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(md5, "c2c37ea517e94d9795004a39431a14cb");
    }

    #[test]
    fn labels_are_imagenets() {
        assert_eq!(imagenet()[967], Class { wnid: "n07920052", name: "espresso" });
        assert_eq!(imagenet()[285].name, "Egyptian_cat");
        assert_eq!(imagenet().len(), 1000);
    }
}
