use serde_json::json;

use super::*;
use crate::report::ranking::family::Kind;
use crate::run::metric::{Measure, Split};

const ACCURACY: MetricKey = MetricKey::new(Split::Valid, Measure::Accuracy);
const LOSS: MetricKey = MetricKey::new(Split::Valid, Measure::Loss);

fn of(label: &str, replicates: Vec<Replicate>) -> Point {
    let test = replicates.iter().filter_map(|of| of.value).map(|value| value - 0.1).collect();
    Point { label: label.to_owned(), values: json!({ "x": label }), replicates, note: String::new(), test }
}

fn point(label: &str, values: &[f64]) -> Point {
    let replicate = |(seed, value): (u64, &f64)| Replicate { seed, value: Some(*value), ..Replicate::default() };
    of(label, (0..).zip(values).map(replicate).collect())
}

/// A point whose seeds were right on some of 20 images: a row of `x` and `.` for each.
fn seen(label: &str, rows: &[&str]) -> Point {
    let replicate = |(seed, row): (u64, &&str)| {
        let images: Vec<f32> = row.bytes().map(|mark| if mark == b'x' { 1.0 } else { 0.0 }).collect();
        let value = images.iter().sum::<f32>() / images.len() as f32;
        Replicate {
            seed,
            value: Some(f64::from(value)),
            n_valid: Some(images.len() as u64),
            images: Some(images),
            images_hash: Some("a".to_owned()),
            run: Some(format!("{label}-{seed}")),
            ..Replicate::default()
        }
    };
    of(label, (0..).zip(rows).map(replicate).collect())
}

/// Splits of 20 valid and 80 train images with two seeds each, apart by what the seeds differ.
fn split(label: &str, values: &[f64]) -> Point {
    let replicate = |split_seed: u64, seed: u64, value: f64| Replicate {
        split_seed: Some(split_seed),
        seed,
        value: Some(value),
        n_train: Some(80),
        n_valid: Some(20),
        run: Some(format!("{label}-{split_seed}-{seed}")),
        ..Replicate::default()
    };
    let of_split = |(split, value): (u64, &f64)| [replicate(split, 0, value - 0.1), replicate(split, 1, value + 0.1)];
    of(label, (0..).zip(values).flat_map(of_split).collect())
}

