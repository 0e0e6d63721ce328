//! `xp check`: every broken spec exits 2 with file, line, column and a hint.

use std::fs;
use std::path::Path;

use crate::support::{Place, SPEC, write_image};

/// Checks the spec as it stands: the exit code and what was said.
fn check(place: &Place, extra: &[&str]) -> (i32, String) {
    let printed = place.xp(&[&["check", "spec.yaml"], extra].concat());
    // A long message goes on in a second line.
    (printed.code, printed.stderr.replace("\n  │ ", " "))
}

/// A fault must be refused at its place, with a hint.
fn refused(case: &str, place: &Place, at: &str, says: &str) {
    let (code, stderr) = check(place, &[]);
    assert_eq!(code, 2, "{case}: {stderr}");
    for part in [at, "help:", says] {
        assert!(stderr.contains(part), "{case} lacks {part:?}: {stderr}");
    }
}

#[test]
fn the_shipped_specs_are_valid() {
    let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    let mut n_specs = 0;
    for entry in fs::read_dir(experiments).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let printed = Place::new().xp(&["check", path.to_str().unwrap()]);
            // The whole of Fashion-MNIST is no part of this repository.
            let is_here =
                !path.ends_with("fashion_mnist.yaml") || Path::new("/usr/share/datasets/fashion-mnist").exists();
            let wanted = if is_here { 0 } else { 2 };
            assert_eq!(printed.code, wanted, "{}", printed.stderr);
            n_specs += 1;
        }
    }
    assert!(n_specs >= 3, "{n_specs}");
}

#[test]
fn faults_of_the_text_are_pointed_at() {
    let bomb = String::from("epochs: 2\na: &a [x,x,x,x,x,x,x,x,x]\n")
        + "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        + "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
        + "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]\n";
    let cases = [
        ("unknown key", "batch_size", "batchsize", "spec.yaml:8:3", "did you mean `batch_size`?"),
        ("misspelled", "efficientnet_lite0", "efficientnet_lite_0", "spec.yaml:10:13", "did you mean"),
        ("not a number", "epochs: 2", "epochs: two", "spec.yaml:15:9", "expected a whole number"),
        ("wrong type", "seed: 7", "seed: many", "spec.yaml:2:7", "seed"),
        ("duplicate key", "epochs: 2", "epochs: 2\nepochs: 11", "spec.yaml:16:1", "epochs"),
        ("out of range", "dropout: 0.2", "dropout: 1.5", "spec.yaml:13:42", "model.head"),
        ("bad enum", "weights: imagenet", "weights: imagnet", "spec.yaml:11:12", "imagenet"),
        ("alias bomb", "epochs: 2", &bomb, "spec.yaml:", "alias"),
        ("tab", "  train:", "\ttrain:", "spec.yaml:4:", "tab"),
    ];
    for (case, from, to, at, says) in cases {
        let place = Place::new();
        place.edit(from, to);
        refused(case, &place, at, says);
    }
}

#[test]
fn faults_of_the_folders_are_pointed_at() {
    let place = Place::new();
    place.edit("train: data/train", "train: data/trian");
    refused("missing folder", &place, "spec.yaml:4:10", "data/trian");

    let place = Place::new();
    fs::create_dir(place.path("data/valid/green")).unwrap();
    refused("empty class", &place, "spec.yaml:5:10", "\"green\"");

    let place = Place::new();
    write_image(&place.path("data/test/green/0.png"), [0, 200, 0], 0);
    refused("classes differ", &place, "spec.yaml:6:9", "extra \"green\"");

    let place = Place::new();
    place.edit("valid: data/valid", "valid: ./data/../data/train");
    refused("same folder", &place, "spec.yaml:5:10", "the same folder as data.train");

    let place = Place::new();
    place.edit("train: data/train", "train: data");
    refused("one folder too high", &place, "spec.yaml:4:10", "splits, not classes");
}

