//! A ranking as JSON.

use serde_json::{Map, Value, json};

use crate::report::json::number;
use crate::report::ranking::family::{Family, Kind};
use crate::report::ranking::{Ranking, Replicate, Row};

impl Ranking {
    pub fn json(&self) -> Value {
        let chosen = self.chosen().map(|row| {
            json!({
                "point": row.point.values,
                "runs": row.runs(),
                "test": row.point.test.iter().map(|value| number(Some(*value))).collect::<Vec<_>>(),
                "looks": self.looks.map(|looks| json!({ "total": looks.n_total, "points": looks.n_points })),
            })
        });
        json!({
            "metric": self.metric.to_string(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "test": test(&self.family),
            "verdict": self.verdict,
            "chosen": chosen,
        })
    }
}

fn row(row: &Row) -> Value {
    json!({
        "point": row.point.values,
        "mean": number(row.mean),
        "std": number(row.std),
        "n": row.n,
        "behind": number(row.behind),
        "interval": row.interval.map(|ends| ends.map(|end| number(Some(end)))),
        "p": number(row.p),
        "seeds": row.point.replicates.iter().map(|of| Value::Object(seed(of))).collect::<Vec<_>>(),
        "replicates": row.point.replicates.iter().map(replicate).collect::<Vec<_>>(),
        "note": row.point.note,
    })
}

fn seed(replicate: &Replicate) -> Map<String, Value> {
    let split = replicate.split_seed.map(|split| ("split_seed".to_owned(), json!(split)));
    let seed = [("seed".to_owned(), json!(replicate.seed)), ("value".to_owned(), number(replicate.value))];
    split.into_iter().chain(seed).collect()
}

fn replicate(replicate: &Replicate) -> Value {
    json!({
        "split_seed": replicate.split_seed,
        "seed": replicate.seed,
        "value": number(replicate.value),
        "run": replicate.run,
        "n_train": replicate.n_train,
        "n_valid": replicate.n_valid,
    })
}

/// `n_images` is that of the smallest split.
fn test(family: &Family) -> Value {
    let kind = family.kind.map(|kind| match kind {
        Kind::Bootstrap => "bootstrap",
        Kind::CorrectedT => "corrected_t",
        Kind::PairedT => "paired_t",
    });
    json!({
        "kind": kind,
        "n_images": family.n_images.map(|[fewest, _]| fewest),
        "n_splits": family.n_splits,
        "n_seeds": family.n_seeds,
        "n_replicates": family.n_replicates,
        "n_pairs": family.n_pairs,
        "why": family.why,
    })
}
