//! A YAML document as a tree in which every value knows where it stands.

use serde_json::{Map, Number, Value};

use crate::spec::problem::Place;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub place: Place,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Node,
}

impl Node {
    /// The same tree without places.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Text(value) => Value::String(value.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The place of the value at a dotted key, or of the nearest value above it that exists, and the key as
    /// the document spells it.
    ///
    /// A list index is a number between dots or in brackets. Validation leaves the name of an enum's variant
    /// out of its paths (`optimizer[0].epsilon`), so a map of one key stands for its value where a part is missing.
    pub fn find(&self, key: &str) -> (Place, String) {
        let mut node = self;
        let mut place = self.place.clone();
        let mut written = Vec::new();
        for part in key.split(['.', '[']).map(|part| part.trim_end_matches(']')).filter(|part| !part.is_empty()) {
            let mut found = node.child(part);
            if found.is_none()
                && let Kind::Map(entries) = &node.kind
                && let [only] = entries.as_slice()
            {
                written.push(only.key.as_str());
                node = &only.value;
                place = only.value.pointed_at(&only.key_place);
                if part == "0" {
                    continue;
                }
                found = node.child(part);
            }
            written.push(part);
            match found {
                Some((child, key_place)) => {
                    place = child.pointed_at(&key_place);
                    node = child;
                }
                None => break,
            }
        }
        (place, written.join("."))
    }

    /// A map is best pointed at through its key: its own text may span many lines.
    fn pointed_at(&self, key_place: &Place) -> Place {
        if matches!(self.kind, Kind::Map(_) | Kind::List(_)) { key_place.clone() } else { self.place.clone() }
    }

    /// The place of the key itself, for keys that should not be there.
    pub fn key_place_of(&self, key: &str) -> Option<Place> {
        let (parent, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut node = self;
        for part in parent.split('.').filter(|part| !part.is_empty()) {
            node = node.child(part)?.0;
        }
        node.child(last).map(|(_, place)| place)
    }

    fn child(&self, part: &str) -> Option<(&Self, Place)> {
        match &self.kind {
            Kind::Map(entries) => {
                entries.iter().find(|entry| entry.key == part).map(|entry| (&entry.value, entry.key_place.clone()))
            }
            Kind::List(items) => {
                let item = items.get(part.parse::<usize>().ok()?)?;
                Some((item, item.place.clone()))
            }
            _ => None,
        }
    }
}
