//! Everything recorded about one run, as the text of `xp show`.

use std::collections::BTreeMap;

use crate::report::compare::value_text;
use crate::report::number::{ABSENT, bytes_text, count_text, metric_text};
use crate::report::table::{Alignment, Column, pairs, table, wrapped};
use crate::report::time::{duration_text, second_text};
use crate::run::detail::{CheckpointRecord, RecordingCosts, RunDetail, SystemSeries};
use crate::run::event::{DataFacts, ModelFacts, TrainedFacts};
use crate::run::metric::Split;
use crate::run::stretch::{self, Stretch};
use crate::run::summary::{RunSummary, ShownState};
use crate::run::system::{PROCESS_CPU_PERCENT, PROCESS_MEMORY_BYTES, gpu_memory_bytes, gpu_percent};

/// More skipped images than this are only counted; the JSON has them all.
const SHOWN_SKIPPED: usize = 10;
/// Characters of a hash that tell it apart at a glance.
const SHOWN_HASH: usize = 12;

/// Tells all of it within `width` characters; empty sections are left out.
pub fn text(detail: &RunDetail, width: usize) -> String {
    let summary = &detail.summary;
    let sections = [
        ("", pairs(&head(detail), width)),
        ("error", error(summary, width)),
        ("parameters", pairs(&params(summary), width)),
        ("metrics", metrics(summary, width)),
        ("data", detail.data.as_ref().map_or(String::new(), |facts| data(facts, detail.n_test_looks, width))),
        (
            "model",
            detail.model.as_ref().map_or(String::new(), |facts| pairs(&model(facts, detail.trained.as_ref()), width)),
        ),
        ("checkpoints", checkpoints(&detail.checkpoints, width)),
        ("warnings", warnings(detail, width)),
        ("skipped images", skipped(detail, width)),
        ("files", artifacts(detail, width)),
        ("environment", pairs(&environment(detail), width)),
        ("history", history(detail, width)),
    ];
    let mut text = format!("{}  {}\n", summary.name, summary.id);
    for (title, body) in sections {
        if body.is_empty() {
            continue;
        }
        if !title.is_empty() {
            text.push_str(&format!("\n{title}\n"));
        }
        text.push_str(&body);
    }
    text
}

fn head(detail: &RunDetail) -> Vec<(String, String)> {
    let summary = &detail.summary;
    let mut rows = vec![
        row("state", &state(summary)),
        row("experiment", &summary.experiment),
        row("created", &format!("{} UTC", second_text(summary.created_at_ms))),
    ];
    match summary.ended_at_ms {
        Some(ended_at_ms) => rows.push(row("ended", &format!("{} UTC", second_text(ended_at_ms)))),
        None => rows.push(row("last seen", &format!("{} UTC", second_text(summary.heartbeat_at_ms)))),
    }
    rows.push(row("time", &duration_text(summary.duration_ms())));
    rows.extend(trained(detail).map(|trained| row("trained", &trained)));
    rows.extend(used(&detail.system).map(|used| row("used", &used)));
    rows.extend(detail.recording.as_ref().and_then(costs).map(|costs| row("recording", &costs)));
    rows.push(row("host", &format!("{}, process {}", detail.host, detail.pid)));
    if !summary.tags.is_empty() {
        rows.push(row("tags", &summary.tags.join(", ")));
    }
    let hashes = [("fingerprint", &summary.fingerprint), ("group", &summary.group)];
    rows.extend(hashes.iter().filter_map(|(name, hash)| Some(row(name, shortened(hash.as_ref()?)))));
    rows
}

/// What the epochs were trained under, where that changed on the way.
fn trained(detail: &RunDetail) -> Option<String> {
    let trained = stretch::trained(&detail.stretches, detail.last_epoch());
    let part = |(stretch, last): &(&Stretch, u32)| {
        let first = stretch.after_epoch + 1;
        let epochs = if first == *last { first.to_string() } else { format!("{first}-{last}") };
        let restarted = match stretch.schedule_after {
            0 => String::new(),
            after => format!(" from epoch {}", after + 1),
        };
        let past = if stretch.is_past_early_stop { " past its early stop" } else { "" };
        format!(
            "{epochs}{past} under {} over {}{restarted}",
            stretch::schedule_name(stretch),
            stretch.schedule_epochs()
        )
    };
    (trained.len() > 1).then(|| format!("epochs {}", trained.iter().map(part).collect::<Vec<_>>().join(", ")))
}

