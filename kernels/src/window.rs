//! Which input pixels an output pixel is made of, and where they lie.

use crate::map::{Extent, Map};

/// What follows a sum: every value is brought into this range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    pub low: f32,
    pub high: f32,
}

impl Clamp {
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };
    pub const RELU: Self = Self { low: 0.0, high: f32::INFINITY };
    pub const RELU6: Self = Self { low: 0.0, high: 6.0 };
}

/// A square kernel and how it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub kernel: usize,
    pub stride: usize,
}

/// Zeros before an input's first row and first column.
pub type Before = [usize; 2];

/// Where the pixels of a window lie in a plane.
#[derive(Clone, Debug)]
pub struct Place {
    /// The first output pixel's first.
    pub start: usize,
    /// From it to each position of the kernel, row by row.
    pub offsets: Vec<usize>,
}

/// A plane in which a step to the next output pixel is a step of one: the input pixels of each phase of the stride lie
/// together, with the output's pitch.
#[derive(Clone, Debug)]
pub struct Phases {
    /// Values of a plane.
    pub plane: usize,
    /// From an output pixel to each position of the kernel, row by row.
    pub offsets: Vec<usize>,
}

impl Window {
    /// From an output pixel's first input pixel to its last, in output pixels.
    pub fn reach(&self) -> usize {
        (self.kernel - 1) / self.stride
    }

    /// Where the pixels lie in the input as it is, if a step to the next output pixel is a step of one there.
    pub fn in_place(&self, from: Extent, [above, left]: Before, to: Extent) -> Option<Place> {
        let fits = self.stride == 1
            && from.pitch() == to.pitch()
            && above.max(left) <= from.border
            && to.height + self.reach() <= from.height + above + from.border
            && to.width + self.reach() <= from.width + left + from.border;
        fits.then(|| Place {
            start: from.origin() - above * from.pitch() - left,
            offsets: self.offsets(|y, x| y * from.pitch() + x),
        })
    }

    /// The plane that [`Window::split`] makes of a channel: where the input does not serve as it is, the output needs a
    /// border of at least [`Window::reach`].
    pub fn phases(&self, to: Extent) -> Phases {
        assert!(to.border >= self.reach(), "what lies behind a row must be the output's border");
        let (n_phases, phase_len) = self.phase(to);
        let offset = |y: usize, x: usize| {
            let phase = y % self.stride * n_phases + x % self.stride;
            phase * phase_len + y / self.stride * to.pitch() + x / self.stride
        };
        Phases { plane: n_phases * n_phases * phase_len, offsets: self.offsets(offset) }
    }

    /// Phases along one axis, and the values of each of all phases.
    fn phase(&self, to: Extent) -> (usize, usize) {
        (self.stride.min(self.kernel), (to.height + self.reach()) * to.pitch() + self.reach())
    }

    /// Copies a channel's pixels into a plane of zeros.
    pub fn split(&self, input: &Map, channel: usize, [above, left]: Before, to: Extent, plane: &mut [f32]) {
        let (n_phases, phase_len) = self.phase(to);
        let n_columns = to.width + self.reach();
        for (phase, plane) in plane.chunks_exact_mut(phase_len).enumerate() {
            let (phase_y, phase_x) = (phase / n_phases, phase % n_phases);
            // The first column whose pixel is not left of the image.
            let first = left.saturating_sub(phase_x).div_ceil(self.stride);
            let x = first * self.stride + phase_x - left;
            for (row, line) in plane.chunks_exact_mut(to.pitch()).take(to.height + self.reach()).enumerate() {
                let y = (row * self.stride + phase_y).checked_sub(above).filter(|y| *y < input.extent.height);
                let Some(y) = y else { continue };
                let pixels = input.row(channel, y).iter().skip(x).step_by(self.stride);
                let line = line[..n_columns].iter_mut().skip(first);
                line.zip(pixels).for_each(|(value, pixel)| *value = *pixel);
            }
        }
    }

    fn offsets(&self, at: impl Fn(usize, usize) -> usize) -> Vec<usize> {
        (0..self.kernel * self.kernel).map(|i| at(i / self.kernel, i % self.kernel)).collect()
    }
}
