//! The located tree to a [`Spec`]: what serde and the ranges object to, in the words of people who write YAML.

use garde::Validate;
use serde_path_to_error::Segment;

use crate::spec::keys::{Keys, closest_of};
use crate::spec::node::{Kind, Node};
use crate::spec::problem::Problem;
use crate::spec::schema::Spec;

/// Longest part of a value that a message repeats, characters.
const MAX_ECHO: usize = 40;

/// Most values out of range that are looked into; ten thousand class weights may all be.
const MAX_OUT_OF_RANGE: usize = 100;

/// Reads the spec's types out of the tree, and says which of its values are out of range.
///
/// Errors: the first structural problem.
pub fn spec_from_node(node: &Node) -> Result<(Spec, Vec<Problem>), Problem> {
    match node.kind {
        Kind::Map(_) => {}
        Kind::Null => return Err(Problem::new("", "there is nothing in it", "`xp init` writes a spec to begin with")),
        _ => {
            let hint = "write `name: …`, `data: …`, `model: …` and `epochs: …`; `xp init` writes a spec to begin with";
            return Err(Problem::new("", "a spec is a map of keys to values", hint));
        }
    }
    let spec: Spec =
        serde_path_to_error::deserialize(node.to_json()).map_err(|error| structural_problem(node, &error))?;
    let problems = spec.validate().map_or_else(|report| value_problems(node, &report), |()| Vec::new());
    Ok((spec, problems))
}

fn value_problems(node: &Node, report: &garde::Report) -> Vec<Problem> {
    let keys = Keys::default();
    let first = report.iter().take(MAX_OUT_OF_RANGE);
    first.map(|(path, error)| value_problem(node, &keys, &path.to_string(), error)).collect()
}

fn value_problem(node: &Node, keys: &Keys, path: &str, error: &garde::Error) -> Problem {
    let (found, _, key) = node.find(path);
    let bound = |words: &str| error.message().strip_prefix(words);
    let message = match (&found.kind, bound("length is lower than "), bound("length is greater than ")) {
        (Kind::List(_), Some(least), _) => format!("needs {least} items at least"),
        (Kind::List(_), _, Some(most)) => format!("takes {most} items at most"),
        (_, Some(least), _) => format!("needs {least} characters at least"),
        (_, _, Some(most)) => format!("takes {most} characters at most"),
        (Kind::Number(number), ..)
            if ["lower ", "greater ", "not "].iter().any(|word| error.message().starts_with(word)) =>
        {
            format!("{number} is {}", error.message())
        }
        _ => error.message().to_owned(),
    };
    let path: Vec<&str> = key.split('.').collect();
    let hint = match (keys.range(&path), keys.default_of(&path)) {
        (Some(range), Some(default)) => format!("choose a number {range}; the default is {default}"),
        (Some(range), None) => format!("choose a number {range}"),
        (None, _) => purpose(keys, &path),
    };
    Problem::new(&key, message, hint)
}

fn structural_problem(node: &Node, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path: Vec<String> = error.path().iter().filter_map(part).collect();
    let message = error.inner().to_string();
    let text = message.as_str();
    if let Some(name) = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        return unknown_key(node, path, name);
    }
    let (found, place, _) = node.find(&path.join("."));
    let problem = if let Some(name) = text.strip_prefix("missing field `").map(|rest| rest.trim_end_matches('`')) {
        missing_key(&path, name)
    } else if let Some(rest) = text.strip_prefix("unknown variant `") {
        unknown_name(&path, rest)
    } else if text.ends_with("map with a single key") {
        several_names(found)
    } else {
        wrong_type(&path, text)
    };
    Problem { key: path.join("."), place: Some(place), ..problem }
}

fn part(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    }
}

fn unknown_key(node: &Node, mut path: Vec<String>, name: &str) -> Problem {
    if path.last().is_some_and(|last| last == name) {
        path.pop();
    }
    let parent: Vec<&str> = path.iter().map(String::as_str).collect();
    let hint = key_hint(&Keys::default(), &parent, name);
    let place = node.key_place_of(&parent, name);
    path.push(shortened(name));
    Problem { place, ..Problem::new(&path.join("."), "unknown key", hint) }
}

/// Where a key belongs that does not belong where it stands.
fn key_hint(keys: &Keys, parent: &[&str], name: &str) -> String {
    let homes = keys.homes(name);
    if !homes.is_empty() {
        return format!("`{name}` belongs {}", under(&homes));
    }
    match keys.closest(parent, name) {
        Some(meant) if keys.names(parent).contains(&meant.as_str()) => format!("did you mean `{meant}`?"),
        Some(meant) => format!("did you mean `{meant}`, which belongs {}?", under(&keys.homes(&meant))),
        None => format!("the keys here are {}", keys.names(parent).join(", ")),
    }
}

