//! The layers: which module may import which, which crate only one module may name, and how long a file may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A top-level module and what it may import besides itself.
struct Layer {
    name: &'static str,
    rank: u8,
    imports: &'static [&'static str],
}

/// Modules import from lower ranks alone; `weights` ranks between 2 and 3, just above the `models` it fills.
/// Narrower than the ranks: `report` knows only `run`, and `train` never writes to the `store`.
const LAYERS: &[Layer] = &[
    Layer { name: "run", rank: 0, imports: &[] },
    Layer { name: "spec", rank: 10, imports: &["run"] },
    Layer { name: "settings", rank: 10, imports: &["run"] },
    Layer { name: "data", rank: 20, imports: &["run", "spec", "settings"] },
    Layer { name: "models", rank: 20, imports: &["run", "spec", "settings"] },
    Layer { name: "store", rank: 20, imports: &["run", "spec", "settings"] },
    Layer { name: "report", rank: 20, imports: &["run"] },
    Layer { name: "weights", rank: 25, imports: &["run", "spec", "settings", "models"] },
    Layer { name: "train", rank: 30, imports: &["run", "spec", "settings", "data", "models", "weights", "report"] },
    Layer {
        name: "sweep",
        rank: 30,
        imports: &["run", "spec", "settings", "data", "models", "weights", "store", "report"],
    },
    Layer { name: "export", rank: 30, imports: &["run", "spec", "settings", "data", "models", "weights", "report"] },
    Layer {
        name: "launch",
        rank: 40,
        imports: &[
            "run", "spec", "settings", "data", "models", "weights", "store", "report", "train", "sweep", "export",
        ],
    },
    Layer {
        name: "serve",
        rank: 40,
        imports: &[
            "run", "spec", "settings", "data", "models", "weights", "store", "report", "train", "sweep", "export",
        ],
    },
    Layer {
        name: "cli",
        rank: 50,
        imports: &[
            "run", "spec", "settings", "data", "models", "weights", "store", "report", "train", "sweep", "export",
            "launch", "serve",
        ],
    },
];

/// A word and the only places that may say it: module names, or files below `src`.
const WORDS: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("burn", &["data", "models", "weights", "train", "export"]),
    ("xp_kernels", &["models", "data/resize.rs", "train/optimizer.rs", "train/update.rs"]),
    ("axum", &["serve"]),
    ("println!", &["cli", "main.rs"]),
    ("eprintln!", &["cli", "main.rs"]),
    ("print!", &["cli", "main.rs"]),
    ("eprint!", &["cli", "main.rs"]),
    ("clap", &["cli", "main.rs"]),
    ("ExitCode", &["cli", "main.rs"]),
    ("serde_saphyr", &["spec/parse.rs"]),
    ("kuva", &["report/plot.rs"]),
];

/// Lines of a file, its unit tests aside.
const MAX_LINES: usize = 500;

