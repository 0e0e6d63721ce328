//! Runs whose checkpoints an earlier xp wrote: they are measured, exported and resumed as if this one had written them.
//! tests/fixtures/make_old_checkpoints.py made them, and docs/formats.md promises it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;
use xp::run::event::SavedCheckpoint;
use xp::train::checkpoint::{Checkpoint, FORMAT};

use crate::support::{Place, check_files};

/// A home of that time, and what was said of it.
struct Old {
    place: Place,
    told: Value,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn sql(place: &Place, query: &str) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path(".xp/xp.db"));
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(query)).execute(&pool).await.unwrap();
        pool.close().await;
    });
}

impl Old {
    fn unpack(format: u32) -> Self {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let packed = File::open(fixture(&format!("old_checkpoints_{format}.zip"))).unwrap();
        zip::ZipArchive::new(packed).unwrap().extract(place.folder.path()).unwrap();
        let told = fs::read_to_string(fixture(&format!("old_checkpoints_{format}.json"))).unwrap();
        // The folders of a spec are relative to where it was.
        let spec = place.path("spec.yaml").display().to_string();
        sql(&place, &format!("UPDATE run_environment SET value = '{spec}' WHERE name = 'spec.path'"));
        Self { place, told: serde_json::from_str(&told).unwrap() }
    }

    fn runs(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.told["runs"].as_object().unwrap().iter().map(|(name, told)| (name.as_str(), told))
    }

    fn run_dir(&self, name: &str) -> PathBuf {
        self.place.path(".xp/runs").join(self.told["runs"][name]["id"].as_str().unwrap())
    }

    /// Those of a run whose files are there.
    fn kept(&self, name: &str) -> Vec<Value> {
        let shown = self.place.json(&["show", name, "--json"]);
        let checkpoints = shown["checkpoints"].as_array().unwrap().iter();
        checkpoints.filter(|checkpoint| checkpoint["deleted"] == false).cloned().collect()
    }

    fn format_of(&self, name: &str, checkpoint: &Value) -> u32 {
        let saved: SavedCheckpoint = serde_json::from_value(checkpoint.clone()).unwrap();
        Checkpoint::open(&self.run_dir(name), &saved).unwrap().manifest().format
    }

    /// Bytes are the same on the vector unit that the fixture was made with; on another one numbers are close.
    fn is_of_this_machine(&self) -> bool {
        self.told["vectors"] == xp::models::runner::vector_unit()
    }

    fn same(&self, found: &Value, expected: &Value, what: &str) {
        if self.is_of_this_machine() {
            assert_eq!(found, expected, "{what}");
            return;
        }
        let numbers = |value: &Value| {
            let [best, last] = ["best", "last"].map(|key| value[key].as_f64().unwrap());
            [best, last]
        };
        for (key, expected) in expected.as_object().unwrap() {
            let close = numbers(&found[key]).into_iter().zip(numbers(expected)).all(|(a, b)| (a - b).abs() < 1e-3);
            assert!(close, "{what}: {key}: {} {expected}", found[key]);
        }
    }

    /// Every checkpoint is measured as it was then, and what is exported is what was exported.
    fn reads_the_same(&self, name: &str, told: &Value) {
        for (epoch, expected) in told["evaluate"].as_object().unwrap() {
            let found = self.place.json(&["evaluate", name, "--checkpoint", epoch, "--json"]);
            for (key, expected) in expected.as_object().unwrap() {
                let (found, expected) = (found["metrics"][key].as_f64().unwrap(), expected.as_f64().unwrap());
                let tolerance = if self.is_of_this_machine() { 0.0 } else { 1e-4 };
                assert!((found - expected).abs() <= tolerance, "{name} {epoch} {key}: {found} {expected}");
            }
        }
        let file = self.place.path("exported.safetensors");
        let to_file = ["-o", "exported.safetensors", "--force"];
        let exported = self.place.xp(&[&["export", name, "--format", "safetensors"][..], &to_file].concat());
        assert_eq!(exported.code, 0, "{}", exported.stderr);
        assert_eq!(tensors(&file), tensors(&self.place.path(&format!("exports/{name}.safetensors"))), "{name}");
    }
}

