//! What a writer said it had committed is there after `kill -9`.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};
use xp::run::id::RunId;

use crate::runs;

pub const CHILD: &str = "killed";

/// Batches that were told before the kill, one writer each.
const KILLED_AFTER: [u64; 5] = [1, 40, 150, 300, 500];

pub fn measure() -> Value {
    let folder = runs::folder();
    let rounds = runs::DURABILITIES.into_iter().flat_map(|durability| KILLED_AFTER.map(|after| (durability, after)));
    let rounds: Vec<Value> = rounds
        .map(|(durability, after)| {
            let home = folder.path().join(format!("{}-{after}", runs::durability_text(durability)));
            let mut child = runs::spawn(CHILD, &home, durability).spawn().expect("a child starts");
            let told = BufReader::new(child.stdout.take().expect("its output is piped"));
            let mut lines = told.lines().map_while(Result::ok);
            let id = RunId::from_stored(lines.next().expect("the child tells its run"));
            let n_before = lines.by_ref().take(after as usize).count() as u64;
            child.kill().expect("the child is killed");
            child.wait().expect("the child ends");
            // What it had told without being read yet; a line that is cut short was not told.
            let n_told = n_before + lines.filter(|line| line == "committed").count() as u64;
            let n_found = runs::runtime().block_on(async {
                let store = runs::open(&home, durability).await;
                let n_found = runs::check_batches(&store, &id, n_told).await;
                assert_eq!(store.integrity_check().await.expect("the database is readable"), [""; 0]);
                n_found
            });
            json!({ "durability": runs::durability_text(durability), "batches_told": n_told, "batches_found": n_found })
        })
        .collect();
    json!({ "lost": 0, "rounds": rounds })
}

/// Writes until it is killed, and tells every commit.
pub fn child_main() {
    runs::runtime().block_on(async {
        let store = runs::child_store().await;
        let run = runs::new_run(1);
        store.create_run(&run).await.expect("a run is recorded");
        println!("{}", run.id);
        for index in 0.. {
            store.append_step_points(&run.id, &runs::batch(index)).await.expect("points are written");
            println!("committed");
            std::io::stdout().flush().expect("the parent reads");
        }
    });
}