#[test]
fn the_source_keeps_its_layers() {
    let mut breaches = Vec::new();
    let files = rust_files(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").as_path());
    assert!(files.len() > 10, "the source was not found");
    for (path, text) in &files {
        breaches.extend(breaches_in(path, text));
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_table_only_points_down() {
    for layer in LAYERS {
        for import in layer.imports {
            let imported = layer_named(import).unwrap_or_else(|| panic!("{import} is not in the table"));
            assert!(imported.rank < layer.rank, "{} must not import {import}", layer.name);
        }
    }
}

#[test]
fn breaches_are_caught() {
    let long = "let line = 1;\n".repeat(MAX_LINES + 1);
    let cases = [
        ("run/id.rs", "use crate::spec::Spec;", "imports spec"),
        ("run/id.rs", "use crate::{\n    run::id,\n    store::{runs, list},\n};", "imports store"),
        ("models/head.rs", "fn f() -> crate::data::Batch {}", "imports data"),
        ("train/step.rs", "use crate :: store::Store;", "imports store"),
        ("report/list.rs", "use crate::spec::Spec;", "imports spec"),
        ("report.rs", "mod x { use crate::store::Store; }", "imports store"),
        ("cli/run.rs", "use crate::trainer::session;", "imports trainer"),
        ("cli/run.rs", "use crate::launch::*; use xp::nowhere;", "imports nowhere"),
        ("surprise.rs", "", "is not in the table"),
        ("cli/list.rs", "let x = sqlx::query(\"\");", "says sqlx"),
        ("store/runs.rs", "println!(\"x\");", "says println!"),
        ("launch.rs", "eprint!(\"x\");", "says eprint!"),
        ("spec/schema.rs", "serde_saphyr::from_str(text)", "says serde_saphyr"),
        ("report/table.rs", "use kuva::plot::LinePlot;", "says kuva"),
        ("store/lock.rs", "use burn::tensor::Tensor;", "says burn"),
        ("launch.rs", "fn f() -> std::process::ExitCode {}", "says ExitCode"),
        ("run/id.rs", "let c = '\"'; use crate::spec::Spec;", "imports spec"),
        ("run/id.rs", &long, "has 501 lines"),
    ];
    for (path, text, expected) in cases {
        let breaches = breaches_in(path, text);
        assert!(breaches.iter().any(|breach| breach.contains(expected)), "{path}: {expected}: {breaches:?}");
    }
}

#[test]
fn comments_strings_and_tests_are_no_breach() {
    let long_tests =
        format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "let line = 1;\n".repeat(2 * MAX_LINES));
    let cases = [
        ("run/id.rs", "//! [`crate::store`] and sqlx keep this.\n/* use crate::cli; /* burn */ println! */\n// clap"),
        ("run/id.rs", "const TEXT: &str = \"use crate::store; println!\"; let raw = r#\"sqlx \" axum\"#;"),
        ("spec/node.rs", "use crate::spec::schema; let burned = burn_train_less; fn prints() {}"),
        ("main.rs", "fn main() -> std::process::ExitCode { xp::cli::main() }"),
        ("report/plot.rs", "use kuva::plot::LinePlot; use crate::report::curve; use crate::run::metric;"),
        ("weights/load.rs", "use crate::models::classifier; use burn::module::Module;"),
        ("run/id.rs", "let lifetime: &'static str = x; let c = '\\''; let d = b'\"';"),
        ("run/id.rs", &long_tests),
    ];
    for (path, text) in cases {
        assert_eq!(breaches_in(path, text), [""; 0], "{path}: {text}");
    }
}

/// Everything that is wrong with one file; `path` is relative to `src`.
fn breaches_in(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut breaches = import_breaches(path, &code);
    breaches.extend(word_breaches(path, &code));
    let n_lines = text.lines().count() - n_test_lines(&code);
    if n_lines > MAX_LINES {
        breaches.push(format!("src/{path} has {n_lines} lines without its tests; {MAX_LINES} are too many"));
    }
    breaches
}

fn import_breaches(path: &str, code: &str) -> Vec<String> {
    let module = top_module(path);
    if module == "lib" {
        return Vec::new();
    }
    // The binary's own file is the top of the command line.
    let Some(layer) = layer_named(if module == "main" { "cli" } else { module }) else {
        return vec![format!("src/{path}: {module} is not in the table of layers")];
    };
    let imported = imported_modules(code);
    imported
        .into_iter()
        .filter(|import| import != layer.name && !layer.imports.contains(&import.as_str()))
        .map(|import| format!("src/{path} imports {import}, which {} may not", layer.name))
        .collect()
}

fn word_breaches(path: &str, code: &str) -> Vec<String> {
    let allowed = |place: &str| place == path || place == top_module(path);
    WORDS
        .iter()
        .filter(|(word, places)| !places.iter().any(|place| allowed(place)) && says(code, word))
        .map(|(word, places)| format!("src/{path} says {word}, which only {} may", places.join(", ")))
        .collect()
}

fn layer_named(name: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.name == name)
}

/// `store` for `store.rs` and for `store/list/tests.rs`.
fn top_module(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The modules after `crate::` and `xp::`, those of a braced list included.
fn imported_modules(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let mut modules = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let is_root = (*token == "crate" || *token == "xp") && (index == 0 || tokens[index - 1] != "::");
        if !is_root || tokens.get(index + 1) != Some(&"::") {
            continue;
        }
        match tokens.get(index + 2) {
            Some(&"{") => modules.extend(first_of_each(&tokens[index + 3..])),
            Some(module) => modules.push((*module).to_owned()),
            None => {}
        }
    }
    modules
}

/// The first name of every entry of a braced list whose opening brace was just passed.
fn first_of_each(tokens: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 1;
    let mut at_start = true;
    for token in tokens {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => {
                at_start = true;
                continue;
            }
            name if at_start => names.push(name.to_owned()),
            _ => {}
        }
        at_start = false;
        if depth == 0 {
            break;
        }
    }
    names
}

/// Whether the code has the word as a name of its own; `print!` is not part of `println!`.
fn says(code: &str, word: &str) -> bool {
    let name = word.trim_end_matches('!');
    let tokens = tokens(code);
    let followed = |index: usize| !word.ends_with('!') || tokens.get(index + 1) == Some(&"!");
    tokens.iter().enumerate().any(|(index, token)| *token == name && followed(index))
}

/// Names, `::` and single signs, without the space between them.
fn tokens(code: &str) -> Vec<&str> {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_name(first) {
            rest.find(|character| !is_name(character)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The text with comments, strings and characters blanked; the lines stay where they are.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let previous = code.chars().next_back();
        let skipped = skipped_length(rest, previous);
        let length = if skipped > 0 { skipped } else { first.len_utf8() };
        if skipped > 0 {
            // A space between what stood on both sides, and every line break.
            code.push(' ');
            code.extend(rest[..length].chars().filter(|character| *character == '\n'));
        } else {
            code.push(first);
        }
        rest = &rest[length..];
    }
    code
}

/// Bytes of the comment, string or character that `rest` begins with; 0 when it begins with code.
fn skipped_length(rest: &str, previous: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return string_length(rest);
    }
    let in_name = previous.is_some_and(|character| character.is_alphanumeric() || character == '_');
    if let (false, Some(length)) = (in_name, raw_string_length(rest)) {
        return length;
    }
    character_length(rest).unwrap_or(0)
}

/// Comments nest.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    for (index, _) in rest.char_indices() {
        if rest[index..].starts_with("/*") {
            depth += 1;
        } else if rest[..index].ends_with("*/") && index >= 4 {
            depth -= 1;
            if depth == 0 {
                return index;
            }
        }
    }
    rest.len()
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string_length(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opened = rest.len() - body.len();
    Some(body.find(&end).map_or(rest.len(), |index| opened + index + end.len()))
}

/// A character in quotes; a lifetime has no second quote.
fn character_length(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        return body[2..].find('\'').map(|index| index + 4);
    }
    body[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

/// Lines from `#[cfg(test)] mod tests {` to the end of the file.
fn n_test_lines(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let begins = |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod tests {");
    lines.windows(2).position(begins).map_or(0, |index| lines.len() - index)
}

/// Every Rust file below a folder, by its path relative to that folder.
fn rust_files(root: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the source folder is readable") {
            let path = entry.expect("the source folder is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root).expect("the walk began at the root");
                let name = relative.to_string_lossy().replace('\\', "/");
                files.insert(name, fs::read_to_string(&path).expect("source files are text"));
            }
        }
    }
    files
}
