//! Specs that nobody should write, and some that look as if: one clear error each, soon, and never a panic.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Place, Printed, SPEC, printed};

/// Widest line of a report, characters.
const MAX_WIDTH: usize = 100;

/// A spec that is refused.
pub struct Hostile {
    pub what: &'static str,
    pub text: Vec<u8>,
    /// What the report must say, its place first.
    says: [&'static str; 2],
}

/// The spec that works, with one thing replaced.
fn edited(what: &'static str, from: &str, to: &str, says: [&'static str; 2]) -> Hostile {
    assert!(SPEC.contains(from), "{from:?} is not in the spec");
    Hostile { what, text: SPEC.replacen(from, to, 1).into_bytes(), says }
}

fn whole(what: &'static str, text: impl Into<Vec<u8>>, says: [&'static str; 2]) -> Hostile {
    Hostile { what, text: text.into(), says }
}

/// Nine aliases of nine aliases, and so on: a billion items.
fn alias_bomb() -> String {
    let item = |name: char, of: &str| format!("{name}: &{name} [{}]\n", [of; 9].join(","));
    let mut bomb = item('a', "x");
    for (name, of) in "bcdefghi".chars().zip("abcdefgh".chars()) {
        bomb += &item(name, &format!("*{of}"));
    }
    bomb
}

