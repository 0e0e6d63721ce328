//! `xp augment`: the sheet shows what training will see; and what augmentation does to a training.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use xp::data::batching::{Batching, LastSingle, Order};
use xp::data::images::Images;
use xp::data::loader::{Loader, LoaderSettings};
use xp::run::metric::Split;
use xp::run::stop::StopFlag;
use xp::settings::Resources;
use xp::spec::LoadedSpec;
use xp::train::plan::plan;
use xp::train::splits::read_settings;

use crate::support::Place;

const EVERYTHING: &str = "augment={ rotation_degrees: 20, width_shift_fraction: 0.1, height_shift_fraction: 0.1, \
    shear_radians: 0.2, zoom: 0.2, brightness: [0.8, 1.2], horizontal_flip: true, vertical_flip: true }";

/// Two pixels, as the sheet's `border` says.
const BORDER: u32 = 2;

/// A cell of the sheet, counted from 0.
fn cell(sheet: &image::RgbImage, row: u32, column: u32, height: u32, width: u32) -> Vec<u8> {
    let (top, left) = (row * (height + BORDER) + BORDER, column * (width + BORDER) + BORDER);
    image::imageops::crop_imm(sheet, left, top, width, height).to_image().into_raw()
}

/// What the loader gives to training, by sample.
fn epoch_pixels(spec: &Path, sets: &[String], epoch: u32) -> Vec<Vec<u8>> {
    let plan = plan(&LoadedSpec::read(spec, sets).unwrap()).unwrap();
    let stop = StopFlag::default();
    let read = read_settings(&plan, &Resources::new(Some(2)));
    let images = Images::read(Split::Train, &plan.listings[0].1, &read, &stop, &|_| ()).unwrap();
    let (n, n_bytes) = (images.len(), images.image_bytes());
    let seed = plan.spec.seed;
    let batching = Batching {
        n_images: n as u32,
        batch_size: 5,
        order: Order::Shuffled { seed },
        last_single: LastSingle::Stays,
        steps_per_epoch: None,
    };
    let settings = LoaderSettings { batching, augment: plan.spec.augment, seed, threads: 2 };
    let mut pixels = vec![Vec::new(); n];
    for batch in Loader::new(Arc::new(images), settings).epoch(epoch, &stop) {
        let batch = batch.unwrap();
        for (sample, image) in batch.samples.iter().zip(batch.bytes_nhwc.chunks_exact(n_bytes)) {
            pixels[*sample as usize] = image.to_vec();
        }
    }
    pixels
}

/// Draws a sheet of 28×20 pixels a cell and compares every cell with the loader's images.
fn shows_what_training_sees(place: &Place, extra: &[&str], n_rows: u32) -> Value {
    let sets = ["data.image_size=[20, 28]", EVERYTHING].map(str::to_owned).into_iter();
    let sets: Vec<String> = sets.chain(extra.iter().map(|set| (*set).to_owned())).collect();
    let mut arguments =
        vec!["augment", "spec.yaml", "-o", "sheet.png", "--images", "5", "--views", "3", "--epoch", "4"];
    arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
    arguments.push("--json");
    let drawn = place.json(&arguments);
    let sheet = image::open(place.path("sheet.png")).unwrap().to_rgb8();
    assert_eq!((sheet.height(), sheet.width()), (5 * 22 + 2, 4 * 30 + 2));
    assert_eq!(drawn["sheet"], json!({ "path": "sheet.png", "height": 112, "width": 122, "border": BORDER }));
    let rows = drawn["images"].as_array().unwrap();
    assert_eq!(rows.len(), n_rows as usize);
    let as_read = epoch_pixels(&place.path("spec.yaml"), &[&sets[..1], &sets[2..]].concat(), 1);
    for (row, image) in (0..).zip(rows) {
        let index = image["index"].as_u64().unwrap() as usize;
        assert_eq!(cell(&sheet, row, 0, 20, 28), as_read[index], "row {row} as read");
    }
    for (column, epoch) in (1..).zip(4..7) {
        let seen = epoch_pixels(&place.path("spec.yaml"), &sets, epoch);
        for (row, image) in (0..).zip(rows) {
            let index = image["index"].as_u64().unwrap() as usize;
            assert_eq!(image["views"][column as usize - 1]["pass"], epoch);
            assert_eq!(cell(&sheet, row, column, 20, 28), seen[index], "row {row}, epoch {epoch}");
            assert_ne!(seen[index], as_read[index]);
        }
    }
    drawn
}

#[test]
fn every_cell_is_what_training_sees() {
    let place = Place::new();
    let drawn = shows_what_training_sees(&place, &[], 5);
    let named =
        |key: &str| drawn["images"].as_array().unwrap().iter().map(|image| image[key].clone()).collect::<Value>();
    assert_eq!(named("index"), json!([0, 1, 2, 6, 7]));
    assert_eq!(named("class"), json!(["blue", "blue", "blue", "red", "red"]));
    assert_eq!(named("path"), json!(["blue/0.png", "blue/1.png", "blue/2.png", "red/0.png", "red/1.png"]));
    let first = &drawn["images"][0]["views"][0]["drawn"];
    let turned = first["rotation_degrees"].as_f64().unwrap();
    assert!(turned != 0.0 && turned.abs() < 20.0, "{first}");
    assert_eq!(first.as_object().unwrap().len(), 9, "{first}");
}