#[test]
fn faults_of_the_network_are_pointed_at() {
    let cases = [
        ("binary head", "units: 2, activation: softmax", "units: 1, activation: sigmoid", 0, "spec.yaml:13:"),
        ("units", "units: 2", "units: 3", 2, "3 units for 2 classes"),
        (
            "too large",
            "dense: { units: 2,",
            "dense: { units: 900000, activation: relu } }, { dense: { units: 900000, activation: relu } }, { dense: { units: 2,",
            2,
            "the head's weights",
        ),
        ("frozen count", "frozen_layers: all", "frozen_layers: 51", 2, "spec.yaml:12:18"),
        ("frozen stages", "frozen_layers: all", "frozen_layers: { stages: 10 }", 2, "9 stages"),
        ("frozen row", "frozen_layers: all", "frozen_layers: { through: stem }", 2, "conv_stem"),
        ("loss", "epochs: 2", "loss: binary_cross_entropy\nepochs: 2", 2, "spec.yaml:15:7"),
    ];
    for (case, from, to, code, says) in cases {
        let place = Place::new();
        place.edit(from, to);
        let (found, stderr) = check(&place, &[]);
        assert_eq!(found, code, "{case}: {stderr}");
        assert!(code == 0 || stderr.contains(says), "{case}: {stderr}");
    }
    // One sigmoid unit is right for two classes and wrong for ten.
    let place = Place::new();
    for class in 0..8 {
        for split in ["train", "valid", "test"] {
            write_image(&place.path(&format!("data/{split}/class{class}/0.png")), [9; 3], class);
        }
    }
    place.edit("units: 2, activation: softmax", "units: 1, activation: sigmoid");
    refused("binary head with ten classes", &place, "spec.yaml:13:", "10 classes");
}

