//! Tiny trainings in this process, and what was told while they went.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use tempfile::TempDir;
use xp::data::feature_cache::FeatureCache;
use xp::run::event::{DataFacts, Event, ModelFacts};
use xp::run::metric::Point;
use xp::run::stop::StopFlag;
use xp::settings::Resources;
use xp::spec::LoadedSpec;
use xp::train::channel::Events;
use xp::train::device;
use xp::train::plan::{Plan, plan};
use xp::train::session::Session;

/// One step an epoch on all images, everything frozen but the head, no dropout: `train.loss` of an epoch is that of the
/// weights before its only step, so that the epoch in which two runs part says which step differed.
const SPEC: &str = "\
name: effects
seed: 7
device: cpu
data:
  train: train
  valid: valid
  image_size: 32
  batch_size: 12
model:
  backbone: efficientnet_lite0
  frozen_layers: all
optimizer: { sgd: { learning_rate: 0.5 } }
epochs: 6
log_every: 1
";

/// A folder with a spec and its images.
pub struct Lab {
    folder: TempDir,
}

/// What a training told.
pub struct Outcome {
    pub events: Vec<Event>,
}

/// The lab that most cases share: three classes of colours, of 4 train and 2 valid images each.
pub fn colours() -> &'static Lab {
    static COLOURS: LazyLock<Lab> = LazyLock::new(|| {
        let lab = Lab::empty();
        for (split, n_images) in [("train", 4), ("valid", 2)] {
            for (class, [r, g, b]) in [("blue", [40, 60, 160]), ("green", [50, 150, 60]), ("red", [160, 60, 40])] {
                for i in 0..n_images {
                    let shade = move |x: u32, y: u32| (7 * i + 5 * x + 3 * y) as u8;
                    let lighter = if split == "valid" { 20 } else { 0 };
                    lab.paint(&format!("{split}/{class}/{i}.png"), move |x, y| {
                        [r, g, b].map(|level: u8| level.saturating_add(shade(x, y)).saturating_add(lighter))
                    });
                }
            }
        }
        lab
    });
    &COLOURS
}

/// A run of the shared lab, made once for each list of `--set` arguments.
pub fn run(sets: &[&str]) -> Arc<Outcome> {
    type Made = Arc<OnceLock<Arc<Outcome>>>;
    static RUNS: LazyLock<Mutex<HashMap<String, Made>>> = LazyLock::new(Mutex::default);
    let made = Arc::clone(RUNS.lock().unwrap().entry(sets.join("\n")).or_default());
    Arc::clone(made.get_or_init(|| Arc::new(colours().train(sets))))
}

/// `train.loss` by epoch in a run of the shared lab.
pub fn losses(sets: &[&str]) -> Vec<f64> {
    run(sets).metric("train.loss")
}

impl Lab {
    /// Without images.
    pub fn empty() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(lab.path("spec.yaml"), SPEC).unwrap();
        lab
    }

    pub fn path(&self, relative: &str) -> std::path::PathBuf {
        self.folder.path().join(relative)
    }

    /// Writes a 12×10 image.
    pub fn paint(&self, relative: &str, colour: impl Fn(u32, u32) -> [u8; 3]) {
        self.paint_sized(relative, [12, 10], colour);
    }

    /// Writes an image of a width and a height.
    pub fn paint_sized(&self, relative: &str, [width, height]: [u32; 2], colour: impl Fn(u32, u32) -> [u8; 3]) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb(colour(x, y))).save(path).unwrap();
    }

    /// Copies a file or all files of a folder.
    pub fn copy(&self, from: &Path, to: &str) {
        let target = self.path(to);
        if from.is_dir() {
            for entry in fs::read_dir(from).unwrap() {
                let path = entry.unwrap().path();
                self.copy(&path, &format!("{to}/{}", path.file_name().unwrap().to_str().unwrap()));
            }
        } else {
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(from, target).unwrap();
        }
    }

    fn planned(&self, sets: &[&str]) -> Result<Plan, String> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let loaded = LoadedSpec::read(&self.path("spec.yaml"), &sets);
        loaded.and_then(|loaded| plan(&loaded)).map_err(|error| format!("{error:?}"))
    }

    /// Whether a spec has a plan.
    pub fn is_valid(&self, sets: &[&str]) -> bool {
        self.planned(sets).is_ok()
    }

    /// The plan of a spec that fits.
    pub fn plan(&self, sets: &[&str]) -> Plan {
        self.planned(sets).unwrap_or_else(|error| panic!("{sets:?}: {error}"))
    }

    /// Where the trainings of a plan keep what the frozen layers give.
    pub fn cache(&self, plan: &Plan) -> FeatureCache {
        FeatureCache { dir: self.path("cache"), budget_bytes: plan.spec.cache.budget.0 }
    }

    /// Trains, whatever comes of it.
    fn tried(&self, sets: &[&str]) -> Result<Outcome, String> {
        let plan = self.planned(sets)?;
        let device = device::of_spec(&plan.spec).map_err(|error| error.to_string())?;
        let run_dir = tempfile::tempdir().unwrap();
        let (sender, receiver) = sync_channel(100_000);
        let session = Session {
            plan: &plan,
            device: &device,
            run_dir: run_dir.path(),
            objects_dir: run_dir.path(),
            resources: Resources::new(Some(1)),
            cache: Some(self.cache(&plan)).filter(|_| plan.spec.cache.enabled),
            events: Events::new(sender),
            stop: StopFlag::default(),
            expected: Default::default(),
            resume: None,
            until_epoch: None,
            measures_test: true,
            stretches: Vec::new(),
        };
        session.train().map_err(|error| error.to_string())?;
        drop(session);
        Ok(Outcome { events: receiver.iter().collect() })
    }

    /// Trains to the end.
    pub fn train(&self, sets: &[&str]) -> Outcome {
        self.tried(sets).unwrap_or_else(|error| panic!("{sets:?}: {error}"))
    }

    /// What is said against a spec, before it trains or while it does.
    pub fn refused(&self, sets: &[&str]) -> String {
        self.tried(sets).err().unwrap_or_else(|| panic!("{sets:?} was not refused"))
    }
}

