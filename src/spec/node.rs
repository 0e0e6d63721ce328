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

    /// The value at a dotted key, or the nearest above it that exists; its place; and the key as the document spells it.
    ///
    /// A list index is a number between dots or in brackets. Validation leaves the name of an enum's variant
    /// out of its paths (`optimizer[0].epsilon`), so a map of one key stands for its value where a part is missing.
    pub fn find(&self, key: &str) -> (&Self, Place, String) {
        let mut node = self;
        let mut place = self.place.clone();
        let mut written = Vec::new();
        let mut rest = key;
        while let Some((part, after)) = node.next_part(rest) {
            rest = after.trim_start_matches(']');
            let mut found = node.child(part);
            if found.is_none()
                && let Kind::Map(entries) = &node.kind
                && let [only] = entries.as_slice()
                && (part == "0" || only.value.child(part).is_some())
            {
                written.push(only.key.as_str());
                node = &only.value;
                place = only.value.pointed_at(&only.key_place);
                if part == "0" {
                    continue;
                }
                found = node.child(part);
            }
            match found {
                Some((child, key_place)) => {
                    written.push(part);
                    place = child.pointed_at(&key_place);
                    node = child;
                }
                None => {
                    // Only maps have keys that could be missing: below a value there is nothing to name.
                    written.extend(matches!(node.kind, Kind::Map(_)).then_some(part));
                    break;
                }
            }
        }
        (node, place, written.join("."))
    }

    /// Takes one part off a dotted key: a key of this map, which may itself have dots in it, else up to the next dot
    /// or bracket.
    fn next_part<'a>(&self, dotted: &'a str) -> Option<(&'a str, &'a str)> {
        let dotted = dotted.trim_start_matches(['.', '[', ']']);
        let entries = if let Kind::Map(entries) = &self.kind { entries.as_slice() } else { &[] };
        let begins =
            |key: &str| dotted.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        let own = entries.iter().map(|entry| entry.key.as_str()).filter(|key| begins(key)).map(str::len).max();
        let len = own.or_else(|| dotted.find(['.', '[', ']'])).unwrap_or(dotted.len());
        (len > 0).then(|| dotted.split_at(len))
    }

    /// A map is best pointed at through its key: its own text may span many lines.
    fn pointed_at(&self, key_place: &Place) -> Place {
        if matches!(self.kind, Kind::Map(_) | Kind::List(_)) { key_place.clone() } else { self.place.clone() }
    }

    /// The place of the key itself, for keys that should not be there.
    pub fn key_place_of(&self, parent: &[&str], key: &str) -> Option<Place> {
        let mut node = self;
        for part in parent {
            node = node.child(part)?.0;
        }
        node.child(key).map(|(_, place)| place)
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

#[cfg(test)]
mod tests {
    use crate::spec::parse::node_from_yaml;

    #[test]
    fn a_value_is_found_by_its_dotted_key() {
        let text = "a: { b: [1, { c: 2 }] }\nw: { x.y: 3, x: 4, x.y.z: 5 }\no: { adam: { rate: 6 } }\nlone: 7\n";
        let node = node_from_yaml(text).unwrap();
        let cases = [
            ("a.b[0]", "1", "a.b.0"),
            ("a.b.1.c", "2", "a.b.1.c"),
            ("w.x.y", "3", "w.x.y"),
            ("w.x", "4", "w.x"),
            ("w.x.y.z", "5", "w.x.y.z"),
            ("o[0].rate", "6", "o.adam.rate"),
            ("lone[0]", "7", "lone"),
        ];
        for (key, value, written) in cases {
            let (found, _, as_written) = node.find(key);
            assert_eq!((found.to_json().to_string().as_str(), as_written.as_str()), (value, written), "{key}");
        }
        // What is missing is pointed at through what is there.
        assert_eq!(node.find("o.adam.epsilon").1, node.find("o.adam").1);
    }
}
