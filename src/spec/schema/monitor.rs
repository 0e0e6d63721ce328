//! The metric that decides something: which checkpoint is best, when to stop, when the learning rate falls.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::run::metric::{Measure, MetricKey, Split};

/// A metric that is measured every epoch: `valid.loss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor(pub MetricKey);

impl Monitor {
    pub fn key(self) -> MetricKey {
        self.0
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self(MetricKey::new(Split::Valid, Measure::Loss))
    }
}

impl Serialize for Monitor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Monitor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match MetricKey::parse(&text) {
            Some(key) if key.split != Split::Test => Ok(Self(key)),
            _ => Err(de::Error::custom(format!(
                "`{text}` is not measured every epoch; expected `valid.loss`, `valid.accuracy`, `valid.top5_accuracy` or the same of `train`"
            ))),
        }
    }
}

impl JsonSchema for Monitor {
    fn schema_name() -> Cow<'static, str> {
        "Monitor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(train|valid)\\.(loss|accuracy|top[0-9]+_accuracy)$",
            "examples": ["valid.loss", "valid.accuracy"],
        })
    }
}
