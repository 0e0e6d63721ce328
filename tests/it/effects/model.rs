//! What the keys of the network do.

use xp::spec::schema::model::BackboneName;

use super::Case;
use super::lab::{assert_part_after, assert_same, colours, losses, run};

pub const CASES: &[Case] = &[
    Case {
        keys: &[
            "model",
            "model.backbone",
            "model.backbone=vgg11",
            "model.backbone=vgg13",
            "model.backbone=vgg16",
            "model.backbone=vgg19",
            "model.backbone=vgg11_bn",
            "model.backbone=vgg13_bn",
            "model.backbone=vgg16_bn",
            "model.backbone=vgg19_bn",
            "model.backbone=resnet18",
            "model.backbone=resnet34",
            "model.backbone=resnet50",
            "model.backbone=resnet101",
            "model.backbone=resnet152",
            "model.backbone=mobilenet_v2",
            "model.backbone=efficientnet_lite0",
            "model.backbone=efficientnet_lite1",
            "model.backbone=efficientnet_lite2",
            "model.backbone=efficientnet_lite3",
            "model.backbone=efficientnet_lite4",
            "model.backbone=vgg_tiny",
        ],
        shows: the_backbone_is_the_one_named,
    },
    Case {
        keys: &["model.weights", "model.weights=imagenet", "model.weights=random"],
        shows: weights_are_loaded_or_drawn,
    },
    Case {
        keys: &[
            "model.weights=<string>",
            "model.weights.source",
            "model.weights.blake3",
            "model.weights.file",
            "model.weights.as",
        ],
        shows: weights_come_from_a_source_or_a_file,
    },
    Case {
        keys: &[
            "model.weights.key",
            "model.weights.prefix",
            "model.weights.part",
            "model.weights.by",
            "model.weights.by=position",
            "model.weights.by=name",
            "model.weights.rename",
            "model.weights.rename.*",
        ],
        shows: a_file_of_several_networks_gives_the_one_that_is_chosen,
    },
    Case {
        keys: &[
            "preprocess",
            "preprocess=backbone",
            "preprocess=raw",
            "preprocess=rescale",
            "preprocess=caffe",
            "preprocess=tf",
            "preprocess=torch",
        ],
        shows: pixels_are_changed_as_the_mode_says,
    },
    Case {
        keys: &[
            "model.frozen_layers",
            "model.frozen_layers=<integer>",
            "model.frozen_layers=all",
            "model.frozen_layers=none",
            "model.frozen_layers.through",
            "model.frozen_layers.stages",
        ],
        shows: rows_freeze_as_counted,
    },
    Case {
        keys: &["model.batch_norm", "model.batch_norm=frozen", "model.batch_norm=train"],
        shows: norms_train_when_asked,
    },
    Case {
        keys: &[
            "model.head",
            "model.head=global_average_pool",
            "model.head=flatten",
            "model.head.dense",
            "model.head.dense.units",
        ],
        shows: layers_have_their_parameters,
    },
    Case { keys: &["model.head.dropout"], shows: dropout_is_for_training_alone },
    Case {
        keys: &[
            "model.head.dense.activation",
            "model.head.dense.activation=relu",
            "model.head.dense.activation=softmax",
            "model.head.dense.activation=sigmoid",
        ],
        shows: activations_stand_where_they_belong,
    },
];

fn the_backbone_is_the_one_named() {
    let parameters = |sets: &[&str]| {
        let network = colours().plan(sets).network;
        (network.layout.name, xp::models::classifier::count_parameters(&network).total)
    };
    let lite0 = parameters(&["model.backbone=efficientnet_lite0"]);
    assert_eq!(lite0, ("efficientnet_lite0", 3_371_008 + 3 * 1_281));
    let vgg16 = parameters(&["model.backbone=vgg16", "model.weights=random"]);
    assert_eq!(vgg16, ("vgg16", 14_714_688 + 3 * 513));
    for name in BackboneName::ALL.map(BackboneName::as_str) {
        let plan = colours().plan(&[&format!("model.backbone={name}"), "model.weights=random"]);
        assert_eq!(plan.spec.model.backbone.unwrap().as_str(), name);
    }
}

