//! Dropout whose masks are addressed by seed, epoch, image and layer.

use burn::tensor::{Device, Tensor, TensorData};

use crate::run::draw::{Address, Draws, Purpose};

/// Where in a training the masks of one batch stand.
#[derive(Clone, Copy, Debug)]
pub struct DropoutAddress<'a> {
    pub seed: u64,
    /// 1-based.
    pub epoch: u32,
    /// Each row's image, by its index in the training split.
    pub samples: &'a [u32],
}

/// The factors to multiply a batch with: `0` with probability `rate`, else `1 / (1 − rate)`.
///
/// Shape: `[n, n_features]`. `rate` in `[0, 1)`. Source: Srivastava et al. 2014, scaled while training.
pub fn mask(address: DropoutAddress<'_>, layer: &str, rate: f64, n_features: usize, device: &Device) -> Tensor<2> {
    let kept = (1.0 / (1.0 - rate)) as f32;
    let mut factors = Vec::with_capacity(address.samples.len() * n_features);
    for &sample in address.samples {
        let mut draws = Draws::at(Address {
            seed: address.seed,
            epoch: address.epoch,
            sample: u64::from(sample),
            purpose: Purpose::Dropout,
            name: layer,
        });
        factors.extend((0..n_features).map(|_| if draws.unit() < rate { 0.0 } else { kept }));
    }
    Tensor::from_data(TensorData::new(factors, [address.samples.len(), n_features]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_belongs_to_its_image_wherever_it_stands_in_the_batch() {
        let device = Device::flex();
        let at = |samples: &[u32]| {
            mask(DropoutAddress { seed: 1, epoch: 2, samples }, "head.1", 0.25, 500, &device)
                .try_into_vec_as::<f32>()
                .unwrap()
        };
        let both = at(&[7, 9]);
        assert_eq!(both[..500], at(&[7])[..]);
        assert_eq!(both[500..], at(&[9])[..]);
        let n_dropped = both.iter().filter(|&&factor| factor == 0.0).count();
        assert!((200..300).contains(&n_dropped), "{n_dropped} of 1,000 at rate 0.25");
        assert!(both.iter().all(|&factor| factor == 0.0 || (factor - 4.0 / 3.0).abs() < 1e-6));
    }
}
