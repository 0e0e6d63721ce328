//! `xp init`: looks at a folder of images and writes a spec that trains on it.

use std::ffi::OsStr;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Component, Path, PathBuf};

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output::{self, Overwrite};
use crate::data::folder::{self, FolderError};
use crate::data::listing::Listing;
use crate::report::number::count_text;
use crate::spec::LoadedSpec;
use crate::spec::problem::SpecError;
use crate::spec::schema::{PLAIN_NAME, is_plain_name};
use crate::spec::starter::Starter;
use crate::train::plan::plan;

/// Look at a folder of images and write a spec that trains on it.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// A folder with a folder of images for each class, or with `train`, `valid` and `test` that hold such folders.
    folder: Option<PathBuf>,
    /// The spec to write.
    #[arg(long, short, value_name = "FILE", default_value = "spec.yaml")]
    output: PathBuf,
    /// The experiment's name; by default the folder's.
    #[arg(long, value_parser = experiment_name)]
    name: Option<String>,
    /// Replace the spec if there is one.
    #[arg(long)]
    force: bool,
}

/// Longest name of an experiment, characters.
const MAX_NAME_LEN: usize = 80;

/// Class names that a line has room for.
const MAX_CLASSES_SHOWN: usize = 8;

fn experiment_name(text: &str) -> Result<String, String> {
    match text {
        text if text.len() > MAX_NAME_LEN => Err(format!("longer than {MAX_NAME_LEN} characters")),
        text if !is_plain_name(text) => Err(format!("a name {PLAIN_NAME}")),
        text => Ok(text.to_owned()),
    }
}

pub(crate) fn init(args: &InitArgs) -> Result<(), Failure> {
    refuse_output(args)?;
    let named = args.folder.clone().map_or_else(asked_folder, Ok)?;
    let found = look(&named)?;
    let written = |folder: &Listing| as_written(&folder.origin, &args.output);
    let (train, valid) = (written(&found.train)?, found.valid.as_ref().map(written).transpose()?);
    let test = found.test.as_ref().map(written).transpose()?;
    let name = args.name.clone().unwrap_or_else(|| name_from(&named));
    let starter = Starter {
        name: &name,
        train: &train,
        valid: valid.as_deref(),
        test: test.as_deref(),
        n_classes: found.train.classes.len(),
        n_train_images: found.train.images.len(),
        file: &output::as_typed(&args.output),
    };
    let yaml = starter.yaml();
    check(&args.output, &yaml)?;
    write(args, &yaml).map_err(|source| Failure::Io { what: format!("write {}", args.output.display()), source })?;
    output::print(&said(&found, &named, &args.output))
}

fn refuse_output(args: &InitArgs) -> Result<(), Failure> {
    if args.output.symlink_metadata().is_ok() && !args.force {
        return Err(Failure::Usage {
            what: format!("{} is there already", args.output.display()),
            hint: "choose another file with `-o FILE`, or replace it with `--force`".to_owned(),
        });
    }
    let folder = output::folder_of(&args.output);
    if !folder.is_dir() {
        let what = format!("there is no folder {} to write {} into", folder.display(), args.output.display());
        return Err(Failure::NotThere {
            what,
            hint: "make it first, or choose another file with `-o FILE`".to_owned(),
        });
    }
    Ok(())
}

/// Asks for the folder where somebody can answer.
fn asked_folder() -> Result<PathBuf, Failure> {
    let unnamed = || Failure::Usage {
        what: "no folder of images is named".to_owned(),
        hint: "`xp init FOLDER` takes a folder with a folder of images for each class".to_owned(),
    };
    if !io::stdin().is_terminal() {
        return Err(unnamed());
    }
    let failed = |source| Failure::Io { what: "ask for the folder".to_owned(), source };
    let mut stderr = io::stderr();
    stderr.write_all(b"folder of images: ").and_then(|()| stderr.flush()).map_err(failed)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    typed_folder(&line, home.as_deref()).ok_or_else(unnamed)
}

/// What a shell would have made of it: without the quotes around, and with `~/` as the home folder.
fn typed_folder(line: &str, home: Option<&Path>) -> Option<PathBuf> {
    let text = line.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    let text = unquoted.unwrap_or(text);
    match (text.strip_prefix("~/"), home) {
        _ if text.is_empty() => None,
        (Some(below), Some(home)) => Some(home.join(below)),
        _ => Some(PathBuf::from(text)),
    }
}

