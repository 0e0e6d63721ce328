//! Points a second from one process: batches of single steps, and epochs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xp::store::connect::{Durability, Store};

use crate::runs::{self, N_BATCH};

const SPAN: Duration = Duration::from_secs(3);

pub fn measure() -> Value {
    let each = runs::DURABILITIES.map(|durability| (runs::durability_text(durability).to_owned(), of(durability)));
    Value::Object(each.into_iter().collect())
}

fn of(durability: Durability) -> Value {
    let folder = runs::folder();
    runs::runtime().block_on(async {
        let store = runs::open(folder.path(), durability).await;
        let steps = steps(&store).await;
        let epochs = epochs(&store).await;
        store.close().await;
        json!({ "steps": steps, "epochs": epochs })
    })
}

async fn steps(store: &Store) -> Value {
    let run = runs::new_run(1);
    store.create_run(&run).await.expect("a run is recorded");
    let (mut n, mut longest, mut spent) = (0, Duration::ZERO, Duration::ZERO);
    while spent < SPAN {
        // Making the points is no part of storing them.
        let batch = runs::batch(n);
        let began = Instant::now();
        store.append_step_points(&run.id, &batch).await.expect("points are written");
        let took = began.elapsed();
        (n, longest, spent) = (n + 1, longest.max(took), spent + took);
    }
    runs::check_batches(store, &run.id, n).await;
    let points_per_s = (n * N_BATCH) as f64 / spent.as_secs_f64();
    json!({ "points_per_s": points_per_s.round(), "batch": N_BATCH, "batches": n, "longest_ms": runs::ms(longest) })
}

/// An epoch is six points, a checkpoint's row and a sign of life.
async fn epochs(store: &Store) -> Value {
    let run = runs::new_run(2);
    store.create_run(&run).await.expect("a run is recorded");
    let (mut n, mut longest, began) = (0, Duration::ZERO, Instant::now());
    while began.elapsed() < SPAN {
        n += 1;
        let (points, checkpoint) = (runs::epoch_points(n), runs::checkpoint(n));
        let began = Instant::now();
        store.commit_epoch(&run.id, n, &points, &checkpoint, Some(0.5)).await.expect("an epoch is committed");
        longest = longest.max(began.elapsed());
    }
    let epochs_per_s = f64::from(n) / began.elapsed().as_secs_f64();
    json!({ "epochs_per_s": epochs_per_s.round(), "epochs": n, "longest_ms": runs::ms(longest) })
}
