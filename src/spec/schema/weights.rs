//! `model.weights`: what a backbone's weights are before training.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Where a backbone's weights come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// The registry's default source.
    #[default]
    Imagenet,
    /// The family's published initialisation.
    Random,
    /// A source that the registry knows.
    Source(NamedSource),
    /// A file of the user's own.
    File(WeightsFile),
}

/// A source by its name: `vgg16.torchvision`, or a map that also says what its file hashes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NamedSource {
    /// A name that `xp weights list` shows.
    pub source: String,
    /// The file's blake3; a file that hashes to something else is refused. A run's resolved spec has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// A file, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WeightsFile {
    /// The file, relative to the spec file.
    pub file: PathBuf,
    /// The source whose layout and preprocessing the file has; not needed for a file that the registry knows.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// PyTorch: the dictionary of a checkpoint that holds the weights, such as `state_dict_ema`; keys of nested ones with
    /// dots between them. Left out, it is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// PyTorch: what stands before every name of the network, such as `teacher.backbone.`. Left out, it is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Keras: the model within the file's model that is the backbone, by its name or its group. Left out, it is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Keras: what tells layers apart. Left out, both must agree where both fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<MatchBy>,
    /// Regular expressions and what replaces them, one after the other, in the file's names: of PyTorch's tensors, and of
    /// Keras' layers with the models they lie in, such as `encoder/conv_a`.
    #[serde(skip_serializing_if = "Rename::is_empty")]
    pub rename: Rename,
    /// The file's blake3; a file that hashes to something else is refused. A run's resolved spec has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// What tells the layers of a Keras file apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchBy {
    /// The order of the layers, as Keras' `load_weights` has it.
    Position,
    /// The names of the layers, as with Keras' `by_name`.
    Name,
}

/// Regular expressions and their replacements, in the order of the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rename(Vec<(String, String)>);

/// Which tensors of a file are meant, where it holds more than one network or calls them otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Selection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<MatchBy>,
    #[serde(skip_serializing_if = "Rename::is_empty")]
    pub rename: Rename,
}

impl Rename {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(pattern, replacement)| (pattern.as_str(), replacement.as_str()))
    }
}

impl Serialize for Rename {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Rename {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Keeps the order of the entries.
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Rename;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of regular expressions and what replaces them")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rename, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Rename(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

impl JsonSchema for Rename {
    fn schema_name() -> Cow<'static, str> {
        "Rename".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

impl WeightsFile {
    /// A file, and the source that it is laid out as.
    pub fn new(file: PathBuf, source: Option<String>) -> Self {
        let Selection { key, prefix, part, by, rename } = Selection::default();
        Self { file, source, key, prefix, part, by, rename, blake3: None }
    }

    pub fn selection(&self) -> Selection {
        let Self { key, prefix, part, by, rename, .. } = self.clone();
        Selection { key, prefix, part, by, rename }
    }
}

impl Weights {
    /// A source by its name alone.
    pub fn named(source: &str) -> Self {
        Self::Source(NamedSource { source: source.to_owned(), blake3: None })
    }

    /// The same without the hash, which says what was found and not what was asked for.
    pub fn without_hash(&self) -> Self {
        match self {
            Self::Source(named) => Self::named(&named.source),
            Self::File(file) => Self::File(WeightsFile { blake3: None, ..file.clone() }),
            other => other.clone(),
        }
    }

    /// The same file laid out as a record has it, where this does not say how.
    pub fn laid_out_as(&self, recorded: &Self) -> Self {
        match (self, recorded) {
            (Self::File(file), Self::File(recorded)) if file.source.is_none() => {
                Self::File(WeightsFile { source: recorded.source.clone(), ..file.clone() })
            }
            _ => self.clone(),
        }
    }

    /// The same, bound to what its file hashes to, and to the source that it is laid out as.
    pub fn bound_to(&self, blake3: &str, source: &str) -> Self {
        let blake3 = Some(blake3.to_owned());
        match self {
            Self::Source(named) => Self::Source(NamedSource { blake3, ..named.clone() }),
            Self::File(file) => Self::File(WeightsFile { blake3, source: Some(source.to_owned()), ..file.clone() }),
            other => other.clone(),
        }
    }

