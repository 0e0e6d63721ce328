//! What the commands say of files of weights that others wrote.

use serde_json::Value;

use crate::support::Place;
use crate::weights::unpacked_at;

/// A fixture beside the spec, and what makes it the spec's weights.
fn with(place: &Place, fixture: &str, file: &str, more: &str) -> String {
    std::fs::write(place.path(file), unpacked_at(fixture)).unwrap();
    format!("model={{ backbone: vgg_tiny, weights: {{ file: {file}, as: vgg_tiny.keras{more} }}, frozen_layers: all }}")
}

/// What was said, without the frame around it and where its lines break.
fn plain(text: &str) -> String {
    text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every command that uses a file says which of its tensors were taken, and which were not.
#[test]
fn what_is_taken_and_what_is_left_is_said_by_every_command() {
    let place = Place::new();
    let set = with(&place, "weight_matrix/pt.two.flat.pth", "mine.pth", ", prefix: student");
    let is_said = |text: &str| {
        text.contains("those of `student`, matched by name") && text.contains("tensors of the weights are not used")
    };
    let small = ["--set", "epochs=1"];
    for command in [
        &["check", "spec.yaml", "--set", &set][..],
        &["summary", "spec.yaml", "--set", &set],
        &["features", "spec.yaml", "-o", "features", "--set", &set],
        &["lr-find", "spec.yaml", "--steps", "3", "--set", &set],
    ] {
        let said = place.xp(command);
        assert!(said.code == 0 && is_said(&said.stderr), "{command:?} {}{}", said.stdout, said.stderr);
    }
    let run = place.xp(&[&["run", "spec.yaml", "--name", "mine", "--set", &set][..], &small].concat());
    assert!(is_said(&format!("{}{}", run.stdout, run.stderr)), "{}{}", run.stdout, run.stderr);
    let shown = place.json(&["show", "mine", "--json"]);
    assert!(shown["warnings"].to_string().contains("are not used"), "{shown}");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.path("features/manifest.json")).unwrap()).unwrap();
    assert!(manifest["warnings"].to_string().contains("are not used"), "{}", manifest["warnings"]);
    assert!(manifest["notes"].to_string().contains("`student`"), "{}", manifest["notes"]);
}

#[test]
fn what_fits_in_several_ways_is_refused_with_the_choices() {
    let place = Place::new();
    for (fixture, file, choices) in [
        ("weight_matrix/k3.15.1.two.keras", "two.keras", ["`part: one`", "`part: two`"]),
        ("weight_matrix/pt.two.student_teacher.pth", "dino.pth", ["`key: student`", "`key: teacher`"]),
        ("weight_matrix/st.two.safetensors", "two.safetensors", ["`prefix: student`", "`prefix: teacher`"]),
        ("swapped_names.h5", "swapped.h5", ["`by: name`", "`by: position`"]),
    ] {
        let refused = place.xp(&["check", "spec.yaml", "--set", &with(&place, fixture, file, "")]);
        let said = plain(&refused.stderr);
        assert_eq!(refused.code, 2, "{said}");
        assert!(choices.iter().all(|choice| said.contains(choice)), "{said}");
        // Every choice that is named works.
        for choice in choices {
            let set = with(&place, fixture, file, &format!(", {}", choice.trim_matches('`')));
            let chosen = place.xp(&["check", "spec.yaml", "--set", &set]);
            assert_eq!(chosen.code, 0, "{choice}: {}", chosen.stderr);
        }
    }
    let average = with(&place, "weight_matrix/pt.two.ema.pth", "ema.pth", "");
    let taken = place.xp(&["check", "spec.yaml", "--set", &average]);
    assert_eq!(taken.code, 0);
    assert!(
        taken.stderr.contains("the average is taken") && taken.stderr.contains("`key: state_dict`"),
        "{}",
        taken.stderr
    );
    for (more, says) in
        [(", key: nothing", "it has nothing under the key"), (", part: one", "means nothing for a file of")]
    {
        let refused =
            place.xp(&["check", "spec.yaml", "--set", &with(&place, "weight_matrix/pt.two.ema.pth", "ema.pth", more)]);
        assert!(refused.code == 2 && plain(&refused.stderr).contains(says), "{}", refused.stderr);
    }
}

