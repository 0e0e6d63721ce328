//! `--set key=value`: values replaced in the tree before it is read, typed as YAML would type them.

use std::sync::LazyLock;

use crate::spec::keys::Keys;
use crate::spec::node::{Entry, Kind, Node};
use crate::spec::parse::node_from_yaml;
use crate::spec::problem::{Place, Problem};

/// A sweep applies arguments thousands of times.
static KEYS: LazyLock<Keys> = LazyLock::new(Keys::default);

/// Most parts of a dotted key; the deepest of a spec has five.
const MAX_PARTS: usize = 16;

/// Applies every `key=value`, in order; keys that do not exist yet are added, and those that cannot stand beside them
/// are removed: `optimizer.sgd.learning_rate` takes the place of `optimizer.adam`.
///
/// Errors: all arguments that cannot be applied.
pub fn apply(root: &mut Node, sets: &[String]) -> Result<(), Vec<Problem>> {
    if sets.is_empty() {
        return Ok(());
    }
    let problems: Vec<Problem> = sets.iter().filter_map(|set| apply_one(root, set, &KEYS).err()).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn apply_one(root: &mut Node, set: &str, keys: &Keys) -> Result<(), Problem> {
    let place = Place::Argument(format!("--set {set}"));
    let problem = |message: String| Problem {
        key: String::new(),
        message,
        hint: Some("write --set optimizer.adam.learning_rate=1e-4".into()),
        place: Some(place.clone()),
    };
    let (key, text) = set.split_once('=').ok_or_else(|| problem(format!("`{set}` has no `=`")))?;
    let path: Vec<&str> = key.split('.').collect();
    if path.len() > MAX_PARTS || path.iter().any(|part| part.is_empty()) {
        return Err(problem(format!("`{key}` is not a key")));
    }
    let mut value =
        node_from_yaml(text).map_err(|error| problem(format!("`{text}` is not YAML: {}", error.message)))?;
    relocate(&mut value, &place);
    remove_rivals(root, &path, keys);
    insert(root, key, value, &place).map_err(problem)
}

/// Makes room where only one of several keys can stand.
fn remove_rivals(root: &mut Node, path: &[&str], keys: &Keys) {
    let mut node = root;
    for (i, part) in path.iter().enumerate() {
        let next = match &mut node.kind {
            Kind::Map(entries) => {
                entries.retain(|entry| keys.go_together(&path[..i], &entry.key, part));
                entries.iter_mut().find(|entry| entry.key == *part).map(|entry| &mut entry.value)
            }
            Kind::List(items) => part.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            _ => None,
        };
        let Some(next) = next else { return };
        node = next;
    }
}

fn insert(node: &mut Node, key: &str, value: Node, place: &Place) -> Result<(), String> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let target =
        match &mut node.kind {
            Kind::Map(entries) => {
                if !entries.iter().any(|entry| entry.key == first) {
                    let empty = Node { kind: Kind::Map(Vec::new()), place: place.clone() };
                    entries.push(Entry { key: first.into(), key_place: place.clone(), value: empty });
                }
                entries.iter_mut().find(|entry| entry.key == first).map(|entry| {
                    if rest.is_none() {
                        entry.key_place = place.clone();
                    }
                    &mut entry.value
                })
            }
            Kind::List(items) => {
                let n_items = items.len();
                let item = first.parse::<usize>().ok().and_then(|index| items.get_mut(index));
                Some(item.ok_or_else(|| {
                    format!("the list has the items 0 to {}, not `{first}`", n_items.saturating_sub(1))
                })?)
            }
            _ => None,
        }
        .ok_or_else(|| format!("`{first}` is not inside a map or a list"))?;
    match rest {
        None => *target = value,
        Some(rest) => {
            if !matches!(target.kind, Kind::Map(_) | Kind::List(_)) {
                *target = Node { kind: Kind::Map(Vec::new()), place: place.clone() };
            }
            insert(target, rest, value, place)?;
        }
    }
    Ok(())
}

fn relocate(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| relocate(item, place)),
        Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.key_place = place.clone();
            relocate(&mut entry.value, place);
        }),
        _ => {}
    }
}

/// Whether the tree has, at a dotted key, what an argument `key=value` would put there; a name that stands for the map of
/// that name alone (`adam` for `{ adam: {} }`) may have become the map.
pub fn holds(root: &Node, key: &str, value: &Node) -> bool {
    let mut node = root;
    for part in key.split('.') {
        let next = match &node.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == part).map(|entry| &entry.value),
            Kind::List(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        let Some(next) = next else { return false };
        node = next;
    }
    is_within(value, node)
}

/// Whether all that a value says is said by another, which may say more.
fn is_within(value: &Node, of: &Node) -> bool {
    match (&value.kind, &of.kind) {
        (Kind::Number(a), Kind::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Kind::Text(name), Kind::Map(entries)) => entries.len() == 1 && entries[0].key == *name,
        (Kind::List(a), Kind::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_within(a, b)),
        (Kind::Map(a), Kind::Map(b)) => a.iter().all(|entry| {
            let same = b.iter().find(|other| other.key == entry.key);
            same.is_some_and(|other| is_within(&entry.value, &other.value))
        }),
        (a, b) => a == b,
    }
}
