//! `xp init`: the spec that it writes for a folder of images runs as it is.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use xp::spec::parse::node_from_yaml;

use crate::support::{Place, Printed, printed, write_image};

/// Folders with images and nothing else.
fn images(place: &Place, root: &str, classes: &[&str], n_images: u32) {
    for (class, level) in classes.iter().zip((10..).step_by(40)) {
        for i in 0..n_images {
            // No image is that of another folder.
            write_image(&place.path(&format!("{root}/{class}/{i}.png")), [level, 90, 60 + root.len() as u8], i);
        }
    }
}

fn empty() -> Place {
    let place = Place::new();
    fs::remove_dir_all(place.path("data")).unwrap();
    fs::remove_file(place.path("spec.yaml")).unwrap();
    place
}

fn refused(printed: &Printed, code: i32, says: &str, hint: &str) {
    assert_eq!(printed.code, code, "{}", printed.stderr);
    assert!(printed.stderr.starts_with("error: ") && printed.stderr.contains(says), "{}", printed.stderr);
    assert!(printed.stderr.contains("hint: ") && printed.stderr.contains(hint), "{}", printed.stderr);
}

#[test]
fn splits_are_recognised_and_the_spec_runs() {
    let place = empty();
    images(&place, "pets/train", &["cats", "dogs"], 4);
    images(&place, "pets/Validation", &["cats", "dogs"], 2);
    images(&place, "pets/test", &["cats", "dogs"], 2);
    let said = place.xp(&["init", "pets"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    insta::assert_snapshot!(said.stdout, @r"
    pets: 2 classes: cats, dogs
      images: 8 train, 4 valid, 4 test
    spec.yaml is written; next:
      xp check spec.yaml
      xp run spec.yaml
    ");
    assert_eq!(place.xp(&["check", "spec.yaml"]).code, 0);
    let run = place.json(&["run", "spec.yaml", "--set", "data.image_size=32", "--set", "epochs=1", "--json"]);
    assert_eq!((&run["experiment"], &run["state"]), (&"pets".into(), &"finished".into()));
    assert!(run["metrics"]["test.accuracy"]["last"].is_number());
    // Every key of it has a comment, or stands for itself.
    let text = fs::read_to_string(place.path("spec.yaml")).unwrap();
    assert!(text.lines().filter(|line| line.contains(" # ")).count() >= 14, "{text}");
}

#[test]
fn class_folders_are_split() {
    let place = empty();
    images(&place, "flowers", &["rose", "tulip", "lily"], 10);
    let said = place.xp(&["init", "flowers/", "-o", "flowers.yaml", "--name", "garden"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("3 classes: lily, rose, tulip"), "{}", said.stdout);
    assert!(said.stdout.contains("30 train; a fifth of each class is held out"), "{}", said.stdout);
    let spec = node_from_yaml(&fs::read_to_string(place.path("flowers.yaml")).unwrap()).unwrap().to_json();
    assert_eq!(spec["name"], "garden");
    assert_eq!(spec["data"]["valid"], serde_json::json!({ "fraction": 0.2 }));
    let run = place.json(&["run", "flowers.yaml", "--set", "data.image_size=32", "--set", "epochs=1", "--json"]);
    assert_eq!(run["metrics"]["valid.loss"]["n"], 1);
    assert_eq!(run["data"]["splits"]["valid"]["n_images"], 6);
}

#[test]
fn a_class_of_trains_is_no_split() {
    let place = empty();
    images(&place, "vehicles", &["car", "plane", "train"], 5);
    let said = place.xp(&["init", "vehicles"]);
    assert!(said.stdout.starts_with("vehicles: 3 classes: car, plane, train\n"), "{} {}", said.stdout, said.stderr);
}

#[test]
fn any_name_of_a_folder_is_written_so_that_it_is_found() {
    let place = empty();
    for folder in ["my photos", "a: b", "it's \"so\"", "日本", "~pets", "null", "#1"] {
        images(&place, folder, &["a", "b"], 5);
        let said = place.xp(&["init", folder, "--force"]);
        assert_eq!(said.code, 0, "{folder}: {}", said.stderr);
        let checked = place.xp(&["check", "spec.yaml"]);
        assert_eq!(checked.code, 0, "{folder}: {}", checked.stderr);
    }
}

#[test]
fn the_folder_is_written_relative_to_the_spec() {
    let place = empty();
    images(&place, "data/pets", &["cats", "dogs"], 5);
    fs::create_dir_all(place.path("specs/deep")).unwrap();
    let whole = place.path("data/pets");
    for (folder, spec, written) in [
        ("data/pets", "specs/deep/spec.yaml", "../../data/pets"),
        ("./data/pets", "data/spec.yaml", "pets"),
        ("specs/../data/pets", "spec.yaml", "specs/../data/pets"),
        (whole.to_str().unwrap(), "specs/whole.yaml", whole.to_str().unwrap()),
    ] {
        let said = place.xp(&["init", folder, "-o", spec]);
        assert_eq!(said.code, 0, "{spec}: {}", said.stderr);
        let text = fs::read_to_string(place.path(spec)).unwrap();
        assert_eq!(node_from_yaml(&text).unwrap().to_json()["data"]["train"], written);
        assert_eq!(place.xp(&["check", spec]).code, 0);
    }
    // Inside the folder itself.
    let mut command = place.command(&["init", "."]);
    let said = printed(&command.current_dir(place.path("data/pets")).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(place.xp(&["check", "data/pets/spec.yaml"]).code, 0);
}

#[test]
fn what_is_no_folder_of_classes_is_refused_with_what_to_name_instead() {
    let place = empty();
    images(&place, "outer/pets", &["cats", "dogs"], 5);
    images(&place, "sets/a/train", &["cats", "dogs"], 2);
    images(&place, "one", &["cats"], 2);
    fs::create_dir_all(place.path("none/cats")).unwrap();
    fs::create_dir_all(place.path("none/dogs")).unwrap();
    fs::create_dir_all(place.path("bare")).unwrap();
    let cases = [
        ("nowhere", 3, "cannot find the folder nowhere", "at least two"),
        ("outer", 2, "only further down", "xp init outer/pets"),
        ("sets", 2, "only further down", "xp init sets/a"),
        ("outer/pets/cats", 2, "images that belong to none", "pets"),
        ("one", 2, "only the folder \"cats\"", "at least two"),
        ("none", 2, "\"cats\", \"dogs\"", "put images into these"),
        ("bare", 2, "it holds no folders", "at least two"),
        ("outer/pets/cats/0.png", 2, "not a folder", "at least two"),
    ];
    for (folder, code, says, hint) in cases {
        refused(&place.xp(&["init", folder]), code, says, hint);
        assert!(!place.path("spec.yaml").exists(), "{folder}");
    }
    images(&place, "two/train", &["cats", "dogs"], 2);
    images(&place, "two/valid", &["cats", "birds"], 2);
    refused(&place.xp(&["init", "two"]), 2, "data.valid: cannot match the classes", "same class");
    let unnamed = place.command(&["init"]).stdin(Stdio::null()).output().unwrap();
    refused(&printed(&unnamed), 2, "no folder of images is named", "xp init FOLDER");
    assert_eq!(place.xp(&["init", "outer/pets", "--name", "../pets"]).code, 2);
    assert_eq!(left(place.folder.path()), ["bare", "none", "one", "outer", "sets", "two"]);
}

#[test]
fn a_spec_that_is_there_is_replaced_only_by_force() {
    let place = empty();
    images(&place, "pets", &["cats", "dogs"], 5);
    fs::write(place.path("spec.yaml"), "mine").unwrap();
    refused(&place.xp(&["init", "pets"]), 2, "spec.yaml is there already", "--force");
    assert_eq!(fs::read_to_string(place.path("spec.yaml")).unwrap(), "mine");
    assert_eq!(place.xp(&["init", "pets", "--force"]).code, 0);
    assert_eq!(place.xp(&["check", "spec.yaml"]).code, 0);
    assert_eq!(left(place.folder.path()), ["pets", "spec.yaml"]);
    refused(&place.xp(&["init", "pets", "-o", "nowhere/spec.yaml"]), 3, "no folder nowhere", "make it first");
}

#[test]
fn thousands_of_classes_are_counted_and_not_listed() {
    let place = empty();
    let file = place.path("one.png");
    write_image(&file, [1, 2, 3], 0);
    for class in 0..2_000 {
        for i in 0..5 {
            let folder = place.path(&format!("many/class{class:04}"));
            fs::create_dir_all(&folder).unwrap();
            fs::hard_link(&file, folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let said = place.xp(&["init", "many"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stdout.contains("2,000 classes: class0000, ") && said.stdout.len() < 500, "{}", said.stdout);
    assert!(fs::read_to_string(place.path("spec.yaml")).unwrap().contains("2000 folders, one a class"));
}

/// What is in a folder, by name.
fn left(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}
