//! An image turned, shifted, sheared and zoomed in one go, by reading each pixel from where it comes.

use crate::data::augment::border::Axis;
use crate::data::augment::{CHANNELS, Transform};
use crate::spec::schema::augment::{Augment, Interpolation};

type Pixel = [u8; CHANNELS];

/// Resamples an image in place.
///
/// Source: `scipy.ndimage.affine_transform`, `order` 0 and 1. Positions come from the same sums in double precision, so
/// that order 0 reads the same pixels but where rounding of the matrix decides between two.
pub(super) fn warp(transform: &Transform, augment: &Augment, height: usize, width: usize, pixels_hwc: &mut [u8]) {
    let affine = Affine::new(transform, height as f64, width as f64);
    let before = pixels_hwc.to_vec();
    let source = Source {
        pixels: &before,
        width,
        rows: Axis::new(height, augment.fill),
        columns: Axis::new(width, augment.fill),
        outside: [augment.fill_value; CHANNELS],
    };
    match augment.interpolation {
        Interpolation::Nearest => fill(&affine, width, pixels_hwc, |y, x| source.nearest(y, x)),
        Interpolation::Bilinear => fill(&affine, width, pixels_hwc, |y, x| source.bilinear(y, x)),
    }
}

/// Where a pixel is read: `y' = yy·y + yx·x + y0` and `x' = xy·y + xx·x + x0`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Affine {
    yy: f64,
    yx: f64,
    y0: f64,
    xy: f64,
    xx: f64,
    x0: f64,
}

impl Affine {
    /// Rotation · shift · shear · zoom about the image's centre, on positions `(x, y)`.
    ///
    /// Source: `apply_affine_transform` and `transform_matrix_offset_center` of Keras 3, given width and height in this
    /// order.
    fn new(transform: &Transform, height: f64, width: f64) -> Self {
        let (sin, cos) = transform.rotation_degrees.to_radians().sin_cos();
        let (shear_sin, shear_cos) = transform.shear_radians.sin_cos();
        let (shift_x, shift_y) = (transform.width_shift_fraction * width, transform.height_shift_fraction * height);
        let (center_x, center_y) = (width / 2.0 - 0.5, height / 2.0 - 0.5);
        let xx = cos * transform.zoom_width;
        let xy = (-cos * shear_sin - sin * shear_cos) * transform.zoom_height;
        let yx = sin * transform.zoom_width;
        let yy = (-sin * shear_sin + cos * shear_cos) * transform.zoom_height;
        Self {
            yy,
            yx,
            y0: sin * shift_x + cos * shift_y + center_y - yx * center_x - yy * center_y,
            xy,
            xx,
            x0: cos * shift_x - sin * shift_y + center_x - xx * center_x - xy * center_y,
        }
    }
}

/// Gives every pixel what `read` finds at the place it comes from.
fn fill(affine: &Affine, width: usize, pixels_hwc: &mut [u8], read: impl Fn(f64, f64) -> Pixel) {
    for (y, row) in pixels_hwc.chunks_exact_mut(width * CHANNELS).enumerate() {
        let (row_y, row_x) = (affine.yy * y as f64, affine.xy * y as f64);
        for (x, pixel) in row.as_chunks_mut::<CHANNELS>().0.iter_mut().enumerate() {
            let x = x as f64;
            // Products, and not a running sum: its rounding would grow along the row.
            *pixel = read(row_y + affine.yx * x + affine.y0, row_x + affine.xx * x + affine.x0);
        }
    }
}

/// Bits after the point of the weights between pixels: levels come out within 1e-4, and faster than from floats.
const FRACTION_BITS: u32 = 24;
const HALF: i64 = 1 << (2 * FRACTION_BITS - 1);

fn fixed(part: f64) -> i64 {
    (part * f64::from(1_u32 << FRACTION_BITS)) as i64
}

/// The image as it was.
struct Source<'a> {
    pixels: &'a [u8],
    width: usize,
    rows: Axis,
    columns: Axis,
    outside: Pixel,
}

impl Source<'_> {
    fn pixel(&self, row: usize, column: usize) -> Pixel {
        self.pixels.as_chunks::<CHANNELS>().0[row * self.width + column]
    }

    #[inline]
    fn nearest(&self, y: f64, x: f64) -> Pixel {
        match (self.rows.nearest(y), self.columns.nearest(x)) {
            (Some(row), Some(column)) => self.pixel(row, column),
            _ => self.outside,
        }
    }

    #[inline]
    fn bilinear(&self, y: f64, x: f64) -> Pixel {
        let (Some((top, bottom, down)), Some((left, right, across))) = (self.rows.between(y), self.columns.between(x))
        else {
            return self.outside;
        };
        let corners = [(top, left), (top, right), (bottom, left), (bottom, right)];
        let [a, b, c, d] = corners.map(|(row, column)| self.pixel(row, column).map(i64::from));
        let (down, across) = (fixed(down), fixed(across));
        std::array::from_fn(|i| {
            let above = (a[i] << FRACTION_BITS) + (b[i] - a[i]) * across;
            let below = (c[i] << FRACTION_BITS) + (d[i] - c[i]) * across;
            let level = (above << FRACTION_BITS) + (below - above) * down;
            ((level + HALF) >> (2 * FRACTION_BITS)) as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_change_is_the_identity_matrix_of_any_size() {
        for (height, width) in [(1.0, 1.0), (7.0, 12.0), (224.0, 224.0)] {
            let identity = Affine { yy: 1.0, yx: 0.0, y0: 0.0, xy: 0.0, xx: 1.0, x0: 0.0 };
            assert_eq!(Affine::new(&Transform::IDENTITY, height, width), identity);
        }
    }

    #[test]
    fn the_centre_stays_where_it_is() {
        let transform = Transform {
            rotation_degrees: 37.0,
            shear_radians: 0.3,
            zoom_width: 0.7,
            zoom_height: 1.9,
            ..Transform::IDENTITY
        };
        let Affine { yy, yx, y0, xy, xx, x0 } = Affine::new(&transform, 9.0, 20.0);
        let (y, x) = (4.0, 9.5);
        assert!((yy * y + yx * x + y0 - y).abs() < 1e-12);
        assert!((xy * y + xx * x + x0 - x).abs() < 1e-12);
    }
}
