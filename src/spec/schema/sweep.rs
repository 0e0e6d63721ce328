//! Many runs of one spec that differ in some of its keys.

use std::collections::BTreeMap;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::schema::monitor::Monitor;

/// What to try, how to choose it and what counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// How points are chosen.
    #[serde(default)]
    #[garde(skip)]
    pub method: Method,
    /// The metric that says which point is better, by its best epoch; that epoch is also the one that is kept, tested and
    /// used: it is each trial's `checkpoint.monitor`.
    #[serde(default)]
    #[garde(skip)]
    pub metric: Monitor,
    /// What is tried for each key, written with dots: `optimizer.adam.learning_rate`.
    #[garde(length(min = 1, max = 64), dive)]
    pub parameters: BTreeMap<String, Distribution>,
    /// Seeds with which every point is run; the spec's own seed alone when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[garde(length(max = 1000), custom(no_twice))]
    #[schemars(inner(range(max = u64::MAX)))]
    pub seeds: Vec<u64>,
    /// Splits on which every point is run with every seed: the `data.split_seed` of each. Differences are then tested over
    /// splits, and hold beyond one split's images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[garde(length(max = 1000), custom(no_twice))]
    #[schemars(inner(range(max = u64::MAX)))]
    pub split_seeds: Vec<u64>,
    /// Points to try; all of the grid when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 100_000)))]
    #[schemars(range(min = 1, max = 100_000))]
    pub trials: Option<u32>,
    /// Every draw of the search is a function of this number.
    #[serde(default)]
    #[garde(skip)]
    #[schemars(range(max = u64::MAX))]
    pub seed: u64,
    /// Combinations that are left out: a point that has all values of a map is not tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[garde(length(max = 1000))]
    #[schemars(schema_with = "maps_of_values")]
    pub exclude: Vec<BTreeMap<String, Value>>,
    /// Trains points for a few epochs first, and only the better ones for longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub asha: Option<Asha>,
}

/// How points are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// All combinations, the last key in alphabetical order changing fastest.
    #[default]
    Grid,
    /// Each key drawn on its own.
    Random,
    /// Tree-structured Parzen estimators: draws where earlier points were good. Source: Bergstra et al. 2011.
    Tpe,
}

/// What is tried for one key: listed values, a range, or a normal distribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Distribution {
    /// The values themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(min = 1, max = 100_000)))]
    #[schemars(schema_with = "values")]
    pub values: Option<Vec<Value>>,
    /// How probable each value is when it is drawn; all the same when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub probabilities: Option<Vec<f64>>,
    /// The smallest value; whole numbers at both ends give whole numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    #[schemars(with = "Option<f64>")]
    pub min: Option<serde_json::Number>,
    /// The largest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    #[schemars(with = "Option<f64>")]
    pub max: Option<serde_json::Number>,
    /// Draws evenly between the logarithms, or a logarithm from the normal distribution.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[garde(skip)]
    pub log: bool,
    /// Rounds to `min` and whole steps above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1e-12, max = 1e12)))]
    #[schemars(range(min = 1e-12, max = 1e12))]
    pub step: Option<f64>,
    /// The mean of a normal distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = -1e12, max = 1e12)))]
    #[schemars(range(min = -1e12, max = 1e12))]
    pub mean: Option<f64>,
    /// Its standard deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1e-12, max = 1e12)))]
    #[schemars(range(min = 1e-12, max = 1e12))]
    pub std: Option<f64>,
    /// Other keys of the sweep and the values, one or a list, that they must have; else this key stays as the spec has it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[garde(skip)]
    #[schemars(schema_with = "map_of_values")]
    pub when: BTreeMap<String, Value>,
}

/// Asynchronous successive halving: of the points that have trained for some epochs, one in `reduction_factor` goes on to
/// `reduction_factor` times as many. Source: Li et al. 2018, algorithm 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Asha {
    /// Epochs that every point gets.
    #[garde(range(min = 1, max = 1_000_000))]
    pub min_epochs: u32,
    /// One in so many goes on, to so many times the epochs.
    #[serde(default = "default_reduction_factor")]
    #[garde(range(min = 2, max = 100))]
    pub reduction_factor: u32,
}

/// What a key of a spec may be is said at the key.
const ANY: [&str; 6] = ["string", "number", "boolean", "array", "object", "null"];

fn values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["array", "null"], "items": { "type": ANY }, "minItems": 1, "maxItems": 100_000 })
}

fn map_of_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": ANY } })
}

fn maps_of_values(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": map_of_values(generator), "maxItems": 1000 })
}

fn default_reduction_factor() -> u32 {
    3
}

fn no_twice(seeds: &[u64], _: &()) -> garde::Result {
    let twice = seeds.iter().enumerate().find(|(i, seed)| seeds[..*i].contains(seed));
    twice.map_or(Ok(()), |(_, seed)| Err(garde::Error::new(format!("{seed} stands there twice"))))
}
