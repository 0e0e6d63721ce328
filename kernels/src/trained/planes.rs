//! Planes turned so that channels are neighbours.

use rayon::prelude::*;

use crate::trained::phases::{Line, Phases};

impl Line {
    #[inline(always)]
    pub fn copy(&self, from: &[f32], to: &mut [f32]) {
        let to = &mut to[self.to..self.to + self.len];
        if self.step == 1 {
            to.copy_from_slice(&from[self.from..self.from + self.len]);
        } else {
            let from = from[self.from..].iter().step_by(self.step);
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
    }
}

impl Phases {
    /// A plane that is the map as it is.
    pub fn identity(size: [usize; 2]) -> Self {
        let len = size[0] * size[1];
        let lines = vec![Line { from: 0, step: 1, to: 0, len, row: 0 }];
        Self { len, pitch: size[1], offsets: vec![0], reach: 0, lines, in_place: true }
    }

    /// Writes the planes of up to `width` channels as `[pixels][width]`; what is no pixel of the map stays as it is.
    #[inline(always)]
    pub fn interleave(&self, planes: &[f32], plane: usize, width: usize, to: &mut [f32]) {
        for (channel, from) in planes.chunks_exact(plane).take(width).enumerate() {
            for line in &self.lines {
                let from = from[line.from..].iter().step_by(line.step).take(line.len);
                let to = to[line.to * width + channel..].iter_mut().step_by(width);
                to.zip(from).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Images `[n][channels][h][w]` as `[channels / width][n][pixels][width]`, with zeros behind the last channel.
    pub fn interleaved(&self, images: &[f32], n_images: usize, n_channels: usize, width: usize) -> Vec<f32> {
        let plane = images.len() / (n_images * n_channels);
        let mut values = vec![0.0; n_channels.div_ceil(width) * n_images * self.len * width];
        values.par_chunks_mut(self.len * width).enumerate().for_each(|(i, to)| {
            let (first, image) = (i / n_images * width, i % n_images);
            let n = width.min(n_channels - first);
            let planes = &images[(image * n_channels + first) * plane..][..n * plane];
            self.interleave(planes, plane, width, to);
        });
        values
    }
}
