//! Small databases and runs for this layer's tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::run::event::SavedCheckpoint;
use crate::run::id::RunId;
use crate::run::metric::{Measure, MetricKey, Point, Split};
use crate::run::stretch::Stretch;
use crate::spec::fingerprint::Fingerprint;
use crate::store::connect::Store;
use crate::store::list::Observer;
use crate::store::resume::Resumption;
use crate::store::runs::{NewRun, RunName};

pub(crate) const VALID_LOSS: MetricKey = MetricKey::new(Split::Valid, Measure::Loss);
pub(crate) const VALID_ACCURACY: MetricKey = MetricKey::new(Split::Valid, Measure::Accuracy);
pub(crate) const HOST: &str = "here";

/// Runs a future to its end on a runtime of its own.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) async fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("xp.db")).await.unwrap();
    (folder, store)
}

pub(crate) fn observer(runs_dir: &Path, now_ms: i64) -> Observer<'_> {
    Observer { runs_dir, this_host: HOST, now_ms }
}

pub(crate) fn id(text: &str) -> RunId {
    RunId::from_stored(text.to_owned())
}

pub(crate) fn new_run(id_text: &str, made_up_name: &str, created_at_ms: i64) -> NewRun {
    NewRun {
        id: id(id_text),
        name: RunName::MadeUp(made_up_name.to_owned()),
        experiment: "fashion".to_owned(),
        host: HOST.to_owned(),
        pid: 7,
        created_at_ms,
        spec_yaml: "name: fashion # as typed\n".to_owned(),
        resolved_json: r#"{"name":"fashion"}"#.to_owned(),
        params: BTreeMap::from([
            ("optimizer.adam.learning_rate".to_owned(), json!(1e-3)),
            ("seed".to_owned(), json!(42)),
        ]),
        tags: vec!["first".to_owned()],
        environment: BTreeMap::from([("xp".to_owned(), "0.1.0".to_owned())]),
        stretches: vec![Stretch::whole(10, json!({ "cosine": {} }))],
        trial: None,
    }
}

pub(crate) fn resumption(id_text: &str, at_ms: i64) -> Resumption {
    Resumption {
        id: id(id_text),
        host: HOST.to_owned(),
        pid: 8,
        at_ms,
        resolved_json: "{}".to_owned(),
        params: BTreeMap::from([("epochs".to_owned(), json!(20))]),
        stretches: vec![
            Stretch::whole(10, json!("constant")),
            Stretch { after_epoch: 3, is_past_early_stop: true, ..Stretch::whole(20, json!("constant")) },
        ],
        engine: Some("1, 2".to_owned()),
        device: None,
        last_epoch: 3,
    }
}

pub(crate) fn fingerprint(run: &str) -> Fingerprint {
    Fingerprint { run: run.to_owned(), group: "group".to_owned() }
}

pub(crate) fn point(epoch: u32, value: f64) -> Point {
    let step = u64::from(epoch) * 10;
    Point { epoch, step, at_ms: 1_000 * i64::from(epoch), value, n_samples: 100 }
}

pub(crate) fn checkpoint(epoch: u32) -> SavedCheckpoint {
    SavedCheckpoint {
        epoch,
        step: u64::from(epoch) * 10,
        path: format!("checkpoints/epoch-{epoch:04}").into(),
        n_bytes: 1_000,
        manifest_hash: format!("hash-{epoch}"),
    }
}