fn weights_are_loaded_or_drawn() {
    let hash = |sets: &[&str]| run(sets).model().weights_hash.clone();
    assert_eq!(hash(&["model.weights=imagenet"]), hash(&[]));
    assert_ne!(hash(&["model.weights=random"]), hash(&[]));
    assert_part_after(0, &losses(&["model.weights=random"]), &losses(&[]));
}

/// The same network in Keras' and in PyTorch's file, with each one's preprocessing.
fn weights_come_from_a_source_or_a_file() {
    let named = run(&["model.weights=efficientnet_lite0.timm"]).model().weights_hash.clone();
    assert_eq!(named, run(&[]).model().weights_hash);
    let pinned = |hash: &str| format!("model.weights={{ source: efficientnet_lite0.timm, blake3: {hash} }}");
    assert!(colours().is_valid(&[&pinned(&named)]));
    assert!(!colours().is_valid(&[&pinned(&named.replace(['0', '1', '2'], "f"))]));

    for file in ["keras2.h5", "f32.safetensors"] {
        std::fs::write(colours().path(file), crate::weights::unpacked(file)).unwrap();
    }
    let with = |file: &str, source: &str| {
        let model = format!("model={{ backbone: vgg_tiny, weights: {{ file: {file}, as: {source} }} }}");
        run(&[&model]).metric("train.loss")
    };
    let keras = with("keras2.h5", "vgg_tiny.keras");
    let torch = with("f32.safetensors", "vgg_tiny.keras");
    assert_same(&keras, &torch);
    assert_part_after(0, &keras, &with("f32.safetensors", "vgg_tiny.torchvision"));
    assert_part_after(0, &keras, &losses(&["model={ backbone: vgg_tiny, weights: random }"]));
}

fn a_file_of_several_networks_gives_the_one_that_is_chosen() {
    let files = [
        ("weight_matrix/pt.two.ema.pth", "ema.pth"),
        ("weight_matrix/pt.two.flat.pth", "flat.pth"),
        ("weight_matrix/k3.15.1.two.keras", "two.keras"),
        ("swapped_names.h5", "swapped.h5"),
    ];
    for (fixture, file) in files {
        std::fs::write(colours().path(file), crate::weights::unpacked_at(fixture)).unwrap();
    }
    let set = |file: &str, chosen: &str| {
        format!("model={{ backbone: vgg_tiny, weights: {{ file: {file}, as: vgg_tiny.keras, {chosen} }} }}")
    };
    let with = |file: &str, chosen: &str| run(&[&set(file, chosen)]).metric("train.loss");
    let one = with("ema.pth", "key: state_dict");
    let two = with("ema.pth", "key: state_dict_ema");
    assert_part_after(0, &one, &two);
    // The same two networks stand in all of the files, as bf16 in PyTorch's.
    assert_same(&one, &with("flat.pth", "prefix: student."));
    assert_same(&two, &with("flat.pth", "prefix: teacher."));
    assert_same(&one, &with("flat.pth", "rename: { ^student.: net., ^teacher.(.*).weight: 'teacher.$1.kernel' }"));
    assert_part_after(0, &with("two.keras", "part: one"), &with("two.keras", "part: two"));
    assert_part_after(0, &with("swapped.h5", "by: position"), &with("swapped.h5", "by: name"));
    for file in ["flat.pth", "two.keras", "swapped.h5"] {
        assert!(!colours().is_valid(&[&set(file, "blake3: null")]), "{file}");
    }
}

fn pixels_are_changed_as_the_mode_says() {
    let pixels = |mode: &str| colours().plan(&[&format!("preprocess={mode}")]).preprocessing.to_string();
    assert_eq!(pixels("backbone"), "RGB, (x − 127) / 128");
    assert_eq!(pixels("raw"), "RGB, x as it is");
    assert_eq!(pixels("rescale"), "RGB, x / 255");
    assert_eq!(pixels("caffe"), "BGR, x − [103.939, 116.779, 123.68]");
    assert_eq!(pixels("tf"), "RGB, (x − 127.5) / 127.5");
    assert!(pixels("torch").starts_with("RGB, (x − [123.67"), "{}", pixels("torch"));
    assert_same(&losses(&["preprocess=backbone"]), &losses(&[]));
    for mode in ["raw", "rescale", "caffe", "tf", "torch"] {
        assert_part_after(0, &losses(&[&format!("preprocess={mode}")]), &losses(&[]));
        let warnings = colours().plan(&[&format!("preprocess={mode}")]).warnings;
        assert!(warnings[0].contains("expect RGB, (x − 127) / 128"), "{warnings:?}");
    }
    assert_eq!(colours().plan(&[]).warnings, [""; 0]);
}

