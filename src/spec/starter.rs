//! The spec that a newcomer begins with: whole, commented, and ready to run.

use crate::spec::node::Kind;
use crate::spec::parse::node_from_yaml;

/// What is known about the images; folders are written as the spec has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Starter<'a> {
    /// The experiment.
    pub name: &'a str,
    pub train: &'a str,
    /// Without one, a fifth of the training images is held out.
    pub valid: Option<&'a str>,
    pub test: Option<&'a str>,
    pub n_classes: usize,
    pub n_train_images: usize,
    /// What the file will be called, for the commands in its first lines.
    pub file: &'a str,
}

/// Images a step where there are enough of them; a step of everything learns little.
const BATCH_SIZE: usize = 32;

impl Starter<'_> {
    /// The spec as YAML.
    pub fn yaml(&self) -> String {
        let Self { n_classes, n_train_images, .. } = self;
        // In a comment a line break would end it.
        let file = self.file.replace(char::is_control, "?");
        let (name, train) = (quoted(self.name), quoted(self.train));
        let batch_size = BATCH_SIZE.min(n_train_images.div_ceil(8)).max(1);
        let valid = match self.valid {
            Some(folder) => format!("valid: {} # measured after every epoch; the same classes", quoted(folder)),
            None => "valid: { fraction: 0.2 } # a fifth of them is held out and measured after every epoch".to_owned(),
        };
        let test = match self.test {
            Some(folder) => format!("test: {} # measured once, at the end, with the best epoch", quoted(folder)),
            None => "# test: … # a folder to measure once, at the end, with the best epoch".to_owned(),
        };
        format!(
            "\
# `xp check {file}` checks this, `xp run {file}` trains it, and `xp schema` describes every key there is.
name: {name} # runs of one experiment are listed and compared together
seed: 0 # the same seed gives the same run; another one shows how much is chance
data:
  train: {train} # {n_classes} folders, one a class, relative to this file; {n_train_images} images
  {valid}
  {test}
  image_size: 160 # pixels; 224 is what these weights were trained with, and takes twice as long
  batch_size: {batch_size} # images a step
  on_bad_image: error # `skip` leaves out files that cannot be read, and lists them
model:
  backbone: efficientnet_lite0 # `xp summary {file}` lists its layers
  weights: imagenet # begin with what it learned from ImageNet's 1.2 million images
  frozen_layers: all # only a softmax over the classes trains, which is quick
  # frozen_layers: {{ stages: 7 }} # next: the last layers train too, with a learning rate of 1.0e-4
augment: {{ horizontal_flip: false }} # true: every image is seen mirrored half of the time
optimizer: {{ adam: {{ learning_rate: 1.0e-3 }} }}
epochs: 10 # passes over the training images
checkpoint: {{ monitor: valid.loss }} # the epoch that is best by this is kept and tested
# early_stopping: {{ patience: 3 }} # end sooner when that has not improved for so many epochs
"
        )
    }
}

/// Text as YAML reads it back: plain where that is what YAML takes it for, else between quotes.
fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let reads_back = || matches!(node_from_yaml(text), Ok(node) if node.kind == Kind::Text(text.to_owned()));
    if is_plain && reads_back() {
        return text.to_owned();
    }
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::spec::LoadedSpec;
    use crate::spec::schema::source::{HeldOutSource, ImageSource};

    fn loaded(starter: &Starter<'_>) -> LoadedSpec {
        LoadedSpec::from_text(Path::new("spec.yaml"), starter.yaml(), &[]).unwrap()
    }

    fn starter<'a>(train: &'a str, valid: Option<&'a str>) -> Starter<'a> {
        Starter { name: "pets", train, valid, test: valid, n_classes: 3, n_train_images: 90, file: "spec.yaml" }
    }

    #[test]
    fn it_is_a_valid_spec_with_and_without_folders_of_its_own() {
        let without = loaded(&starter("pets", None));
        assert_eq!(without.out_of_range(), []);
        assert_eq!(without.spec.data.valid, HeldOutSource::Fraction(0.2));
        assert_eq!((without.spec.name.as_str(), without.spec.data.batch_size), ("pets", 12));
        let with = loaded(&starter("pets/train", Some("pets/valid")));
        assert_eq!(with.spec.data.test, Some(HeldOutSource::Images(ImageSource::Folder("pets/valid".into()))));
    }

    #[test]
    fn folders_that_yaml_would_take_for_something_else_are_read_back() {
        for folder in [
            "my photos",
            "a: b",
            "~",
            "~/x",
            "null",
            "1",
            "1e3",
            "true",
            "a #b",
            "it's",
            "\"",
            "\\",
            "é/日本",
            "- a",
            "..",
            "*a",
            "&a",
            "!a",
            "{a}",
            "%a",
            "@a",
            "a\tb",
        ] {
            let spec = loaded(&starter(folder, None)).spec;
            assert_eq!(spec.data.train, ImageSource::Folder(folder.into()), "{folder:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_folder_is_read_back(folder in "\\PC{1,12}|.{1,12}") {
            let spec = loaded(&starter(&folder, None)).spec;
            prop_assert_eq!(spec.data.train, ImageSource::Folder(folder.into()));
        }
    }
}