/// The process' highest memory and its mean share of the cores, as far as they were looked at; the GPUs' likewise.
fn used(system: &BTreeMap<String, SystemSeries>) -> Option<String> {
    let bytes = |name: &str| Some(bytes_text(system.get(name)?.summary.max? as u64));
    let percent = |name: &str| Some(format!("{:.0}%", system.get(name)?.mean?));
    let mut parts = vec![
        bytes(PROCESS_MEMORY_BYTES).map(|peak| format!("{peak} of memory at most")),
        percent(PROCESS_CPU_PERCENT).map(|mean| format!("{mean} of the CPU on average")),
    ];
    let is_known = |index| system.contains_key(&gpu_percent(index)) || system.contains_key(&gpu_memory_bytes(index));
    for index in (0..).take_while(|&index| is_known(index)) {
        parts.push(percent(&gpu_percent(index)).map(|mean| format!("GPU {index} {mean}")));
        parts.push(bytes(&gpu_memory_bytes(index)));
    }
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What there is to say of the recording itself; nothing when it cost and lost nothing.
fn costs(costs: &RecordingCosts) -> Option<String> {
    let ms = |us: u64| metric_text("", Some(us as f64 / 1000.0));
    let mut parts = Vec::new();
    if costs.n_waits > 0 {
        let (n, total, longest) = (count_text(costs.n_waits), ms(costs.waited_us), ms(costs.longest_wait_us));
        parts.push(format!("training waited for it {n} times, {total} ms in all, {longest} ms at most"));
    }
    if costs.n_system_dropped > 0 {
        parts.push(format!("{} looks at the machine dropped", count_text(costs.n_system_dropped)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn state(summary: &RunSummary) -> String {
    match summary.state {
        ShownState::Crashed => {
            format!("crashed: its process is gone; `xp resume {}` goes on from its last finished epoch", summary.name)
        }
        ShownState::Recorded(state) => state.as_str().to_owned(),
    }
}

fn error(summary: &RunSummary, width: usize) -> String {
    let Some(error) = &summary.error else { return String::new() };
    let mut rows = vec![row("message", &error.message)];
    rows.extend(error.cause.as_ref().map(|cause| row("cause", cause)));
    rows.extend(error.place.as_ref().map(|place| row("place", place)));
    pairs(&rows, width)
}

fn params(summary: &RunSummary) -> Vec<(String, String)> {
    summary.params.iter().map(|(name, value)| row(name, &value_text(value))).collect()
}

fn metrics(summary: &RunSummary, width: usize) -> String {
    let number = |name: &String, value: Option<f64>| metric_text(name, value);
    let column = |header: &str, cell: &dyn Fn(&String) -> String| {
        Column::new(header, Alignment::Right, summary.metrics.keys().map(cell))
    };
    let epoch = |name: &String| summary.metrics[name].best_epoch.map_or(ABSENT.to_owned(), |epoch| epoch.to_string());
    indented(
        &[
            Column::new("metric", Alignment::Left, summary.metrics.keys().cloned()).shrinking_to(12),
            column("best", &|name| number(name, summary.metrics[name].best)),
            column("epoch", &epoch),
            column("last", &|name| number(name, summary.metrics[name].last)),
            column("min", &|name| number(name, summary.metrics[name].min)),
            column("max", &|name| number(name, summary.metrics[name].max)),
            column("points", &|name| count_text(summary.metrics[name].n_points)),
        ],
        width,
    )
}

fn data(facts: &DataFacts, n_test_looks: usize, width: usize) -> String {
    let mut rows = vec![row("classes", &format!("{}: {}", facts.classes.len(), facts.classes.join(", ")))];
    rows.extend(facts.splits.iter().map(|split| {
        let looks = match (split.split, n_test_looks) {
            (Split::Test, 0) => ", not looked at yet".to_owned(),
            (Split::Test, 1) => ", looked at once".to_owned(),
            (Split::Test, n) => format!(", looked at {n} times"),
            _ => String::new(),
        };
        let text = format!("{} images, hash {}{looks}", count_text(split.n_images), shortened(&split.hash));
        row(split.split.as_str(), &text)
    }));
    pairs(&rows, width)
}

fn model(facts: &ModelFacts, after: Option<&TrainedFacts>) -> Vec<(String, String)> {
    let trained = format!("{} of {}", count_text(facts.n_trained_parameters), count_text(facts.n_parameters));
    let mut rows = vec![
        row("trained parameters", &trained),
        row("frozen layers", &count_text(facts.n_frozen_layers)),
        row("cut after", &facts.cut),
        row("weights hash", shortened(&facts.weights_hash)),
        row("frozen hash", &frozen_hash(&facts.frozen_hash, after)),
    ];
    rows.extend(after.map(|after| row("trained hash", shortened(&after.trained_hash))));
    rows
}

/// The hash of the frozen tensors and what training did to it.
fn frozen_hash(before: &str, after: Option<&TrainedFacts>) -> String {
    match after {
        None => shortened(before).to_owned(),
        Some(after) if after.frozen_hash == before => format!("{}, the same after training", shortened(before)),
        Some(after) => format!("{}, but {} after training", shortened(before), shortened(&after.frozen_hash)),
    }
}

fn checkpoints(checkpoints: &[CheckpointRecord], width: usize) -> String {
    let column = |header: &str, alignment: Alignment, cell: &dyn Fn(&CheckpointRecord) -> String| {
        Column::new(header, alignment, checkpoints.iter().map(cell))
    };
    let size = |checkpoint: &CheckpointRecord| match checkpoint.deleted {
        true => "deleted".to_owned(),
        false => bytes_text(checkpoint.saved.n_bytes),
    };
    indented(
        &[
            column("epoch", Alignment::Right, &|checkpoint| checkpoint.saved.epoch.to_string()),
            column("step", Alignment::Right, &|checkpoint| count_text(checkpoint.saved.step)),
            column("monitored", Alignment::Right, &|checkpoint| metric_text("", checkpoint.monitor_value)),
            column("size", Alignment::Right, &size),
            column("folder", Alignment::Left, &|checkpoint| checkpoint.saved.path.display().to_string()),
        ],
        width,
    )
}

fn warnings(detail: &RunDetail, width: usize) -> String {
    detail.warnings.iter().map(|warning| wrapped(&warning.text, 2, width) + "\n").collect()
}

fn skipped(detail: &RunDetail, width: usize) -> String {
    let shown = detail.skipped.iter().take(SHOWN_SKIPPED);
    let mut text: String = shown
        .map(|skipped| {
            let path = skipped.path.display().to_string().replace(char::is_control, " ");
            let text = format!("{} {path}: {}", skipped.split, skipped.reason);
            wrapped(&text, 2, width) + "\n"
        })
        .collect();
    if detail.skipped.len() > SHOWN_SKIPPED {
        let more = detail.skipped.len() - SHOWN_SKIPPED;
        text.push_str(&format!("  and {} more, {} in all\n", count_text(more as u64), detail.skipped.len()));
    }
    text
}

fn artifacts(detail: &RunDetail, width: usize) -> String {
    let rows: Vec<_> = detail
        .artifacts
        .iter()
        .map(|artifact| {
            let text = format!(
                "{} ({}, blake3 {})",
                artifact.path.display(),
                bytes_text(artifact.n_bytes),
                shortened(&artifact.hash)
            );
            row(&artifact.kind, &text)
        })
        .collect();
    pairs(&rows, width)
}

fn environment(detail: &RunDetail) -> Vec<(String, String)> {
    detail.environment.iter().map(|(name, value)| row(name, value)).collect()
}

fn history(detail: &RunDetail, width: usize) -> String {
    let rows: Vec<_> = detail.events.iter().map(|event| row(&second_text(event.at_ms), event.state.as_str())).collect();
    pairs(&rows, width)
}

fn row(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A table two characters in, or nothing when it has no rows.
fn indented(columns: &[Column], width: usize) -> String {
    if columns.iter().all(Column::is_empty) {
        return String::new();
    }
    table(columns, width.saturating_sub(2)).lines().map(|line| format!("  {line}\n")).collect()
}

fn shortened(hash: &str) -> &str {
    hash.get(..SHOWN_HASH).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::sample;
    use crate::run::metric::SeriesSummary;
    use crate::run::summary::{RunError, ShownState, State};

    #[test]
    fn everything_recorded_is_told_within_eighty_columns() {
        insta::assert_snapshot!(text(&sample::detail(), 80), @r"
        fashion-calm-otter  01JDB3M8T2ZQ4V5W6X7Y8Z9ABC
          state        finished
          experiment   fashion
          created      2026-11-24 10:52:07 UTC
          ended        2026-11-24 10:53:39 UTC
          time         1 m 32 s
          used         163.0 MiB of memory at most, 75% of the CPU on average
          host         workstation, process 4711
          tags         first
          fingerprint  f0f1f2f3f4f5

        parameters
          optimizer.adam.learning_rate  0.001
          seed                          42

        metrics
          metric            best  epoch    last     min    max  points
          ────────────────────────────────────────────────────────────
          valid.accuracy   0.848      3   0.845   0.520  0.848       4
          valid.loss      0.4867      3  0.4910  0.4867  1.470       4

        data
          classes  10: Ankle boot, Bag, Coat, Dress, Pullover, Sandal, Shirt, Sneaker,
                   T-shirt, Trouser
          train    1,200 images, hash 0123456789ab
          valid    300 images, hash 0123456789ab

        model
          trained parameters  12,810 of 3,383,818
          frozen layers       50
          cut after           blocks.6
          weights hash        fedcba987654
          frozen hash         00ff00ff00ff, the same after training
          trained hash        123456789abc

        checkpoints
          epoch  step  monitored     size  folder
          ───────────────────────────────────────────────────────
              3   114     0.4867  9.3 MiB  checkpoints/epoch-0003
              4   152          –  deleted  checkpoints/epoch-0004

        warnings
          few images few images few images few images few images few images few images
          few images few images few images few images few images

        skipped images
          train train/cat/1.png: not an image
          train train/cat/2.png: not an image
          train train/cat/3.png: not an image
          train train/cat/4.png: not an image
          train train/cat/5.png: not an image
          train train/cat/6.png: not an image
          train train/cat/7.png: not an image
          train train/cat/8.png: not an image
          train train/cat/9.png: not an image
          train train/cat/10.png: not an image
          and 2 more, 12 in all

        files
          plot  curves.png (127.1 KiB, blake3 abcdef012345)

        environment
          xp  0.1.0

        history
          2026-11-24 10:52:07  running
          2026-11-24 10:53:39  finished
        ");
    }

    #[test]
    fn what_was_trained_under_another_length_is_told() {
        let mut detail = sample::detail();
        assert_eq!(trained(&detail), None);
        let cosine = |after_epoch, epochs| Stretch { after_epoch, ..Stretch::whole(epochs, json!({ "cosine": {} })) };
        detail.stretches = vec![cosine(0, 3), cosine(3, 5)];
        assert_eq!(trained(&detail).unwrap(), "epochs 1-3 under cosine over 3, 4 under cosine over 5");
        detail.stretches[1].schedule_after = 3;
        detail.stretches[1].is_past_early_stop = true;
        let text = "epochs 1-3 under cosine over 3, 4 past its early stop under cosine over 2 from epoch 4";
        assert_eq!(trained(&detail).unwrap(), text);
        // In the second nothing was trained yet.
        detail.stretches[1].after_epoch = 4;
        assert_eq!(trained(&detail), None);
    }

    #[test]
    fn a_frozen_tensor_that_moved_is_told() {
        let after =
            |frozen_hash: &str| TrainedFacts { frozen_hash: frozen_hash.to_owned(), trained_hash: String::new() };
        assert_eq!(frozen_hash("a", None), "a");
        assert_eq!(frozen_hash("a", Some(&after("a"))), "a, the same after training");
        assert_eq!(frozen_hash("a", Some(&after("b"))), "a, but b after training");
    }

    #[test]
    fn an_early_failure_shows_its_error_and_no_empty_sections() {
        let mut detail = sample::detail();
        detail.summary.state = ShownState::Recorded(State::Failed);
        detail.summary.error = Some(RunError {
            message: "out of memory".to_owned(),
            cause: Some("a batch of 4096".to_owned()),
            place: None,
        });
        detail.summary.metrics.clear();
        detail.checkpoints.clear();
        (detail.data, detail.model) = (None, None);
        let text = text(&detail, 80);
        assert!(text.contains("\nerror\n  message  out of memory\n  cause    a batch of 4096\n"), "{text}");
        for title in ["metrics", "checkpoints", "data", "model"] {
            assert!(!text.contains(&format!("\n{title}\n")), "{title}: {text}");
        }
    }

    #[test]
    fn a_recording_is_told_where_it_cost_or_lost_something() {
        assert_eq!(costs(&RecordingCosts::default()), None);
        let waited = RecordingCosts { n_waits: 1_200, waited_us: 48_300, longest_wait_us: 950, n_system_dropped: 0 };
        let text = costs(&waited).unwrap();
        assert_eq!(text, "training waited for it 1,200 times, 48.30 ms in all, 0.9500 ms at most");
        let dropped = RecordingCosts { n_system_dropped: 3, ..RecordingCosts::default() };
        assert_eq!(costs(&dropped).unwrap(), "3 looks at the machine dropped");
    }

    #[test]
    fn gpus_are_told_one_by_one() {
        let of = |max: f64, mean| SystemSeries {
            summary: SeriesSummary { max: Some(max), ..SeriesSummary::default() },
            mean: Some(mean),
        };
        let system = BTreeMap::from([
            (gpu_percent(0), of(99.0, 81.4)),
            (gpu_memory_bytes(0), of(3.0 * 1024.0 * 1024.0 * 1024.0, 1.0)),
            (gpu_percent(1), of(0.0, 0.0)),
        ]);
        assert_eq!(used(&system).unwrap(), "GPU 0 81%, 3.0 GiB, GPU 1 0%");
        assert_eq!(used(&BTreeMap::new()), None);
    }
}
