//! What is frozen stays as it is, to the byte; what trains moves; and keeping the prefix's output changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use xp::data::feature_cache::FeatureCache;
use xp::models::classifier::NamedTensors;
use xp::run::event::{Event, SavedCheckpoint};
use xp::run::metric::{Point, Split};
use xp::run::stop::StopFlag;
use xp::settings::Resources;
use xp::spec::LoadedSpec;
use xp::spec::short_forms::DeviceChoice;
use xp::train::Completion;
use xp::train::channel::Events;
use xp::train::checkpoint::{self, Checkpoint};
use xp::train::device;
use xp::train::network::{self, named_tensors};
use xp::train::plan::{Plan, plan};
use xp::train::session::Session;

use burn::module::Module;

use crate::support::Place;

fn plan_with(place: &Place, sets: &[&str]) -> Plan {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    plan(&LoadedSpec::read(&place.path("spec.yaml"), &sets).unwrap()).unwrap()
}

/// Trains in this process, keeping nothing on disk; returns what was told.
fn train(place: &Place, plan: &Plan, resources: Resources) -> Vec<Event> {
    train_with(place, plan, resources, None)
}

fn train_with(place: &Place, plan: &Plan, resources: Resources, cache: Option<FeatureCache>) -> Vec<Event> {
    let run_dir = place.path("run");
    let _ = std::fs::remove_dir_all(&run_dir);
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let (sender, receiver) = sync_channel(10_000);
    let session = Session {
        plan,
        device: &device,
        run_dir: &run_dir,
        objects_dir: &place.path("objects"),
        resources,
        cache,
        events: Events::new(sender),
        stop: StopFlag::default(),
        expected: Default::default(),
        resume: None,
        until_epoch: None,
        measures_test: true,
        stretches: Vec::new(),
    };
    assert_eq!(session.train().unwrap(), Completion::Done(()));
    drop(session);
    receiver.iter().collect()
}

/// An epoch's checkpoint as it lies there.
fn found_checkpoint(run_dir: &Path, epoch: u32) -> SavedCheckpoint {
    let path = checkpoint::folder(epoch);
    let manifest = std::fs::read(run_dir.join(&path).join("manifest.json")).unwrap();
    SavedCheckpoint { epoch, step: 0, path, n_bytes: 0, manifest_hash: blake3::hash(&manifest).to_hex().to_string() }
}

/// The network's tensors before training, and from the last epoch's checkpoint.
fn before_and_after(run_dir: &Path, plan: &Plan) -> [NamedTensors; 2] {
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let network = network::build(plan, &device).unwrap();
    let before = named_tensors(plan, &network.trainee);
    let checkpoint = Checkpoint::open(run_dir, &found_checkpoint(run_dir, plan.spec.epochs)).unwrap();
    let trained = xp::train::evaluate::load(network.trainee, plan, &checkpoint).unwrap();
    [before, named_tensors(plan, &trained.valid())]
}

fn bytes(tensors: &[(String, burn::tensor::TensorData)]) -> BTreeMap<&str, &[u8]> {
    tensors.iter().map(|(name, data)| (name.as_str(), data.as_bytes())).collect()
}

/// Trains, and holds every tensor's bytes against those before.
fn proves(sets: &[&str], is_frozen: impl Fn(&str) -> bool, n_frozen: usize) {
    let place = Place::new();
    let plan = plan_with(&place, sets);
    let events = train(&place, &plan, Resources::new(Some(1)));
    only_the_trained_moved(&place.path("run"), &plan, is_frozen, n_frozen);
    let told = events.iter().find_map(|event| match event {
        Event::Trained(facts) => Some(facts.frozen_hash.clone()),
        _ => None,
    });
    let first = events.iter().find_map(|event| match event {
        Event::Model(facts) => Some(facts.frozen_hash.clone()),
        _ => None,
    });
    assert_eq!(told, first);
}

fn only_the_trained_moved(run_dir: &Path, plan: &Plan, is_frozen: impl Fn(&str) -> bool, n_frozen: usize) {
    let [before, after] = before_and_after(run_dir, plan);
    assert_eq!(bytes(&before.frozen), bytes(&after.frozen), "frozen tensors moved");
    assert_eq!(before.frozen.len(), n_frozen);
    assert!(before.frozen.iter().all(|(name, _)| is_frozen(name)));
    assert!(before.trained.iter().all(|(name, _)| !is_frozen(name)));
    let (before, after) = (bytes(&before.trained), bytes(&after.trained));
    for (name, bytes) in before {
        assert_ne!(bytes, after[name], "{name} did not move");
    }
}

#[test]
fn with_frozen_norms_only_kernels_after_the_cut_move() {
    let in_tail = |name: &str| name.starts_with("conv_head") || name.starts_with("blocks.6");
    let is_norm = |name: &str| name.contains("bn");
    // 45 folded convolutions before the cut, and the norms of the four after it.
    proves(
        &["model.frozen_layers.stages=7"],
        |name| is_norm(name) || !(in_tail(name) || name.starts_with("head.")),
        45 * 2 + 4 * 4,
    );
}

