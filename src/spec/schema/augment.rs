//! `augment`: what is drawn for every training image.

use std::borrow::Cow;
use std::fmt;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Random changes to training images, drawn anew for every epoch and image, as Keras 3's `ImageDataGenerator` does.
///
/// Keras 2.0.8 of 2017 turned images about a point one pixel further down and right, took the nearest pixel, and had
/// the axes of the shear swapped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Turn by up to so many degrees, either way.
    #[garde(range(min = 0.0, max = 180.0))]
    pub rotation_degrees: f64,
    /// Shift sideways by up to this part of the width, either way.
    #[garde(range(min = 0.0, max = 1.0))]
    pub width_shift_fraction: f64,
    /// Shift up or down by up to this part of the height.
    #[garde(range(min = 0.0, max = 1.0))]
    pub height_shift_fraction: f64,
    /// Shear by an angle of up to so many radians, either way.
    #[garde(range(min = 0.0, max = 1.5))]
    pub shear_radians: f64,
    /// Scale height and width by two factors of their own: `0.2` for 0.8 to 1.2, or `[lowest, highest]`; below 1 zooms in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub zoom: Option<FactorRange>,
    /// Multiply all channels by one factor: `0.2` for 0.8 to 1.2, or `[lowest, highest]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub brightness: Option<FactorRange>,
    /// Mirror left and right with probability one half.
    #[garde(skip)]
    pub horizontal_flip: bool,
    /// Mirror top and bottom with probability one half.
    #[garde(skip)]
    pub vertical_flip: bool,
    /// How pixels are read where an image is turned, shifted, sheared or zoomed.
    #[garde(skip)]
    pub interpolation: Interpolation,
    /// What stands outside the image.
    #[garde(skip)]
    pub fill: Fill,
    /// The level, 0 to 255, that `fill: constant` puts outside the image.
    #[garde(skip)]
    pub fill_value: u8,
    /// Draw so many views of each image, and use them in turn: pass e over the images sees view e mod so many. With
    /// them the frozen layers run once for each view. Without, every pass draws anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 1000)))]
    #[schemars(range(min = 1, max = 1000))]
    pub views: Option<u32>,
}

impl Default for Augment {
    fn default() -> Self {
        Self::NONE
    }
}

impl Augment {
    /// Images stay as they are.
    pub const NONE: Self = Self {
        rotation_degrees: 0.0,
        width_shift_fraction: 0.0,
        height_shift_fraction: 0.0,
        shear_radians: 0.0,
        zoom: None,
        brightness: None,
        horizontal_flip: false,
        vertical_flip: false,
        interpolation: Interpolation::Bilinear,
        fill: Fill::Nearest,
        fill_value: 0,
        views: None,
    };

    /// Whether an image may differ from epoch to epoch.
    pub fn draws(&self) -> bool {
        let Self { interpolation, fill, fill_value, views, .. } = *self;
        *self != Self { interpolation, fill, fill_value, views, ..Self::NONE }
    }

    /// How many different images training makes of one, where that is a fixed number; else 1.
    pub fn n_views(&self) -> u32 {
        self.views.filter(|_| self.draws()).unwrap_or(1)
    }

    /// The pass whose draws a pass over the images uses, both 1-based.
    pub fn drawn_pass(&self, pass: u32) -> u32 {
        self.views.map_or(pass, |views| (pass.max(1) - 1) % views + 1)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel: Keras up to 2.1.3.
    Nearest,
    /// Between the four nearest pixels, rounded to a level: Keras since.
    #[default]
    Bilinear,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// The edge goes on: `aaaa|abcd|dddd`.
    #[default]
    Nearest,
    /// One level everywhere: `kkkk|abcd|kkkk`.
    Constant,
    /// Mirrored at the edge: `dcba|abcd|dcba`.
    Reflect,
    /// Repeated, the last pixel and the next first one in one place: `abc|abcd|bcd`.
    Wrap,
}

/// Factors between two bounds, uniformly drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FactorRange {
    pub lowest: f64,
    pub highest: f64,
}

impl Validate for FactorRange {
    type Context = ();

    fn validate_into(&self, _: &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        if !(0.01..=100.0).contains(&self.lowest) || !(0.01..=100.0).contains(&self.highest) {
            report.append(parent(), garde::Error::new("factors lie between 0.01 and 100"));
        } else if self.lowest > self.highest {
            report.append(parent(), garde::Error::new("the lowest factor comes first"));
        }
    }
}

impl Serialize for FactorRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.lowest, self.highest].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FactorRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FactorRangeVisitor)
    }
}

struct FactorRangeVisitor;

impl<'de> Visitor<'de> for FactorRangeVisitor {
    type Value = FactorRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number such as 0.2, or `[lowest, highest]`")
    }

    fn visit_f64<E: de::Error>(self, by: f64) -> Result<FactorRange, E> {
        Ok(FactorRange { lowest: 1.0 - by, highest: 1.0 + by })
    }

    fn visit_u64<E: de::Error>(self, by: u64) -> Result<FactorRange, E> {
        self.visit_f64(by as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bounds: A) -> Result<FactorRange, A::Error> {
        let lowest = bounds.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let highest = bounds.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
        if bounds.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::invalid_length(3, &self));
        }
        Ok(FactorRange { lowest, highest })
    }
}

impl JsonSchema for FactorRange {
    fn schema_name() -> Cow<'static, str> {
        "FactorRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {
                    "type": "number",
                    "minimum": 0.0,
                    "maximum": 0.99,
                    "description": "How far factors lie from 1 at most.",
                },
                {
                    "type": "array",
                    "items": { "type": "number", "minimum": 0.01, "maximum": 100.0 },
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "The lowest and the highest factor.",
                }
            ]
        })
    }
}
