//! What a batch holds of its images, in host memory or on a device, and how pixels become what a network takes.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::data::features::nchw_from_nhwc;
use crate::data::images::SampleShape;
use crate::weights::preprocessing::{ChannelOrder, PixelTransform};

/// What a batch holds of its images.
#[derive(Clone, Debug)]
pub enum Values {
    /// Bytes `[n, h, w, 3]`.
    PixelsNhwc(Vec<u8>),
    /// The prefix's output `[n, c, h, w]`.
    Features(Vec<f32>),
    /// The bytes, on a device that is not the CPU.
    DevicePixels(Tensor<4, Int>),
    /// The features, there.
    DeviceFeatures(Tensor<4>),
}

impl Values {
    /// Pixels of images that look like nothing, always the same.
    pub fn made_up(n_images: usize, image_chw: [usize; 3]) -> Self {
        let n_bytes = n_images * image_chw.iter().product::<usize>();
        Self::PixelsNhwc((0..n_bytes).map(|i| (i * 7 % 251) as u8).collect())
    }

    /// A batch's bytes as a network takes them, with channels, height and width of one image's.
    pub fn of(bytes_nhwc: Vec<u8>, shape: SampleShape) -> (Self, [usize; 3]) {
        match shape {
            SampleShape::Pixels { height, width } => {
                (Self::PixelsNhwc(bytes_nhwc), [3, height as usize, width as usize])
            }
            SampleShape::Features(shape) => {
                let chw = [shape.channels, shape.height, shape.width].map(|side| side as usize);
                (Self::Features(nchw_from_nhwc(&bytes_nhwc, shape)), chw)
            }
        }
    }

    /// With black images, or features of 0, up to `n_rows`; what is on a device already stays as it is.
    pub fn padded(mut self, n_rows: usize, chw: [usize; 3]) -> Self {
        let n_values = n_rows * chw.iter().product::<usize>();
        match &mut self {
            Self::PixelsNhwc(bytes) if bytes.len() < n_values => bytes.resize(n_values, 0),
            Self::Features(values) if values.len() < n_values => values.resize(n_values, 0.0),
            _ => {}
        }
        self
    }

    /// On a device without autodiff; for the CPU nothing is copied. Pixels go as bytes: a quarter of what they come to.
    pub fn uploaded(self, chw: [usize; 3], device: &Device) -> Self {
        match self {
            values if *device == Device::flex() => values,
            Self::PixelsNhwc(bytes) => Self::DevicePixels(device_pixels(bytes, chw, device)),
            Self::Features(values) => Self::DeviceFeatures(features(values, chw, device)),
            values => values,
        }
    }
}

/// Features as a tensor.
///
/// Shape: `[n, c, h, w]`.
pub fn features(values: Vec<f32>, [c, h, w]: [usize; 3], device: &Device) -> Tensor<4> {
    let n = values.len() / (c * h * w);
    Tensor::from_data(TensorData::new(values, [n, c, h, w]), device)
}

fn device_pixels(bytes: Vec<u8>, [c, h, w]: [usize; 3], device: &Device) -> Tensor<4, Int> {
    let n = bytes.len() / (c * h * w);
    Tensor::from_data(TensorData::new(bytes, [n, h, w, c]), (device, DType::U8))
}

/// Preprocessed images: on the CPU made in host memory, elsewhere from bytes on the device, by the same operations in the
/// same order.
///
/// Shape: bytes `[n, h, w, 3]` → `[n, 3, h, w]`.
pub fn images(transform: &PixelTransform, pixels_nhwc: Vec<u8>, chw: [usize; 3], device: &Device) -> Tensor<4> {
    if *device != Device::flex() {
        return planes(transform, device_pixels(pixels_nhwc, chw, device));
    }
    let [c, h, w] = chw;
    let n_pixels = h * w;
    let mut values = vec![0.0_f32; pixels_nhwc.len()];
    let images = values.chunks_exact_mut(c * n_pixels).zip(pixels_nhwc.chunks_exact(c * n_pixels));
    for (image_chw, image_hwc) in images {
        transform.planes_from_pixels(image_hwc, image_chw);
    }
    features(values, chw, device)
}

/// As [`PixelTransform::planes_from_pixels`], where the bytes are.
///
/// Shape: `[n, h, w, 3]` → `[n, 3, h, w]`.
pub fn planes(transform: &PixelTransform, pixels_nhwc: Tensor<4, Int>) -> Tensor<4> {
    let device = pixels_nhwc.device();
    let planes = pixels_nhwc.permute([0, 3, 1, 2]).float();
    let planes = match transform.order {
        ChannelOrder::Rgb => planes,
        ChannelOrder::Bgr => planes.flip([1]),
    };
    let of_planes = |values: [f32; 3]| Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), &device);
    let centred = if transform.mean == [0.0; 3] { planes } else { planes - of_planes(transform.mean) };
    if transform.deviation == [1.0; 3] { centred } else { centred / of_planes(transform.deviation) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a GPU does is the CPU's arithmetic, so that on one device the two ways give the same bits.
    #[test]
    fn planes_made_on_the_device_are_those_made_in_host_memory() {
        let (device, chw) = (Device::flex(), [3, 5, 7]);
        for transform in [PixelTransform::RAW, PixelTransform::RESCALE, PixelTransform::CAFFE, PixelTransform::TORCH] {
            let Values::PixelsNhwc(bytes) = Values::made_up(2, chw) else { unreachable!("pixels were made up") };
            let there = planes(&transform, device_pixels(bytes.clone(), chw, &device));
            let here = images(&transform, bytes, chw, &device);
            assert_eq!((here.dims(), there.dims()), ([2, 3, 5, 7], [2, 3, 5, 7]));
            let [there, here] = [there, here].map(|planes| planes.try_into_vec_as::<f32>().unwrap());
            assert_eq!(there, here, "{transform}");
        }
    }

    #[test]
    fn padding_adds_rows_of_nothing() {
        let chw = [3, 1, 2];
        let Values::PixelsNhwc(bytes) = Values::PixelsNhwc(vec![9; 6]).padded(3, chw) else {
            panic!("pixels stay pixels")
        };
        assert_eq!(bytes, [&[9; 6][..], &[0; 12]].concat());
        let Values::Features(values) = Values::Features(vec![1.0; 12]).padded(2, chw) else { panic!("as above") };
        assert_eq!(values, [1.0; 12]);
    }
}
