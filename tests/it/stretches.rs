//! Runs that are stopped, resumed, extended and done again: the record says what was done, and runs with one fingerprint
//! have the same numbers.
//!
//! A head on made-up features trains in this process, so that an epoch takes milliseconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use xp::data::npy::Header;
use xp::launch::going_on::{Refusal, Wanted};
use xp::launch::{self, Launch, LaunchError, Started, Watcher};
use xp::report::compare::differing_params;
use xp::run::detail::RunDetail;
use xp::run::draw::{Address, Draws, Purpose};
use xp::run::event::Event;
use xp::run::metric::{Measure, MetricKey, Point, Resolution, Split};
use xp::run::stop::StopFlag;
use xp::run::stretch::{STRETCHES, Stretch};
use xp::run::summary::{ShownState, State};
use xp::settings::{Home, Resources, host};
use xp::spec::LoadedSpec;
use xp::spec::short_forms::DeviceChoice;
use xp::spec::stretches::effective;
use xp::store::connect::Store;
use xp::store::list::Observer;
use xp::store::runs::Ending;
use xp::train::device;
use xp::train::plan::plan;

use crate::support::printed;

/// Three steps an epoch.
const SPEC: &str = "\
name: head
seed: 7
device: cpu
data:
  train: { features: train.npy, labels: train_labels.npy, classes: [a, b] }
  valid: { features: valid.npy, labels: valid_labels.npy, classes: [a, b] }
  batch_size: 4
model: { head: [flatten, { dropout: 0.3 }, { dense: { units: 2, activation: softmax } }] }
optimizer: { adam: { learning_rate: 0.05 } }
log_every: 1
epochs: 3
";

struct Lab {
    folder: TempDir,
    home: Home,
    runtime: Runtime,
    store: Store,
}

/// Keeps quiet, or raises the flag when the run begins.
struct Quiet(Option<StopFlag>);

impl Watcher for Quiet {
    fn started(&mut self, _: &Started) {
        if let Some(stop) = &self.0 {
            stop.raise();
        }
    }
    fn event(&mut self, _: &Event) {}
    fn committed(&mut self, _: &[(MetricKey, Point)]) {}
    fn ended(&mut self) {}
}

/// How a run goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Again {
    epochs: Option<u32>,
    restarts_schedule: bool,
    until_epoch: Option<u32>,
}

impl Again {
    fn to(epochs: u32) -> Self {
        Self { epochs: Some(epochs), ..Self::default() }
    }
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::find(Some(Path::new(".xp")), folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(Store::open(&home.database())).unwrap();
        let lab = Self { folder, home, runtime, store };
        lab.write("train", 12, 0);
        lab.write("valid", 6, 100);
        fs::write(lab.path("spec.yaml"), SPEC).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Rows that a head separates badly, so that its losses go up and down.
    fn write(&self, name: &str, n: u64, first: u64) {
        let mut draws = Draws::at(Address { seed: first, epoch: 0, sample: 0, purpose: Purpose::Weights, name });
        let mut values = Header::of("<f4", &[n, 4]).bytes();
        let mut labels = Header::of("<i8", &[n]).bytes();
        for i in 0..n {
            let label = i % 2;
            labels.extend((label as i64).to_le_bytes());
            for j in 0..4 {
                let value = draws.normal() + if j == 0 { 0.5 * label as f64 } else { 0.0 };
                values.extend((value as f32).to_le_bytes());
            }
        }
        fs::write(self.path(&format!("{name}.npy")), values).unwrap();
        fs::write(self.path(&format!("{name}_labels.npy")), labels).unwrap();
    }

    fn observed<T>(&self, look: impl AsyncFnOnce(&Store, &Observer<'_>) -> T) -> T {
        let (runs_dir, this_host) = (self.home.runs_dir(), host());
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let observer = Observer { runs_dir: &runs_dir, this_host: &this_host, now_ms };
        self.runtime.block_on(look(&self.store, &observer))
    }

    fn detail(&self, name: &str) -> RunDetail {
        self.observed(async |store, observer| {
            let id = store.find_run(name).await.unwrap();
            store.run_detail(&id, observer).await.unwrap()
        })
    }

    /// Every point that was recorded, without its time.
    fn points(&self, run: &RunDetail) -> Vec<(String, u32, u64, u64)> {
        self.observed(async |store, _| {
            let mut all = Vec::new();
            for key in [
                MetricKey::new(Split::Train, Measure::Loss),
                MetricKey::new(Split::Valid, Measure::Loss),
                MetricKey::new(Split::Valid, Measure::Accuracy),
            ] {
                for resolution in [Resolution::Epoch, Resolution::Step] {
                    for point in store.points(&run.summary.id, key, resolution).await.unwrap() {
                        all.push((format!("{key} {resolution:?}"), point.epoch, point.step, point.value.to_bits()));
                    }
                }
            }
            all
        })
    }

    fn loaded(&self, sets: &[String]) -> LoadedSpec {
        LoadedSpec::read(&self.path("spec.yaml"), sets).unwrap()
    }

    fn run(&self, name: &str, sets: &[String], until_epoch: Option<u32>, rerun_of: Option<&RunDetail>) -> Ending {
        let loaded = self.loaded(sets);
        let plan = plan(&loaded).unwrap();
        let launch = self.launch(&loaded, &plan);
        let launch = Launch { name: Some(name.to_owned()), until_epoch, rerun_of, ..launch };
        launch::run(&launch, &mut Quiet(None)).unwrap().1
    }

    fn launch<'a>(&'a self, loaded: &'a LoadedSpec, plan: &'a xp::train::plan::Plan) -> Launch<'a> {
        Launch {
            home: &self.home,
            plan,
            spec_path: &loaded.path,
            spec_yaml: &loaded.text,
            device: device::open(DeviceChoice::Cpu).unwrap(),
            resources: Resources::new(Some(1)),
            name: None,
            tags: Vec::new(),
            warnings: Vec::new(),
            stop: StopFlag::default(),
            rerun_of: None,
            trial: None,
            until_epoch: None,
            measures_test: true,
        }
    }