/// Attributes of a subclassed model whose order says nothing.
#[test]
fn layers_that_nothing_tells_apart_are_renamed() {
    let place = Place::new();
    let fixture = "weight_matrix/k3.5.0.sub_short_names.weights.h5";
    let renames = ["c1", "c2", "c3", "c4", "c5", "c6", "c7"].iter().zip([
        "block1_conv1",
        "block2_conv1",
        "block3_conv1",
        "block4_conv1",
        "block4_conv2",
        "block5_conv1",
        "block5_conv2",
    ]);
    let renames: Vec<String> = renames.map(|(own, network)| format!("^{own}$: {network}")).collect();
    let set = with(&place, fixture, "mine.weights.h5", &format!(", rename: {{ {} }}", renames.join(", ")));
    let checked = place.xp(&["check", "spec.yaml", "--set", &set]);
    assert!(checked.code == 0 && checked.stderr.contains("by name after `rename`"), "{}", checked.stderr);
    for (more, says) in [
        (", rename: { '(': a }", "no regular expression"),
        (", rename: { nothing: a }", "matches none of its names"),
        (", rename: { c1: c2 }", "it has no block1_conv1/kernel"),
        (", rename: { '^c(1|2)$': block1_conv1 }", "several of its layers are called block1_conv1"),
    ] {
        let refused = place.xp(&["check", "spec.yaml", "--set", &with(&place, fixture, "mine.weights.h5", more)]);
        assert!(refused.code == 2 && plain(&refused.stderr).contains(says), "{says}: {}", refused.stderr);
    }
    // In PyTorch's files a name that two tensors get is an error too, and so is a prefix that leads nowhere.
    for (more, says) in [
        (", rename: { '^teacher': student }", "several of its tensors are called student.features.0"),
        (", prefix: nobody", "the network stands under `student` and `teacher`"),
    ] {
        let set = with(&place, "weight_matrix/pt.two.flat.pth", "flat.pth", more);
        let refused = place.xp(&["check", "spec.yaml", "--set", &set]);
        assert!(refused.code == 2 && plain(&refused.stderr).contains(says), "{says}: {}", refused.stderr);
    }
}

#[test]
fn what_stands_in_place_of_weights_is_named() {
    let place = Place::new();
    for (content, says) in [
        (unpacked_at("weight_matrix/lfs_pointer.safetensors"), "pointer of Git LFS"),
        (b"<!DOCTYPE html><html>quota exceeded</html>".to_vec(), "web page"),
        (Vec::new(), "it is empty"),
        (b"{}".to_vec(), "no index of weights"),
        (b"GIF89a, and no weights".to_vec(), "no safetensors, PyTorch or Keras file"),
    ] {
        std::fs::write(place.path("mine.pth"), content).unwrap();
        let set = "model={ backbone: vgg_tiny, weights: { file: mine.pth, as: vgg_tiny.torchvision } }";
        let refused = place.xp(&["check", "spec.yaml", "--set", set]);
        let said = plain(&refused.stderr);
        assert!(refused.code == 2 && said.contains(says), "{says}: {said}");
    }
}

/// Where a publisher gives no hash, the content must be that network's.
#[test]
fn weights_add_takes_only_a_file_of_the_network() {
    let place = Place::new();
    let name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5";
    let add = |content: &[u8]| {
        std::fs::write(place.path(name), content).unwrap();
        place.xp(&["weights", "add", name, "--as", "mobilenet_v2.keras"])
    };
    for (content, says) in [
        (b"<html>quota exceeded</html>".to_vec(), "web page"),
        (unpacked_at("published_vgg16_notop.h5"), "it has no Conv1/kernel"),
    ] {
        let refused = add(&content);
        assert!(refused.code != 0 && refused.stderr.contains(says), "{}", refused.stderr);
        assert!(!place.path(&format!("weights/{name}")).exists());
    }
    assert_eq!(add(&unpacked_at("weight_matrix/k3.15.1.mobilenet_v2.nested_functional.model.h5")).code, 0);
    let verified = place.xp(&["weights", "verify", "mobilenet_v2.keras"]);
    assert!(verified.code == 0 && verified.stdout.contains("whose hash is not published"), "{}", verified.stdout);
    std::fs::write(place.path(&format!("weights/{name}")), "<html>").unwrap();
    assert_ne!(place.xp(&["weights", "verify", "mobilenet_v2.keras"]).code, 0);
}

