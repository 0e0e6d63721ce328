//! How fast runs are recorded and read back, and that nothing is lost on the way. Prints JSON.
//!
//!     cargo bench --bench tracking                      # everything, about a minute and a half
//!     cargo bench --bench tracking -- points writers    # some of it
//!
//! Databases lie in the target folder, since a temporary folder in memory would make syncing free.

mod enqueue;
mod kills;
mod lists;
mod points;
mod runs;
mod writers;

use serde_json::{Map, Value};

type Measure = fn() -> Value;

const MEASURES: [(&str, Measure); 5] = [
    ("points", points::measure),
    ("writers", writers::measure),
    ("kills", kills::measure),
    ("lists", lists::measure),
    ("enqueue", enqueue::measure),
];

fn main() {
    if let Some(child) = runs::child() {
        return match child.as_str() {
            writers::CHILD => writers::child_main(),
            kills::CHILD => kills::child_main(),
            other => panic!("unknown child {other:?}"),
        };
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for argument in &arguments {
        assert!(MEASURES.iter().any(|(name, _)| name == argument), "unknown measure {argument:?}");
    }
    let mut measured = Map::new();
    for (name, measure) in MEASURES {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            eprintln!("{name} …");
            measured.insert(name.to_owned(), measure());
        }
    }
    println!("{:#}", Value::Object(measured));
}
