//! Two networks that should be the same, held against each other on generated images.

use crate::run::draw::{Address, Draws, Purpose};
use crate::train::predict::Predictor;

/// The sides of the squares that the images are made of, an image each: fine and coarse structure.
const SQUARES: [usize; 4] = [1, 2, 4, 8];

/// The images' own; no run's seed has a part in them.
const SEED: u64 = 1;

/// The largest difference, over the largest absolute logit, of networks that count as the same.
pub const TOLERANCE: f64 = 1e-4;

/// How far the answers of two networks are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    pub n_images: usize,
    /// The largest difference of two logits; NaN where a logit is.
    pub largest: f64,
    /// The largest absolute logit of the first network.
    pub scale: f64,
}

impl Gap {
    /// A comparison with NaN or infinities is no agreement.
    pub fn is_small(&self) -> bool {
        self.largest.is_finite() && self.largest <= TOLERANCE * self.scale
    }
}

/// Compares the logits of two networks for images of one size; `chw` are an image's channels, height and width.
pub fn compare(network: &Predictor, other: &Predictor, chw: [usize; 3]) -> Gap {
    let answers = SQUARES.map(|side| {
        let pixels = image_hwc_u8(side, chw);
        (network.logits(pixels.clone(), chw), other.logits(pixels, chw))
    });
    gap(&answers)
}

fn gap(answers: &[(Vec<f64>, Vec<f64>)]) -> Gap {
    // f64::max would lose a NaN.
    let largest_of = |values: &mut dyn Iterator<Item = f64>| {
        values.fold(0.0_f64, |largest, value| if value > largest || value.is_nan() { value } else { largest })
    };
    let pairs = || answers.iter().flat_map(|(ours, theirs)| ours.iter().zip(theirs));
    let scale = largest_of(&mut pairs().map(|(ours, _)| ours.abs()));
    let largest = largest_of(&mut pairs().map(|(ours, theirs)| (ours - theirs).abs()));
    Gap { n_images: answers.len(), largest, scale }
}

/// Squares of random colours.
///
/// Shape: bytes `[h, w, 3]`.
fn image_hwc_u8(side: usize, [n_channels, height, width]: [usize; 3]) -> Vec<u8> {
    let address = Address { seed: SEED, epoch: 0, sample: side as u64, purpose: Purpose::ProbeImage, name: "" };
    let mut draws = Draws::at(address);
    let n_across = width.div_ceil(side);
    let squares: Vec<u8> = (0..height.div_ceil(side) * n_across * n_channels).map(|_| draws.below(256) as u8).collect();
    let square = |y: usize, x: usize| ((y / side) * n_across + x / side) * n_channels;
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    pixels.flat_map(|(y, x)| squares[square(y, x)..][..n_channels].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_no_agreement_and_a_small_gap_is() {
        let of = |ours: &[f64], theirs: &[f64]| gap(&[(ours.to_vec(), theirs.to_vec()), (vec![1.0], vec![1.0])]);
        assert!(of(&[-10.0, 1.0], &[-10.0, 1.0009]).is_small());
        assert!(!of(&[-10.0, 1.0], &[-10.0, 1.0011]).is_small());
        assert!(of(&[0.0], &[0.0]).is_small());
        for (ours, theirs) in [(1.0, f64::NAN), (f64::NAN, 1.0), (f64::NAN, f64::NAN), (f64::INFINITY, 1.0)] {
            assert!(!of(&[ours, 3.0], &[theirs, 3.0]).is_small(), "{ours} {theirs}");
        }
    }

    #[test]
    fn images_are_squares_of_any_size_and_always_the_same() {
        let image = image_hwc_u8(4, [3, 6, 10]);
        assert_eq!(image.len(), 180);
        let pixel = |y: usize, x: usize| &image[(y * 10 + x) * 3..][..3];
        assert!(pixel(0, 0) == pixel(3, 3) && pixel(0, 0) != pixel(0, 4) && pixel(0, 0) != pixel(4, 0));
        assert_eq!(image, image_hwc_u8(4, [3, 6, 10]));
        assert_ne!(image, image_hwc_u8(2, [3, 6, 10]));
    }
}
