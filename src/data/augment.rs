//! What happens to a training image before the network sees it: drawn from its address, then done to its pixels.
//!
//! Distributions, matrices, resampling and order are those of Keras 3's `ImageDataGenerator`, except where it is wrong
//! about an image's axes: there `height_shift_range` shifts sideways, and images that are not square turn about a point
//! that is not their centre. Shear is in radians here, in degrees there. Pixels stay bytes: what is interpolated is
//! rounded to the nearest level, where Keras keeps floats and cuts them off to change the brightness. Keras 2.0.8 of
//! 2017 turned images about a point one pixel further down and to the right, read the nearest pixel, and had the two
//! axes of the shear swapped.

mod border;
mod warp;

use serde::Serialize;

use crate::run::draw::{Address, Draws, Purpose};
use crate::spec::schema::augment::{Augment, FactorRange};

/// Bytes of a pixel.
const CHANNELS: usize = 3;

/// What was drawn for one image in one pass over the images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Transform {
    /// Above 0 the image turns counterclockwise.
    pub rotation_degrees: f64,
    /// Above 0 the image moves left.
    pub width_shift_fraction: f64,
    /// Above 0 the image moves up.
    pub height_shift_fraction: f64,
    pub shear_radians: f64,
    /// Below 1 zooms in.
    pub zoom_width: f64,
    /// Below 1 zooms in.
    pub zoom_height: f64,
    pub brightness: f64,
    pub horizontal_flip: bool,
    pub vertical_flip: bool,
}

impl Transform {
    /// Changes nothing.
    pub const IDENTITY: Self = Self {
        rotation_degrees: 0.0,
        width_shift_fraction: 0.0,
        height_shift_fraction: 0.0,
        shear_radians: 0.0,
        zoom_width: 1.0,
        zoom_height: 1.0,
        brightness: 1.0,
        horizontal_flip: false,
        vertical_flip: false,
    };

    /// Draws what a spec asks for; the rest is as in [`Transform::IDENTITY`].
    ///
    /// `pass` over the images counts from 1; `sample` is the image's index in its split. Every quantity is drawn for itself, so that
    /// asking for one more leaves the others as they were.
    pub fn draw(augment: &Augment, seed: u64, pass: u32, sample: u64) -> Self {
        let pass = augment.drawn_pass(pass);
        let unit = |purpose| Draws::at(Address { seed, epoch: pass, sample, purpose, name: "" }).unit();
        let within = |purpose, lowest: f64, highest: f64| lowest + (highest - lowest) * unit(purpose);
        let either_way = |purpose, most: f64| if most > 0.0 { within(purpose, -most, most) } else { 0.0 };
        let factor = |purpose, range: Option<FactorRange>| {
            range.map_or(1.0, |FactorRange { lowest, highest }| within(purpose, lowest, highest))
        };
        Self {
            rotation_degrees: either_way(Purpose::Rotation, augment.rotation_degrees),
            width_shift_fraction: either_way(Purpose::WidthShift, augment.width_shift_fraction),
            height_shift_fraction: either_way(Purpose::HeightShift, augment.height_shift_fraction),
            shear_radians: either_way(Purpose::Shear, augment.shear_radians),
            zoom_width: factor(Purpose::ZoomWidth, augment.zoom),
            zoom_height: factor(Purpose::ZoomHeight, augment.zoom),
            brightness: factor(Purpose::Brightness, augment.brightness),
            horizontal_flip: augment.horizontal_flip && unit(Purpose::HorizontalFlip) < 0.5,
            vertical_flip: augment.vertical_flip && unit(Purpose::VerticalFlip) < 0.5,
        }
    }

    /// Changes one image in place: turned, shifted, sheared and zoomed in one resampling, then flipped, then brightened.
    ///
    /// Layout: `pixels_hwc` holds `height * width * 3` bytes. Of `augment` only the interpolation and the fill matter.
    pub fn apply(&self, augment: &Augment, height: u32, width: u32, pixels_hwc: &mut [u8]) {
        let (height, width) = (height as usize, width as usize);
        debug_assert_eq!(pixels_hwc.len(), height * width * CHANNELS);
        if self.resamples() {
            warp::warp(self, augment, height, width, pixels_hwc);
        }
        if self.horizontal_flip {
            flip_horizontally(width, pixels_hwc);
        }
        if self.vertical_flip {
            flip_vertically(height, width, pixels_hwc);
        }
        if self.brightness != 1.0 {
            brighten(self.brightness, pixels_hwc);
        }
    }

    /// Whether pixels are read from between other pixels.
    fn resamples(&self) -> bool {
        let Self { brightness, horizontal_flip, vertical_flip, .. } = *self;
        *self != Self { brightness, horizontal_flip, vertical_flip, ..Self::IDENTITY }
    }
}

fn flip_horizontally(width: usize, pixels_hwc: &mut [u8]) {
    for row in pixels_hwc.chunks_exact_mut(width * CHANNELS) {
        row.as_chunks_mut::<CHANNELS>().0.reverse();
    }
}

fn flip_vertically(height: usize, width: usize, pixels_hwc: &mut [u8]) {
    let row_bytes = width * CHANNELS;
    let (upper, lower) = pixels_hwc.split_at_mut(height / 2 * row_bytes);
    for (above, below) in upper.chunks_exact_mut(row_bytes).zip(lower.chunks_exact_mut(row_bytes).rev()) {
        above.swap_with_slice(below);
    }
}

/// Pillow's `ImageEnhance.Brightness`: a product in single precision, cut off to a byte.
fn brighten(factor: f64, pixels_hwc: &mut [u8]) {
    let levels: [u8; 256] = std::array::from_fn(|level| (factor as f32 * level as f32) as u8);
    for byte in pixels_hwc {
        *byte = levels[usize::from(*byte)];
    }
}

#[cfg(test)]
mod tests;