    fn recorded(&self, run: &RunDetail, epochs: Option<u32>) -> LoadedSpec {
        let sets: Vec<String> = epochs.iter().map(|epochs| format!("epochs={epochs}")).collect();
        LoadedSpec::from_record(&self.path("spec.yaml"), run.resolved_json.clone(), &sets).unwrap()
    }

    /// Goes on with a run as its record was at some time.
    fn try_resume(&self, recorded: &RunDetail, again: Again, is_interrupted: bool) -> Result<Ending, LaunchError> {
        let loaded = self.recorded(recorded, again.epochs);
        let plan = plan(&loaded).unwrap();
        let launch = Launch { until_epoch: again.until_epoch, ..self.launch(&loaded, &plan) };
        let wanted = Wanted { recorded, epochs: again.epochs, restarts_schedule: again.restarts_schedule };
        let mut watcher = Quiet(is_interrupted.then(|| launch.stop.clone()));
        launch::resume(&launch, &wanted, &mut watcher).map(|(_, ending)| ending)
    }

    fn resume(&self, name: &str, again: Again) -> Ending {
        self.try_resume(&self.detail(name), again, false).unwrap_or_else(|error| panic!("{name} {again:?}: {error}"))
    }

    fn rerun(&self, run: &RunDetail, name: &str) -> Ending {
        let loaded = self.recorded(run, None);
        let plan = plan(&loaded).unwrap();
        let launch = Launch { name: Some(name.to_owned()), rerun_of: Some(run), ..self.launch(&loaded, &plan) };
        launch::run(&launch, &mut Quiet(None)).unwrap().1
    }
}

fn is_finished(run: &RunDetail) -> bool {
    run.summary.state == ShownState::Recorded(State::Finished)
}

/// Each stretch as its first epoch, the epochs asked for, and the first epoch of its schedule.
fn short(stretches: &[Stretch]) -> Vec<(u32, u32, u32)> {
    stretches.iter().map(|stretch| (stretch.after_epoch + 1, stretch.epochs, stretch.schedule_after + 1)).collect()
}

fn sets(schedule: &str) -> Vec<String> {
    vec![format!("schedule={schedule}")]
}