#[test]
fn a_backbone_without_pretrained_weights_or_for_larger_images_says_so() {
    let place = Place::new();
    place.edit("efficientnet_lite0", "vgg16");
    refused("asked for", &place, "spec.yaml:11:12", "vgg16.keras is not on this machine");
    refused("asked for", &place, "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "`xp weights fetch vgg16.keras`");
    place.edit("  weights: imagenet\n", "");
    refused("left out", &place, "spec.yaml:9:", "vgg16.keras is not on this machine");
    place.edit("backbone: vgg16", "backbone: vgg16\n  weights: random");
    assert_eq!(check(&place, &[]).0, 0);
    place.edit("image_size: 32", "image_size: [40, 31]");
    refused("too small", &place, "spec.yaml:7:3", "vgg16 needs images of at least 32×32, found 40×31");
}

#[test]
fn all_faults_of_values_and_of_meaning_are_reported_together() {
    let place = Place::new();
    place.edit("epochs: 2", "epochs: 0");
    place.edit("size: 4", "size: 0");
    let (code, stderr) = check(&place, &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("epochs:") && stderr.contains("data.batch_size:"), "{stderr}");

    let place = Place::new();
    place.edit("units: 2", "units: 3");
    place.edit("frozen_layers: all", "frozen_layers: 51");
    place.edit("test: data/test", "test: data/nowhere");
    let (code, stderr) = check(&place, &[]);
    assert_eq!(code, 2);
    for part in ["3 units", "50 rows, found 51", "data/nowhere"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }

    // Both kinds in one report, and no run of what is out of range.
    place.edit("epochs: 2", "epochs: 0");
    place.edit("dropout: 0.2", "dropout: 1.5");
    for command in ["check", "run", "summary"] {
        let printed = place.xp(&[command, "spec.yaml"]);
        assert_eq!(printed.code, 2);
        for part in ["epochs: 0 is lower", "1.5 is greater", "3 units", "50 rows, found 51", "data/nowhere"] {
            assert!(printed.stderr.contains(part), "{command} lacks {part}: {}", printed.stderr);
        }
    }
    assert!(!place.path(".xp").exists());
}

#[test]
fn a_size_out_of_range_is_reported_once_with_what_does_not_need_it() {
    let place = Place::new();
    place.edit("image_size: 32", "image_size: [4000000000, 4]");
    place.edit("frozen_layers: all", "frozen_layers: 51");
    place.edit("test: data/test", "test: data/nowhere");
    let (code, stderr) = check(&place, &[]);
    assert_eq!(code, 2);
    for part in ["greater than 4096", "lower than 8", "50 rows, found 51", "data/nowhere"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    place.edit("image_size: [4000000000, 4]", "image_size: 4");
    assert_eq!(check(&place, &[]).1.matches("lower than 8").count(), 1);
}

#[test]
fn a_wrong_set_argument_is_named() {
    let place = Place::new();
    let (code, stderr) = check(&place, &["--set", "optimizer.adam.learning_rate=fast"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--set optimizer.adam.learning_rate=fast"), "{stderr}");
    let (code, stderr) = check(&place, &["--set", "model.frozen_layers=99"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--set model.frozen_layers=99"), "{stderr}");
    assert_eq!(check(&place, &["--set", "optimizer.adam.learning_rate=1e-4"]).0, 0);
    let cases = [
        ("epochs=two", "a whole number from 1 to 1000000, found text \"two\""),
        ("epochs=0", "0 is lower than 1"),
        ("data.batchsize=4", "did you mean `batch_size`?"),
        ("batch_size=4", "belongs under `data`"),
        ("sweep.method=grid", "the key `parameters` is missing"),
        ("optimizer.sgd.momentum=0.9", "the key `learning_rate` is missing"),
        ("data.test=data/nowhere", "data/nowhere"),
        ("model.head.1.dropout=2", "2 is greater than 0.99"),
        ("epochs", "has no `=`"),
        ("=3", "is not a key"),
        ("data..train=a", "is not a key"),
        ("epochs=[", "is not YAML"),
        ("name=!x a", "the tag !x means nothing"),
    ];
    for (set, says) in cases {
        let (code, stderr) = check(&place, &["--set", set]);
        assert_eq!(code, 2, "{set}: {stderr}");
        assert!(stderr.contains(&format!("in `--set {set}`: ")) && stderr.contains(says), "{set}: {stderr}");
        assert!(!stderr.contains("spec.yaml:"), "{set} is blamed on the file: {stderr}");
    }
    let printed = place.xp(&["run", "spec.yaml", "--device", "gpu"]);
    assert_eq!(printed.code, 2);
    assert!(printed.stderr.contains("--device") && printed.stderr.contains("unknown device"), "{}", printed.stderr);
}

#[test]
fn an_argument_takes_the_place_of_what_cannot_stand_beside_it() {
    let place = Place::new();
    let resolved = |set: &str| place.json(&["check", "spec.yaml", "--json", "--set", set]);
    assert_eq!(resolved("optimizer.sgd.learning_rate=0.5")["optimizer"]["sgd"]["learning_rate"], 0.5);
    assert!(resolved("optimizer.sgd.learning_rate=0.5")["optimizer"].get("adam").is_none());
    assert_eq!(resolved("optimizer.adam.beta_1=0.5")["optimizer"]["adam"]["learning_rate"], 1e-3);
    assert_eq!(resolved("schedule.cosine.warmup_epochs=1")["schedule"]["cosine"]["warmup_epochs"], 1);
    assert_eq!(resolved("model.frozen_layers.stages=2")["model"]["frozen_layers"]["stages"], 2);
}

#[test]
fn a_fault_of_the_file_is_not_blamed_on_an_argument() {
    let place = Place::new();
    place.edit("  image_size: 32\n", "");
    let (code, stderr) = check(&place, &["--set", "data.batch_size=4"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("spec.yaml:3:") && stderr.contains("image_size"), "{stderr}");
    let place = Place::new();
    let (_, stderr) = check(&place, &["--set", "model.head.9=flatten"]);
    assert!(stderr.contains("items 0 to 2"), "{stderr}");
}

#[test]
fn a_spec_that_is_not_there_or_not_text_is_refused() {
    let place = Place::new();
    for (name, code) in [("nowhere.yaml", 3), ("data", 2)] {
        let printed = place.xp(&["check", name]);
        assert_eq!(printed.code, code, "{}", printed.stderr);
        assert!(printed.stderr.contains(name) && printed.stderr.contains("hint:"), "{}", printed.stderr);
    }
    fs::write(place.path("binary.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    assert_eq!(place.xp(&["check", "binary.yaml"]).code, 2);
    fs::write(place.path("long.yaml"), "#".repeat(2 << 20) + SPEC).unwrap();
    assert_eq!(place.xp(&["check", "long.yaml"]).code, 2);
    assert_eq!(place.xp(&["check", "/dev/zero"]).code, 2);
}
