//! YAML text to a located tree. Only this file says `serde_saphyr`.
//!
//! The tree lets one mechanism point at every fault: structural ones, values out of range, `--set` arguments, and
//! what later checks find.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Error, Location, Options, Spanned};

use crate::spec::node::{Entry, Kind, Node};
use crate::spec::problem::{Place, Problem};

/// Parses YAML within budgets that no spec comes near.
pub fn node_from_yaml(text: &str) -> Result<Node, Problem> {
    let lines = Lines::new(text);
    let parsed: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| lines.problem(&error))?;
    Ok(lines.node(parsed))
}

/// A weight for each of ten thousand classes takes 20,000 nodes; everything else stays below 200.
fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        reject_unsupported_tags: true,
        leading_zero_numbers_as_strings: true,
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 50_000,
            max_events: 200_000,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 50_000,
            max_replay_stack_depth: 16,
        },
    }
}

/// The text, and where its lines begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn place(&self, location: Location) -> Place {
        let (line, column) = (location.line() as usize, location.column() as usize);
        let span = location.span();
        let len_chars = if location.span() == serde_saphyr::Span::UNKNOWN { 0 } else { span.len() as usize };
        // Byte offsets are missing from syntax errors, so they are counted from the line and column.
        let start = span.byte_offset().map_or_else(|| self.start(line, column), |offset| offset as usize);
        let start = self.text.floor_char_boundary(start);
        let line_end = self.starts.get(line).map_or(self.text.len(), |next| next - 1).max(start);
        let on_line = self.text[start..line_end].trim_end_matches('\r');
        let len = on_line.chars().take(len_chars).map(char::len_utf8).sum();
        Place::Text { line, column, start, len }
    }

    fn start(&self, line: usize, column: usize) -> usize {
        let line_start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let before: usize = self.text[line_start..].chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
        line_start + before
    }

    fn node(&self, raw: Spanned<Raw>) -> Node {
        let place = self.place(raw.referenced);
        let kind = match raw.value {
            Raw::Null => Kind::Null,
            Raw::Bool(value) => Kind::Bool(value),
            Raw::Number(value) => Kind::Number(value),
            Raw::Text(value) => Kind::Text(value),
            Raw::List(items) => Kind::List(items.into_iter().map(|item| self.node(item)).collect()),
            Raw::Map(entries) => Kind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| Entry {
                        key_place: self.place(key.referenced),
                        key: key.value,
                        value: self.node(value),
                    })
                    .collect(),
            ),
        };
        Node { kind, place }
    }

    fn problem(&self, error: &Error) -> Problem {
        let (message, hint) = in_words(error.without_snippet());
        let place = error.location().map(|location| self.place(location));
        Problem { place, ..Problem::new("", message, hint) }
    }
}

const TOO_LARGE: &str = "this is too long or nested too deeply for a spec";
const WRONG_FILE: &str = "a spec has a few dozen keys; see whether this is the right file";

/// What the parser found, and what to do about it.
fn in_words(error: &Error) -> (String, &'static str) {
    let plain = |message: &str, hint: &'static str| (message.to_owned(), hint);
    match error {
        Error::AliasError { error, .. } => in_words(error),
        Error::Budget { .. } => plain(TOO_LARGE, WRONG_FILE),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            plain("its aliases (`*name`) expand to more than a spec may hold", "write the values out")
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            plain("this alias stands inside what it names", "write the values out")
        }
        Error::UnknownAnchor { .. } => {
            plain("no anchor (`&name`) before this alias has its name", "put text that begins with `*` between quotes")
        }
        Error::MultipleDocuments { .. } => {
            plain("a second document begins here", "keep one spec in a file, and no `---` but at its top")
        }
        Error::UnsupportedTag { tag, .. } => (
            format!("the tag {tag} means nothing in a spec"),
            "remove it, or put text that begins with `!` between quotes",
        ),
        Error::NonFiniteFloat { .. } => plain("a number must be finite", "write a number such as 0.5 or 1.0e-3"),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map(|key| format!(" `{key}`")).unwrap_or_default();
            (format!("the key{key} stands here twice"), "keep one of the two")
        }
        Error::BinaryNotUtf8 { .. }
        | Error::InvalidBinaryBase64 { .. }
        | Error::TaggedScalarCannotDeserializeIntoString { .. } => {
            plain("the tag before this means nothing in a spec", "remove the tag")
        }
        Error::Unexpected { expected, .. } if expected.contains("string") => {
            plain("a key must be text", "write `key: value`")
        }
        Error::MergeValueNotMapOrSeqOfMaps { .. } => plain("`<<` takes a map", "write the keys out"),
        other => of_syntax(other),
    }
}

fn of_syntax(error: &Error) -> (String, &'static str) {
    let whole = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let message = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
    if message.contains("recursion limit") {
        return (TOO_LARGE.to_owned(), WRONG_FILE);
    }
    let hint = if message.contains("tab") {
        "indent with spaces"
    } else if message.contains("control") || message.contains("printable") {
        "see whether this is a text file"
    } else {
        "correct the YAML here; text with `: `, ` #` or a special first character goes between quotes"
    };
    (message, hint)
}

enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
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
