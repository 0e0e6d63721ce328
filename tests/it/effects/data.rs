//! What the keys of the images do.

use std::fs;

use xp::data::npy::Header;
use xp::run::metric::Split;

use super::Case;
use super::lab::{Lab, Outcome, assert_all_part_after, assert_part_after, assert_same, colours, losses, run};

pub const CASES: &[Case] = &[
    Case { keys: &["data", "data.train", "data.train=<string>"], shows: || a_folder_is_read("train") },
    Case {
        keys: &["data.train.idx", "data.train.labels", "data.train.classes"],
        shows: || idx_files_are_read("train"),
    },
    Case { keys: &["data.train.features"], shows: || features_are_read("train") },
    Case { keys: &["data.train.csv"], shows: || a_manifest_is_read("train") },
    Case { keys: &["data.valid", "data.valid=<string>"], shows: || a_folder_is_read("valid") },
    Case {
        keys: &["data.valid.idx", "data.valid.labels", "data.valid.classes"],
        shows: || idx_files_are_read("valid"),
    },
    Case { keys: &["data.valid.features"], shows: || features_are_read("valid") },
    Case { keys: &["data.valid.csv"], shows: || a_manifest_is_read("valid") },
    Case { keys: &["data.valid.fraction"], shows: || a_fraction_is_held_out("valid") },
    Case { keys: &["data.test", "data.test=<string>"], shows: the_test_images_are_measured_once },
    Case { keys: &["data.test.idx", "data.test.labels", "data.test.classes"], shows: || idx_files_are_read("test") },
    Case { keys: &["data.test.features"], shows: || features_are_read("test") },
    Case { keys: &["data.test.csv"], shows: || a_manifest_is_read("test") },
    Case { keys: &["data.test.fraction"], shows: || a_fraction_is_held_out("test") },
    Case { keys: &["data.split_seed"], shows: the_split_seed_alone_draws_the_split },
    Case {
        keys: &["data.image_size", "data.image_size=<integer>", "data.image_size=<array>"],
        shows: images_have_the_size,
    },
    Case {
        keys: &["data.resize", "data.resize=nearest", "data.resize=bilinear", "data.resize=bicubic"],
        shows: filters_make_other_pixels,
    },
    Case { keys: &["data.batch_size"], shows: a_step_takes_a_batch },
    Case {
        keys: &["data.on_bad_image", "data.on_bad_image=error", "data.on_bad_image=skip"],
        shows: bad_images_stop_or_are_named,
    },
    Case { keys: &["data.exif", "data.exif=ignore", "data.exif=apply"], shows: a_cameras_note_is_followed_when_asked },
    Case {
        keys: &["data.decode", "data.decode=libjpeg_turbo", "data.decode=plain"],
        shows: jpeg_becomes_pixels_as_the_mode_says,
    },
    Case { keys: &["data.allow_duplicates"], shows: the_same_image_in_two_splits_is_refused },
];

/// Images of a split, and the hash over them.
fn images(outcome: &Outcome, split: Split) -> (u64, String) {
    let facts = outcome.data().splits.iter().find(|facts| facts.split == split).unwrap();
    (facts.n_images, facts.hash.clone())
}

fn split_named(name: &str) -> Split {
    [Split::Train, Split::Valid, Split::Test].into_iter().find(|split| split.as_str() == name).unwrap()
}

/// The shared images with a test split, and others to replace one with.
pub fn lab_with_test() -> Lab {
    let lab = Lab::empty();
    lab.copy(&colours().path("train"), "train");
    lab.copy(&colours().path("valid"), "valid");
    for (class, colour) in [("blue", [30, 50, 170]), ("green", [40, 160, 50]), ("red", [170, 50, 30])] {
        lab.paint(&format!("test/{class}/0.png"), |x, y| colour.map(|level: u8| level + (x + 2 * y) as u8));
        lab.paint(&format!("other/{class}/0.png"), |x, y| colour.map(|level: u8| level + (2 * x + y) as u8));
        lab.paint(&format!("other/{class}/1.png"), |x, y| colour.map(|level: u8| level + (3 * x + y) as u8));
    }
    lab
}

