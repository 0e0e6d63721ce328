//! What the keys of augmentation do: images are made so that only what a key is for can change them.
//!
//! Nothing moves at a learning rate of almost 0, so the training loss of an epoch is a function of its images alone.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use self::Pattern::{Black, Chequered, Plain, Sideways, Slanted, Upwards};
use super::Case;
use super::lab::{Lab, assert_all_part_after, assert_part_after, assert_same};

pub const CASES: &[Case] = &[
    Case { keys: &["augment"], shows: nothing_is_drawn_when_left_out },
    Case { keys: &["augment.horizontal_flip"], shows: || seen_and_unseen("horizontal_flip: true", Sideways, Upwards) },
    Case { keys: &["augment.vertical_flip"], shows: || seen_and_unseen("vertical_flip: true", Upwards, Sideways) },
    Case {
        keys: &["augment.width_shift_fraction"],
        shows: || seen_and_unseen("width_shift_fraction: 0.4", Sideways, Upwards),
    },
    Case {
        keys: &["augment.height_shift_fraction"],
        shows: || seen_and_unseen("height_shift_fraction: 0.4", Upwards, Sideways),
    },
    Case { keys: &["augment.rotation_degrees"], shows: || seen_and_unseen("rotation_degrees: 90", Sideways, Plain) },
    // Keras shears rows along x: what is the same in all of x stays.
    Case { keys: &["augment.shear_radians"], shows: || seen_and_unseen("shear_radians: 0.8", Slanted, Plain) },
    Case {
        keys: &["augment.zoom", "augment.zoom=<number>", "augment.zoom=<array>"],
        shows: || {
            seen_and_unseen("zoom: 0.5", Slanted, Plain);
            seen_and_unseen("zoom: [0.4, 0.7]", Slanted, Plain);
            assert_same(&losses("zoom: 0.5", Slanted), &losses("zoom: [0.5, 1.5]", Slanted));
            assert_same(&losses("zoom: [1, 1]", Slanted), &losses("", Slanted));
        },
    },
    Case {
        keys: &["augment.brightness", "augment.brightness=<number>", "augment.brightness=<array>"],
        shows: || {
            seen_and_unseen("brightness: 0.5", Plain, Black);
            seen_and_unseen("brightness: [0.2, 0.4]", Plain, Black);
            assert_same(&losses("brightness: 0.5", Plain), &losses("brightness: [0.5, 1.5]", Plain));
        },
    },
    Case {
        keys: &["augment.interpolation", "augment.interpolation=nearest", "augment.interpolation=bilinear"],
        shows: || {
            let with = |how: &str| losses(&format!("rotation_degrees: 30, interpolation: {how}"), Chequered);
            assert_part_after(0, &with("nearest"), &with("bilinear"));
            assert_same(&with("bilinear"), &losses("rotation_degrees: 30", Chequered));
        },
    },
    Case {
        keys: &[
            "augment.fill",
            "augment.fill=nearest",
            "augment.fill=constant",
            "augment.fill=reflect",
            "augment.fill=wrap",
        ],
        shows: each_fill_is_its_own,
    },
    Case { keys: &["augment.views"], shows: views_come_round },
    Case {
        keys: &["augment.fill_value"],
        shows: || {
            let with = |level: u8| losses(&format!("{SHIFT}, fill: constant, fill_value: {level}"), Sideways);
            assert_part_after(0, &with(0), &with(255));
            assert_same(&with(0), &losses(&format!("{SHIFT}, fill: constant"), Sideways));
        },
    },
];

const SHIFT: &str = "width_shift_fraction: 0.6";

/// How levels lie in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pattern {
    Sideways,
    Upwards,
    Slanted,
    Chequered,
    Plain,
    Black,
}

impl Pattern {
    /// The level at a pixel of the image with a number.
    fn level(self, i: u32, x: u32, y: u32) -> u8 {
        let level = match self {
            Sideways => 9 * x + 5 * i,
            Upwards => 9 * y + 5 * i,
            Slanted => 4 * x + 6 * y + 5 * i,
            Chequered if (x / 3 + y / 3 + i).is_multiple_of(2) => 30,
            Chequered => 220,
            Plain => 60 + 20 * i,
            Black => 0,
        };
        level as u8
    }
}

/// `train.loss` by epoch on images of a pattern, of one colour in each of two classes; made once.
fn losses(augment: &str, pattern: Pattern) -> Vec<f64> {
    type Made = Arc<OnceLock<Vec<f64>>>;
    static RUNS: LazyLock<Mutex<HashMap<(String, Pattern), Made>>> = LazyLock::new(Mutex::default);
    let made = Arc::clone(RUNS.lock().unwrap().entry((augment.to_owned(), pattern)).or_default());
    made.get_or_init(|| train(augment, pattern, 2)).clone()
}

fn train(augment: &str, pattern: Pattern, epochs: u32) -> Vec<f64> {
    let lab = Lab::empty();
    for (split, n_images) in [("train", 4), ("valid", 1)] {
        for class in ["blue", "red"] {
            for i in 0..n_images {
                lab.paint_sized(&format!("{split}/{class}/{i}.png"), [24, 24], |x, y| {
                    let level = pattern.level(i, x, y);
                    if class == "red" { [level, level / 2, 0] } else { [0, level / 2, level] }
                });
            }
        }
    }
    let still = "optimizer={ sgd: { learning_rate: 1.0e-12 } }";
    // At the size of the images nothing is resized before. The pretrained network is blind to plain colours.
    let epochs = format!("epochs={epochs}");
    let sets = [still, &epochs, "data.image_size=24", "data.allow_duplicates=true", "model.weights=random"];
    lab.train(&[&sets[..], &[&format!("augment={{ {augment} }}")]].concat()).metric("train.loss")
}

/// A key changes images of one pattern, anew in every epoch, and leaves those of another as they are.
fn seen_and_unseen(key: &str, seen: Pattern, unseen: Pattern) {
    let changed = losses(key, seen);
    assert_part_after(0, &changed, &losses("", seen));
    assert_part_after(0, &changed[..1], &changed[1..]);
    assert_same(&losses(key, unseen), &losses("", unseen));
}

/// The third epoch sees the first one's view again.
fn views_come_round() {
    let with = |views: &str| train(&format!("rotation_degrees: 90{views}"), Slanted, 3);
    let (drawn, views) = (with(""), with(", views: 2"));
    assert_same(&drawn[..2], &views[..2]);
    assert_same(&views[..1], &views[2..]);
    assert_part_after(0, &drawn[..1], &drawn[2..]);
}

fn nothing_is_drawn_when_left_out() {
    let losses = losses("", Slanted);
    assert_same(&losses[..1], &losses[1..]);
}

fn each_fill_is_its_own() {
    let with = |fill: &str| losses(&format!("{SHIFT}, fill: {fill}"), Sideways);
    let all = ["nearest", "constant", "reflect", "wrap"].map(with);
    assert_all_part_after(0, &all);
    assert_same(&all[0], &losses(SHIFT, Sideways));
}
