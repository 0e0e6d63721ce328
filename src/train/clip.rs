//! Gradient clipping by the norm of all gradients together.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Scales all gradients of a step by one factor so that their global norm is at most `max_norm`, above 0.
///
/// The squares are summed in the module's order of parameters, and within one along fixed axes, so that the number of
/// threads cannot change the sum. Source: Pascanu, Mikolov and Bengio 2013, algorithm 1; Keras 3, `global_clipnorm`.
pub fn by_global_norm<M: Module>(module: &M, gradients: GradientsParams, max_norm: f64) -> GradientsParams {
    let mut squares = Squares { gradients: &gradients, sums: Vec::new() };
    module.visit(&mut squares);
    if squares.sums.is_empty() {
        return gradients;
    }
    let norm = Tensor::cat(squares.sums, 0).sum_dim(0).sqrt();
    let factor = norm.clamp_min(max_norm).recip().mul_scalar(max_norm);
    let mut scaled = Scaled { gradients, factor, done: GradientsParams::new() };
    module.visit(&mut scaled);
    scaled.done
}

/// The sum of each gradient's squares, `[1]` each.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(gradient) = self.gradients.get::<D>(param.id) else { return };
        let first = gradient.dims()[0];
        let rest = gradient.shape().num_elements() / first.max(1);
        let rows: Tensor<2> = gradient.square().reshape([first, rest]);
        self.sums.push(rows.sum_dim(1).sum_dim(0).reshape([1]));
    }
}

/// Moves gradients over, each times the factor.
struct Scaled {
    gradients: GradientsParams,
    factor: Tensor<1>,
    done: GradientsParams,
}

impl ModuleVisitor for Scaled {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let id: ParamId = param.id;
        let Some(gradient) = self.gradients.remove::<D>(id) else { return };
        self.done.register(id, gradient * self.factor.clone().reshape([1; D]));
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// NumPy: `norm = sqrt(sum(g²)) = sqrt(1 + 4 + 9 + 16 + 25 + 36) = 9.539392`, times `min(1, clip / norm)`.
    #[test]
    fn the_norm_of_all_gradients_is_bounded() {
        let device = Device::flex();
        let layer = LinearConfig::new(2, 2).init(&device);
        let bias = layer.bias.as_ref().unwrap().id;
        let gradients = || {
            let mut gradients = GradientsParams::new();
            let weight = TensorData::new(vec![1.0_f32, 2.0, 3.0, 4.0], [2, 2]);
            gradients.register::<2>(layer.weight.id, Tensor::from_data(weight, &device));
            gradients.register::<1>(bias, Tensor::from_data([5.0_f32, 6.0], &device));
            gradients
        };
        let clipped = |max_norm: f64| {
            let clipped = by_global_norm(&layer, gradients(), max_norm);
            assert_eq!(clipped.len(), 2);
            let weight: Vec<f32> = clipped.get::<2>(layer.weight.id).unwrap().try_into_vec_as().unwrap();
            let bias: Vec<f32> = clipped.get::<1>(bias).unwrap().try_into_vec_as().unwrap();
            [weight, bias].concat()
        };
        assert_eq!(clipped(10.0), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        for (found, gradient) in clipped(2.0).iter().zip(1_u8..) {
            assert!((found - f32::from(gradient) * 2.0 / 9.539_392).abs() < 1e-6, "{found}");
        }
    }
}