fn a_folder_is_read(split: &str) {
    let lab = lab_with_test();
    let outcome = lab.train(&[&format!("data.{split}=other"), "epochs=1"]);
    assert_eq!(images(&outcome, split_named(split)).0, 6);
    assert_eq!(outcome.data().classes, ["blue", "green", "red"]);
}

fn the_test_images_are_measured_once() {
    let lab = lab_with_test();
    let tested = lab.train(&["data.test=test", "epochs=2"]);
    let points = tested.points("test.loss");
    assert_eq!((points.len(), points[0].n_samples), (1, 3));
    assert!(lab.train(&["epochs=2"]).points("test.loss").is_empty());
}

/// Writes 6 grey images of 12×10 pixels in three classes as a pair of IDX files.
fn write_idx(lab: &Lab, name: &str, lightness: u8) {
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 10, 0, 0, 0, 12];
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, 6];
    for i in 0..6_u8 {
        images.extend((0..120_u8).map(|pixel| 60 * (i % 3) + pixel / 4 + i + lightness));
        labels.push(i % 3);
    }
    fs::write(lab.path(&format!("{name}-images")), images).unwrap();
    fs::write(lab.path(&format!("{name}-labels")), labels).unwrap();
}

fn idx_files_are_read(split: &str) {
    let lab = Lab::empty();
    let mut sets = vec!["epochs=1".to_owned(), "data.batch_size=6".to_owned()];
    for (lightness, name) in [(0, "train"), (7, "valid"), (13, "test"), (19, "other")] {
        write_idx(&lab, name, lightness);
        let source = format!("{{ idx: {name}-images, labels: {name}-labels, classes: [dark, grey, light] }}");
        sets.extend((name != "other").then(|| format!("data.{name}={source}")));
    }
    let train = |more: &[String]| {
        let sets: Vec<&str> = sets.iter().chain(more).map(String::as_str).collect();
        lab.train(&sets)
    };
    let all = train(&[]);
    assert_eq!(images(&all, split_named(split)).0, 6);
    assert_eq!(all.data().classes, ["dark", "grey", "light"]);
    let other = train(&[format!("data.{split}.idx=other-images")]);
    assert_ne!(images(&other, split_named(split)), images(&all, split_named(split)));
    // The same images with other labels are other data.
    let mut labels = fs::read(lab.path("other-labels")).unwrap();
    labels[8..].rotate_left(1);
    fs::write(lab.path("other-labels"), labels).unwrap();
    let turned = train(&[format!("data.{split}.labels=other-labels")]);
    assert_ne!(images(&turned, split_named(split)), images(&all, split_named(split)));
    // Names are names: the splits must agree on them.
    let renamed = format!("data.{split}.classes=[a, b, c]");
    let sets: Vec<&str> = sets.iter().map(String::as_str).chain([renamed.as_str()]).collect();
    assert!(lab.refused(&sets).contains("match the classes"), "{}", lab.refused(&sets));
}

fn a_manifest_is_read(split: &str) {
    let lab = lab_with_test();
    let rows = ["blue", "green", "red"].map(|class| format!("other/{class}/1.png,{class}\n"));
    fs::write(lab.path("images.csv"), format!("path,label\n{}", rows.concat())).unwrap();
    let outcome = lab.train(&["data.test=test", &format!("data.{split}={{ csv: images.csv }}"), "epochs=1"]);
    assert_eq!(images(&outcome, split_named(split)).0, 3);
    // With a column for it, one file holds all splits.
    let rows = ["train", "valid", "test"].map(|split| {
        let of_class = |class: &str| format!("{split}/{class}/0.png,{class},{split}\n");
        ["blue", "green", "red"].map(of_class).concat()
    });
    fs::write(lab.path("all.csv"), format!("path,label,split\n{}", rows.concat())).unwrap();
    let sets = ["train", "valid", "test"].map(|split| format!("data.{split}={{ csv: all.csv }}"));
    let sets: Vec<&str> = sets.iter().map(String::as_str).chain(["epochs=1"]).collect();
    assert_eq!(images(&lab.train(&sets), split_named(split)).0, 3);
}

