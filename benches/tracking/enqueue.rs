//! How long a training thread takes to hand an event over, with a real recorder writing to a store on disk.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xp::launch::record::Recorder;
use xp::launch::{QUEUE_LEN, Started, Watcher};
use xp::run::event::Event;
use xp::run::metric::{MetricKey, Point};
use xp::run::stop::StopFlag;
use xp::spec::LoadedSpec;
use xp::store::connect::Durability;
use xp::train::channel::Events;

use crate::runs;

/// As fast as the thread can, and at the pace of a training of a tiny network.
const N_FULL_SPEED: u64 = 1_000_000;
const N_PACED: u64 = 20_000;
const PACE: Duration = Duration::from_micros(200);

pub fn measure() -> Value {
    json!({ "full_speed": of(N_FULL_SPEED, Duration::ZERO), "steps_5000_per_s": of(N_PACED, PACE) })
}

fn of(n_events: u64, pace: Duration) -> Value {
    let folder = runs::folder();
    let runtime = runs::runtime();
    let loaded = LoadedSpec::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/finetune.yaml"), &[]);
    let spec = loaded.expect("the example spec is valid").spec;
    let store = runtime.block_on(runs::open(folder.path(), Durability::default()));
    let run = runs::new_run(1);
    let name = runtime.block_on(store.create_run(&run)).expect("a run is recorded");
    let started = Started { id: run.id, name, run_dir: folder.path().to_owned() };
    let (sender, receiver) = sync_channel(QUEUE_LEN);
    let events = Events::new(sender);
    let waits = events.waits();
    let began = Instant::now();
    let producer = thread::spawn(move || produce(&events, n_events, pace));
    let stop = StopFlag::default();
    let recorder = Recorder {
        store: &store,
        run: &started,
        spec: &spec,
        device_class: "cpu",
        stop: &stop,
        stretches: &[],
        committed: Vec::new(),
        resumption: None,
        last: None,
        warnings: &[],
    };
    runtime.block_on(recorder.record(&receiver, &mut Silent)).outcome.expect("everything is recorded");
    let spent = began.elapsed();
    let mut free = producer.join().expect("the producer ends");
    let n_stored = runtime.block_on(store.points(&started.id, runs::SERIES[0], xp::run::metric::Resolution::Step));
    assert_eq!(n_stored.expect("points are readable").len() as u64, n_events);
    runtime.block_on(store.close());
    free.sort_unstable();
    let at = |share: f64| free[((free.len() - 1) as f64 * share) as usize].as_nanos() as f64 / 1e3;
    json!({
        "events": n_events,
        "events_per_s": (n_events as f64 / spent.as_secs_f64()).round(),
        "not_full": { "n": free.len(), "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": at(1.0) },
        "full": {
            "n": waits.n(), "total_ms": waits.total_us() as f64 / 1e3, "longest_ms": waits.longest_us() as f64 / 1e3,
        },
    })
}

/// Sends one point an event; returns how long sending took where the queue was not full.
fn produce(events: &Events, n_events: u64, pace: Duration) -> Vec<Duration> {
    let waits = events.waits();
    let mut free = Vec::with_capacity(n_events as usize);
    let began = Instant::now();
    for step in 1..=n_events {
        while began.elapsed() < pace * step as u32 {
            std::hint::spin_loop();
        }
        let point = Point { epoch: 1, step, at_ms: step as i64, value: 0.5, n_samples: 32 };
        let event = Event::StepPoints(vec![(runs::SERIES[0], point)]);
        let n_before = waits.n();
        let began = Instant::now();
        events.send(event);
        let took = began.elapsed();
        if waits.n() == n_before {
            free.push(took);
        }
    }
    free
}

struct Silent;

impl Watcher for Silent {
    fn started(&mut self, _: &Started) {}
    fn event(&mut self, _: &Event) {}
    fn committed(&mut self, _: &[(MetricKey, Point)]) {}
    fn ended(&mut self) {}
}
