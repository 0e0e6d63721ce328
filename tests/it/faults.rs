//! Faults from outside and what is promised under each; docs/faults.md is the list.

mod database;
mod disk;
mod fetch;
mod home;
mod images;
mod interrupts;
mod killed;
mod memory;
mod mounts;
mod panics;
mod streams;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use xp::launch::{self, Launch, LaunchError, Started, Watcher};
use xp::run::event::Event;
use xp::run::metric::{MetricKey, Point};
use xp::run::stop::StopFlag;
use xp::settings::{Home, Resources};
use xp::spec::LoadedSpec;
use xp::spec::short_forms::DeviceChoice;
use xp::store::runs::Ending;
use xp::train::device;
use xp::train::plan::{Plan, plan};

use crate::support::{Place, Printed, check_files, printed};

/// Far longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A run that goes on until something ends it, and whose first epoch is recorded.
struct Going {
    child: Child,
    /// Reads the rest of standard output, so that the run never waits for a reader.
    reader: JoinHandle<()>,
}

impl Going {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.by_ref().any(|line| line.starts_with("epoch")), "no epoch was reported");
        Self { child, reader: thread::spawn(move || lines.for_each(drop)) }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    fn end(self) -> Printed {
        let output = self.child.wait_with_output().unwrap();
        self.reader.join().unwrap();
        printed(&output)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.end();
    }
}

/// Looks again and again until something is so.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "{what} did not come to be");
        thread::yield_now();
    }
}

/// How many epochs of a run are committed; each has its checkpoint's row, and those that stay their whole files.
fn n_committed(place: &Place, run: &str) -> u64 {
    let shown = place.json(&["show", run, "--json"]);
    let checkpoints = shown["checkpoints"].as_array().unwrap();
    let run_dir = place.path(".xp/runs").join(shown["id"].as_str().unwrap());
    for checkpoint in checkpoints.iter().filter(|checkpoint| checkpoint["deleted"] == false) {
        check_files(&run_dir, checkpoint, checkpoint["epoch"] == checkpoints.last().unwrap()["epoch"]);
    }
    let n = shown["metrics"]["valid.loss"]["n"].as_u64().unwrap_or(0);
    assert_eq!(checkpoints.len() as u64, n);
    n
}

fn state(place: &Place, run: &str) -> String {
    place.json(&["show", run, "--json"])["state"].as_str().unwrap().to_owned()
}

/// Resumes a run for two epochs more than it has, and compares it with one that nothing happened to.
fn goes_on_to_the_same_bytes(place: &Place, run: &str) {
    let epochs = (n_committed(place, run) + 2).to_string();
    let resumed = place.xp(&["resume", run, "--epochs", &epochs]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    let set = format!("epochs={epochs}");
    let whole = place.xp(&["run", "spec.yaml", "--set", &set, "--home", "elsewhere", "--name", "whole"]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    let result = |shown: Value| ["state", "trained", "metrics", "data", "params"].map(|key| shown[key].clone());
    let whole = place.json(&["show", "whole", "--home", "elsewhere", "--json"]);
    assert_eq!(result(place.json(&["show", run, "--json"])), result(whole));
    std::fs::remove_dir_all(place.path("elsewhere")).unwrap();
}

/// What to do when something is told, on the thread that records.
struct When<F>(F);

impl<F: FnMut(&Event)> Watcher for When<F> {
    fn started(&mut self, _: &Started) {}
    fn event(&mut self, event: &Event) {
        (self.0)(event);
    }
    fn committed(&mut self, _: &[(MetricKey, Point)]) {}
    fn ended(&mut self) {}
}

/// A run through the library: its plan, what it may use, and what is done meanwhile.
struct InLibrary<'a> {
    place: &'a Place,
    resources: Resources,
    warnings: Vec<String>,
}

impl<'a> InLibrary<'a> {
    fn new(place: &'a Place) -> Self {
        Self { place, resources: Resources::new(Some(2)), warnings: Vec::new() }
    }

    fn plan(&self) -> (LoadedSpec, Plan) {
        let loaded = LoadedSpec::read(&self.place.path("spec.yaml"), &[]).unwrap();
        let plan = plan(&loaded).unwrap();
        (loaded, plan)
    }

    fn run(&self, name: &str, mut on_event: impl FnMut(&Event, &StopFlag)) -> Result<Ending, LaunchError> {
        let (loaded, plan) = self.plan();
        self.launch(name, &loaded, &plan, &mut on_event)
    }

    fn launch(
        &self,
        name: &str,
        loaded: &LoadedSpec,
        plan: &Plan,
        on_event: &mut dyn FnMut(&Event, &StopFlag),
    ) -> Result<Ending, LaunchError> {
        let stop = StopFlag::default();
        let home = Home::find(Some(Path::new(".xp")), self.place.folder.path());
        let launch = Launch {
            home: &home,
            plan,
            spec_path: &loaded.path,
            spec_yaml: &loaded.text,
            device: device::open(DeviceChoice::Cpu).unwrap(),
            resources: self.resources,
            name: Some(name.to_owned()),
            tags: Vec::new(),
            warnings: self.warnings.clone(),
            stop: stop.clone(),
            rerun_of: None,
            trial: None,
            until_epoch: None,
            measures_test: true,
        };
        let mut watcher = When(|event: &Event| on_event(event, &stop));
        launch::run(&launch, &mut watcher).map(|(_, ending)| ending)
    }
}