fn under(homes: &[String]) -> String {
    let place = |home: &String| if home.is_empty() { "at the top".to_owned() } else { format!("under `{home}`") };
    homes.iter().map(place).collect::<Vec<_>>().join(" or ")
}

pub(super) fn missing_key(path: &[String], name: &str) -> Problem {
    let keys = Keys::default();
    let mut path: Vec<&str> = path.iter().map(String::as_str).collect();
    path.push(name);
    let hint = match keys.purpose(&path) {
        Some(purpose) => format!("add `{name}: …`: {purpose}"),
        None => format!("add `{name}: …`"),
    };
    Problem::new("", format!("the key `{name}` is missing"), hint)
}

/// A name that is none of those listed; `rest` is what serde says after the quote that opens the written one.
fn unknown_name(path: &[String], rest: &str) -> Problem {
    let (written, expected) = rest.split_once("`, expected ").unwrap_or((rest, ""));
    let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let homes = Keys::default().homes(written);
    let hint = match closest_of(written, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if !homes.is_empty() && !path.is_empty() => format!("`{written}` belongs {}", under(&homes)),
        None => format!("use one of {}", names.join(", ")),
    };
    Problem::new("", format!("`{}` is none of {}", shortened(written), names.join(", ")), hint)
}

/// A map of none or several names where one of them is chosen.
fn several_names(found: &Node) -> Problem {
    let Kind::Map(entries) = &found.kind else { return wrong_type(&[], "invalid type, expected newtype variant") };
    if entries.is_empty() {
        return wrong_type(&[], "invalid type, expected newtype variant");
    }
    let names = entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>().join(", ");
    Problem::new("", format!("only one of {} can stand here", shortened(&names)), "keep one of them")
}

/// A value that is something else than the key takes.
fn wrong_type(path: &[String], text: &str) -> Problem {
    let keys = Keys::default();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (found, expected) = match text.split_once(", expected ") {
        Some((found, expected)) if text.starts_with("invalid ") => {
            (found.split_once(": ").map(|(_, found)| found), expected)
        }
        // One of our own messages.
        _ => return Problem::new("", text, purpose(&keys, &path)),
    };
    let range = keys.range(&path).filter(|_| is_number(expected)).map(|range| format!(" {range}"));
    let found = found.map(|found| format!(", found {}", found_in_words(found)));
    let message = format!("expected {}{}{}", in_words(expected), range.unwrap_or_default(), found.unwrap_or_default());
    let hint = match expected {
        "a string" => "put it between quotes".to_owned(),
        "a boolean" => "YAML's booleans are written true and false".to_owned(),
        _ => purpose(&keys, &path),
    };
    Problem::new("", message, hint)
}

/// What a key is for, as a hint.
fn purpose(keys: &Keys, path: &[&str]) -> String {
    match (path.last(), keys.purpose(path)) {
        (Some(key), Some(purpose)) => format!("`{key}`: {purpose}"),
        _ => "`xp schema` says what may stand here".to_owned(),
    }
}

fn is_number(expected: &str) -> bool {
    ["u8", "u16", "u32", "u64", "f64"].contains(&expected)
}

/// What serde calls types, and what people do.
fn in_words(expected: &str) -> &str {
    match expected {
        "f64" => "a number",
        _ if is_number(expected) => "a whole number",
        "a string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "string or map" => "a name, or a map of one name to its values",
        _ if expected.starts_with("struct ") || expected == "a map" => "a map of keys to values",
        _ if expected.contains("newtype variant") => {
            "one name with its values, as in `adam: { learning_rate: 1.0e-3 }`"
        }
        _ if expected.contains("unit") => "the name alone",
        _ => expected,
    }
}

fn found_in_words(found: &str) -> String {
    const KINDS: [(&str, &str); 7] = [
        ("string ", "text "),
        ("integer ", ""),
        ("floating point ", ""),
        ("boolean ", ""),
        ("map", "a map"),
        ("sequence", "a list"),
        ("unit variant", "the name alone"),
    ];
    let null = ["null", "unit value"].contains(&found).then(|| "nothing".to_owned());
    let kind = KINDS.iter().find_map(|(kind, words)| Some(format!("{words}{}", found.strip_prefix(kind)?)));
    shortened(&null.or(kind).unwrap_or_else(|| found.to_owned()).replace('`', ""))
}

/// The beginning of a text that may be very long.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
