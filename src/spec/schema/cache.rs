//! Keeping what the frozen layers give for an image, so that they run once.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

/// What is kept of the frozen layers' output for each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// Whether it is kept on disk, for later epochs and later runs.
    #[garde(skip)]
    pub enabled: bool,
    /// What all of it may take on disk; what was not used for longest goes first.
    #[garde(skip)]
    pub budget: ByteSize,
    /// How its numbers are stored; `f16` halves the space and rounds them.
    #[garde(skip)]
    pub precision: Precision,
}

impl Default for Cache {
    fn default() -> Self {
        Self { enabled: true, budget: ByteSize(20_000_000_000), precision: Precision::F32 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As they were computed.
    F32,
    /// Rounded to half precision, 11 bits.
    F16,
}

impl Precision {
    pub fn n_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// A number of bytes: `500 MB`, `20 GB`, `1.5 TB`, or with binary units `20 GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, f64); 9] = [
    ("B", 1.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is no size; write it as `500 MB`, `20 GB` or `20 GiB`");
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = (&text[..end], text[end..].trim());
        let unit = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(refused)?.1;
        let bytes = number.parse::<f64>().map_err(|_| refused())? * unit;
        // 2^60: more than any disk, and exact as it is rounded.
        if bytes <= (1_u64 << 60) as f64 { Ok(Self(bytes.round() as u64)) } else { Err(refused()) }
    }
}

/// In the largest decimal unit that leaves a whole number, so that reading it back gives the same.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000)];
        match units.into_iter().find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B$",
            "examples": ["20 GB", "500 MB", "20 GiB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_the_same() {
        for (text, bytes, written) in [
            ("20 GB", 20_000_000_000, "20 GB"),
            ("1.5TB", 1_500_000_000_000, "1500 GB"),
            ("0 B", 0, "0 B"),
            ("1 KiB", 1024, "1024 B"),
            ("2 mb", 2_000_000, "2 MB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written));
            assert_eq!(written.parse(), Ok(size));
        }
        for text in ["", "20", "GB", "-1 GB", "1e3 GB", "20 XB", "1..2 GB", "99999999999 TB", "NaN B"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
