//! Small images, specs and homes for tests, and the built binary.

pub mod golden;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use xp::run::event::SavedCheckpoint;
use xp::train::checkpoint::Checkpoint;

/// A folder of its own with data, specs and an `.xp` home.
pub struct Place {
    pub folder: TempDir,
}

/// What a command printed and how it ended.
pub struct Printed {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    /// Two classes of 6 training, 4 valid and 4 test images, which differ in colour; and `spec.yaml`.
    ///
    /// No two images are the same.
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for (split, numbers) in [("train", 0..6), ("valid", 6..10), ("test", 10..14)] {
            for (class, hue) in [("blue", [40, 60, 200]), ("red", [200, 60, 40])] {
                for (i, number) in numbers.clone().enumerate() {
                    write_image(&place.path(&format!("data/{split}/{class}/{i}.png")), hue, number);
                }
            }
        }
        std::fs::write(place.path("spec.yaml"), SPEC).unwrap();
        place
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Replaces text in `spec.yaml`; the text must be there.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("spec.yaml")).unwrap();
        assert!(text.contains(from), "{from:?} is not in the spec");
        std::fs::write(self.path("spec.yaml"), text.replace(from, to)).unwrap();
    }

    /// The binary, to be run in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("xp"));
        command.current_dir(self.folder.path()).args(arguments);
        command.env_remove("XP_HOME").env_remove("RUST_LOG").env("COLUMNS", "80");
        // What the user has fetched is no part of a test.
        command.env("XP_WEIGHTS_DIR", self.path("weights"));
        command
    }

    pub fn xp(&self, arguments: &[&str]) -> Printed {
        printed(&self.command(arguments).output().unwrap())
    }

    /// Runs a command that must succeed and print JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.xp(arguments);
        assert_eq!(printed.code, 0, "{arguments:?}: {}", printed.stderr);
        serde_json::from_str(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {}", printed.stdout))
    }
}

/// A checkpoint, as `xp show --json` tells of it, is the recorded one and whole; of all but the last the optimizer's state
/// may be gone.
pub fn check_files(run_dir: &Path, checkpoint: &Value, is_last: bool) {
    let saved: SavedCheckpoint = serde_json::from_value(checkpoint.clone()).unwrap();
    let checkpoint = Checkpoint::open(run_dir, &saved).unwrap();
    if is_last { checkpoint.verify() } else { checkpoint.verify_trained() }.unwrap();
}

pub fn printed(output: &Output) -> Printed {
    Printed {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A 12×10 image of one colour with a gradient, another one for every `i`.
pub fn write_image(path: &Path, [r, g, b]: [u8; 3], i: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = image::RgbImage::from_fn(12, 10, |x, y| {
        let shade = (5 * i + 2 * x + y) as u8;
        image::Rgb([r.saturating_add(shade), g.saturating_add(shade), b.saturating_add(shade)])
    });
    image.save(path).unwrap();
}

/// Layers whose steps feed each other: with steps this long their product leaves what an f32 holds.
pub const DIVERGING: [&str; 4] = [
    "--set",
    "optimizer={ sgd: { learning_rate: 1000, momentum: 0.99 } }",
    "--set",
    "model.head=[global_average_pool, { dense: { units: 64, activation: relu } }, { dense: { units: 64, activation: relu } }, \
     { dense: { units: 64, activation: relu } }, { dense: { units: 64, activation: relu } }, \
     { dense: { units: 2, activation: softmax } }]",
];

/// Everything frozen, at the smallest size: an epoch takes milliseconds.
pub const SPEC: &str = "\
name: colours
seed: 7
data:
  train: data/train
  valid: data/valid
  test: data/test
  image_size: 32
  batch_size: 4
model:
  backbone: efficientnet_lite0
  weights: imagenet
  frozen_layers: all
  head: [global_average_pool, { dropout: 0.2 }, { dense: { units: 2, activation: softmax } }]
optimizer: { adam: { learning_rate: 1.0e-3 } }
epochs: 2
log_every: 1
";
