//! YAML text to a located tree, and that tree to a [`Spec`]. Only this file says `serde_saphyr`.
//!
//! The tree in between lets one mechanism point at every fault: structural ones, values out of range, `--set`
//! arguments, and what later checks find.

use std::fmt;

use garde::Validate;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Location, Spanned};

use crate::spec::node::{Entry, Kind, Node};
use crate::spec::problem::{Place, Problem};
use crate::spec::schema::Spec;

/// Parses YAML within the parser's budgets for size, depth and aliases.
pub fn node_from_yaml(text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let parsed: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| problem_from_yaml(text, &error))?;
    Ok(node_from_raw(text, parsed))
}

/// Reads the spec's types out of the tree and checks every value's range.
///
/// Errors: the first structural problem, or all values out of range.
pub fn spec_from_node(node: &Node) -> Result<Spec, Vec<Problem>> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Err(vec![Problem::new(
            "",
            "a spec is a map of keys to values",
            "`xp check experiments/finetune.yaml` checks a whole one",
        )]);
    }
    let spec: Spec =
        serde_path_to_error::deserialize(node.to_json()).map_err(|error| vec![structural_problem(node, &error)])?;
    spec.validate().map_err(|report| {
        report
            .iter()
            .map(|(path, error)| {
                Problem::new(
                    &path.to_string(),
                    error.message(),
                    "choose a value within the range; the README's spec shows one that works",
                )
            })
            .collect::<Vec<_>>()
    })?;
    Ok(spec)
}

/// What serde calls types, and what people do.
const TYPES: [(&str, &str); 4] = [
    ("expected u64", "expected a whole number"),
    ("expected u32", "expected a whole number"),
    ("expected f64", "expected a number"),
    ("expected a boolean", "expected true or false"),
];

/// The name that was probably meant, of those that serde lists between backquotes; else the hint given.
fn spelling_hint(message: &str, otherwise: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(written) = names.next() else { return otherwise.to_owned() };
    let closest = names.max_by(|a, b| strsim::jaro_winkler(written, a).total_cmp(&strsim::jaro_winkler(written, b)));
    match closest.filter(|name| strsim::jaro_winkler(written, name) > 0.8) {
        Some(name) => format!("did you mean `{name}`?"),
        None => otherwise.to_owned(),
    }
}

fn structural_problem(node: &Node, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let key = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    let mut message = error.inner().to_string();
    if message.contains("unit variant") {
        message = "this name needs its values below it, as in `adam: { learning_rate: 1.0e-3 }`".to_owned();
    }
    for (rust, plain) in TYPES {
        message = message.replace(rust, plain);
    }
    if message.contains("expected struct") || message.contains("expected map with a single key") {
        message = "this is a map: of one name to its values, or of keys to values".to_owned();
    }
    let (hint, place) = if message.starts_with("unknown field") {
        (spelling_hint(&message, "remove the key, or correct its spelling"), node.key_place_of(&key))
    } else if message.starts_with("missing field") {
        ("add the key".to_owned(), Some(node.find(&key).0))
    } else if message.starts_with("unknown variant") {
        (spelling_hint(&message, "use one of the names listed"), Some(node.find(&key).0))
    } else {
        ("correct the value's type".to_owned(), Some(node.find(&key).0))
    };
    Problem { key, message, hint: Some(hint), place }
}

fn problem_from_yaml(text: &str, error: &serde_saphyr::Error) -> Problem {
    let whole = error.to_string();
    let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(&message).to_owned();
    let hint = if message.contains("duplicate") {
        "keep one of the two keys"
    } else if message.contains("tab") {
        "indent with spaces"
    } else if message.contains("budget") {
        "the document is too large or its aliases expand too far for a spec"
    } else {
        "correct the YAML syntax here"
    };
    let place = error.location().map(|location| place(text, location));
    Problem { key: String::new(), message, hint: Some(hint.into()), place }
}

fn place(text: &str, location: Location) -> Place {
    let (line, column) = (location.line() as usize, location.column() as usize);
    // Byte offsets are missing from syntax errors, so they are counted from the line and column.
    let line_start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let in_line: usize =
        text[line_start.min(text.len())..].chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    let start = (line_start + in_line).min(text.len());
    let rest = &text[start..];
    let on_line = rest.find('\n').unwrap_or(rest.len());
    let len = rest.chars().take(location.span().len() as usize).map(char::len_utf8).sum::<usize>().min(on_line);
    Place::Text { line, column, start, len }
}

enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

fn node_from_raw(text: &str, raw: Spanned<Raw>) -> Node {
    let at = place(text, raw.referenced);
    let kind = match raw.value {
        Raw::Null => Kind::Null,
        Raw::Bool(value) => Kind::Bool(value),
        Raw::Number(value) => Kind::Number(value),
        Raw::Text(value) => Kind::Text(value),
        Raw::List(items) => Kind::List(items.into_iter().map(|item| node_from_raw(text, item)).collect()),
        Raw::Map(entries) => Kind::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    key_place: place(text, key.referenced),
                    key: key.value,
                    value: node_from_raw(text, value),
                })
                .collect(),
        ),
    };
    Node { kind, place: at }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value).map(Raw::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value()?));
        }
        Ok(Raw::Map(map))
    }
}
