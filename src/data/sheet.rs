//! A contact sheet: images of one size in rows and columns, as a PNG.

use std::io;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// Pixels between images and around them.
pub const BORDER: u32 = 2;

/// Level of the border's channels.
const BORDER_LEVEL: u8 = 255;

/// Largest sheet: 300 MB in memory.
pub const MAX_PIXELS: u64 = 100_000_000;

const CHANNELS: usize = 3;

/// A sheet would take too much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sheet of {width} x {height} pixels has more than {MAX_PIXELS}")]
pub struct SheetTooLarge {
    pub height: u64,
    pub width: u64,
}

/// Cells in rows and columns, empty until an image is put in.
#[derive(Clone, Debug)]
pub struct Sheet {
    height: u32,
    width: u32,
    cell_height: u32,
    cell_width: u32,
    pixels_hwc: Vec<u8>,
}

impl Sheet {
    /// An empty sheet for images of one size, in pixels.
    pub fn new(cell_height: u32, cell_width: u32, n_rows: u32, n_columns: u32) -> Result<Self, SheetTooLarge> {
        let (height, width) = size(cell_height, cell_width, n_rows, n_columns)?;
        let pixels_hwc = vec![BORDER_LEVEL; height as usize * width as usize * CHANNELS];
        Ok(Self { height, width, cell_height, cell_width, pixels_hwc })
    }

    pub fn height(&self) -> u32 {
        self.height
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    /// Puts an image into a cell, both counted from 0.
    ///
    /// Layout: `cell_height * cell_width * 3` bytes, row by row, red first.
    pub fn put(&mut self, row: u32, column: u32, pixels_hwc: &[u8]) {
        let (top, left) = (row * (self.cell_height + BORDER) + BORDER, column * (self.cell_width + BORDER) + BORDER);
        let row_bytes = self.cell_width as usize * CHANNELS;
        for (y, line) in pixels_hwc.chunks_exact(row_bytes).enumerate() {
            let start = ((top as usize + y) * self.width as usize + left as usize) * CHANNELS;
            self.pixels_hwc[start..start + row_bytes].copy_from_slice(line);
        }
    }

    /// The bytes of a PNG file.
    pub fn png(&self) -> io::Result<Vec<u8>> {
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&self.pixels_hwc, self.width, self.height, ExtendedColorType::Rgb8)
            .map_err(io::Error::other)?;
        Ok(png)
    }
}

/// The height and width of a sheet, if it may be made.
pub fn size(cell_height: u32, cell_width: u32, n_rows: u32, n_columns: u32) -> Result<(u32, u32), SheetTooLarge> {
    let side = |cell: u32, n: u32| u64::from(n) * (u64::from(cell) + u64::from(BORDER)) + u64::from(BORDER);
    let (height, width) = (side(cell_height, n_rows), side(cell_width, n_columns));
    if height.saturating_mul(width) > MAX_PIXELS {
        return Err(SheetTooLarge { height, width });
    }
    Ok((height as u32, width as u32))
}

/// Chooses up to `n` images, spread over the classes as evenly as they go: indices, ascending.
///
/// `labels` by image index. Where there are more classes than `n`, they are spread over the classes' order.
pub fn spread(labels: &[u32], n: usize) -> Vec<u32> {
    let mut n_before = vec![0_u32; labels.iter().max().map_or(0, |label| *label as usize + 1)];
    let ranked = (0..).zip(labels).map(|(index, label)| {
        let rank = &mut n_before[*label as usize];
        *rank += 1;
        (*rank, *label, index)
    });
    // First the first image of every class, then every second one, and so on.
    let mut ranked: Vec<(u32, u32, u32)> = ranked.collect();
    ranked.sort_unstable();
    let n_classes = ranked.iter().take_while(|(rank, ..)| *rank == 1).count();
    let n = n.min(ranked.len());
    let mut chosen: Vec<u32> = if n < n_classes {
        (0..n).map(|k| ranked[k * n_classes / n].2).collect()
    } else {
        ranked[..n].iter().map(|(.., index)| *index).collect()
    };
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_in_their_cells_with_a_border_around() {
        let mut sheet = Sheet::new(1, 2, 2, 1).unwrap();
        assert_eq!((sheet.height(), sheet.width()), (8, 6));
        sheet.put(1, 0, &[1, 2, 3, 4, 5, 6]);
        let decoded = crate::data::decode::decode(&sheet.png().unwrap()).unwrap().image;
        assert_eq!((decoded.height, decoded.width), (8, 6));
        let at = (5 * 6 + 2) * 3;
        assert_eq!(decoded.pixels_hwc[at..at + 6], [1, 2, 3, 4, 5, 6]);
        let n_border = decoded.pixels_hwc.iter().filter(|byte| **byte == BORDER_LEVEL).count();
        assert_eq!(n_border, 8 * 6 * 3 - 6);
    }

    #[test]
    fn a_sheet_that_would_not_fit_in_memory_is_refused() {
        let error = Sheet::new(4096, 4096, 64, 65).unwrap_err();
        assert_eq!(error, SheetTooLarge { height: 64 * 4098 + 2, width: 65 * 4098 + 2 });
        assert!(Sheet::new(96, 96, 64, 65).is_ok());
    }

    #[test]
    fn images_are_spread_over_the_classes() {
        let labels = [0, 0, 0, 1, 1, 2, 2, 2];
        let cases: [(usize, &[u32]); 6] = [
            (1, &[0]),
            (2, &[0, 3]),
            (3, &[0, 3, 5]),
            (5, &[0, 1, 3, 4, 5]),
            (7, &[0, 1, 2, 3, 4, 5, 6]),
            (99, &[0, 1, 2, 3, 4, 5, 6, 7]),
        ];
        for (n, expected) in cases {
            assert_eq!(spread(&labels, n), expected, "{n}");
        }
        assert_eq!(spread(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 3), [0, 3, 6]);
        // In any order, as a list of files may come.
        assert_eq!(spread(&[2, 0, 2, 1, 0], 4), [0, 1, 3, 4]);
        assert!(spread(&[], 3).is_empty());
    }
}