fn of_text() -> Vec<Hostile> {
    let nested: String = (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let keys: String = (0..100_000).map(|i| format!("k{i}: 1\n")).collect();
    let long = "x".repeat(900_000);
    vec![
        whole("nothing", "", ["spec.yaml:1:1", "there is nothing in it"]),
        whole("only comments", "# to be done\n\n# soon\n", ["spec.yaml:4:1", "there is nothing in it"]),
        whole("a list", "- name: a\n- epochs: 1\n", ["spec.yaml:1:1", "a map of keys to values"]),
        whole("one word", "hello\n", ["spec.yaml:1:1", "a map of keys to values"]),
        whole("open brace", "name: a\ndata: { train: x\nepochs: 1\n", ["spec.yaml:", "correct the YAML"]),
        whole("open quote", "name: \"a\nepochs: 1\n", ["spec.yaml:", "correct the YAML"]),
        whole("closing bracket", "name: ]\n", ["spec.yaml:1:7", "correct the YAML"]),
        edited("tab", "  train:", "\ttrain:", ["spec.yaml:4:", "indent with spaces"]),
        edited("same key twice", "epochs: 2", "epochs: 2\nepochs: 3", ["spec.yaml:16:1", "`epochs` stands here twice"]),
        whole("alias bomb", alias_bomb(), ["spec.yaml:", "expand to more than a spec may hold"]),
        whole("brackets", format!("name: {}", "[".repeat(10_000)), ["spec.yaml:1:", "nested too deeply"]),
        whole("braces", format!("name: {}", "{a: ".repeat(10_000)), ["spec.yaml:1:", "nested too deeply"]),
        whole("indentation", nested, ["spec.yaml:", "nested too deeply"]),
        whole("many keys", keys, ["spec.yaml:", "too long"]),
        whole("long key", format!("{long}: 1\n"), ["spec.yaml:1:900001", "correct the YAML"]),
        edited("long value", "epochs: 2", &format!("epochs: {long}"), ["spec.yaml:15:9", "xxx…"]),
        whole(
            "one long line",
            format!("{{ \"data\": {{}}, \"x\": \"{long}\", \"y\": 1 }}"),
            ["spec.yaml:1:3", "the key `train` is missing"],
        ),
        edited("two documents", "epochs: 2", "epochs: 2\n---\nepochs: 3", ["spec.yaml:", "second document"]),
        edited("tag of ours", "epochs: 2", "epochs: !Epochs 2", ["spec.yaml:15:", "`!` between quotes"]),
        edited("binary tag", "name: colours", "name: !!binary AAH/", ["spec.yaml:1:16", "remove the tag"]),
        edited("unknown alias", "epochs: 2", "epochs: *two", ["spec.yaml:15:9", "no anchor"]),
        whole("alias of itself", "data: &data [*data]\n", ["spec.yaml:1:", "alias"]),
        edited("merged text", "epochs: 2", "epochs: 2\n<<: text", ["spec.yaml:16:", "`<<`"]),
        whole("a list as a key", "? [name]\n: colours\n", ["spec.yaml:1:3", "a key must be text"]),
        whole("not UTF-8", b"name: caf\xe9\n".to_vec(), ["it is not UTF-8 text: line 1", "hint:"]),
        whole("NUL", SPEC.replace("colours", "col\0ours"), ["spec.yaml:1:10", "correct the YAML"]),
        whole("escapes of a terminal", "name: a\n\"\\e[31mred\": 1\n", ["spec.yaml:2:1", "unknown key"]),
        whole("an image", include_bytes!("../fixtures/coffee.png").to_vec(), ["it is not UTF-8 text", "hint:"]),
        whole("longer than a spec may be", "#".repeat(10 << 20), ["longer than a spec may be, 1 MiB", "hint:"]),
    ]
}

pub fn of_structure() -> Vec<Hostile> {
    let sgd_too = "optimizer: { sgd: { learning_rate: 1 }, adam: { learning_rate: 1.0e-3 } }";
    let adam = "optimizer: { adam: { learning_rate: 1.0e-3 } }";
    vec![
        edited("misspelled", "batch_size", "batchsize", ["spec.yaml:8:3", "did you mean `batch_size`?"]),
        edited("misplaced", "epochs: 2", "epochs: 2\nbatch_size: 4", ["spec.yaml:16:1", "belongs under `data`"]),
        edited("too deep", "  batch_size: 4", "  epochs: 4", ["spec.yaml:8:3", "belongs at the top"]),
        edited("both", "epochs: 2", "epochs: 2\nbatchsize: 4", ["spec.yaml:16:1", "did you mean `batch_size`, which"]),
        edited(
            "a sweep of nothing",
            "epochs: 2",
            "epochs: 2\nsweep: { method: grid }",
            ["spec.yaml:16:1", "the key `parameters` is missing"],
        ),
        edited("of nobody", "epochs: 2", "epochs: 2\nzzz: 1", ["spec.yaml:16:1", "the keys here are name, seed"]),
        edited("missing", "epochs: 2\n", "", ["spec.yaml:1:1", "the key `epochs` is missing"]),
        edited("missing below", "  image_size: 32\n", "", ["spec.yaml:3:1", "the key `image_size` is missing"]),
        edited("no value", "model:\n", "model: ~\nmodell:\n", ["spec.yaml:9:8", "found nothing"]),
        edited(
            "text",
            "epochs: 2",
            "epochs: two",
            ["spec.yaml:15:9", "a whole number from 1 to 1000000, found text \"two\""],
        ),
        edited("a fraction", "epochs: 2", "epochs: 2.5", ["spec.yaml:15:9", "found 2.5"]),
        edited("negative", "epochs: 2", "epochs: -2", ["spec.yaml:15:9", "found -2"]),
        edited("above 32 bits", "epochs: 2", "epochs: 4294967296", ["spec.yaml:15:9", "found 4294967296"]),
        edited(
            "above 64 bits",
            "seed: 7",
            "seed: 18446744073709551616",
            ["spec.yaml:2:7", "a whole number from 0 to 18446744073709551615"],
        ),
        edited("octal", "epochs: 2", "epochs: 010", ["spec.yaml:15:9", "found text \"010\""]),
        edited("hours", "epochs: 2", "epochs: 1:30", ["spec.yaml:15:9", "found text \"1:30\""]),
        edited("not a number", "1.0e-3", ".nan", ["spec.yaml:14:37", "must be finite"]),
        edited("infinite", "1.0e-3", "-.inf", ["spec.yaml:14:37", "must be finite"]),
        edited("too large for a number", "1.0e-3", "1e999", ["spec.yaml:14:37", "must be finite"]),
        edited(
            "a boolean of YAML 1.1",
            "epochs: 2",
            "epochs: 2\naugment: { horizontal_flip: yes }",
            ["spec.yaml:16:29", "true or false"],
        ),
        edited("a number as a name", "name: colours", "name: 42", ["spec.yaml:1:7", "expected text, found 42"]),
        edited("a list as a map", "  train: data/train", "  train: [data/train]", ["spec.yaml:4:", "found a list"]),
        edited("a map as a number", "epochs: 2", "epochs: { n: 2 }", ["spec.yaml:15:1", "found a map"]),
        edited(
            "unknown name",
            "weights: imagenet",
            "weights: imagnet",
            ["spec.yaml:11:12", "did you mean `imagenet`?"],
        ),
        edited("two optimizers", adam, sgd_too, ["spec.yaml:14:1", "only one of sgd, adam can stand here"]),
        edited("an optimizer's name", adam, "optimizer: adam", ["spec.yaml:14:12", "one name with its values"]),
        edited(
            "values of a name",
            "epochs: 2",
            "epochs: 2\nschedule: { constant: {} }",
            ["spec.yaml:16:13", "the name alone"],
        ),
        edited("no device", "seed: 7", "device: gpu", ["spec.yaml:2:9", "unknown device"]),
        edited(
            "no metric",
            "epochs: 2",
            "epochs: 2\ncheckpoint: { monitor: test.loss }",
            ["spec.yaml:16:24", "not measured every epoch"],
        ),
        edited(
            "half a pair",
            "valid: data/valid",
            "valid: { idx: images.gz }",
            ["spec.yaml:5:3", "`labels` is missing"],
        ),
    ]
}

fn of_values() -> Vec<Hostile> {
    let long = "x".repeat(100_000);
    let key = "k".repeat(1_000);
    vec![
        edited(
            "a long row",
            "frozen_layers: all",
            &format!("frozen_layers: {{ through: {long} }}"),
            ["spec.yaml:12:", "xxx…"],
        ),
        edited("a long folder", "train: data/train", &format!("train: {long}"), ["spec.yaml:4:10", "cannot"]),
        edited(
            "a long class",
            "epochs: 2",
            &format!("epochs: 2\nclass_weights: {{ {key}: -1 }}"),
            ["spec.yaml:16:", "-1"],
        ),
        edited("zero", "epochs: 2", "epochs: 0", ["spec.yaml:15:9", "epochs: 0 is lower than 1"]),
        edited("a path as a name", "name: colours", "name: ../colours", ["spec.yaml:1:7", "letters, digits"]),
        edited("too small", "image_size: 32", "image_size: 7", ["spec.yaml:7:15", "from 8 to 4096"]),
        edited("too large", "image_size: 32", "image_size: [4294967295, 4294967295]", ["spec.yaml:7:3", "4096"]),
        edited("below zero", "dropout: 0.2", "dropout: -0.1", ["spec.yaml:13:42", "-0.1 is lower than 0"]),
        edited("no head", "head: [global", "head: []\n  # head: [global", ["spec.yaml:13:3", "needs 1 items at least"]),
    ]
}

fn check(place: &Place, path: &str) -> (Printed, Duration) {
    let started = Instant::now();
    let printed = place.xp(&["check", path]);
    (printed, started.elapsed())
}

/// One error, a place and a hint, in words of YAML, on a terminal's width.
fn assert_clear(what: &str, printed: &Printed, took: Duration) {
    let stderr = &printed.stderr;
    assert_eq!(stderr.matches("error: ").count(), 1, "{what}: {stderr}");
    assert!(stderr.starts_with("error: "), "{what}: {stderr}");
    assert!(stderr.contains("help: ") || stderr.contains("hint: "), "{what} has no hint: {stderr}");
    assert!(stderr.len() < 4_000, "{what} says {} bytes: {}", stderr.len(), &stderr[..400]);
    for line in stderr.lines() {
        let width = line.chars().count();
        assert!(width <= MAX_WIDTH, "{what} has a line of {width} characters: {stderr}");
    }
    let rust = [
        "panicked", "struct", "u32", "u64", "f64", "Option", "String", "serde", "visitor", "Error::", "policy",
        "variant",
    ];
    for word in rust {
        assert!(!stderr.contains(word), "{what} says {word:?}: {stderr}");
    }
    assert!(!stderr.chars().any(|c| c.is_control() && c != '\n'), "{what}: {stderr:?}");
    assert!(took < Duration::from_secs(3), "{what} took {took:?}");
}

fn all_refused(cases: Vec<Hostile>) {
    let place = Place::new();
    for Hostile { what, text, says } in cases {
        fs::write(place.path("spec.yaml"), text).unwrap();
        let (printed, took) = check(&place, "spec.yaml");
        assert_eq!(printed.code, 2, "{what}: {}", printed.stderr);
        assert_clear(what, &printed, took);
        for part in says {
            assert!(printed.stderr.contains(part), "{what} lacks {part:?}: {}", printed.stderr);
        }
    }
}

#[test]
fn hostile_text_is_refused_with_one_clear_line() {
    let cases = of_text();
    assert!(cases.len() >= 25);
    all_refused(cases);
}

#[test]
fn a_wrong_structure_is_refused_with_one_clear_line() {
    let cases = of_structure();
    assert!(cases.len() >= 30);
    all_refused(cases);
}

#[test]
fn values_out_of_range_are_refused_with_one_clear_line() {
    all_refused(of_values());
}

#[test]
fn thousands_of_faults_are_counted_and_the_first_shown() {
    let place = Place::new();
    let weights: String = (0..10_000).map(|i| format!("  class{i}: -1\n")).collect();
    fs::write(place.path("spec.yaml"), format!("{SPEC}class_weights:\n{weights}")).unwrap();
    let (printed, took) = check(&place, "spec.yaml");
    assert_eq!(printed.code, 2);
    assert!(printed.stderr.contains("class_weights.class0: -1 is not within 0 and 1e6"), "{}", printed.stderr);
    assert!(printed.stderr.contains(" problems more") && printed.stderr.len() < 20_000, "{}", printed.stderr);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
#[cfg(unix)]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let place = Place::new();
    let made = Command::new("mkfifo").arg(place.path("pipe.yaml")).status().unwrap();
    assert!(made.success());
    let cases = [
        ("nowhere.yaml", 3, "cannot find nowhere.yaml"),
        ("data", 2, "cannot read data"),
        ("pipe.yaml", 2, "named pipe"),
        ("/dev/zero", 2, "longer than a spec may be"),
        ("/dev/null", 2, "nothing in it"),
    ];
    for (path, code, says) in cases {
        let (printed, took) = check(&place, path);
        assert_eq!(printed.code, code, "{path}: {}", printed.stderr);
        assert_clear(path, &printed, took);
        assert!(printed.stderr.contains(says), "{path}: {}", printed.stderr);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn bombs_take_little_memory() {
    let place = Place::new();
    let nested = format!("name: {}", "[".repeat(1_000_000));
    let keys: String = (0..140_000).map(|i| format!("k{i}:\n")).collect();
    for (what, text) in [("alias bomb", alias_bomb()), ("brackets", nested), ("many keys", keys)] {
        fs::write(place.path("spec.yaml"), text).unwrap();
        let limited = r#"ulimit -v 1500000; exec "$0" check spec.yaml"#;
        let mut command = Command::new("sh");
        command.args(["-c", limited]).arg(assert_cmd::cargo::cargo_bin("xp")).current_dir(place.folder.path());
        let printed = printed(&command.output().unwrap());
        assert_eq!(printed.code, 2, "{what}: {}", printed.stderr);
    }
}

#[test]
fn unusual_yaml_that_means_the_same_is_accepted() {
    let json: serde_json::Value = xp::spec::parse::node_from_yaml(SPEC).unwrap().to_json();
    let anchors = SPEC.replace("  train: data/train", "  train: &train data/train").replace("seed: 7", "seed: &n 7");
    let merged = SPEC.replace("seed: 7\n", "").replace("epochs: 2\n", "epochs: 2\n<<: { seed: 7, epochs: 9 }\n");
    let specs = [
        ("byte order mark", format!("\u{feff}{SPEC}")),
        ("carriage returns", SPEC.replace('\n', "\r\n")),
        ("JSON", json.to_string()),
        ("indented JSON", format!("{json:#}")),
        ("document marks", format!("%YAML 1.2\n---\n{SPEC}...\n")),
        ("anchors", anchors.replace("log_every: 1", "log_every: *n")),
        ("merged keys", merged),
        ("other spellings", SPEC.replace("epochs: 2", "epochs: 0x2").replace("seed: 7", "seed: 7_0")),
        ("quotes", SPEC.replace("name: colours", "name: 'colours'").replace("backbone:", "\"backbone\":")),
        ("no value for what may be left out", format!("{SPEC}loss:\nearly_stopping: ~\n")),
    ];
    let place = Place::new();
    for (what, text) in specs {
        fs::write(place.path("spec.yaml"), text).unwrap();
        let resolved = place.json(&["check", "spec.yaml", "--json"]);
        assert_eq!(resolved["name"], "colours", "{what}");
        assert_eq!(resolved["epochs"], 2, "{what}");
    }
}