#[test]
fn an_extended_cosine_is_no_long_run_and_says_so() {
    let lab = Lab::new();
    let cosine = sets("{ cosine: {} }");
    lab.run("extended", &cosine, None, None);
    assert_eq!(lab.resume("extended", Again::to(5)), Ending::Finished);
    lab.run("straight", &[cosine, vec!["epochs=5".to_owned()]].concat(), None, None);
    let [extended, straight] = ["extended", "straight"].map(|name| lab.detail(name));
    assert_eq!(short(&extended.stretches), [(1, 3, 1), (4, 5, 1)]);
    assert_eq!(short(&straight.stretches), [(1, 5, 1)]);
    assert_eq!(extended.summary.params[STRETCHES], "1-3 of 3; 4 on of 5");
    assert_eq!(differing_params(&[extended.summary.clone(), straight.summary.clone()]), [STRETCHES]);
    // 0.05 · (1 + cos(3π/5)) / 2 and 0, where the curves of 5 and of 3 epochs are after 3.
    let warnings: Vec<&str> = extended.warnings.iter().map(|warning| warning.text.as_str()).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("jumps at epoch 4, from 0 to 1.727e-2"), "{warnings:?}");
    assert!(straight.warnings.is_empty());
    let prints = [&extended, &straight].map(|run| (run.summary.fingerprint.clone(), run.summary.group.clone()));
    assert!(prints[0].0 != prints[1].0 && prints[0].1 != prints[1].1);
    assert_ne!(lab.points(&extended), lab.points(&straight));
    assert_eq!(lab.rerun(&extended, "again"), Ending::Finished);
    let again = lab.detail("again");
    assert_eq!(lab.points(&again), lab.points(&extended));
    assert_eq!((&again.stretches, &again.trained), (&extended.stretches, &extended.trained));
    assert_eq!(again.summary.fingerprint, extended.summary.fingerprint);
}

#[test]
fn a_schedule_that_starts_over_is_recorded_and_done_again() {
    let lab = Lab::new();
    lab.run("first", &sets("{ linear: { warmup_epochs: 1 } }"), None, None);
    let restart = Again { restarts_schedule: true, until_epoch: Some(5), ..Again::to(6) };
    assert_eq!(lab.resume("first", restart), Ending::Stopped);
    // It goes on with the schedule that was started over.
    assert_eq!(lab.resume("first", Again::default()), Ending::Finished);
    let first = lab.detail("first");
    assert_eq!(short(&first.stretches), [(1, 3, 1), (4, 6, 4)]);
    assert_eq!(first.warnings, []);
    lab.rerun(&first, "again");
    assert_eq!(lab.points(&lab.detail("again")), lab.points(&first));
    let refused = |name: &str, epochs| {
        let again = Again { restarts_schedule: true, ..Again::to(epochs) };
        lab.try_resume(&lab.detail(name), again, false).unwrap_err().to_string()
    };
    assert!(refused("first", 7).ends_with("1 epochs of warm-up leave nothing of 1 epochs"));
    lab.run("constant", &[], None, None);
    assert!(refused("constant", 7).ends_with("a constant rate has no course"));
}

/// Everything that a record says, in one text.
fn whole(lab: &Lab, name: &str) -> String {
    let run = lab.detail(name);
    let resolved = fs::read_to_string(lab.home.run_dir(&run.summary.id).join("resolved.json")).unwrap();
    format!("{run:#?} {:?} {resolved}", lab.points(&run))
}

#[test]
fn a_refused_resumption_changes_nothing() {
    let lab = Lab::new();
    lab.run("done", &sets("{ cosine: {} }"), None, None);
    lab.run("paused", &[], Some(2), None);
    let before = ["done", "paused"].map(|name| whole(&lab, name));
    let refused = |what: &str| {
        for (name, before) in ["done", "paused"].iter().zip(&before) {
            let again = Again::to(5);
            let error = lab.try_resume(&lab.detail(name), again, false).unwrap_err();
            assert!(matches!(&error, LaunchError::Refused { .. }), "{what}: {error}");
            assert!(error.to_string().contains(what), "{error}");
            assert_eq!(whole(&lab, name), *before, "{what}");
        }
    };
    let features = fs::read(lab.path("train.npy")).unwrap();
    lab.write("train", 12, 5);
    refused("the train images are not those");
    fs::write(lab.path("train.npy"), features).unwrap();
    for name in ["done", "paused"] {
        let run = lab.detail(name);
        let folder = run.checkpoints.last().unwrap().saved.path.join("optimizer.safetensors");
        let path = lab.home.run_dir(&run.summary.id).join(folder);
        fs::copy(&path, lab.path(name)).unwrap();
        fs::write(&path, "nothing").unwrap();
    }
    refused("is damaged");
    for name in ["done", "paused"] {
        let run = lab.detail(name);
        let folder = run.checkpoints.last().unwrap().saved.path.join("optimizer.safetensors");
        fs::copy(lab.path(name), lab.home.run_dir(&run.summary.id).join(folder)).unwrap();
    }
    // Neither does an interruption before the images are read.
    for (name, before) in ["done", "paused"].iter().zip(&before) {
        assert_eq!(lab.try_resume(&lab.detail(name), Again::to(5), true).unwrap(), Ending::Stopped);
        assert_eq!(whole(&lab, name), *before);
        assert_eq!(lab.resume(name, Again::to(5)), Ending::Finished);
    }
}

