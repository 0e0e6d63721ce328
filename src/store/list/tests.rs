//! Listing: the story of a run from its start to the list, and which state is believed when.

use super::*;
use crate::run::metric::Resolution;
use crate::store::lock::RunLock;
use crate::store::runs::Ending;
use crate::store::sample::{self, VALID_ACCURACY, VALID_LOSS, checkpoint, id, observer, point, wait};

#[test]
fn a_run_is_told_from_its_start_to_its_end() {
    wait(async {
        let (folder, store) = sample::store().await;
        let run = sample::new_run("01A", "fashion-brave-otter", 1_000);
        let lock = RunLock::take(&folder.path().join("01A")).unwrap();
        assert_eq!(store.create_run(&run).await.unwrap(), "fashion-brave-otter");
        store.set_fingerprint(&run.id, &sample::fingerprint("print")).await.unwrap();
        store.append_step_points(&run.id, &[(VALID_LOSS, point(1, 9.0))]).await.unwrap();
        for (epoch, loss, accuracy) in [(1, 0.5, 0.80), (2, 0.4, 0.90), (3, 0.6, 0.85)] {
            let points = [(VALID_LOSS, point(epoch, loss)), (VALID_ACCURACY, point(epoch, accuracy))];
            let saved = checkpoint(epoch);
            store.commit_epoch(&run.id, epoch, &points, &saved, Some(loss)).await.unwrap();
        }
        store.heartbeat(&run.id, 4_000).await.unwrap();

        let runs_dir = folder.path();
        let running = store.list_runs(&RunFilter::default(), &observer(runs_dir, 99)).await.unwrap();
        assert_eq!(running[0].state, ShownState::Recorded(State::Running));
        assert_eq!(running[0].duration_ms(), 3_000);

        store.finish_run(&run.id, &Ending::Finished, 5_000).await.unwrap();
        drop(lock);
        let listed = store.list_runs(&RunFilter::default(), &observer(runs_dir, 99)).await.unwrap();
        let [told] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!(told.state, ShownState::Recorded(State::Finished));
        assert_eq!((told.name.as_str(), told.duration_ms()), ("fashion-brave-otter", 4_000));
        assert_eq!(told.fingerprint.as_deref(), Some("print"));
        assert_eq!(told.params, run.params);
        assert_eq!(told.tags, ["first"]);
        let accuracy = &told.metrics["valid.accuracy"];
        assert_eq!((accuracy.best, accuracy.best_epoch), (Some(0.90), Some(2)));
        assert_eq!((accuracy.last, accuracy.n_points), (Some(0.85), 3));
        let loss = &told.metrics["valid.loss"];
        assert_eq!((loss.best, loss.max), (Some(0.4), Some(0.6)), "step points stay out of it");
        let points = store.points(&run.id, VALID_LOSS, Resolution::Epoch).await.unwrap();
        assert_eq!(points.len(), 3);
    });
}

