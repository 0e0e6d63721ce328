//! Which keys go with images, and which with features that a backbone has made of them before.

use crate::spec::node::Node;
use crate::spec::problem::Problem;
use crate::spec::schema::Spec;
use crate::spec::schema::data::Data;
use crate::spec::schema::source::{HeldOutSource, ImageSource};
use crate::spec::structure::missing_key;

/// Keys that images need.
const NEEDED_FOR_IMAGES: [&str; 2] = ["data.image_size", "model.backbone"];

/// Keys that say nothing about features.
pub(super) const OF_IMAGES_ALONE: [&str; 12] = [
    "data.image_size",
    "data.resize",
    "data.on_bad_image",
    "data.exif",
    "data.decode",
    "model.backbone",
    "model.weights",
    "model.frozen_layers",
    "model.batch_norm",
    "preprocess",
    "augment",
    "cache",
];

/// All keys that do not fit what the data are, and splits that are of two kinds.
pub fn problems(spec: &Spec, node: &Node) -> Vec<Problem> {
    let mut problems = mixed(&spec.data);
    if is_features(&spec.data.train) {
        let written = OF_IMAGES_ALONE.into_iter().filter(|key| is_written(node, key));
        problems.extend(written.map(|key| {
            let (message, hint) = match key {
                "model.backbone" | "model.weights" | "model.frozen_layers" | "model.batch_norm" => (
                    "the data are features: there is no backbone to run",
                    "leave it out; the head is the whole network",
                ),
                _ => (
                    "has no effect on features",
                    "leave it out; what was done to the images is part of the spec that made the features",
                ),
            };
            Problem::new(key, message, hint)
        }));
    } else {
        problems.extend(NEEDED_FOR_IMAGES.into_iter().filter(|key| !is_written(node, key)).map(|key| {
            let (parent, name) = key.split_once('.').expect("it is a key below another");
            let missing = missing_key(&[parent.to_owned()], name);
            Problem { key: parent.to_owned(), ..missing }
        }));
    }
    problems
}

/// The keys that a spec on features does not have, also where their defaults would be filled in.
pub fn without_effect(spec: &Spec) -> &'static [&'static str] {
    if is_features(&spec.data.train) { &OF_IMAGES_ALONE } else { &[] }
}

fn is_features(source: &ImageSource) -> bool {
    matches!(source, ImageSource::Features(_))
}

pub(super) fn is_written(node: &Node, key: &str) -> bool {
    match key.split_once('.') {
        Some((parent, name)) => node.key_place_of(&[parent], name).is_some(),
        None => node.key_place_of(&[], key).is_some(),
    }
}

/// Held-out splits of another kind than the training split.
fn mixed(data: &Data) -> Vec<Problem> {
    let kind = |source: &ImageSource| if is_features(source) { "features" } else { "images" };
    let held_out = [("data.valid", Some(&data.valid)), ("data.test", data.test.as_ref())];
    let other = held_out.into_iter().filter_map(|(key, source)| match source {
        Some(HeldOutSource::Images(source)) if is_features(source) != is_features(&data.train) => Some((key, source)),
        _ => None,
    });
    let problem = |(key, source)| {
        let message = format!("names {}, and data.train names {}", kind(source), kind(&data.train));
        Problem::new(key, message, "all splits hold images, or all hold features")
    };
    other.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use crate::spec::LoadedSpec;
    use crate::spec::fingerprint::{params, resolved};

    const FEATURES: &str = "{ name: head, epochs: 1, model: { head: [flatten, { dense: { units: 2, activation: softmax } }] }, \
        data: { train: { features: a.npy, labels: al.npy }, valid: { features: b.npy, labels: bl.npy, classes: [x, y] } } }";

    fn problems(text: &str, sets: &[&str]) -> Vec<(String, String)> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let loaded = LoadedSpec::from_text("a.yaml".as_ref(), text.to_owned(), &sets).unwrap();
        loaded.out_of_range().iter().map(|problem| (problem.key.clone(), problem.message.clone())).collect()
    }

    #[test]
    fn what_has_no_effect_on_features_is_listed_whole() {
        assert_eq!(problems(FEATURES, &[]), []);
        let sets = ["data.image_size=96", "data.exif=ignore", "augment.zoom=0.2", "model.backbone=vgg16"];
        let keys: Vec<String> = problems(FEATURES, &sets).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["data.image_size", "data.exif", "model.backbone", "augment"]);
        let (_, message) = &problems(FEATURES, &["model.frozen_layers=15"])[0];
        assert_eq!(message, "the data are features: there is no backbone to run");
    }

    #[test]
    fn images_need_a_size_and_a_backbone() {
        let found = problems("{ name: a, data: { train: t, valid: v }, model: {}, epochs: 1 }", &[]);
        let missing = |key: &str| format!("the key `{key}` is missing");
        assert_eq!(found, [("data".into(), missing("image_size")), ("model".into(), missing("backbone"))]);
    }

    #[test]
    fn splits_of_two_kinds_are_refused() {
        let found = problems(FEATURES, &["data.valid=valid"]);
        assert_eq!(found, [("data.valid".into(), "names images, and data.train names features".into())]);
        assert_eq!(problems(FEATURES, &["data.valid={ fraction: 0.2 }"]), []);
    }

    #[test]
    fn a_resolved_spec_on_features_is_one_again() {
        let loaded = LoadedSpec::from_text("a.yaml".as_ref(), FEATURES.to_owned(), &[]).unwrap();
        let text = resolved(&loaded.spec).to_string();
        assert_eq!(problems(&text, &[]), []);
        let again = LoadedSpec::from_text("a.yaml".as_ref(), text, &[]).unwrap();
        assert_eq!(again.spec, loaded.spec);
        let params = params(&loaded.spec);
        assert!(!params.keys().any(|key| key.starts_with("augment") || key == "model.weights"), "{params:?}");
        assert_eq!(params["data.batch_size"], 32);
    }
}