/// One of the four training images of each class.
fn a_fraction_is_held_out(split: &str) {
    let outcome = run(&[&format!("data.{split}={{ fraction: 0.25 }}"), "epochs=1"]);
    assert_eq!(images(&outcome, split_named(split)).0, 3);
    assert_eq!(images(&outcome, Split::Train).0, 9);
    let half = run(&[&format!("data.{split}={{ fraction: 0.5 }}"), "epochs=1"]);
    assert_eq!((images(&half, split_named(split)).0, images(&half, Split::Train).0), (6, 6));
}

fn the_split_seed_alone_draws_the_split() {
    let valid = |more: &[&str]| {
        let sets = [&["data.valid={ fraction: 0.25 }", "epochs=1"], more].concat();
        images(&run(&sets), Split::Valid)
    };
    let splits = ["0", "1", "2"].map(|seed| valid(&[&format!("data.split_seed={seed}")]));
    assert!(splits.iter().all(|(n_images, _)| *n_images == 3));
    // Of 64 splits two may be the same; three are not.
    assert!(splits[0] != splits[1] || splits[1] != splits[2]);
    assert_eq!(valid(&["seed=8"]), valid(&[]));
    assert_eq!(valid(&[]), splits[0]);
}

fn images_have_the_size() {
    let with = |size: &str| losses(&[&format!("data.image_size={size}"), "epochs=1"]);
    assert_same(&with("32"), &with("[32, 32]"));
    assert_all_part_after(0, &[with("32"), with("48"), with("[32, 48]"), with("[48, 32]")]);
    assert_eq!(colours().plan(&["data.image_size=[64, 96]"]).prefix_chw(), [1_280, 2, 3]);
}

fn filters_make_other_pixels() {
    let with = |filter: &str| losses(&[&format!("data.resize={filter}"), "epochs=1"]);
    assert_all_part_after(0, &["nearest", "bilinear", "bicubic"].map(with));
    // What the weights were trained with.
    assert_same(&losses(&["epochs=1"]), &with("bicubic"));
}

fn a_step_takes_a_batch() {
    let steps = |size: u32| run(&[&format!("data.batch_size={size}"), "epochs=1"]).points("train.loss")[0].step;
    assert_eq!([steps(12), steps(6), steps(5), steps(4)], [1, 2, 3, 3]);
}

fn bad_images_stop_or_are_named() {
    let lab = Lab::empty();
    lab.copy(&colours().path("train"), "train");
    lab.copy(&colours().path("valid"), "valid");
    fs::write(lab.path("train/blue/broken.png"), "no image").unwrap();
    for sets in [&["epochs=1"][..], &["epochs=1", "data.on_bad_image=error"]] {
        assert!(lab.refused(sets).contains("broken.png"), "{}", lab.refused(sets));
    }
    let skipped = lab.train(&["epochs=1", "data.on_bad_image=skip"]);
    assert_eq!((skipped.n_skipped(), images(&skipped, Split::Train).0), (1, 12));
}

/// A photo that says it lies on its side, and the same standing on its head.
fn a_cameras_note_is_followed_when_asked() {
    let lab = Lab::empty();
    let photo = include_bytes!("../../fixtures/bad_images/progressive.jpg");
    for (class, orientation) in [("a", 6), ("b", 3)] {
        for split in ["train", "valid"] {
            fs::create_dir_all(lab.path(&format!("{split}/{class}"))).unwrap();
            fs::write(lab.path(&format!("{split}/{class}/0.jpg")), noted(photo, orientation)).unwrap();
        }
    }
    let sets = ["epochs=1", "data.allow_duplicates=true"];
    let with = |mode: &str| lab.train(&[&sets[..], &[&format!("data.exif={mode}")]].concat());
    let (ignored, applied) = (with("ignore"), with("apply"));
    assert_part_after(0, &ignored.metric("train.loss"), &applied.metric("train.loss"));
    assert!(ignored.warnings().contains("EXIF"), "{}", ignored.warnings());
    assert!(!applied.warnings().contains("EXIF"), "{}", applied.warnings());
    assert_same(&lab.train(&sets).metric("train.loss"), &ignored.metric("train.loss"));
}

