//! The keys that may be written short: `frozen_layers: 15`, `image_size: 96`, `device: cuda:1`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// Which of a backbone's rows stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FrozenLayers {
    /// The first N rows of `xp summary`, the input layer being row one.
    Count(u64),
    #[default]
    All,
    None,
    /// Everything up to and including the named row.
    Through(String),
    /// The first K stages.
    Stages(u64),
}

impl Serialize for FrozenLayers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::All => serializer.serialize_str("all"),
            Self::None => serializer.serialize_str("none"),
            Self::Through(name) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("through", name)?;
                map.end()
            }
            Self::Stages(count) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("stages", count)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for FrozenLayers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FrozenLayersVisitor)
    }
}

struct FrozenLayersVisitor;

impl<'de> Visitor<'de> for FrozenLayersVisitor {
    type Value = FrozenLayers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count, `all`, `none`, `{ through: NAME }` or `{ stages: COUNT }`")
    }

    fn visit_u64<E>(self, count: u64) -> Result<FrozenLayers, E> {
        Ok(FrozenLayers::Count(count))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<FrozenLayers, E> {
        match text {
            "all" => Ok(FrozenLayers::All),
            "none" => Ok(FrozenLayers::None),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FrozenLayers, A::Error> {
        let frozen = match map.next_key::<String>()?.as_deref() {
            Some("through") => FrozenLayers::Through(map.next_value()?),
            Some("stages") => FrozenLayers::Stages(map.next_value()?),
            Some(other) => return Err(de::Error::unknown_field(other, &["through", "stages"])),
            None => return Err(de::Error::invalid_length(0, &self)),
        };
        if map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("only one of `through` and `stages` can be given"));
        }
        Ok(frozen)
    }
}

/// Height and width in pixels, 8 to 4096 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Validate)]
pub struct ImageSize {
    #[garde(range(min = 8, max = 4096))]
    pub height: u32,
    #[garde(range(min = 8, max = 4096))]
    pub width: u32,
}

impl Serialize for ImageSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.height == self.width {
            serializer.serialize_u32(self.height)
        } else {
            [self.height, self.width].serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ImageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ImageSizeVisitor)
    }
}

struct ImageSizeVisitor;

impl<'de> Visitor<'de> for ImageSizeVisitor {
    type Value = ImageSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of pixels, or `[height, width]`")
    }

    fn visit_u64<E: de::Error>(self, side: u64) -> Result<ImageSize, E> {
        let side = u32::try_from(side).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(side), &self))?;
        Ok(ImageSize { height: side, width: side })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<ImageSize, A::Error> {
        let height = sides.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let width = sides.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
        if sides.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::invalid_length(3, &self));
        }
        Ok(ImageSize { height, width })
    }
}

/// Where to train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device where the binary has CUDA and a device answers, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda(usize),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("unknown device `{text}`, expected `auto`, `cpu`, `cuda` or `cuda:N`")),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for FrozenLayers {
    fn schema_name() -> Cow<'static, str> {
        "FrozenLayers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one_key = |key: &str, value: Schema| json_schema!({ "type": "object", "properties": { key: value }, "required": [key], "additionalProperties": false });
        let name = json_schema!({ "type": "string", "description": "Everything up to and including this row." });
        let stages = json_schema!({ "type": "integer", "minimum": 0, "description": "The first so many stages." });
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "description": "The first so many rows, the input being row one." },
                { "const": "all", "description": "The whole backbone; only the head trains." },
                { "const": "none", "description": "Everything trains." },
                one_key("through", name),
                one_key("stages", stages),
            ]
        })
    }
}

impl JsonSchema for ImageSize {
    fn schema_name() -> Cow<'static, str> {
        "ImageSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 8, "maximum": 4096, "description": "Height and width." },
                {
                    "type": "array",
                    "items": { "type": "integer", "minimum": 8, "maximum": 4096 },
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "Height, then width.",
                },
            ]
        })
    }
}

impl JsonSchema for DeviceChoice {
    fn schema_name() -> Cow<'static, str> {
        "DeviceChoice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$", "examples": ["auto", "cpu", "cuda"] })
    }
}
