//! `xp check`: every broken spec exits 2 with file, line, column and a hint.

use assert_cmd::Command;

const GOOD: &str = include_str!("../../experiments/finetune.yaml");

fn check(text: &str, extra: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("spec.yaml"), text).unwrap();
    let output = Command::cargo_bin("xp")
        .unwrap()
        .current_dir(folder.path())
        .args(["check", "spec.yaml"])
        .args(extra)
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_shipped_spec_is_valid() {
    assert_eq!(check(GOOD, &[]), (0, String::new()));
}

#[test]
fn broken_specs_exit_2_and_point_at_the_fault() {
    let bomb = format!("{GOOD}a: &a [x,x,x,x,x,x,x,x,x]\n")
        + "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        + "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
        + "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]\n";
    let cases = [
        ("unknown key", GOOD.replace("batch_size", "batchsize"), "spec.yaml:9:3"),
        ("wrong type", GOOD.replace("seed: 42", "seed: many"), "spec.yaml:3:7"),
        ("duplicate key", GOOD.replace("epochs: 10", "epochs: 10\nepochs: 11"), "spec.yaml:17:1"),
        ("out of range", GOOD.replace("dropout: 0.2", "dropout: 1.5"), "spec.yaml:14:41"),
        ("bad enum", GOOD.replace("weights: imagenet", "weights: imagnet"), "spec.yaml:12:12"),
        ("alias bomb", bomb, "spec.yaml:2"),
        ("tab", GOOD.replace("  train:", "\ttrain:"), "spec.yaml:5:2"),
    ];
    for (case, text, place) in cases {
        let (code, stderr) = check(&text, &[]);
        assert_eq!(code, 2, "{case}: {stderr}");
        assert!(stderr.contains(place), "{case}: {stderr}");
        assert!(stderr.contains("help:"), "{case}: {stderr}");
    }
}

#[test]
fn all_values_out_of_range_are_reported_together() {
    let (code, stderr) = check(&GOOD.replace("epochs: 10", "epochs: 0").replace("size: 32", "size: 0"), &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("epochs:") && stderr.contains("data.batch_size:"), "{stderr}");
}

#[test]
fn a_wrong_set_argument_is_named() {
    let (code, stderr) = check(GOOD, &["--set", "optimizer.adam.learning_rate=fast"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--set optimizer.adam.learning_rate=fast"), "{stderr}");
    assert_eq!(check(GOOD, &["--set", "optimizer.adam.learning_rate=1e-4"]).0, 0);
}