#[test]
fn with_trained_norms_their_statistics_move_too_and_no_others() {
    proves(
        &["model.frozen_layers={ through: blocks.6.0.conv_pwl }", "model.batch_norm=train"],
        |name| !["conv_head.", "bn2.", "head."].iter().any(|trained| name.starts_with(trained)),
        48 * 2,
    );
}

#[test]
fn a_cut_inside_a_branch_freezes_the_rows_before_it() {
    // Row 45 is the depthwise convolution of blocks.5.3, whose branch began with row 44: the prefix ends before it.
    let trained = ["blocks.5.3.conv_pwl", "blocks.5.3.bn3", "blocks.6", "conv_head", "bn2.", "head."];
    proves(
        &["model.frozen_layers=45", "model.batch_norm=train"],
        |name| !trained.iter().any(|trained| name.starts_with(trained)),
        42 * 2 + 2 * 5,
    );
}

#[test]
fn a_run_of_vgg16_moves_kernels_and_biases_after_its_cut_alone() {
    let place = Place::new();
    let sets = [
        "model.backbone=vgg16",
        "model.weights=random",
        "model.frozen_layers=15",
        "model.head=[flatten, { dense: { units: 8, activation: relu } }, { dense: { units: 1, activation: sigmoid } }]",
        "optimizer={ sgd: { learning_rate: 1.0e-3 } }",
        "epochs=1",
    ];
    let mut arguments = vec!["run", "spec.yaml"];
    arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
    let printed = place.xp(&arguments);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    let run = std::fs::read_dir(place.path(".xp/runs")).unwrap().next().unwrap().unwrap();
    let trained = ["block5_", "head."];
    let is_frozen = |name: &str| !trained.iter().any(|trained| name.starts_with(trained));
    only_the_trained_moved(&run.path(), &plan_with(&place, &sets), is_frozen, 10 * 2);
    let shown = place.json(&["show", "@1", "--json"]);
    assert_eq!(shown["model"]["cut"], "block4_pool", "{shown}");
}

/// All epochs' metrics, by key; times aside.
fn measured(events: &[Event]) -> Vec<(String, u32, u64)> {
    let points = events.iter().filter_map(|event| match event {
        Event::EpochMeasured { points, .. } | Event::Tested { points } => Some(points),
        _ => None,
    });
    let bits = |(key, point): &(_, Point)| (format!("{key:?}"), point.epoch, point.value.to_bits());
    points.flatten().map(bits).collect()
}

#[test]
fn features_kept_in_memory_train_the_same_as_features_computed_every_time() {
    let place = Place::new();
    let plan = plan_with(&place, &["model.frozen_layers.stages=8", "epochs=3"]);
    let kept = train(&place, &plan, Resources::new(Some(2)));
    let none = Resources { feature_budget_bytes: 0, pixel_budget_bytes: 0, ..Resources::new(Some(2)) };
    let computed = train(&place, &plan, none);
    assert_eq!(measured(&kept), measured(&computed));
    assert_eq!(measured(&kept).len(), 3 * 4 + 2);
    let prefix = |events: &[Event]| {
        let is_prefix = |event: &&Event| {
            matches!(event, Event::PhaseStarted { phase: xp::run::event::Phase::Prefix(Split::Train), .. })
        };
        events.iter().filter(is_prefix).count()
    };
    assert_eq!((prefix(&kept), prefix(&computed)), (1, 0));
}

fn warnings(events: &[Event]) -> Vec<&str> {
    let mut texts = Vec::new();
    for event in events {
        if let Event::Warning(text) = event {
            texts.push(text.as_str());
        }
    }
    texts
}

/// The tensors that a run ended with.
fn ended_with(place: &Place, plan: &Plan) -> Vec<(String, burn::tensor::TensorData)> {
    let [_, after] = before_and_after(&place.path("run"), plan);
    after.frozen.into_iter().chain(after.trained).collect()
}

/// In memory, on disk as it is written, on disk as it was found, held in memory or read row by row, without any of it:
/// always the same weights in the end.
#[test]
fn a_cached_run_and_an_uncached_one_end_with_equal_weights() {
    let place = Place::new();
    for augment in ["", "augment={ horizontal_flip: true, rotation_degrees: 20, views: 3 }"] {
        let sets: Vec<&str> =
            ["model.frozen_layers.stages=8", "epochs=4", augment].into_iter().filter(|set| !set.is_empty()).collect();
        let plan = plan_with(&place, &sets);
        let small = Resources { feature_budget_bytes: 0, ..Resources::new(Some(2)) };
        let none = Resources { pixel_budget_bytes: 0, ..small };
        let computed = train(&place, &plan, none);
        let expected = (measured(&computed), ended_with(&place, &plan));
        let dir = place.path("cache");
        let _ = std::fs::remove_dir_all(&dir);
        let cache = || Some(FeatureCache { dir: dir.clone(), budget_bytes: u64::MAX });
        let mut n_rows = Vec::new();
        for (resources, cache) in
            [(Resources::new(Some(2)), None), (small, cache()), (small, cache()), (Resources::new(Some(1)), cache())]
        {
            let events = train_with(&place, &plan, resources, cache.clone());
            assert!((measured(&events), ended_with(&place, &plan)) == expected, "{resources:?} {cache:?}");
            assert_eq!(warnings(&events), [""; 0]);
            n_rows.push(cache.map_or(0, |cache| cache.entries().unwrap().iter().map(|entry| entry.n_rows).sum()));
        }
        let n_computed = n_rows[1];
        assert!(n_computed > 0);
        assert_eq!(n_rows, [0, n_computed, n_computed, n_computed], "what is there is not written again");
    }
}