/// timm's two networks of the same names: what tells them apart is used, and where nothing does the user is told.
#[test]
fn a_lookalike_is_never_taken_silently() {
    let place = Place::new();
    let trained = place.xp(&[
        "run",
        "spec.yaml",
        "--name",
        "r",
        "--set",
        "epochs=1",
        "--set",
        "model={ backbone: efficientnet_lite0, frozen_layers: all }",
    ]);
    assert_eq!(trained.code, 0, "{}", trained.stderr);
    assert_eq!(place.xp(&["export", "r", "--format", "safetensors", "-o", "ours.safetensors"]).code, 0);
    let check = |file: &str, source: &str| {
        let set = format!(
            "model={{ backbone: efficientnet_lite0, weights: {{ file: {file}, as: efficientnet_lite0.{source} }} }}"
        );
        place.xp(&["check", "spec.yaml", "--set", &set])
    };
    // Our own export says what it is.
    let own = check("ours.safetensors", "timm");
    assert!(own.code == 0 && !own.stderr.contains("same names"), "{}", own.stderr);
    assert_eq!(check("ours.safetensors", "timm_ra").code, 2);
    // The weights in the binary give the known answers, and so does a copy of them that says nothing of itself.
    let embedded = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/weights/efficientnet_lite0.safetensors");
    std::fs::copy(embedded, place.path("mine.safetensors")).unwrap();
    let bytes = std::fs::read(embedded).unwrap();
    let without_metadata = stripped(&bytes);
    std::fs::write(place.path("bare.safetensors"), &without_metadata).unwrap();
    let known = check("bare.safetensors", "timm");
    assert!(known.code == 0 && !known.stderr.contains("same names"), "{}", known.stderr);
    let other = check("bare.safetensors", "timm_ra");
    assert!(other.code == 2 && other.stderr.contains("as: efficientnet_lite0.timm"), "{}", other.stderr);
    // Others give no known answers.
    let mut altered = without_metadata;
    let n = altered.len();
    altered[n - 200_000..].iter_mut().skip(1).step_by(2).for_each(|byte| *byte ^= 0x80);
    std::fs::write(place.path("altered.safetensors"), &altered).unwrap();
    for source in ["timm", "timm_ra"] {
        let unsure = check("altered.safetensors", source);
        assert!(unsure.code == 0 && unsure.stderr.contains("have the same names"), "{}", unsure.stderr);
    }
    // The hub's description beside the file tells.
    std::fs::write(place.path("config.json"), r#"{"architecture": "efficientnet_lite0"}"#).unwrap();
    assert_eq!(check("altered.safetensors", "timm").code, 2);
    let told = check("altered.safetensors", "timm_ra");
    assert!(told.code == 0 && !told.stderr.contains("same names"), "{}", told.stderr);
}

/// A safetensors file without what is stored beside its tensors.
fn stripped(bytes: &[u8]) -> Vec<u8> {
    let n = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    header.remove("__metadata__");
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text, &bytes[8 + n..]].concat()
}

/// A run that is called as a backbone is.
#[test]
fn a_name_of_a_run_and_of_a_backbone_is_ambiguous() {
    let place = Place::new();
    let set = "model={ backbone: vgg_tiny, weights: random }";
    let trained = place.xp(&["run", "spec.yaml", "--name", "vgg_tiny", "--set", "epochs=1", "--set", set]);
    assert_eq!(trained.code, 0, "{}", trained.stderr);
    let id = place.json(&["show", "vgg_tiny", "--json"])["id"].as_str().unwrap().to_owned();
    let refused = place.xp(&["predict", "vgg_tiny", "data/test/red/0.png"]);
    assert!(refused.code == 2 && refused.stderr.contains("is ambiguous"), "{}", refused.stderr);
    assert!(refused.stderr.contains(&id[id.len() - 6..]), "{}", refused.stderr);
    assert!(place.xp(&["predict", &id, "data/test/red/0.png"]).stdout.contains("red"));
    assert!(place.xp(&["summary", "vgg_tiny"]).stderr.contains("a run is called so too"));
}