#[test]
fn seeds_alone_are_said_to_be_that() {
    let points = vec![point("a", &[0.70, 0.72, 0.71]), point("b", &[0.71, 0.70, 0.74]), point("c", &[0.5, 0.9, 0.6])];
    let ranking = rank(ACCURACY, points);
    insta::assert_snapshot!(ranking.text(80), @r"
    point  valid.accuracy  n  behind             95 %      p
    ────────────────────────────────────────────────────────
    b      0.717 ± 0.021   3       –                –      –
    a      0.710 ± 0.010   3   0.007  -0.056 to 0.069  1.000
    c      0.667 ± 0.208   3   0.050  -0.495 to 0.595  1.000
    no difference shown (paired t-tests over 3 seeds: seeds alone, one split; Holm's
    correction for 3 pairs)
    chosen by valid.accuracy: b
    its test.accuracy: 0.617 ± 0.021, n = 3
    ");
    let json = ranking.json();
    assert_eq!((&json["rows"][0]["n"], &json["test"]["kind"]), (&json!(3), &json!("paired_t")));
    assert_eq!(json["rows"][0]["seeds"][0], json!({ "seed": 0, "value": 0.71 }));
}

#[test]
fn a_difference_that_every_seed_shows_is_shown() {
    let a: Vec<f64> = (0..8).map(|i| 0.9 + 0.001 * f64::from(i % 3)).collect();
    let b: Vec<f64> = (0..8).map(|i| 0.7 + 0.002 * f64::from(i % 2)).collect();
    let text = rank(ACCURACY, vec![point("low", &b), point("high", &a)]).text(80);
    assert!(text.contains("shown: high before low (p = <0.001)"), "{text}");
}

#[test]
fn an_incomplete_point_stands_last_and_is_held_against_none() {
    let mut good = point("good", &[0.9, 0.9]);
    good.note = "2 of 3 seeds".to_owned();
    let points = vec![good.clone(), point("done", &[0.5, 0.6, 0.7]), point("other", &[0.4, 0.6, 0.6])];
    let ranking = rank(ACCURACY, points);
    insta::assert_snapshot!(ranking.text(80), @r"
    point  valid.accuracy  n  behind             95 %      p  note
    ──────────────────────────────────────────────────────────────────────
    done   0.600 ± 0.100   3       –                –      –
    other  0.533 ± 0.115   3   0.067  -0.077 to 0.210  0.184
    good   0.900 ± 0.000   2       –                –      –  2 of 3 seeds
    no difference shown (paired t-tests over 3 seeds: seeds alone, one split; Holm's
    correction for 1 pair)
    chosen by valid.accuracy: done
    its test.accuracy: 0.500 ± 0.100, n = 3
    ");
    assert_eq!(ranking.family.pairs.len(), 1);
    let last = ranking.rows.last().unwrap();
    assert_eq!((last.behind, last.interval, last.p), (None, None, None));
    let text = rank(ACCURACY, vec![good.clone(), point("done", &[0.5, 0.6, 0.7])]).text(80);
    assert!(text.contains("one complete point: nothing to compare"), "{text}");
    let text = rank(ACCURACY, vec![good.clone(), good]).text(80);
    assert!(text.contains("no complete point yet") && !text.contains("chosen"), "{text}");
}

/// Three seeds that agree on 20 images show nothing, since they agree on the images that there happen to be.
#[test]
fn of_one_split_images_are_drawn_as_well_as_seeds() {
    let a = seen("a", &["xxxxxxxxxxxxxxxx....", "xxxxxxxxxxxxxxx.....", "xxxxxxxxxxxxxxxx...."]);
    let b = seen("b", &["xxxxxxxxxxxxxx...x..", "xxxxxxxxxxxx.....x..", "xxxxxxxxxxxxx....xx."]);
    let c = seen("c", &["xxxxx...............", "xxxx................", "xxxx..............x."]);
    let ranking = rank(ACCURACY, vec![c, b, a]);
    insta::assert_snapshot!(ranking.text(80), @r"
    point  valid.accuracy  n  behind             95 %       p
    ─────────────────────────────────────────────────────────
    a      0.783 ± 0.029   3       –                –       –
    b      0.717 ± 0.058   3   0.067  -0.112 to 0.263   0.548
    c      0.233 ± 0.029   3   0.550   0.301 to 0.764  <0.001
    shown: a before c (p = <0.001), b before c (p = <0.001) (bootstrap over 20
    validation images × 3 seeds, one split, 2,000 replicates; Holm's correction for
    3 pairs)
    chosen by valid.accuracy: a (runs a-0, a-1, a-2)
    its test.accuracy: 0.683 ± 0.029, n = 3
    ");
    let test = &ranking.json()["test"];
    let expected = json!({
        "kind": "bootstrap", "n_images": 20, "n_splits": 1, "n_seeds": 3, "n_replicates": 2000, "n_pairs": 3, "why": null
    });
    assert_eq!(test, &expected);
    assert_eq!(ranking.json()["chosen"]["runs"], json!(["a-0", "a-1", "a-2"]));
    assert_eq!(ranking.json()["rows"][1]["replicates"][0]["run"], "b-0");
}

#[test]
fn of_images_one_seed_can_be_tested_and_a_loss_is_turned_round() {
    let a = seen("a", &["xxxxxxxxxxxxxxxx...."]);
    let b = seen("b", &["xxx................."]);
    let ranking = rank(ACCURACY, vec![a.clone(), b.clone()]);
    assert!(ranking.verdict.starts_with("shown: a before b"), "{}", ranking.verdict);
    assert!(ranking.verdict.contains("20 validation images × 1 seed, one split"), "{}", ranking.verdict);
    let [low, high] = ranking.rows[1].interval.unwrap();
    assert!(low > 0.4 && low < 0.65 && high > 0.65 && high < 0.9, "{low} {high}");
    // As losses b is better by as much.
    let turned = rank(LOSS, vec![a, b]);
    assert_eq!(turned.rows[1].point.label, "a");
    let [turned_low, turned_high] = turned.rows[1].interval.unwrap();
    assert!((turned_low - low).abs() < 1e-9 && (turned_high - high).abs() < 1e-9, "{turned_low} {turned_high}");
}

#[test]
fn several_splits_are_what_a_difference_must_hold_over() {
    let points =
        vec![split("a", &[0.80, 0.70, 0.75]), split("b", &[0.78, 0.71, 0.74]), split("c", &[0.30, 0.20, 0.26])];
    let ranking = rank(ACCURACY, points);
    insta::assert_snapshot!(ranking.text(80), @r"
    point  valid.accuracy      n  behind             95 %       p
    ─────────────────────────────────────────────────────────────
    a      0.750 ± 0.050   3 × 2       –                –       –
    b      0.743 ± 0.035   3 × 2   0.007  -0.044 to 0.057   0.625
    c      0.253 ± 0.050   3 × 2   0.497   0.478 to 0.516  <0.001
    shown: a before c (p = <0.001), b before c (p = 0.001) (3 splits × 2 seeds, 20
    validation images each; Nadeau and Bengio's corrected t over splits; Holm's
    correction for 3 pairs)
    chosen by valid.accuracy: a (runs a-0-0, a-0-1, a-1-0, a-1-1, a-2-0 and 1 more)
    its test.accuracy: 0.650 ± 0.118, n = 6
    ");
    assert_eq!(ranking.family.kind, Some(Kind::CorrectedT));
    let json = ranking.json();
    assert_eq!(json["rows"][0]["seeds"][1], json!({ "split_seed": 0, "seed": 1, "value": 0.9 }));
    assert_eq!(json["test"]["n_splits"], 3);
}

/// Images may be recorded: they are those of several splits, which decide.
#[test]
fn without_counts_of_images_splits_are_not_tested() {
    let mut points = vec![split("a", &[0.80, 0.70]), split("b", &[0.70, 0.65])];
    for replicate in points.iter_mut().flat_map(|point| &mut point.replicates) {
        replicate.images = Some(vec![0.75; 20]);
    }
    assert_eq!(rank(ACCURACY, points.clone()).family.kind, Some(Kind::CorrectedT));
    points[0].replicates[0].n_train = None;
    let verdict = rank(ACCURACY, points).verdict;
    assert!(verdict.contains("not tested") && verdict.contains("how many images"), "{verdict}");
}

#[test]
fn equal_points_are_not_told_apart() {
    let rows = ["xxxxxxxxxx..........", "xxxxxxxxxxx........."];
    let mut by_method = vec![
        (vec![seen("a", &rows), seen("b", &rows)], Kind::Bootstrap),
        (vec![point("a", &[0.5, 0.6]), point("b", &[0.5, 0.6])], Kind::PairedT),
        (vec![split("a", &[0.5, 0.6]), split("b", &[0.5, 0.6])], Kind::CorrectedT),
    ];
    for (points, kind) in by_method.drain(..) {
        for metric in [ACCURACY, LOSS] {
            let ranking = rank(metric, points.clone());
            assert_eq!(ranking.family.kind, Some(kind));
            let row = &ranking.rows[1];
            assert_eq!((row.behind, row.p, row.interval), (Some(0.0), Some(1.0), Some([0.0; 2])), "{kind:?}");
            assert!(ranking.verdict.starts_with("no difference shown ("), "{}", ranking.verdict);
            assert!(!ranking.text(80).contains("-0.0"), "{}", ranking.text(80));
        }
    }
}

#[test]
fn nan_is_behind_everything_and_tested_with_nothing() {
    let points = vec![point("nan", &[f64::NAN, 0.9]), point("a", &[0.7, 0.6]), point("b", &[0.5, 0.6])];
    let ranking = rank(ACCURACY, points);
    let labels: Vec<&str> = ranking.rows.iter().map(|row| row.point.label.as_str()).collect();
    assert_eq!(labels, ["a", "b", "nan"]);
    let last = &ranking.rows[2];
    assert_eq!((last.behind, last.p, last.std), (None, None, None));
    assert_eq!(ranking.family.pairs.len(), 1);
    assert!(ranking.text(80).contains("NaN"), "{}", ranking.text(80));
    let of_nan = rank(ACCURACY, vec![point("a", &[f64::NAN]), point("b", &[f64::NAN])]);
    assert!(!of_nan.text(80).contains("chosen"), "{}", of_nan.text(80));
}

#[test]
fn images_that_cannot_be_compared_leave_the_seeds_and_it_says_why() {
    let (a, b) = (["xxxx....", "xxxx.x.."], ["xxxx.xx.", "xxx..xxx"]);
    let points = || vec![seen("a", &a), seen("b", &b)];
    let why = |change: &dyn Fn(&mut Replicate)| {
        let mut points = points();
        change(&mut points[0].replicates[0]);
        let ranking = rank(ACCURACY, points);
        assert_eq!(ranking.family.kind, Some(Kind::PairedT), "{}", ranking.verdict);
        assert!(ranking.verdict.contains("seeds alone, one split, since "), "{}", ranking.verdict);
        ranking.family.why.unwrap()
    };
    assert_eq!(rank(ACCURACY, points()).family.kind, Some(Kind::Bootstrap));
    assert!(why(&|of| of.images = None).contains("not every run"));
    assert!(why(&|of| of.images = Some(vec![1.0, 0.0])).contains("different numbers of images"));
    assert!(why(&|of| of.images_hash = None).contains("on different images"));
    assert!(why(&|of| of.value = Some(0.55)).contains("another epoch"));
    assert!(why(&|of| of.images = Some(vec![f32::NAN; 8])).contains("another epoch"));
    // Without seeds there is nothing left.
    let mut points = vec![seen("a", &a[..1]), seen("b", &b[..1])];
    points[0].replicates[0].images = None;
    let verdict = rank(ACCURACY, points).verdict;
    assert!(verdict.starts_with("not tested") && verdict.contains("not every run"), "{verdict}");
}

#[test]
fn replicates_that_are_too_few_for_all_pairs_are_not_taken_for_an_answer() {
    // 33 points have 528 pairs: the lowest p of 20,000 replicates is above 0.05 once corrected.
    let points: Vec<Point> =
        (0..33).map(|i| seen(&format!("p{i}"), &[if i == 0 { "xxxxxxxx" } else { "........" }])).collect();
    let verdict = rank(ACCURACY, points).verdict;
    assert!(verdict.contains("2,000 replicates are too few to show one among so many pairs"), "{verdict}");
}

#[test]
fn of_many_runs_five_are_named_and_lines_stay_short() {
    let rows = ["xxxxxxxx............"; 7];
    let long = |label: &str, rows: &[&str]| {
        let mut point = seen(label, rows);
        for (i, replicate) in point.replicates.iter_mut().enumerate() {
            replicate.run = Some(format!("calm-otter-{i}"));
        }
        Point { test: Vec::new(), ..point }
    };
    let mut last = long("model.frozen_layers=stages:4 optimizer.adam.learning_rate=0.0001", &rows[..3]);
    last.note = "running, 3 of 7 done".to_owned();
    let first = long("model.frozen_layers=all optimizer.adam.learning_rate=0.001", &rows);
    let text = rank(LOSS, vec![first, long("b", &rows), last]).text(80);
    insta::assert_snapshot!(text, @r"
    point         valid.loss      n  behind            95 %      p  note
    ────────────────────────────────────────────────────────────────────────────────
    model…=0.001  0.4000 ± 0.000  7       –               –      –
    b             0.4000 ± 0.000  7   0.000  0.000 to 0.000  1.000
    model…0.0001  0.4000 ± 0.000  3       –               –      –  running…f 7 done
    no difference shown (bootstrap over 20 validation images × 7 seeds, one split,
    2,000 replicates; Holm's correction for 1 pair)
    chosen by valid.loss: model.frozen_layers=all optimizer.adam.learning_rate=0.001
    (runs calm-otter-0, calm-otter-1, calm-otter-2, calm-otter-3, calm-otter-4 and 2
    more)
    ");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn how_often_the_test_was_looked_at_is_said() {
    let mut ranking = rank(ACCURACY, vec![point("a", &[0.7, 0.8]), point("b", &[0.6, 0.5])]);
    let mut line = |n_total, n_points| {
        ranking.looks = Some(Looks { n_total, n_points });
        ranking.text(200).lines().last().unwrap().to_owned()
    };
    assert_eq!(line(1, 1), "its test.accuracy, looked at once: 0.650 ± 0.071, n = 2");
    let looks = "its test.accuracy: 0.650 ± 0.071, n = 2; these test images were looked at 31 times";
    assert_eq!(line(31, 1), looks);
    assert_eq!(line(31, 30), format!("{looks}, 30 of them for points of this sweep"));
    assert_eq!(ranking.json()["chosen"]["looks"], json!({ "total": 31, "points": 30 }));
}
