//! The numbers that parts of a network compute with.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The numbers that parts of a network compute with; what is left out computes in f32, on a GPU with products in TF32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Precision {
    /// Of the frozen layers; `bf16` needs a GPU and rounds to 8 bits.
    #[garde(skip)]
    pub prefix: PrefixPrecision,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrefixPrecision {
    /// 24 bits; on a GPU its matrix units round what they multiply to 11 bits, and add up in f32.
    #[default]
    F32,
    /// 8 bits, half the memory and the fastest; on a GPU alone.
    Bf16,
}

impl Precision {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl PrefixPrecision {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}