/// The images that a spec will name.
#[derive(Debug)]
struct Found {
    train: Listing,
    valid: Option<Listing>,
    test: Option<Listing>,
}

const TRAIN: [&str; 2] = ["train", "training"];
const VALID: [&str; 3] = ["valid", "val", "validation"];
const TEST: [&str; 2] = ["test", "testing"];

/// Takes a folder for what it is: splits with classes in them, or classes.
fn look(root: &Path) -> Result<Found, Failure> {
    let below = folders_in(root);
    let split = |names: &[&str]| below.iter().find(|path| names.iter().any(|name| is_named(path, name)));
    let scan = |path: &PathBuf| folder::scan(path).map_err(|error| not_images(path, &error));
    // A class of trains holds images, not classes.
    if let Some(train) = split(&TRAIN).filter(|train| !folders_in(train).is_empty()) {
        let valid = split(&VALID).map(scan).transpose()?;
        let test = split(&TEST).map(scan).transpose()?;
        return Ok(Found { train: scan(train)?, valid, test });
    }
    if let Some(deeper) =
        below.iter().find(|path| folders_in(path).iter().any(|path| TRAIN.iter().any(|name| is_named(path, name))))
    {
        return Err(too_high(root, deeper));
    }
    match folder::scan(root) {
        Err(FolderError::OneClass { .. }) if below.iter().any(|only| folder::scan(only).is_ok()) => {
            Err(too_high(root, &below[0]))
        }
        Err(error) => Err(not_images(root, &error)),
        Ok(train) => Ok(Found { train, valid: None, test: None }),
    }
}

fn is_named(path: &Path, name: &str) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|own| own.eq_ignore_ascii_case(name))
}

/// The folders in a folder, hidden ones aside; none where it cannot be read, which the scan will say.
fn folders_in(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !is_hidden(path)).collect();
    folders.sort_unstable();
    folders
}

fn too_high(root: &Path, deeper: &Path) -> Failure {
    Failure::Usage {
        what: format!("{} holds folders of images only further down", root.display()),
        hint: format!("try `xp init {}`", deeper.display()),
    }
}

fn not_images(path: &Path, error: &FolderError) -> Failure {
    let what = format!("cannot {error}");
    let needed = "it takes a folder with a folder of images for each class, at least two";
    match error {
        FolderError::Missing { .. } => Failure::NotThere { what, hint: needed.to_owned() },
        FolderError::NoClasses { n_images: 1.., .. } => {
            let above = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
            let try_above = above.map(|above| format!("; its class folders may be in {}", above.display()));
            Failure::Usage { what, hint: format!("{needed}{}", try_above.unwrap_or_default()) }
        }
        FolderError::EmptyClasses { .. } => {
            let hint = "every folder in it is a class: put images into these, or move them elsewhere".to_owned();
            Failure::Usage { what, hint }
        }
        _ => Failure::Usage { what, hint: needed.to_owned() },
    }
}

/// A folder as the spec names it: relative to the spec, unless it was named from the root.
fn as_written(folder: &Path, spec: &Path) -> Result<String, Failure> {
    let path = if folder.is_absolute() || output::folder_of(spec) == Path::new(".") {
        folder.to_owned()
    } else {
        let here = std::env::current_dir()
            .map_err(|source| Failure::Io { what: "find the working directory".into(), source })?;
        relative(&here.join(folder), &here.join(output::folder_of(spec)))
    };
    path.to_str().map(str::to_owned).ok_or_else(|| Failure::Usage {
        what: format!("the name of {} is not UTF-8", path.display()),
        hint: "rename the folder: a spec is text".to_owned(),
    })
}

/// The way from one absolute folder to another, by names alone.
fn relative(to: &Path, from: &Path) -> PathBuf {
    let (to, from) = (plain(to), plain(from));
    let n_common = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = from[n_common..].iter().map(|_| OsStr::new(".."));
    let way: PathBuf = up.chain(to[n_common..].iter().map(|name| name.as_os_str())).collect();
    if way == Path::new("") { PathBuf::from(".") } else { way }
}