impl Outcome {
    /// Every point of a metric that was measured with an epoch, the test's included.
    pub fn points(&self, key: &str) -> Vec<Point> {
        let measured = self.events.iter().filter_map(|event| match event {
            Event::EpochMeasured { points, .. } | Event::Tested { points } => Some(points),
            _ => None,
        });
        measured.flatten().filter(|(name, _)| name.to_string() == key).map(|(_, point)| *point).collect()
    }

    /// A metric by epoch.
    pub fn metric(&self, key: &str) -> Vec<f64> {
        self.points(key).iter().map(|point| point.value).collect()
    }

    /// The steps of which single points were told.
    pub fn logged_steps(&self) -> Vec<u64> {
        let points = self.events.iter().filter_map(|event| match event {
            Event::StepPoints(points) => Some(points),
            _ => None,
        });
        points.flatten().map(|(_, point)| point.step).collect()
    }

    pub fn data(&self) -> &DataFacts {
        let facts = self.events.iter().find_map(|event| match event {
            Event::Data(facts) => Some(facts),
            _ => None,
        });
        facts.unwrap()
    }

    pub fn model(&self) -> &ModelFacts {
        let facts = self.events.iter().find_map(|event| match event {
            Event::Model(facts) => Some(facts),
            _ => None,
        });
        facts.unwrap()
    }

    /// Everything that was warned of.
    pub fn warnings(&self) -> String {
        let warnings = self.events.iter().filter_map(|event| match event {
            Event::Warning(text) => Some(text.as_str()),
            _ => None,
        });
        warnings.collect::<Vec<_>>().join("\n")
    }

    pub fn n_skipped(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Skipped(_))).count()
    }
}

/// Equal but for rounding.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * a.abs().max(1e-3)
}

/// Apart by more than rounding could do.
fn apart(a: f64, b: f64) -> bool {
    (a - b).abs() > 1e-4 * a.abs().max(1e-3)
}

/// Two runs are the same in their first `n` epochs and part in the next.
pub fn assert_part_after(n: usize, a: &[f64], b: &[f64]) {
    for i in 0..n {
        assert!(same(a[i], b[i]), "they part in epoch {} already: {a:?} and {b:?}", i + 1);
    }
    assert!(apart(a[n], b[n]), "they do not part in epoch {}: {a:?} and {b:?}", n + 1);
}

/// Two runs are the same throughout.
pub fn assert_same(a: &[f64], b: &[f64]) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(*a, *b)), "{a:?} and {b:?} are not the same");
}

/// Every two runs part in the epoch after the first `n`.
pub fn assert_all_part_after(n: usize, runs: &[Vec<f64>]) {
    for (i, a) in runs.iter().enumerate() {
        for b in &runs[..i] {
            assert_part_after(n, a, b);
        }
    }
}