/// Several processes look at a run, and then take its lock one after the other.
#[test]
fn a_run_is_looked_at_again_under_its_lock() {
    let lab = Lab::new();
    lab.run("run", &[], Some(1), None);
    let seen = lab.detail("run");
    assert_eq!(lab.try_resume(&seen, Again::default(), false).unwrap(), Ending::Finished);
    let done = whole(&lab, "run");
    let second = lab.try_resume(&seen, Again::default(), false).unwrap_err();
    assert!(matches!(second, LaunchError::CannotGoOn(Refusal::Finished { done: 3, .. })), "{second}");
    let third = lab.try_resume(&seen, Again::to(3), false).unwrap_err();
    assert!(matches!(third, LaunchError::CannotGoOn(Refusal::Finished { done: 3, .. })), "{third}");
    assert_eq!(whole(&lab, "run"), done);
    // One that is extended meanwhile is not the one that was seen, even where it has not finished.
    let until_4 = Again { until_epoch: Some(4), ..Again::to(6) };
    assert_eq!(lab.resume("run", until_4), Ending::Stopped);
    let fourth = lab.try_resume(&seen, Again::default(), false).unwrap_err();
    assert!(matches!(fourth, LaunchError::CannotGoOn(Refusal::TooFew { .. })), "{fourth}");
    let fifth = lab.try_resume(&seen, Again::to(9), false).unwrap_err();
    assert!(matches!(fifth, LaunchError::CannotGoOn(Refusal::Changed { .. })), "{fifth}");
    let _lock = xp::store::lock::RunLock::take(&lab.home.run_dir(&seen.summary.id)).unwrap();
    let held = lab.try_resume(&lab.detail("run"), Again::default(), false).unwrap_err();
    assert!(matches!(held, LaunchError::CannotGoOn(Refusal::Running { .. })), "{held}");
}

/// `--needed` takes the long run for the point, not the extended one, and none of another engine.
#[test]
fn needed_takes_what_has_the_same_numbers() {
    let lab = Lab::new();
    lab.run("extended", &sets("{ cosine: {} }"), None, None);
    lab.resume("extended", Again::to(5));
    let section = "schedule: { cosine: {} }\nsweep: { method: grid, metric: valid.loss, parameters: { epochs: { values: [5] } } }\n";
    fs::write(lab.path("sweep.yaml"), format!("{SPEC}{section}")).unwrap();
    let is_reused = |name: &str| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("xp"));
        command.current_dir(lab.folder.path()).args(["sweep", "sweep.yaml", "--needed", "--name", name]);
        let printed = printed(&command.env_remove("XP_HOME").output().unwrap());
        assert_eq!(printed.code, 0, "{}", printed.stderr);
        lab.observed(async |store, _| {
            let sweep = store.find_sweep(name).await.unwrap();
            let trials = store.trials(&sweep.id).await.unwrap();
            (trials[0].is_reused, trials[0].run.clone().unwrap())
        })
    };
    let (first, straight) = is_reused("first");
    assert!(!first);
    assert_eq!(is_reused("second"), (true, straight.clone()));
    lab.runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(lab.home.database());
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let other = sqlx::query("UPDATE run_environment SET value = '1, 2' WHERE name = 'engine' AND run_id = $1");
        assert_eq!(other.bind(straight.as_str()).execute(&pool).await.unwrap().rows_affected(), 1);
        pool.close().await;
    });
    assert!(!is_reused("third").0);
}

/// What a course is drawn from.
struct Dice {
    draws: Draws,
}

impl Dice {
    fn of(course: u64) -> Self {
        let at = Address { seed: 20_261_128, epoch: 0, sample: course, purpose: Purpose::Order, name: "stretches" };
        Self { draws: Draws::at(at) }
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.draws.below(choices.len() as u64) as usize].clone()
    }

    fn within(&mut self, least: u32, most: u32) -> u32 {
        least + self.draws.below(u64::from(most - least + 1)) as u32
    }

    fn sets(&mut self) -> Vec<String> {
        let warmup = self.one_of(&[0, 0, 1, 2]);
        let schedule = match self.one_of(&["constant", "linear", "cosine", "cosine", "exponential", "step", "plateau"])
        {
            "constant" => "constant".to_owned(),
            "exponential" => format!("{{ exponential: {{ rate: 0.5, warmup_epochs: {warmup} }} }}"),
            "step" => format!("{{ step: {{ every_epochs: 2, factor: 0.3, warmup_epochs: {warmup} }} }}"),
            "plateau" => format!("{{ plateau: {{ patience: 1, factor: 0.5, warmup_epochs: {warmup} }} }}"),
            name => format!("{{ {name}: {{ warmup_epochs: {warmup} }} }}"),
        };
        let mut sets = sets(&schedule);
        if self.draws.unit() < 0.3 {
            sets.push("plan=[{ epochs: 2, learning_rate: 0.1 }, { epochs: 1, learning_rate: 0.02 }]".to_owned());
        }
        if self.draws.unit() < 0.4 {
            let patience = self.within(1, 2);
            sets.push(format!("early_stopping={{ monitor: valid.loss, patience: {patience} }}"));
        }
        sets
    }
}

