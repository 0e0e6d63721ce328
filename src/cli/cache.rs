//! `xp cache`: what frozen layers gave for images and is kept on disk.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::data::feature_cache::{CacheError, Entry, FeatureCache};
use crate::report::cache::{self as report, CacheRow};

/// What frozen layers gave for images, kept for later runs: list it, measure it, clear it.
///
/// Nothing is lost by clearing it but time: what is needed is computed again.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Every network's rows, those that were used longest ago first.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// What all of it takes on disk.
    Size {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete rows; those that a running xp uses stay.
    #[command(override_usage = "xp cache clear <ID>...\n       xp cache clear --all")]
    Clear {
        /// Which, by their id in `xp cache list` or its beginning.
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
}

pub(crate) fn cache(args: &CacheArgs, context: &Context) -> Result<(), Failure> {
    let cache = FeatureCache { dir: context.home.feature_cache_dir(), budget_bytes: u64::MAX };
    let entries = cache.entries().map_err(failed("look at the cache"))?;
    match &args.command {
        CacheCommand::List { json: true } => output::print_json(&list_json(&cache, &entries)),
        CacheCommand::List { json: false } => {
            let rows: Vec<CacheRow> = entries.iter().map(row).collect();
            output::print(&report::list(&rows, output::width()))
        }
        CacheCommand::Size { json: true } => output::print_json(&json!({
            "schema": 1,
            "folder": cache.dir,
            "n_bytes": n_bytes(&entries),
            "n_rows": entries.iter().map(|entry| entry.n_rows).sum::<u64>(),
        })),
        CacheCommand::Size { json: false } => output::print(&report::size(n_bytes(&entries), &cache.dir)),
        CacheCommand::Clear { ids, all } => clear(&cache, &entries, ids, *all),
    }
}

fn n_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.n_bytes).sum()
}

fn failed(what: &str) -> impl FnOnce(CacheError) -> Failure + use<> {
    let what = what.to_owned();
    move |source| Failure::Cache { what, source }
}

fn clear(cache: &FeatureCache, entries: &[Entry], ids: &[String], all: bool) -> Result<(), Failure> {
    let mut chosen: Vec<&Entry> = Vec::new();
    for id in ids {
        let mut found = entries.iter().filter(|entry| entry.id.starts_with(id.as_str()) && !id.is_empty());
        let (first, second) = (found.next(), found.next());
        let Some(entry) = first.filter(|_| second.is_none()) else {
            let what = match first {
                Some(_) => format!("{id:?} is the beginning of several ids"),
                None => format!("the cache has no rows with the id {id:?}"),
            };
            return Err(Failure::NotThere { what, hint: "`xp cache list` shows them".to_owned() });
        };
        chosen.push(entry);
    }
    if all {
        chosen = entries.iter().collect();
    }
    let mut n_cleared = 0;
    for entry in chosen {
        if cache.remove(&entry.id).map_err(failed("clear the cache"))? {
            n_cleared += entry.n_bytes;
        } else {
            output::say(&format!("{} stays: a running xp uses it\n", entry.id));
        }
    }
    output::print(&report::cleared(n_cleared))
}

fn ms(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn row(entry: &Entry) -> CacheRow {
    let facts = entry.facts.as_ref();
    let size = facts.map(|facts| match &facts.images["size"] {
        Value::Array(sides) => sides.iter().map(Value::to_string).collect::<Vec<_>>().join("×"),
        side => format!("{side}×{side}"),
    });
    CacheRow {
        id: entry.id.clone(),
        backbone: facts.map(|facts| facts.backbone.clone()),
        cut: facts.map(|facts| facts.cut.clone()),
        images: size,
        n_rows: entry.n_rows,
        n_bytes: entry.n_bytes,
        last_used_ms: entry.last_used.and_then(ms),
        is_in_use: entry.is_in_use,
    }
}

fn list_json(cache: &FeatureCache, entries: &[Entry]) -> Value {
    let entries = entries.iter().map(|entry| {
        json!({
            "id": entry.id,
            "made_of": entry.facts,
            "n_rows": entry.n_rows,
            "n_bytes": entry.n_bytes,
            "last_used_ms": entry.last_used.and_then(ms),
            "in_use": entry.is_in_use,
        })
    });
    json!({ "schema": 1, "folder": cache.dir, "entries": entries.collect::<Vec<_>>() })
}
