//! Run ids and the names people use for runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A run's id: a ULID, 26 characters, sorted by creation time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Makes a new id from the clock and the operating system's randomness.
    pub fn generate() -> Self {
        Self(ulid::Ulid::new().to_string())
    }

    /// Wraps text that is already an id, as read from the store.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last six characters, which tables show.
    pub fn short(&self) -> &str {
        &self.0[self.0.len().saturating_sub(6)..]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const ADJECTIVES: [&str; 32] = [
    "amber", "bold", "brave", "brisk", "calm", "clear", "crisp", "deep", "eager", "early", "fair", "fresh", "gentle",
    "golden", "grand", "keen", "light", "lively", "lucid", "mellow", "neat", "noble", "quick", "quiet", "rapid",
    "sharp", "silver", "smooth", "steady", "still", "warm", "wise",
];

const NOUNS: [&str; 32] = [
    "aspen", "badger", "beacon", "birch", "brook", "canyon", "cedar", "comet", "coral", "crane", "delta", "ember",
    "falcon", "fern", "fjord", "harbor", "heron", "island", "lagoon", "lark", "maple", "meadow", "meteor", "otter",
    "pebble", "pine", "raven", "reef", "river", "spruce", "summit", "willow",
];

/// A made-up run name, `<experiment>-<adjective>-<noun>`, from the random end of the id.
///
/// Collisions are for the store to settle, which appends `-2`, `-3`, ….
pub fn made_up_name(experiment: &str, id: &RunId) -> String {
    let hash = xxhash_rust::xxh3::xxh3_64(id.as_str().as_bytes());
    let adjective = ADJECTIVES[(hash % 32) as usize];
    let noun = NOUNS[(hash / 32 % 32) as usize];
    format!("{experiment}-{adjective}-{noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_creation_and_shorten_to_their_end() {
        let id = RunId::from_stored("01JDB3M8T2ZQ4V5W6X7Y8Z9ABC".into());
        assert_eq!(id.short(), "8Z9ABC".get(0..6).unwrap());
        assert_eq!(RunId::generate().as_str().len(), 26);
    }

    #[test]
    fn a_made_up_name_depends_on_the_id_alone() {
        let id = RunId::from_stored("01JDB3M8T2ZQ4V5W6X7Y8Z9ABC".into());
        let name = made_up_name("fashion", &id);
        assert_eq!(name, made_up_name("fashion", &id));
        assert!(name.starts_with("fashion-"), "{name}");
        assert_eq!(name.split('-').count(), 3);
    }
}