#[test]
fn a_damaged_shard_is_named_and_computed_again() {
    let place = Place::new();
    let plan = plan_with(&place, &["model.frozen_layers.stages=8", "epochs=2"]);
    let cache = FeatureCache { dir: place.path("cache"), budget_bytes: u64::MAX };
    let train = || train_with(&place, &plan, Resources::new(Some(2)), Some(cache.clone()));
    let whole = train();
    let folder = std::fs::read_dir(&cache.dir).unwrap().next().unwrap().unwrap().path();
    let shard = |folder: &Path| {
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|ending| ending == "rows")).min().unwrap()
    };
    let path = shard(&folder);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let mended = train();
    assert_eq!(measured(&mended), measured(&whole));
    let name = path.display().to_string();
    assert!(warnings(&mended).iter().any(|text| text.contains(&name) && text.contains("computed again")));
    assert_eq!(warnings(&train()), [""; 0]);
}

/// Neither a budget that is too small nor a folder that cannot be written keeps a run from training.
#[test]
fn a_cache_that_cannot_be_used_costs_time_alone() {
    let place = Place::new();
    let plan = plan_with(&place, &["model.frozen_layers.stages=8", "epochs=2"]);
    let small = Resources { feature_budget_bytes: 0, ..Resources::new(Some(2)) };
    let expected = measured(&train(&place, &plan, small));
    std::fs::write(place.path("file"), "").unwrap();
    for (cache, told) in [
        (FeatureCache { dir: place.path("cache"), budget_bytes: 1000 }, "more than `cache.budget` of 1000 B"),
        (FeatureCache { dir: place.path("file/below"), budget_bytes: u64::MAX }, "is not kept on disk: cannot use"),
    ] {
        let events = train_with(&place, &plan, small, Some(cache));
        assert_eq!(measured(&events), expected);
        assert!(warnings(&events).iter().any(|text| text.contains(told)), "{:?}", warnings(&events));
    }
}

#[test]
fn show_proves_what_was_frozen_and_what_moved() {
    let place = Place::new();
    place.edit("frozen_layers: all", "frozen_layers: { stages: 8 }");
    let run = place.xp(&["run", "spec.yaml", "--name", "proved"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let proof = place.json(&["show", "proved", "--freezing", "--json"]);
    let tensors = proof["tensors"].as_array().unwrap();
    let of = |is_frozen: bool| tensors.iter().filter(move |tensor| tensor["frozen"] == is_frozen);
    assert!(of(true).count() > 20 && of(false).count() > 2, "{}", tensors.len());
    assert!(of(true).all(|tensor| tensor["moved"] == false && tensor["before"] == tensor["after"]));
    assert!(of(false).all(|tensor| tensor["moved"] == true));
    assert!(
        of(true).any(|tensor| tensor["name"] == "blocks.6.0.bn1.running_mean" || tensor["name"] == "conv_stem.weight")
    );
    let probe = &proof["probe"];
    assert!(probe["before"].as_str().unwrap().len() == 64 && probe["before"] == probe["after"], "{probe}");
    let text = place.xp(&["show", "proved", "--freezing"]).stdout;
    assert!(text.contains("tensors frozen, none moved") && text.contains("tensors trained, all moved"), "{text}");
    assert!(text.contains("the same after training"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    // Going on keeps what the run began with.
    assert_eq!(place.xp(&["resume", "proved", "--epochs", "4"]).code, 0);
    let longer = place.json(&["show", "proved", "--freezing", "--json"]);
    let hashes_before = |proof: &serde_json::Value| {
        proof["tensors"].as_array().unwrap().iter().map(|tensor| tensor["before"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(hashes_before(&longer), hashes_before(&proof));
    assert_ne!(longer["tensors"], proof["tensors"]);
}

/// Without any weight on an image there is no gradient.
#[test]
fn a_run_in_which_nothing_moves_fails_and_says_so() {
    let place = Place::new();
    let sets = ["--set", "optimizer={ sgd: { learning_rate: 0.1 } }", "--set", "class_weights={ blue: 0, red: 0 }"];
    let run = place.xp(&[&["run", "spec.yaml", "--name", "still"], &sets[..]].concat());
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.contains("no tensor that trains has moved"), "{}", run.stderr);
    assert_eq!(place.json(&["show", "still", "--json"])["state"], "failed");
}