/// A path's names with `.` and `..` worked out.
fn plain(path: &Path) -> Vec<std::ffi::OsString> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    names
}

/// The folder's name with everything replaced that is not plain; umlauts as they are written without.
fn name_from(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = whole.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            'ä' => plain.push_str("ae"),
            'ö' => plain.push_str("oe"),
            'ü' => plain.push_str("ue"),
            'Ä' => plain.push_str("Ae"),
            'Ö' => plain.push_str("Oe"),
            'Ü' => plain.push_str("Ue"),
            'ß' => plain.push_str("ss"),
            c if c.is_ascii_alphanumeric() || "._-".contains(c) => plain.push(c),
            _ => plain.push('-'),
        }
    }
    let plain: String = plain.trim_matches(['.', '_', '-']).chars().take(MAX_NAME_LEN).collect();
    if plain.is_empty() { "images".to_owned() } else { plain }
}

/// What is written must run.
fn check(path: &Path, yaml: &str) -> Result<(), Failure> {
    let checked = LoadedSpec::from_text(path, yaml.to_owned(), &[]).and_then(|loaded| plan(&loaded));
    match checked {
        Ok(_) => Ok(()),
        // There is no such file yet whose lines could be pointed at.
        Err(SpecError::Invalid { problems, .. }) => {
            let first = problems.into_iter().next().expect("an invalid spec has a problem");
            Err(Failure::Usage {
                what: format!("{}: {}", first.key, first.message),
                hint: first.hint.unwrap_or_default(),
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// All of it or nothing, and never over what somebody else has just written.
fn write(args: &InitArgs, yaml: &str) -> io::Result<()> {
    let overwrite = if args.force { Overwrite::Always } else { Overwrite::Never };
    output::write_whole(&args.output, yaml.as_bytes(), overwrite)
}

fn said(found: &Found, named: &Path, spec: &Path) -> String {
    let train = &found.train;
    let shown = train.classes.iter().take(MAX_CLASSES_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if train.classes.len() > MAX_CLASSES_SHOWN { ", …" } else { "" };
    let splits = [("train", Some(train)), ("valid", found.valid.as_ref()), ("test", found.test.as_ref())];
    let count = |folder: &Listing| count_text(folder.images.len() as u64);
    let images = splits.iter().filter_map(|(split, folder)| Some(format!("{} {split}", count(folder.as_ref()?))));
    let held_out = if found.valid.is_none() { "; a fifth of each class is held out for validation" } else { "" };
    format!(
        "{}: {} classes: {shown}{more}\n  images: {}{held_out}\n{} is written; next:\n  xp check {4}\n  xp run {4}\n",
        named.display(),
        count_text(train.classes.len() as u64),
        images.collect::<Vec<_>>().join(", "),
        spec.display(),
        output::as_typed(spec),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_folder_is_read_as_a_shell_would() {
        let home = Some(Path::new("/home/ada"));
        let cases = [
            ("photos\n", Some("photos")),
            ("  my photos \n", Some("my photos")),
            ("'my photos'\n", Some("my photos")),
            ("\"my photos\"", Some("my photos")),
            ("~/photos", Some("/home/ada/photos")),
            ("~photos", Some("~photos")),
            ("\n", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(typed_folder(line, home), expected.map(PathBuf::from), "{line:?}");
        }
    }

    #[test]
    fn the_way_between_folders_is_by_names() {
        let cases = [
            ("/a/b", "/a", "b"),
            ("/a/b", "/a/b", "."),
            ("/a/b", "/a/c/d", "../../b"),
            ("/a/./b/../c", "/a/x", "../c"),
            ("/b", "/a", "../b"),
        ];
        for (to, from, way) in cases {
            assert_eq!(relative(Path::new(to), Path::new(from)), Path::new(way), "{to} from {from}");
        }
    }

    #[test]
    fn an_experiment_is_named_after_its_folder() {
        for (folder, name) in [
            ("/x/My Photos", "My-Photos"),
            ("/x/Süße Äpfel", "Suesse-Aepfel"),
            ("/x/é", "images"),
            ("/x/.cats", "cats"),
            ("/", "images"),
        ] {
            assert_eq!(name_from(Path::new(folder)), name);
        }
        assert!(is_plain_name(&name_from(Path::new(&format!("/x/{}", "a b".repeat(200))))));
    }
}
