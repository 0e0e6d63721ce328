//! How long whole processes take that look at a thousand runs, or at nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use xp::run::metric::MetricKey;
use xp::store::connect::Durability;
use xp::store::runs::Ending;

use crate::runs;

const XP: &str = env!("CARGO_BIN_EXE_xp");

const N_RUNS: i64 = 1_000;
const N_EPOCHS: u32 = 10;
const N_TIMES: usize = 20;

pub fn measure() -> Value {
    let folder = runs::folder();
    runs::runtime().block_on(fill(folder.path()));
    let commands: [(&str, &[&str]); 5] = [
        ("version", &["--version"]),
        ("list", &["list"]),
        ("list_json", &["list", "--json"]),
        ("show", &["show", "@1"]),
        ("compare", &["compare", "@1", "@2", "@3"]),
    ];
    // In turn, so that a slow moment of the machine is shared by all.
    let mut times = vec![Vec::new(); commands.len()];
    for _ in 0..N_TIMES {
        for (times, (_, arguments)) in times.iter_mut().zip(commands) {
            times.push(time(folder.path(), arguments));
        }
    }
    let told = times.into_iter().zip(commands).map(|(mut times, (name, _))| {
        times.sort_by(f64::total_cmp);
        (name.to_owned(), json!({ "median_ms": times[N_TIMES / 2], "min_ms": times[0], "max_ms": times[N_TIMES - 1] }))
    });
    let mut told: serde_json::Map<String, Value> = told.collect();
    told.insert("runs".to_owned(), json!(N_RUNS));
    Value::Object(told)
}

fn time(home: &Path, arguments: &[&str]) -> f64 {
    let mut command = Command::new(XP);
    command.arg("--home").arg(home).args(arguments).stdout(Stdio::null());
    let began = Instant::now();
    let status = command.status().expect("xp starts");
    let spent = runs::ms(began.elapsed());
    assert!(status.success(), "{arguments:?} failed");
    spent
}

/// Runs of thirty parameters and six epoch series of ten points, with a few hundred points of single steps.
async fn fill(home: &Path) {
    let store = runs::open(home, Durability::Normal).await;
    for i in 0..N_RUNS {
        let run = runs::new_run(1_795_517_527_250 + i);
        store.create_run(&run).await.expect("a run is recorded");
        let steps: Vec<_> = runs::batch(0).into_iter().filter(|(key, _)| is_train_loss(*key)).collect();
        store.append_step_points(&run.id, &steps).await.expect("points are written");
        for epoch in 1..=N_EPOCHS {
            let (points, checkpoint) = (runs::epoch_points(epoch), runs::checkpoint(epoch));
            store.commit_epoch(&run.id, epoch, &points, &checkpoint, Some(0.5)).await.expect("an epoch is committed");
        }
        store.finish_run(&run.id, &Ending::Finished, run.created_at_ms + 60_000).await.expect("the ending is recorded");
    }
    store.close().await;
}

fn is_train_loss(key: MetricKey) -> bool {
    key == runs::SERIES[0]
}
