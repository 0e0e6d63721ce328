//! Sixteen processes that start at once on a home that is not there yet, and all of them write.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use xp::run::event::SavedCheckpoint;
use xp::run::id::RunId;
use xp::run::metric::{Measure, MetricKey, Point, Resolution, Split};
use xp::store::connect::Store;
use xp::store::lock::RunLock;
use xp::store::runs::{Ending, NewRun, RunName};

use crate::support::{Place, printed};

/// Tells a copy of this program where to write.
const WRITER_HOME: &str = "XP_TEST_WRITER_HOME";

const N_WRITERS: usize = 16;
const N_EPOCHS: u32 = 4;
const N_STEPS: u64 = 100;

const KEYS: [MetricKey; 2] =
    [MetricKey::new(Split::Train, Measure::Loss), MetricKey::new(Split::Valid, Measure::Accuracy)];

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn point(epoch: u32, step: u64) -> Point {
    Point { epoch, step, at_ms: step as i64, value: step as f64 / 8.0, n_samples: 4 }
}

/// The points of an epoch's steps, in two batches.
fn batches(epoch: u32) -> [Vec<(MetricKey, Point)>; 2] {
    let first = u64::from(epoch - 1) * N_STEPS;
    [1..=N_STEPS / 2, N_STEPS / 2 + 1..=N_STEPS]
        .map(|steps| steps.flat_map(|i| KEYS.map(|key| (key, point(epoch, first + i)))).collect())
}

async fn write_a_run(home: &Path) {
    let id = RunId::generate();
    let _lock = RunLock::take(&home.join("runs").join(id.as_str())).unwrap();
    let store = Store::open(&home.join("xp.db")).await.unwrap();
    let run = NewRun {
        id: id.clone(),
        name: RunName::MadeUp("colours-calm-fern".to_owned()),
        experiment: "colours".to_owned(),
        host: xp::settings::host(),
        pid: std::process::id(),
        created_at_ms: 1,
        spec_yaml: String::new(),
        resolved_json: "{}".to_owned(),
        params: [("seed".to_owned(), json!(std::process::id()))].into(),
        tags: Vec::new(),
        environment: Default::default(),
        stretches: Vec::new(),
        trial: None,
    };
    store.create_run(&run).await.unwrap();
    for epoch in 1..=N_EPOCHS {
        for batch in batches(epoch) {
            store.append_step_points(&id, &batch).await.unwrap();
        }
        let checkpoint = SavedCheckpoint {
            epoch,
            step: u64::from(epoch) * N_STEPS,
            path: PathBuf::from(format!("checkpoints/epoch-{epoch:04}")),
            n_bytes: 1,
            manifest_hash: String::new(),
        };
        let points = KEYS.map(|key| (key, point(epoch, checkpoint.step)));
        store.commit_epoch(&id, epoch, &points, &checkpoint, None).await.unwrap();
        store.heartbeat(&id, i64::from(epoch)).await.unwrap();
    }
    store.finish_run(&id, &Ending::Finished, 2).await.unwrap();
    store.close().await;
}

#[test]
#[ignore = "one of the sixteen writers, started by the test of them"]
fn a_writer() {
    let Some(home) = std::env::var_os(WRITER_HOME) else { return };
    // All begin when the one that started them lets go of their standard input.
    let said = std::io::stdin().read_to_end(&mut Vec::new());
    assert_eq!(said.unwrap(), 0);
    wait(write_a_run(Path::new(&home)));
}

fn spawn_writer(home: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "concurrency::a_writer", "--ignored", "--nocapture"]).env(WRITER_HOME, home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn sixteen_first_starts_and_writers_at_once_lose_nothing() {
    let place = Place::new();
    let home = place.path("new/.xp");
    let mut writers: Vec<Child> = (0..N_WRITERS).map(|_| spawn_writer(&home)).collect();
    for writer in &mut writers {
        drop(writer.stdin.take());
    }
    // Readers look meanwhile; the first of them may find nothing to read yet.
    let readers: Vec<Child> = (0..4)
        .map(|_| {
            let mut command = place.command(&["list", "--json"]);
            command.env("XP_HOME", &home).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for reader in readers {
        let ended = printed(&reader.wait_with_output().unwrap());
        assert!(ended.code == 0 || ended.stderr.contains("holds no runs"), "{}", ended.stderr);
    }
    for writer in writers {
        let ended = printed(&writer.wait_with_output().unwrap());
        assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("1 passed"), "{}", ended.stdout);
    }
    check(&place, &home);
}

fn check(place: &Place, home: &Path) {
    let listed = place.json(&["--home", home.to_str().unwrap(), "list", "--json"]);
    let runs = listed["runs"].as_array().unwrap();
    assert_eq!(runs.len(), N_WRITERS);
    let mut names: Vec<&str> = runs.iter().map(|run| run["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), N_WRITERS, "{names:?}");
    wait(async {
        let store = Store::open_existing(&home.join("xp.db")).await.unwrap().unwrap();
        let steps: Vec<_> = (1..=N_EPOCHS).flat_map(batches).flatten().collect();
        for run in runs {
            assert_eq!(run["state"], "finished");
            let id = store.find_run(run["id"].as_str().unwrap()).await.unwrap();
            for key in KEYS {
                let points = store.points(&id, key, Resolution::Step).await.unwrap();
                let expected: Vec<Point> = steps.iter().filter(|(of, _)| *of == key).map(|(_, point)| *point).collect();
                assert_eq!(points, expected);
                let epochs = store.points(&id, key, Resolution::Epoch).await.unwrap();
                assert_eq!(epochs.len(), N_EPOCHS as usize);
            }
            assert_eq!(store.checkpoints(&id).await.unwrap().len(), N_EPOCHS as usize);
        }
        assert_eq!(store.integrity_check().await.unwrap(), [""; 0]);
    });
}