#[test]
fn fingerprints_are_the_same_where_the_numbers_are() {
    let [n_same, n_other, n_past] = follow(0..20);
    assert!(n_same >= 4 && n_other >= 4 && n_past >= 1, "{n_same} {n_other} {n_past}");
}

#[test]
#[ignore = "takes minutes; the same as twenty"]
fn fingerprints_are_the_same_where_the_numbers_are_in_two_hundred_courses() {
    follow(20..220);
}

/// Runs of any course have their straight run's fingerprint if and only if they have its numbers, and come out again.
/// Tells how many had, how many had not, and how many went past an early stop.
fn follow(courses: std::ops::Range<u64>) -> [u32; 3] {
    let lab = Lab::new();
    let [mut n_same, mut n_other, mut n_past] = [0; 3];
    for course in courses {
        let mut dice = Dice::of(course);
        let sets = dice.sets();
        let name = format!("course{course}");
        let epochs = dice.within(3, 4);
        let until = (dice.draws.unit() < 0.4).then(|| dice.within(1, epochs - 1));
        lab.run(&name, &[&sets[..], &[format!("epochs={epochs}")]].concat(), until, None);
        let mut told = format!("{name} {sets:?} {epochs} until {until:?}");
        for _ in 0..dice.within(1, 2) {
            let run = lab.detail(&name);
            let done = run.last_epoch();
            let more = (is_finished(&run) || dice.draws.unit() < 0.6).then(|| (done + dice.within(1, 4)).max(3));
            let is_restart = more.is_some() && dice.draws.unit() < 0.2;
            let until_epoch = (dice.draws.unit() < 0.3).then_some(done + 1);
            let again = Again { epochs: more, restarts_schedule: is_restart, until_epoch };
            told += &format!(", {again:?} from {done}");
            match lab.try_resume(&run, again, false) {
                Err(LaunchError::CannotGoOn(Refusal::NoRestart { .. })) => {
                    lab.resume(&name, Again { restarts_schedule: false, ..again });
                }
                result => drop(result.unwrap_or_else(|error| panic!("{told}: {error}"))),
            }
        }
        while !is_finished(&lab.detail(&name)) {
            assert_eq!(lab.resume(&name, Again::default()), Ending::Finished, "{told}");
        }
        let run = lab.detail(&name);
        let epochs = run.summary.params["epochs"].as_u64().unwrap();
        let straight_name = format!("straight{course}");
        lab.run(&straight_name, &[&sets[..], &[format!("epochs={epochs}")]].concat(), None, None);
        let straight = lab.detail(&straight_name);
        let points = [&run, &straight].map(|run| lab.points(run));
        let is_same = points[0] == points[1];
        assert_eq!(run.summary.fingerprint == straight.summary.fingerprint, is_same, "{told}");
        assert_eq!(run.summary.group == straight.summary.group, is_same, "{told}");
        assert_eq!(run.summary.params.contains_key(STRETCHES), !is_same, "{told}");
        let differing = differing_params(&[run.summary.clone(), straight.summary.clone()]);
        assert_eq!(differing, if is_same { Vec::new() } else { vec![STRETCHES.to_owned()] }, "{told}");
        if is_same {
            n_same += 1;
        } else {
            n_other += 1;
            let is_on_purpose = run.stretches.iter().any(|stretch| stretch.schedule_after > 0);
            assert!(is_on_purpose || !run.warnings.is_empty(), "{told}");
        }
        n_past += u32::from(run.stretches.iter().any(|stretch| stretch.is_past_early_stop));

        let again_name = format!("again{course}");
        assert_eq!(lab.rerun(&run, &again_name), Ending::Finished, "{told}");
        let again = lab.detail(&again_name);
        assert_eq!(lab.points(&again), points[0], "{told}");
        assert_eq!(again.trained, run.trained, "{told}");
        assert_eq!(again.summary.fingerprint, run.summary.fingerprint, "{told}");
        let spec = lab.recorded(&run, None).spec;
        assert_eq!(again.stretches, effective(&spec, &run.stretches), "{told}");
    }
    [n_same, n_other, n_past]
}
