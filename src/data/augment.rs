//! What happens to a training image before the network sees it, drawn from its address.

use crate::run::draw::{Address, Draws, Purpose};

/// Bytes of a pixel.
const CHANNELS: usize = 3;

/// Which changes are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augmentation {
    /// Mirror left and right with probability one half.
    pub horizontal_flip: bool,
}

impl Augmentation {
    /// Whether an image may differ from epoch to epoch.
    pub fn draws(&self) -> bool {
        self.horizontal_flip
    }

    /// Changes one image in place.
    ///
    /// Layout: `pixels_hwc` holds `height * width * 3` bytes. `epoch` counts from 1; `sample` is the image's index in
    /// its split.
    pub fn apply(&self, seed: u64, epoch: u32, sample: u64, height: u32, width: u32, pixels_hwc: &mut [u8]) {
        debug_assert_eq!(pixels_hwc.len(), height as usize * width as usize * CHANNELS);
        if self.horizontal_flip && is_flipped(seed, epoch, sample) {
            mirror(width, pixels_hwc);
        }
    }
}

fn is_flipped(seed: u64, epoch: u32, sample: u64) -> bool {
    Draws::at(Address { seed, epoch, sample, purpose: Purpose::HorizontalFlip, name: "" }).unit() < 0.5
}

fn mirror(width: u32, pixels_hwc: &mut [u8]) {
    for row in pixels_hwc.chunks_exact_mut(width as usize * CHANNELS) {
        row.as_chunks_mut::<CHANNELS>().0.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIP: Augmentation = Augmentation { horizontal_flip: true };
    const IMAGE: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    fn changed(augmentation: Augmentation, seed: u64, epoch: u32, sample: u64) -> bool {
        let mut pixels = IMAGE;
        augmentation.apply(seed, epoch, sample, 2, 2, &mut pixels);
        assert!(pixels == IMAGE || pixels == [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9], "{pixels:?}");
        pixels != IMAGE
    }

    #[test]
    fn about_half_of_the_images_are_mirrored_and_none_without_asking() {
        let n = (0..1000).filter(|sample| changed(FLIP, 7, 1, *sample)).count();
        assert!((450..=550).contains(&n), "{n}");
        assert!((0..1000).all(|sample| !changed(Augmentation::default(), 7, 1, sample)));
        assert!(FLIP.draws() && !Augmentation::default().draws());
    }

    #[test]
    fn a_flip_depends_on_seed_epoch_and_sample_alone() {
        let flips = |seed, epoch| (0..64).map(|sample| changed(FLIP, seed, epoch, sample)).collect::<Vec<_>>();
        assert_eq!(flips(7, 1), flips(7, 1));
        assert_ne!(flips(7, 1), flips(7, 2));
        assert_ne!(flips(7, 1), flips(8, 1));
    }

    #[test]
    fn mirroring_twice_changes_nothing() {
        let mut pixels: Vec<u8> = (0..3 * 5 * 3).collect();
        mirror(5, &mut pixels);
        assert_eq!(pixels[..3], [12, 13, 14]);
        mirror(5, &mut pixels);
        assert_eq!(pixels, (0..3 * 5 * 3).collect::<Vec<u8>>());
    }
}