fn rows_freeze_as_counted() {
    let n_frozen = |frozen: &str| colours().plan(&[&format!("model.frozen_layers={frozen}")]).network.freeze.n_rows;
    assert_eq!(n_frozen("all"), 50);
    assert_eq!(n_frozen("none"), 0);
    assert_eq!(n_frozen("7"), 7);
    assert_eq!(n_frozen("{ through: blocks.6.0.conv_pwl }"), 49);
    assert_eq!(n_frozen("{ stages: 1 }"), 2);
    let trained =
        |frozen: &str| run(&[&format!("model.frozen_layers={frozen}"), "epochs=1"]).model().n_trained_parameters;
    assert_eq!(trained("all"), 3 * 1_281);
    assert!(trained("{ stages: 8 }") > trained("all"));
}

/// With trained norms a batch is normalized by its own mean, so that the first loss is another already.
fn norms_train_when_asked() {
    let with =
        |mode: &str| run(&["model.frozen_layers={ stages: 8 }", &format!("model.batch_norm={mode}"), "epochs=1"]);
    let (frozen, train) = (with("frozen"), with("train"));
    // Scale and shift of the 1,280 channels of the last convolution.
    assert_eq!(train.model().n_trained_parameters - frozen.model().n_trained_parameters, 2 * 1_280);
    assert_part_after(0, &frozen.metric("train.loss"), &train.metric("train.loss"));
}

fn layers_have_their_parameters() {
    let trained = |layers: &str| {
        // Of 64 by 64 pixels 2 by 2 are left at the end.
        let sets = [&format!("model.head=[{layers}]"), "data.image_size=64"];
        xp::models::classifier::count_parameters(&colours().plan(&sets).network).trained
    };
    assert_eq!(trained("global_average_pool, { dense: { units: 3, activation: softmax } }"), 3 * 1_281);
    assert_eq!(trained("flatten, { dense: { units: 3, activation: softmax } }"), 3 * (4 * 1_280 + 1));
    let relu = |units: u64| {
        trained(&format!(
            "global_average_pool, {{ dense: {{ units: {units}, activation: relu }} }}, {{ dense: {{ units: 3, activation: softmax }} }}"
        ))
    };
    assert_eq!(relu(16), 16 * 1_281 + 3 * 17);
    assert_eq!(relu(8), 8 * 1_281 + 3 * 9);
}

/// Nothing moves at such a learning rate, so only what is dropped makes a difference.
fn dropout_is_for_training_alone() {
    let with = |rate: &str| {
        let head = format!(
            "model.head=[global_average_pool, {{ dropout: {rate} }}, {{ dense: {{ units: 3, activation: softmax }} }}]"
        );
        run(&[&head, "optimizer={ sgd: { learning_rate: 1.0e-12 } }", "epochs=2"])
    };
    let (none, half) = (with("0.0"), with("0.5"));
    let losses = half.metric("train.loss");
    assert_part_after(0, &none.metric("train.loss"), &losses);
    assert_part_after(0, &losses[..1], &losses[1..]);
    assert_same(&none.metric("valid.loss"), &half.metric("valid.loss"));
}

fn activations_stand_where_they_belong() {
    let dense = |activation: &str| format!("{{ dense: {{ units: 3, activation: {activation} }} }}");
    let head = |layers: &[String]| format!("model.head=[global_average_pool, {}]", layers.join(", "));
    let hidden = losses(&[&head(&[dense("relu"), dense("softmax")])]);
    assert_part_after(0, &hidden, &losses(&[]));
    for (layers, says) in [
        (vec![dense("relu")], "relu cannot be the last"),
        (vec![dense("softmax"), dense("softmax")], "belong to the last layer"),
        (vec![dense("sigmoid")], "3 sigmoid units"),
    ] {
        let refused = colours().refused(&[&head(&layers)]);
        assert!(refused.contains(says), "{refused}");
    }
}
