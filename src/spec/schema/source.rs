//! Where the images of a split come from: a folder, IDX files, a CSV manifest, or a part of the training images; or
//! features that were made of them before.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use garde::Validate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// Images with their labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ImageSource {
    /// A folder with one folder a class, relative to the spec file.
    Folder(PathBuf),
    Idx(IdxSource),
    Csv(CsvSource),
    Features(FeatureSource),
}

/// The images of a split that is measured.
#[derive(Clone, Debug, PartialEq)]
pub enum HeldOutSource {
    Images(ImageSource),
    /// This part of every class of the training images, rounded, at least one image; above 0 and below 1.
    Fraction(f64),
}

/// Two IDX files, as MNIST comes; gzipped or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct IdxSource {
    /// The file of images, `[n, height, width]` bytes, relative to the spec file.
    #[garde(skip)]
    pub idx: PathBuf,
    /// The file of labels, `[n]` bytes, relative to the spec file.
    #[garde(skip)]
    pub labels: PathBuf,
    /// Class names by label; by default the numbers themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(custom(n_classes))]
    #[schemars(length(min = 2, max = 256))]
    pub classes: Option<Vec<String>>,
}

/// A CSV file with the columns `path`, `label` and, where it holds several splits, `split`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvSource {
    /// The file, relative to the spec file; the paths in it are relative to the file itself.
    pub csv: PathBuf,
}

/// Two .npy files, as `xp features` writes them: features of images and their labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct FeatureSource {
    /// The file of features, float32 `(n, height, width, channels)` or `(n, features)`, relative to the spec file.
    #[garde(skip)]
    pub features: PathBuf,
    /// The file of labels, `(n)` or `(n, 1)` integers or whole float32 numbers, relative to the spec file.
    #[garde(skip)]
    pub labels: PathBuf,
    /// Class names by label; by default those in `classes.json` or `classes.txt` beside the labels, else the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(custom(n_feature_classes))]
    #[schemars(length(min = 2, max = 65536))]
    pub classes: Option<Vec<String>>,
}

impl HeldOutSource {
    /// The part of the training images that it takes, if it takes one.
    pub fn fraction(&self) -> Option<f64> {
        match self {
            Self::Images(_) => None,
            Self::Fraction(fraction) => Some(*fraction),
        }
    }
}

impl Validate for ImageSource {
    type Context = ();

    fn validate_into(&self, ctx: &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        match self {
            Self::Idx(idx) => idx.validate_into(ctx, parent, report),
            Self::Features(features) => features.validate_into(ctx, parent, report),
            Self::Folder(_) | Self::Csv(_) => {}
        }
    }
}

impl Validate for HeldOutSource {
    type Context = ();

    fn validate_into(&self, ctx: &(), parent: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        match self {
            Self::Images(images) => images.validate_into(ctx, parent, report),
            Self::Fraction(fraction) if (0.001..=0.999).contains(fraction) => {}
            Self::Fraction(_) => {
                report.append(parent().join("fraction"), garde::Error::new("not within 0.001 and 0.999"));
            }
        }
    }
}

impl Serialize for HeldOutSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Images(images) => images.serialize(serializer),
            Self::Fraction(fraction) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("fraction", fraction)?;
                map.end()
            }
        }
    }
}

/// Every map that names images; which keys are there decides what it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyMap {
    idx: Option<PathBuf>,
    labels: Option<PathBuf>,
    classes: Option<Vec<String>>,
    csv: Option<PathBuf>,
    fraction: Option<f64>,
    features: Option<PathBuf>,
}

impl AnyMap {
    fn source<E: de::Error>(self) -> Result<HeldOutSource, E> {
        let Self { idx, labels, classes, csv, fraction, features } = self;
        Ok(HeldOutSource::Images(match (idx, features, csv, fraction, labels, classes) {
            (Some(idx), None, None, None, Some(labels), classes) => {
                ImageSource::Idx(IdxSource { idx, labels, classes })
            }
            (None, Some(features), None, None, Some(labels), classes) => {
                ImageSource::Features(FeatureSource { features, labels, classes })
            }
            (None, None, Some(csv), None, None, None) => ImageSource::Csv(CsvSource { csv }),
            (None, None, None, Some(fraction), None, None) => return Ok(HeldOutSource::Fraction(fraction)),
            (Some(_), None, None, None, None, _) | (None, Some(_), None, None, None, _) => {
                return Err(E::missing_field("labels"));
            }
            _ => return Err(E::custom("these keys do not go together")),
        }))
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = HeldOutSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a folder, `{ csv: FILE }`, `{ idx: FILE, labels: FILE }`, `{ features: FILE, labels: FILE }` or, for data \
             that is measured, `{ fraction: 0.2 }`",
        )
    }

    fn visit_str<E>(self, text: &str) -> Result<HeldOutSource, E> {
        Ok(HeldOutSource::Images(ImageSource::Folder(PathBuf::from(text))))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeldOutSource, A::Error> {
        AnyMap::deserialize(MapAccessDeserializer::new(map))?.source()
    }
}

impl<'de> Deserialize<'de> for HeldOutSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

impl<'de> Deserialize<'de> for ImageSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match HeldOutSource::deserialize(deserializer)? {
            HeldOutSource::Images(images) => Ok(images),
            HeldOutSource::Fraction(_) => {
                Err(de::Error::custom("the training images cannot be a fraction of themselves"))
            }
        }
    }
}

/// A label is a byte.
fn n_classes(classes: &Option<Vec<String>>, _: &()) -> garde::Result {
    match classes {
        Some(classes) if !(2..=256).contains(&classes.len()) => Err(garde::Error::new("takes 2 to 256 names")),
        _ => Ok(()),
    }
}

fn n_feature_classes(classes: &Option<Vec<String>>, _: &()) -> garde::Result {
    match classes {
        Some(classes) if !(2..=65_536).contains(&classes.len()) => Err(garde::Error::new("takes 2 to 65536 names")),
        _ => Ok(()),
    }
}

impl JsonSchema for ImageSource {
    fn schema_name() -> Cow<'static, str> {
        "ImageSource".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (idx, csv) = (generator.subschema_for::<IdxSource>(), generator.subschema_for::<CsvSource>());
        let features = generator.subschema_for::<FeatureSource>();
        let folder = json_schema!({ "type": "string", "description": "A folder with one folder a class, relative to the spec file." });
        json_schema!({ "anyOf": [folder, idx, csv, features] })
    }
}

impl JsonSchema for HeldOutSource {
    fn schema_name() -> Cow<'static, str> {
        "HeldOutSource".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let images = generator.subschema_for::<ImageSource>();
        json_schema!({
            "anyOf": [
                images,
                {
                    "type": "object",
                    "properties": {
                        "fraction": {
                            "description": "This part of every class of the training images, rounded, at least one image; drawn with `split_seed`.",
                            "type": "number",
                            "minimum": 0.001,
                            "maximum": 0.999,
                        }
                    },
                    "required": ["fraction"],
                    "additionalProperties": false,
                }
            ]
        })
    }
}