fn jpeg_becomes_pixels_as_the_mode_says() {
    let lab = Lab::empty();
    // Colours at half their size.
    let photo = include_bytes!("../../fixtures/jpeg/420_33x31.jpg");
    for class in ["a", "b"] {
        for split in ["train", "valid"] {
            fs::create_dir_all(lab.path(&format!("{split}/{class}"))).unwrap();
            // Bytes behind the end change no pixel, and tell the files apart.
            let bytes = [&photo[..], split.as_bytes(), class.as_bytes()].concat();
            fs::write(lab.path(&format!("{split}/{class}/0.jpg")), bytes).unwrap();
        }
    }
    let with = |mode: &str| lab.train(&["epochs=1", &format!("data.decode={mode}")]).metric("train.loss");
    assert_part_after(0, &with("libjpeg_turbo"), &with("plain"));
    assert_same(&with("libjpeg_turbo"), &lab.train(&["epochs=1"]).metric("train.loss"));
}

/// A JPEG with a camera's note how it lies.
fn noted(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut tiff = *b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x00\0\0\0\0\0\0";
    tiff[19] = orientation;
    let length = (2 + 6 + tiff.len()) as u16;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), b"Exif\0\0", &tiff, &jpeg[2..]].concat()
}

fn the_same_image_in_two_splits_is_refused() {
    let lab = Lab::empty();
    lab.copy(&colours().path("train"), "train");
    lab.copy(&colours().path("valid"), "valid");
    lab.copy(&lab.path("train/red/1.png"), "valid/red/copy.png");
    let refused = lab.refused(&["epochs=1"]);
    assert!(refused.contains("1 images are in two of them, byte for byte"), "{refused}");
    assert_eq!(images(&lab.train(&["epochs=1", "data.allow_duplicates=true"]), Split::Valid).0, 7);
}

/// A file of six rows of features, `[2, 2, 3]` each, that classes and `lightness` decide, and one of their labels.
fn write_features(lab: &Lab, name: &str, lightness: u32) {
    let value = |i: u32| ((7 * i + lightness) % 23) as f32 / 23.0 + (i / 12 % 3) as f32;
    let values: Vec<u8> = (0..72).flat_map(|i| value(i).to_le_bytes()).collect();
    fs::write(lab.path(&format!("{name}.npy")), [Header::of("<f4", &[6, 2, 2, 3]).bytes(), values].concat()).unwrap();
    let labels: Vec<u8> = (0..6_i64).flat_map(|i| (i % 3).to_le_bytes()).collect();
    fs::write(lab.path(&format!("{name}-labels.npy")), [Header::of("<i8", &[6]).bytes(), labels].concat()).unwrap();
}

fn features_are_read(split: &str) {
    let lab = Lab::empty();
    let mut sources = Vec::new();
    for (lightness, name) in [(0, "train"), (3, "valid"), (5, "test"), (11, "other")] {
        write_features(&lab, name, lightness);
        let classes = "classes: [dark, grey, light]";
        sources.push(format!("{name}: {{ features: {name}.npy, labels: {name}-labels.npy, {classes} }}"));
    }
    let data = format!("data={{ {}, batch_size: 6 }}", sources[..3].join(", "));
    let train = |more: &[&str]| lab.train(&[&[data.as_str(), "model={}", "epochs=2"], more].concat());
    let all = train(&[]);
    assert_eq!(images(&all, split_named(split)).0, 6);
    assert_eq!(all.data().classes, ["dark", "grey", "light"]);
    assert_eq!(
        (all.model().n_parameters, all.model().n_frozen_layers),
        (12, 0),
        "a pool and three units on three channels"
    );
    let other = train(&[&format!("data.{split}.features=other.npy")]);
    assert_ne!(images(&other, split_named(split)), images(&all, split_named(split)));
    assert_ne!(other.metric(&format!("{split}.loss")), all.metric(&format!("{split}.loss")));
    assert_eq!(train(&[]).metric("test.loss"), all.metric("test.loss"));
}