    /// The hash that the file must have.
    pub fn blake3(&self) -> Option<&str> {
        match self {
            Self::Imagenet | Self::Random => None,
            Self::Source(NamedSource { blake3, .. }) | Self::File(WeightsFile { blake3, .. }) => blake3.as_deref(),
        }
    }
}

impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Imagenet => serializer.serialize_str("imagenet"),
            Self::Random => serializer.serialize_str("random"),
            Self::Source(NamedSource { source, blake3: None }) => serializer.serialize_str(source),
            Self::Source(named) => named.serialize(serializer),
            Self::File(file) => file.serialize(serializer),
        }
    }
}

/// Both maps; which keys are there decides what it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyMap {
    source: Option<String>,
    file: Option<PathBuf>,
    r#as: Option<String>,
    key: Option<String>,
    prefix: Option<String>,
    part: Option<String>,
    by: Option<MatchBy>,
    #[serde(default)]
    rename: Rename,
    blake3: Option<String>,
}

impl AnyMap {
    fn weights<E: de::Error>(self) -> Result<Weights, E> {
        match self {
            Self { file: Some(file), r#as: source, key, prefix, part, by, rename, blake3, source: None } => {
                Ok(Weights::File(WeightsFile { file, source, key, prefix, part, by, rename, blake3 }))
            }
            Self {
                source: Some(source),
                blake3,
                file: None,
                r#as: None,
                key: None,
                prefix: None,
                part: None,
                by: None,
                rename,
            } if rename.is_empty() => Ok(Weights::Source(NamedSource { source, blake3 })),
            Self { source: None, file: None, .. } => Err(E::missing_field("file")),
            _ => Err(E::custom("`source` stands alone; a file takes `as` and what chooses among its tensors")),
        }
    }
}

struct WeightsVisitor;

impl<'de> Visitor<'de> for WeightsVisitor {
    type Value = Weights;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`imagenet`, `random`, a source that `xp weights list` shows, or `{ file: FILE, as: SOURCE }`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Weights, E> {
        match text {
            "imagenet" => Ok(Weights::Imagenet),
            "random" => Ok(Weights::Random),
            // A source is called by its backbone and its publisher.
            source if source.contains('.') => Ok(Weights::named(source)),
            _ => Err(E::unknown_variant(text, &["imagenet", "random"])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Weights, A::Error> {
        AnyMap::deserialize(MapAccessDeserializer::new(map))?.weights()
    }
}

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WeightsVisitor)
    }
}

impl JsonSchema for Weights {
    fn schema_name() -> Cow<'static, str> {
        "Weights".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (mut source, mut file) = (NamedSource::json_schema(generator), WeightsFile::json_schema(generator));
        for map in [&mut source, &mut file] {
            map.insert("additionalProperties".into(), false.into());
        }
        json_schema!({
            "anyOf": [
                { "const": "imagenet", "description": "The backbone's default source of ImageNet weights." },
                { "const": "random", "description": "The family's published initialisation." },
                { "type": "string", "pattern": "\\.", "description": "The name of a source, as `xp weights list` shows it." },
                source,
                file,
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_reads_back_as_it_was_written() {
        for form in [
            json!("imagenet"),
            json!("random"),
            json!("vgg16.torchvision"),
            json!({ "source": "vgg16.keras", "blake3": "ab" }),
            json!({ "file": "a.h5" }),
            json!({ "file": "a.h5", "as": "vgg16.keras", "blake3": "ab" }),
            json!({ "file": "a.pth", "key": "state_dict_ema", "prefix": "module.", "rename": { "^b": "c", "^a": "b" } }),
            json!({ "file": "a.h5", "part": "one", "by": "position" }),
        ] {
            let weights: Weights = serde_json::from_value(form.clone()).unwrap();
            assert_eq!(serde_json::to_value(&weights).unwrap(), form);
        }
        let pinned: Weights = serde_json::from_value(json!({ "source": "vgg16.keras", "blake3": "ab" })).unwrap();
        assert_eq!(serde_json::to_value(pinned.without_hash()).unwrap(), "vgg16.keras");
        assert_eq!(pinned.blake3(), Some("ab"));
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused() {
        for (form, says) in [
            (json!({ "source": "a", "file": "b" }), "stands alone"),
            (json!({ "source": "a", "as": "b" }), "stands alone"),
            (json!({ "as": "vgg16.keras" }), "missing field `file`"),
            (json!({ "path": "a.h5" }), "unknown field"),
        ] {
            let error = serde_json::from_value::<Weights>(form.clone()).unwrap_err().to_string();
            assert!(error.contains(says), "{form}: {error}");
        }
    }
}
