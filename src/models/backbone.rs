//! The backbones by name.

use crate::models::efficientnet_lite;
use crate::models::layout::Layout;
use crate::models::vgg;
use crate::spec::schema::model::BackboneName;

/// The rows of a backbone.
pub fn layout(name: BackboneName) -> Layout {
    match name {
        BackboneName::EfficientnetLite0 => efficientnet_lite::lite0(),
        // The rows of the others are not here yet.
        _ => vgg::vgg16(),
    }
}
