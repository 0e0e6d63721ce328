//! A convolution of all channels, in the way that is faster for the size of its map.

use std::sync::OnceLock;

use crate::convolution::Convolution;
use crate::map::{Extent, Map};
use crate::window::{Before, Clamp, Window};
use crate::winograd::{self, Winograd};

/// A convolution that may be computed directly or in Winograd's space.
#[derive(Clone, Debug)]
pub struct Dense {
    direct: Convolution,
    window: Window,
    n_in: usize,
    clamp: Clamp,
    /// Made when the first map comes that is large enough.
    winograd: OnceLock<Winograd>,
}

/// A thread's buffers.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    pub scratch: Vec<f32>,
    winograd: winograd::Buffers,
}

/// Fewer channels do not pay for the way there and back. Measured with VGG16's layers.
const FEWEST_CHANNELS: usize = 16;

/// What a product costs in Winograd's space, where the weights are four times as large. Measured likewise: 18×18 maps
/// are computed in half the time, 9×9 maps are not faster.
const COST: f64 = 1.5;

impl Dense {
    /// Takes a kernel `[n_out, n_in, kernel, kernel]` and a bias `[n_out]`.
    pub fn new(kernel: &[f32], bias: &[f32], n_in: usize, window: Window, clamp: Clamp) -> Self {
        let direct = Convolution::new(kernel, bias, n_in, window, clamp);
        Self { direct, window, n_in, clamp, winograd: OnceLock::new() }
    }

    /// The kernel as it was given.
    pub fn kernel(&self) -> Vec<f32> {
        self.direct.kernel()
    }

    /// The bias as it was given.
    pub fn bias(&self) -> &[f32] {
        self.direct.bias()
    }

    /// Writes the output of one image, see [`Convolution::run`].
    pub fn run(&self, input: &Map, before: Before, output: &mut Map, buffers: &mut Buffers) {
        if self.is_for_winograd(input.extent, before, output.extent) {
            let transformed =
                self.winograd.get_or_init(|| Winograd::new(&self.kernel(), self.bias(), self.n_in, self.clamp));
            transformed.run(input, output, &mut buffers.winograd);
        } else {
            self.direct.run(input, before, output, &mut buffers.scratch);
        }
    }

    fn is_for_winograd(&self, from: Extent, before: Before, to: Extent) -> bool {
        let is_same = from.height == to.height && from.width == to.width && before == [1, 1];
        let n_direct = 9 * to.height * to.pitch();
        self.window == Window { kernel: 3, stride: 1 }
            && is_same
            && self.n_in.min(self.bias().len()) >= FEWEST_CHANNELS
            && (Winograd::n_products(to.height, to.width) as f64) * COST < n_direct as f64
    }
}
