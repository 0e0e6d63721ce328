//! What a JPEG file says of its image before the first scan.

use crate::data::decode::jpeg::segments::{ADOBE, JFIF, LAST_USUAL_FRAME, SCAN, Segment, is_frame};

/// What colours the components of an image are. Source: libjpeg-turbo's `default_decompress_parms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colors {
    /// One component; or brightness and two differences of colour.
    GrayOrYcbcr,

    /// RGB, CMYK or YCCK; or what is no image.
    Other,
}

#[derive(Default)]
pub struct Head<'a> {
    has_jfif: bool,
    /// How Adobe's programs note that colours were transformed.
    adobe_transform: Option<u8>,
    frame: Option<Segment<'a>>,
}

impl<'a> Head<'a> {
    pub fn of(segments: &[Segment<'a>]) -> Self {
        let mut head = Self::default();
        for segment in segments.iter().take_while(|segment| segment.marker != SCAN) {
            match (segment.marker, segment.content) {
                (JFIF, [b'J', b'F', b'I', b'F', 0, ..]) => head.has_jfif = true,
                (ADOBE, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                    head.adobe_transform = Some(*transform);
                }
                (marker, _) if is_frame(marker) && head.frame.is_none() => head.frame = Some(*segment),
                _ => {}
            }
        }
        head
    }

    /// Lossless, hierarchical or arithmetically coded; zune-jpeg would not find a frame.
    pub fn is_unusual(&self) -> bool {
        self.frame.is_some_and(|frame| frame.marker > LAST_USUAL_FRAME)
    }

    pub fn colors(&self) -> Colors {
        let is_gray_or_ycbcr = match self.frame.map(|frame| frame.content) {
            // Of 8 bits.
            Some([8, _, _, _, _, 1, ..]) => true,
            Some([8, _, _, _, _, 3, ..]) => {
                self.has_jfif || self.adobe_transform.map_or(!self.is_named_rgb(), |transform| transform != 0)
            }
            _ => false,
        };
        if is_gray_or_ycbcr { Colors::GrayOrYcbcr } else { Colors::Other }
    }

    /// Whether only the names of the components tell that they are RGB, which zune-jpeg does not look at.
    pub fn is_unmarked_rgb(&self) -> bool {
        !self.has_jfif && self.adobe_transform.is_none() && self.is_named_rgb()
    }

    fn is_named_rgb(&self) -> bool {
        let content = self.frame.map(|frame| frame.content);
        matches!(content, Some([_, _, _, _, _, 3, b'R', _, _, b'G', _, _, b'B', ..]))
    }
}
