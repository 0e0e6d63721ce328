//! Points a second from sixteen processes that start at once on a home that is not there yet.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xp::run::id::RunId;
use xp::store::connect::Durability;
use xp::store::runs::Ending;

use crate::runs::{self, N_BATCH};

pub const CHILD: &str = "writer";

const N_WRITERS: usize = 16;
const N_BATCHES: u64 = 100;

pub fn measure() -> Value {
    let each = [Durability::Normal, Durability::Full, Durability::Records];
    let each = each.map(|durability| (runs::durability_text(durability).to_owned(), of(durability)));
    Value::Object(each.into_iter().collect())
}

fn of(durability: Durability) -> Value {
    let folder = runs::folder();
    let home = folder.path().join("new/.xp");
    let began = Instant::now();
    let children: Vec<_> =
        (0..N_WRITERS).map(|_| runs::spawn(CHILD, &home, durability).spawn().expect("a child starts")).collect();
    let told: Vec<(RunId, f64)> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("a child ends");
            assert!(output.status.success(), "a writer failed");
            let text = String::from_utf8(output.stdout).expect("a child tells text");
            let (id, longest_ms) = text.trim().split_once(' ').expect("a child tells two words");
            (RunId::from_stored(id.to_owned()), longest_ms.parse().expect("a child tells a time"))
        })
        .collect();
    let spent = began.elapsed();
    runs::runtime().block_on(async {
        let store = runs::open(&home, durability).await;
        for (id, _) in &told {
            assert_eq!(runs::check_batches(&store, id, N_BATCHES).await, N_BATCHES);
        }
        store.close().await;
    });
    let n_points = N_WRITERS as u64 * N_BATCHES * N_BATCH;
    let longest_ms = told.iter().map(|(_, longest_ms)| *longest_ms).fold(0.0, f64::max);
    json!({
        "points_per_s": (n_points as f64 / spent.as_secs_f64()).round(),
        "points": n_points,
        "writers": N_WRITERS,
        "seconds": spent.as_secs_f64(),
        "longest_ms": longest_ms,
    })
}

/// Writes one run from its first row to its ending.
pub fn child_main() {
    runs::runtime().block_on(async {
        let store = runs::child_store().await;
        let run = runs::new_run(1);
        store.create_run(&run).await.expect("a run is recorded");
        let mut longest = Duration::ZERO;
        for index in 0..N_BATCHES {
            let batch = runs::batch(index);
            let began = Instant::now();
            store.append_step_points(&run.id, &batch).await.expect("points are written");
            longest = longest.max(began.elapsed());
        }
        store.finish_run(&run.id, &Ending::Finished, 2).await.expect("the ending is recorded");
        store.close().await;
        println!("{} {}", run.id, runs::ms(longest));
    });
}