#[test]
fn skipped_images_have_no_index_and_other_bad_ones_are_not_read() {
    let place = Place::new();
    fs::write(place.path("data/train/blue/0.png"), "no image").unwrap();
    let drawn = shows_what_training_sees(&place, &["data.on_bad_image=skip"], 5);
    assert_eq!(drawn["images"][0]["path"], "blue/1.png");
    assert_eq!(drawn["images"][0]["index"], 0);

    let draw = |images: &str| place.xp(&["augment", "spec.yaml", "-o", "other.png", "--images", images]);
    let printed = draw("2");
    assert_eq!(printed.code, 1, "{}", printed.stderr);
    assert!(
        printed.stderr.contains("read 1 of 2 train images") && printed.stderr.contains("blue/0.png"),
        "{}",
        printed.stderr
    );
    assert!(!place.path("other.png").exists());
    fs::rename(place.path("data/train/blue/0.png"), place.path("data/train/blue/9.png")).unwrap();
    assert_eq!(draw("2").code, 0);
}

#[test]
fn the_sheet_replaces_a_file_and_leaves_nothing_else() {
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/sheet.png"), "old").unwrap();
    let printed = place.xp(&["augment", "spec.yaml", "-o", "out/sheet.png", "--set", EVERYTHING]);
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert!(image::open(place.path("out/sheet.png")).is_ok());
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);
    assert!(!place.path(".xp").exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &str| fs::metadata(place.path(path)).unwrap().permissions().mode();
        assert_eq!(mode("out/sheet.png"), mode("spec.yaml"));
    }

    let lines: Vec<&str> = printed.stdout.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{}", printed.stdout);
    assert_eq!(lines[..3], ["row  class  image", "──────────────────────", "  1  blue   blue/0.png"]);
    assert_eq!(lines[9], "row  epoch  degrees  shift w  shift h   shear  zoom w  zoom h  bright  flip");
    assert_eq!(lines[lines.len() - 2], "column 1: as read; then epochs 1 to 8; 308 × 206 pixels");
    assert_eq!(lines[lines.len() - 1], "out/sheet.png");
}

#[test]
fn a_spec_that_draws_nothing_says_so() {
    let place = Place::new();
    let printed = place.xp(&["augment", "spec.yaml", "-o", "sheet.png", "--views", "2", "--images", "1"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(printed.stdout.contains("`augment` asks for nothing: all columns are alike"), "{}", printed.stdout);
    let sheet = image::open(place.path("sheet.png")).unwrap().to_rgb8();
    assert_eq!(cell(&sheet, 0, 0, 32, 32), cell(&sheet, 0, 2, 32, 32));
}

#[test]
fn what_cannot_be_drawn_is_refused_before_any_image_is_read() {
    let place = Place::new();
    for class in ["blue", "red"] {
        fs::write(place.path(&format!("data/train/{class}/0.png")), "no image").unwrap();
    }
    let size = "data.image_size=4096";
    let cases: [(&[&str], i32, &str); 7] = [
        (&["-o", "nowhere/sheet.png"], 3, "there is no folder nowhere"),
        (&["-o", "sheet.jpg"], 2, "ends in .png"),
        (&["-o", "data"], 2, "ends in .png"),
        (&["-o", "sheet.png", "--set", size, "--images", "64"], 2, "--images"),
        (&["-o", "sheet.png", "--images", "65"], 2, "65 is not in 1..=64"),
        (&["-o", "sheet.png", "--views", "0"], 2, "0 is not in 1..=64"),
        (&["-o", "sheet.png", "--set", "augment.zoom=1.5"], 2, "factors lie between"),
    ];
    for (extra, code, says) in cases {
        let printed = place.xp(&[&["augment", "spec.yaml"], extra].concat());
        assert_eq!(printed.code, code, "{extra:?}: {}", printed.stderr);
        assert!(printed.stderr.contains(says), "{extra:?}: {}", printed.stderr);
        assert!(!place.path("sheet.png").exists() && !place.path("sheet.jpg").exists());
    }
}

#[test]
fn augmentation_changes_training_and_nothing_else() {
    let place = Place::new();
    // Steps too small to move any weight: what is measured after an epoch depends on the images alone.
    place.edit("adam: { learning_rate: 1.0e-3 }", "sgd: { learning_rate: 1.0e-12 }");
    place.edit("epochs: 2", "epochs: 2\nclip_global_norm: 1.0e-12");
    let trained = |set: &str, threads: &str| {
        place.json(&["run", "spec.yaml", "--json", "--set", set, "--loader-threads", threads])
    };
    let (plain, augmented) = (trained("seed=7", "1"), trained(EVERYTHING, "1"));
    let (train, valid, test) = ("train.loss", "valid.loss", "test.loss");
    assert_ne!(plain["metrics"][train], augmented["metrics"][train]);
    for measured in [valid, test] {
        assert_eq!(plain["metrics"][measured], augmented["metrics"][measured], "{measured}");
    }
    assert_eq!(plain["data"], augmented["data"]);
    let threaded = trained(EVERYTHING, "4");
    assert_eq!(threaded["metrics"], augmented["metrics"]);
    assert_eq!(threaded["trained"]["trained_hash"], augmented["trained"]["trained_hash"]);
}