#[test]
fn runs_are_listed_newest_first_and_filtered() {
    wait(async {
        let (folder, store) = sample::store().await;
        for (id, experiment, created_at_ms) in [("A", "cats", 3), ("B", "dogs", 1), ("C", "cats", 2), ("D", "cats", 3)]
        {
            let mut run = sample::new_run(id, "owl", created_at_ms);
            run.experiment = experiment.to_owned();
            store.create_run(&run).await.unwrap();
        }
        let observer = observer(folder.path(), 0);
        let list = async |experiment: Option<&str>, limit| {
            let filter = RunFilter { experiment: experiment.map(str::to_owned), tag: None, limit };
            let runs = store.list_runs(&filter, &observer).await.unwrap();
            assert!(runs.iter().all(|run| run.params.len() == 2 && run.tags.len() == 1));
            runs.iter().map(|run| run.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(list(None, None).await, ["D", "A", "C", "B"]);
        assert_eq!(list(None, Some(2)).await, ["D", "A"]);
        assert_eq!(list(Some("cats"), None).await, ["D", "A", "C"]);
        assert_eq!(list(Some("cats"), Some(1)).await, ["D"]);
        assert_eq!(list(Some("birds"), None).await, [""; 0]);

        let asked = [id("B"), id("D"), id("B")];
        let runs = store.run_summaries(&asked, &observer).await.unwrap();
        assert_eq!(runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>(), asked);
        let missing = store.run_summaries(&[id("B"), id("E")], &observer).await;
        assert!(matches!(missing, Err(StoreError::NoSuchRun { .. })), "{missing:?}");
    });
}

#[test]
fn a_run_whose_lock_is_free_without_an_ending_has_crashed() {
    wait(async {
        let (folder, store) = sample::store().await;
        let state = async || {
            let run = store.run_summary(&id("A"), &observer(folder.path(), 100)).await.unwrap();
            run.state
        };
        let lock = RunLock::take(&folder.path().join("A")).unwrap();
        store.create_run(&sample::new_run("A", "owl", 100)).await.unwrap();
        assert_eq!(state().await, ShownState::Recorded(State::Running));
        drop(lock);
        assert_eq!(state().await, ShownState::Crashed);
        let _lock = RunLock::take(&folder.path().join("A")).unwrap();
        assert_eq!(state().await, ShownState::Recorded(State::Running), "it is taken back");
        store.finish_run(&id("A"), &Ending::Stopped, 200).await.unwrap();
        assert_eq!(state().await, ShownState::Recorded(State::Stopped));
    });
}

#[test]
fn a_run_of_another_host_is_judged_by_its_heartbeat() {
    wait(async {
        let (folder, store) = sample::store().await;
        let mut run = sample::new_run("A", "owl", 1_000);
        run.host = "elsewhere".to_owned();
        store.create_run(&run).await.unwrap();
        for (now_ms, expected) in [
            (16_000, ShownState::Recorded(State::Running)),
            (16_001, ShownState::Crashed),
            (500, ShownState::Recorded(State::Running)),
        ] {
            let run = store.run_summary(&id("A"), &observer(folder.path(), now_ms)).await.unwrap();
            assert_eq!(run.state, expected, "at {now_ms}");
        }
        store.heartbeat(&id("A"), 10_000).await.unwrap();
        let run = store.run_summary(&id("A"), &observer(folder.path(), 20_000)).await.unwrap();
        assert_eq!(run.state, ShownState::Recorded(State::Running));
    });
}

#[test]
fn a_clock_that_goes_back_makes_no_state_and_no_time_false() {
    wait(async {
        let (folder, store) = sample::store().await;
        let shown = async |run: &str, now_ms| {
            let run = store.run_detail(&id(run), &observer(folder.path(), now_ms)).await.unwrap();
            (run.summary.state, run.summary.duration_ms(), run.events)
        };
        // On this host the lock decides, whatever the clock says.
        let _lock = RunLock::take(&folder.path().join("A")).unwrap();
        store.create_run(&sample::new_run("A", "owl", 10_000)).await.unwrap();
        store.commit_epoch(&id("A"), 1, &[(VALID_LOSS, point(1, 0.5))], &checkpoint(1), None).await.unwrap();
        store.heartbeat(&id("A"), 4_000).await.unwrap();
        store.commit_epoch(&id("A"), 2, &[(VALID_LOSS, point(2, 0.4))], &checkpoint(2), None).await.unwrap();
        assert_eq!((shown("A", 90_000).await.0, shown("A", 0).await.1), (ShownState::Recorded(State::Running), 0));
        store.finish_run(&id("A"), &Ending::Stopped, 3_000).await.unwrap();
        store.resume_run(&sample::resumption("A", 2_000)).await.unwrap();
        let (state, duration_ms, events) = shown("A", 2_000).await;
        assert_eq!((state, duration_ms), (ShownState::Recorded(State::Running), 0));
        let events: Vec<_> = events.iter().map(|event| (event.at_ms, event.state)).collect();
        assert_eq!(events, [(10_000, State::Running), (3_000, State::Stopped), (2_000, State::Running)]);
        let points = store.points(&id("A"), VALID_LOSS, Resolution::Epoch).await.unwrap();
        assert_eq!(points, [point(1, 0.5), point(2, 0.4)]);

        // A run of another host is alive while it beats by the new time, and no longer.
        let mut run = sample::new_run("B", "owl", 10_000_000);
        run.host = "elsewhere".to_owned();
        store.create_run(&run).await.unwrap();
        store.heartbeat(&id("B"), 2_500).await.unwrap();
        assert_eq!(shown("B", 2_600).await.0, ShownState::Recorded(State::Running));
        assert_eq!(shown("B", 20_000).await.0, ShownState::Crashed);
    });
}

#[test]
fn a_run_that_ends_while_it_is_listed_is_never_shown_as_crashed() {
    let (folder, store) = wait(sample::store());
    wait(store.close());
    let db_path = folder.path().join("xp.db");
    let runs_dir = folder.path().to_owned();
    let writer = {
        let (db_path, runs_dir) = (db_path.clone(), runs_dir.clone());
        std::thread::spawn(move || {
            wait(async {
                let store = Store::open(&db_path).await.unwrap();
                for i in 0..40 {
                    let run = sample::new_run(&format!("A{i}"), "owl", i);
                    let lock = RunLock::take(&runs_dir.join(run.id.as_str())).unwrap();
                    store.create_run(&run).await.unwrap();
                    store.finish_run(&run.id, &Ending::Finished, i).await.unwrap();
                    drop(lock);
                }
            });
        })
    };
    wait(async {
        let store = Store::open(&db_path).await.unwrap();
        while !writer.is_finished() {
            let observer = observer(&runs_dir, 0);
            for run in store.list_runs(&RunFilter::default(), &observer).await.unwrap() {
                assert_ne!(run.state, ShownState::Crashed, "{}", run.id);
            }
        }
    });
    writer.join().unwrap();
}

#[test]
fn results_are_runs_with_the_metrics_asked_for_and_nothing_else() {
    wait(async {
        let (folder, store) = sample::store().await;
        for name in ["A", "B"] {
            store.create_run(&sample::new_run(name, "owl", 0)).await.unwrap();
            let points = [(VALID_LOSS, point(1, 0.5)), (VALID_ACCURACY, point(1, 0.9))];
            store.commit_epoch(&id(name), 1, &points, &checkpoint(1), None).await.unwrap();
            store.finish_run(&id(name), &Ending::Finished, 5).await.unwrap();
        }
        let observer = observer(folder.path(), 0);
        let whole = store.list_runs(&RunFilter::default(), &observer).await.unwrap();
        let results = store.list_results(&RunFilter::default(), &[VALID_LOSS], &observer).await.unwrap();
        assert_eq!(results.len(), 2);
        for (result, whole) in results.iter().zip(&whole) {
            assert_eq!((&result.name, result.state, result.ended_at_ms), (&whole.name, whole.state, Some(5)));
            assert_eq!(result.metrics.keys().collect::<Vec<_>>(), ["valid.loss"]);
            assert_eq!(result.metrics["valid.loss"], whole.metrics["valid.loss"]);
            assert!(result.params.is_empty() && result.tags.is_empty() && !whole.params.is_empty());
        }
    });
}
