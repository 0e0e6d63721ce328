//! `xp predict`: backbones with their ImageNet classes, and runs with their own.

use std::fs;

use serde_json::Value;

use crate::support::Place;

const COFFEE: &[u8] = include_bytes!("../fixtures/coffee.png");

/// 0.951 is timm's answer, see make_lite0_golden.py; the weights' convolutions are rounded to f16.
#[test]
fn a_cup_of_coffee_is_an_espresso() {
    let place = Place::new();
    fs::write(place.path("coffee.png"), COFFEE).unwrap();
    let printed = place.xp(&["predict", "efficientnet_lite0", "coffee.png", "--top", "3", "--html", "seen.html"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    let lines: Vec<&str> = printed.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", printed.stdout);
    assert_eq!(lines[0], "coffee.png");
    assert!(lines[1].starts_with("  espresso ") && lines[1].contains("0.95"), "{}", lines[1]);
    let page = fs::read_to_string(place.path("seen.html")).unwrap();
    assert!(page.contains("espresso") && page.contains("data:image/png;base64,iVBOR"), "{page:.400}");
    let json = place.json(&["predict", "efficientnet_lite0.timm", "coffee.png", "--json"]);
    let top = json["images"][0]["top"].as_array().unwrap();
    assert_eq!((top.len(), &top[0]["class"]), (5, &Value::from("espresso")));
    assert!((top[0]["probability"].as_f64().unwrap() - 0.951).abs() < 2e-3);
}

#[test]
fn a_run_names_its_own_classes_and_a_bad_file_does_not_stop_it() {
    let place = Place::new();
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "colours"]).code, 0);
    let json = place.json(&["predict", "colours", "data/valid", "--json"]);
    let images = json["images"].as_array().unwrap();
    assert_eq!(images.len(), 8);
    for image in images {
        let top = image["top"].as_array().unwrap();
        let sum: f64 = top.iter().map(|class| class["probability"].as_f64().unwrap()).sum();
        assert!(top.len() == 2 && (sum - 1.0).abs() < 1e-6, "{image}");
    }
    // What the evaluation counts as right is what is named first.
    let accuracy =
        place.json(&["evaluate", "colours", "--data", "data/valid", "--json"])["metrics"]["accuracy"].clone();
    let right = images.iter().filter(|image| {
        let path = image["path"].as_str().unwrap();
        path.contains(image["top"][0]["class"].as_str().unwrap())
    });
    assert_eq!(right.count() as f64 / 8.0, accuracy.as_f64().unwrap());

    fs::write(place.path("data/valid/bad.png"), "no image").unwrap();
    let printed = place.xp(&["predict", "colours", "data/valid/*.png", "data/valid/red"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("data/valid/bad.png: cannot"), "{}", printed.stderr);
    assert!(printed.stdout.contains("data/valid/red/"), "{}", printed.stdout);
}

#[test]
fn what_is_not_there_is_named() {
    let place = Place::new();
    let vgg = place.xp(&["predict", "vgg16", "data"]);
    assert_eq!(vgg.code, 3);
    assert!(vgg.stderr.contains("xp weights fetch --top vgg16.keras"), "{}", vgg.stderr);
    for (arguments, says) in [
        (["predict", "nothing", "data"], "is no run, no backbone and no source of weights"),
        (["predict", "efficientnet_lite0", "gone.png"], "gone.png is not there"),
        (["predict", "efficientnet_lite0", "*.tif"], "nothing matches"),
    ] {
        let printed = place.xp(&arguments);
        assert_eq!(printed.code, 3, "{}", printed.stderr);
        assert!(printed.stderr.contains(says), "{}", printed.stderr);
    }
}