/// Shapes and bytes by name.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec()))).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Measures, exports and predicts with what is there, which changes nothing of it; then goes on with every run, to the
/// bytes of one that was never interrupted.
fn is_read_and_gone_on_with(format: u32) {
    let old = Old::unpack(format);
    for (name, told) in old.runs() {
        assert_eq!(told["checkpoints"], old.place.json(&["show", name, "--json"])["checkpoints"], "{name}");
        old.reads_the_same(name, told);
        assert!(old.kept(name).iter().all(|checkpoint| old.format_of(name, checkpoint) == format));
        let predicted = old.place.xp(&["predict", name, "data/test/red/0.png"]);
        assert_eq!(predicted.code, 0, "{}", predicted.stderr);
    }
    for (name, told) in old.runs() {
        let epochs = told["whole"]["metrics"]["valid.loss"]["n"].to_string();
        let more: &[&str] = if told["state"] == "finished" { &["--epochs", &epochs] } else { &[] };
        let resumed = old.place.xp(&[&["resume", name], more].concat());
        assert_eq!(resumed.code, 0, "{}", resumed.stderr);
        let shown = old.place.json(&["show", name, "--json"]);
        assert_eq!(shown["state"], "finished");
        assert_eq!(shown["data"], told["whole"]["data"]);
        assert_eq!(shown["model"], told["whole"]["model"]);
        let of_epochs = |value: &Value| {
            // The test was measured once more where a finished run was extended.
            let mut metrics = value["metrics"].clone();
            metrics.as_object_mut().unwrap().retain(|key, _| !key.starts_with("test."));
            metrics
        };
        old.same(&of_epochs(&shown), &of_epochs(&told["whole"]), name);
        if old.is_of_this_machine() {
            assert_eq!(shown["trained"], told["whole"]["trained"], "{name}");
        }
        let kept = old.kept(name);
        for checkpoint in &kept {
            let is_last = checkpoint["epoch"] == kept.last().unwrap()["epoch"];
            assert_eq!(old.format_of(name, checkpoint), FORMAT);
            check_files(&old.run_dir(name), checkpoint, is_last);
            let folder = old.run_dir(name).join(checkpoint["path"].as_str().unwrap());
            let optimizer = is_last.then_some("optimizer.safetensors");
            let files = ["manifest.json"].into_iter().chain(optimizer).chain(["trained.safetensors"]);
            assert_eq!(names(&folder), files.collect::<Vec<_>>(), "{name}");
            let n_bytes: u64 = ["trained.safetensors"]
                .into_iter()
                .chain(optimizer)
                .map(|file| folder.join(file).metadata().unwrap().len())
                .sum();
            assert_eq!(checkpoint["n_bytes"], n_bytes, "{name}");
        }
    }
}

#[test]
fn format_3_is_read_and_gone_on_with() {
    is_read_and_gone_on_with(3);
}

#[test]
fn format_4_is_read_and_gone_on_with() {
    is_read_and_gone_on_with(4);
}

/// A conversion may be killed before the database names its result, or before what it replaces is removed.
#[test]
fn a_conversion_that_was_killed_is_no_obstacle() {
    let old = Old::unpack(3);
    let checkpoint = old.kept("adam").last().unwrap().clone();
    let folder = old.run_dir("adam").join(checkpoint["path"].as_str().unwrap());
    for half in ["manifest.json", "trained.safetensors", "optimizer.safetensors"] {
        fs::write(folder.join(half), "half").unwrap();
    }
    old.reads_the_same("adam", &old.told["runs"]["adam"]);
    // As it is once the database names the new files, and the old ones are still there.
    let other = Old::unpack(3);
    assert_eq!(old.place.xp(&["resume", "sgd", "--epochs", "3"]).code, 0);
    let kept = old.kept("sgd");
    let last = kept.last().unwrap()["path"].as_str().unwrap();
    for name in ["manifest", "model", "optimizer", "state"] {
        let from = other.run_dir("sgd").join("checkpoints/epoch-0002").join(name);
        fs::copy(from, old.run_dir("sgd").join(last).join(name)).unwrap();
    }
    assert_eq!(old.format_of("sgd", kept.last().unwrap()), FORMAT);
    for (name, epochs) in [("adam", "30"), ("sgd", "4")] {
        let more: &[&str] = if name == "sgd" { &["--epochs", epochs] } else { &[] };
        let resumed = old.place.xp(&[&["resume", name], more].concat());
        assert_eq!(resumed.code, 0, "{}", resumed.stderr);
        let (shown, whole) = (old.place.json(&["show", name, "--json"]), &old.told["runs"][name]["whole"]);
        assert!(!old.is_of_this_machine() || shown["trained"] == whole["trained"], "{name}");
        for checkpoint in old.kept(name) {
            let files = names(&old.run_dir(name).join(checkpoint["path"].as_str().unwrap()));
            assert!(files.iter().all(|file| file.contains('.')), "{files:?}");
        }
    }
}

#[test]
fn formats_that_no_xp_reads_are_named() {
    let old = Old::unpack(3);
    let checkpoint = old.kept("sgd").last().unwrap().clone();
    let manifest = old.run_dir("sgd").join(checkpoint["path"].as_str().unwrap()).join("manifest");
    for format in [2, 5] {
        let text = fs::read_to_string(&manifest).unwrap();
        let text = text.replace("\"format\": 3", &format!("\"format\": {format}"));
        let hash = blake3::hash(text.as_bytes()).to_hex();
        fs::write(&manifest, &text).unwrap();
        sql(
            &old.place,
            &format!(
                "UPDATE checkpoints SET manifest_hash = '{hash}' WHERE path LIKE '%epoch-0002' AND run_id = '{}'",
                old.told["runs"]["sgd"]["id"].as_str().unwrap()
            ),
        );
        for arguments in [&["evaluate", "sgd", "--checkpoint", "last"][..], &["resume", "sgd", "--epochs", "3"]] {
            let printed = old.place.xp(arguments);
            assert_eq!(printed.code, 1);
            assert!(printed.stderr.contains(&format!("format {format}")), "{}", printed.stderr);
            assert!(printed.stderr.contains("reads 3 and 4"), "{}", printed.stderr);
        }
        fs::write(&manifest, text.replace(&format!("\"format\": {format}"), "\"format\": 3")).unwrap();
    }
    assert_eq!(old.place.json(&["show", "sgd", "--json"])["state"], "finished");
}
