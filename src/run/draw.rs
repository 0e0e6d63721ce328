//! Addressed randomness: every draw is a function of what it is for, never of what was drawn before.
//!
//! Workers, prefetch and the order of evaluation therefore cannot change a result.

/// What a draw is for. The numbers are part of every result: they are never changed or used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The order of the training images in an epoch.
    Order = 1,
    /// Whether an image is mirrored.
    HorizontalFlip = 2,
    /// Which activations are dropped; the layer is a second address.
    Dropout = 3,
    /// Initial weights; the tensor's name is a second address.
    Weights = 4,
    /// Which training images are held out; the image's name is a second address.
    Partition = 5,
    /// Which valid images are measured where not all of them are.
    ValidationSubset = 6,
    /// By which angle an image turns.
    Rotation = 10,
    WidthShift = 11,
    HeightShift = 12,
    Shear = 13,
    ZoomWidth = 14,
    ZoomHeight = 15,
    /// Whether an image is turned upside down.
    VerticalFlip = 16,
    Brightness = 17,
    /// The images on which two networks are compared.
    ProbeImage = 18,
    /// The values that a sweep tries; the point's place is the sample, the key a second address.
    SweepPoint = 19,
    /// The images of a bootstrap's replicate, whose number is the sample.
    BootstrapImages = 30,
    /// Its seeds; the seeds to draw from are a second address.
    BootstrapSeeds = 31,
}

/// Where a draw stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    pub seed: u64,
    /// The pass over the images, 1-based, which is the epoch where an epoch is one pass; 0 before the first.
    pub epoch: u32,
    /// The image's index in its split; 0 where it does not apply.
    pub sample: u64,
    pub purpose: Purpose,
    /// A layer or tensor name; empty where it does not apply.
    pub name: &'a str,
}

/// The stream of numbers at one address: SplitMix64 (Steele, Lea and Flood 2014) from the address' hash.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

impl Draws {
    pub fn at(address: Address<'_>) -> Self {
        let mut bytes = Vec::with_capacity(28 + address.name.len());
        bytes.extend_from_slice(&address.seed.to_le_bytes());
        bytes.extend_from_slice(&address.epoch.to_le_bytes());
        bytes.extend_from_slice(&address.sample.to_le_bytes());
        bytes.extend_from_slice(&(address.purpose as u64).to_le_bytes());
        bytes.extend_from_slice(address.name.as_bytes());
        Self { state: xxhash_rust::xxh3::xxh3_64(&bytes) }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`, with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n`, `n ≥ 1`, without bias: Lemire 2019, algorithm 5.
    pub fn below(&mut self, n: u64) -> u64 {
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// Standard normal: Box and Muller 1958, the cosine half.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// The order of `n` samples in a pass: Fisher and Yates' shuffle.
pub fn permutation(seed: u64, epoch: u32, n: u32) -> Vec<u32> {
    let mut draws = Draws::at(Address { seed, epoch, sample: 0, purpose: Purpose::Order, name: "" });
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, draws.below(i as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address<'static> = Address { seed: 7, epoch: 1, sample: 0, purpose: Purpose::Weights, name: "a" };

    #[test]
    fn every_part_of_an_address_changes_its_stream() {
        let first = |address| Draws::at(address).next_u64();
        let base = first(ADDRESS);
        assert_eq!(base, first(ADDRESS));
        for other in [
            Address { seed: 8, ..ADDRESS },
            Address { epoch: 2, ..ADDRESS },
            Address { sample: 1, ..ADDRESS },
            Address { purpose: Purpose::Dropout, ..ADDRESS },
            Address { name: "b", ..ADDRESS },
        ] {
            assert_ne!(base, first(other), "{other:?}");
        }
    }

    #[test]
    fn splitmix_matches_its_published_sequence() {
        // The first outputs from state 0, as Vigna's reference splitmix64.c prints them.
        let mut draws = Draws { state: 0 };
        assert_eq!(draws.next_u64(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(draws.next_u64(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        let mut draws = Draws::at(ADDRESS);
        let n = 100_000;
        let mean = (0..n).map(|_| draws.unit()).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let normals: Vec<f64> = (0..n).map(|_| draws.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn a_permutation_holds_every_sample_once() {
        let mut order = permutation(7, 3, 1000);
        assert_ne!(order, permutation(7, 4, 1000));
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
        assert!(permutation(7, 1, 0).is_empty());
    }
}
