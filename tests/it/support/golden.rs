//! Numbers that other programs computed, and the values that they computed them from.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use serde_json::Value;

/// Numbers in `[−1, 1)` that a tensor's name decides, as the fixtures' scripts draw them.
pub(crate) fn drawn(name: &str, n_values: usize) -> impl Iterator<Item = f64> {
    let fnv = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, fnv);
    (1..=n_values as u64).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let unit = ((z ^ (z >> 31)) >> 11) as f64 * 0.5_f64.powi(53);
        2.0 * unit - 1.0
    })
}

/// Every number of a golden entry, within 1e-4 of the tensor's largest value.
pub(crate) fn agrees<const D: usize>(name: &str, tensor: Tensor<D>, golden: &Value) {
    agrees_within(1e-4, name, tensor, golden);
}

/// As [`agrees`], within another share of the tensor's largest value.
pub(crate) fn agrees_within<const D: usize>(tolerance: f64, name: &str, tensor: Tensor<D>, golden: &Value) {
    assert_eq!(serde_json::json!(tensor.dims().to_vec()), golden["shape"], "{name}");
    let values: Vec<f64> = tensor.try_into_vec_as().unwrap();
    let close = |what: &str, found: f64, expected: f64, scale: f64| {
        assert!((found - expected).abs() <= tolerance * scale, "{name} {what}: {found}, expected {expected}");
    };
    let number = |key: &str| golden[key].as_f64().unwrap();
    let entries = golden["values"].as_array().unwrap();
    let entry = |entry: &Value| (entry[0].as_u64().unwrap() as usize, entry[1].as_f64().unwrap());
    let largest = entry(&entries[0]).1.abs();
    let found = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    assert!(found <= (1.0 + tolerance) * largest, "{name}: largest {found}, expected {largest}");
    for (i, expected) in entries.iter().map(entry) {
        close(&i.to_string(), values[i], expected, largest);
    }
    let absolutes = number("sum_of_absolutes");
    close("sum", values.iter().sum(), number("sum"), absolutes);
    close("absolutes", values.iter().map(|value| value.abs()).sum(), absolutes, absolutes);
    let squares = number("sum_of_squares");
    close("squares", values.iter().map(|value| value * value).sum(), squares, squares);
}

/// Gradients of a module's parameters, in the order in which it holds them.
struct GradientCheck<'a> {
    gradients: &'a Gradients,
    names: std::vec::IntoIter<String>,
    golden: &'a Value,
    tolerance: f64,
    /// What a gradient that is 0 in theory, as that of a shift before a norm, may be by rounding.
    noise: f64,
}

/// The largest value of a golden tensor.
fn largest(golden: &Value) -> f64 {
    golden["values"][0][1].as_f64().unwrap().abs()
}

impl ModuleVisitor for GradientCheck<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // What is frozen has none.
        let Some(gradient) = param.val().grad(self.gradients) else { return };
        let name = self.names.next().unwrap();
        let golden = &self.golden[&name];
        if largest(golden) > self.noise {
            agrees_within(self.tolerance, &name, gradient, golden);
        } else {
            let found: f32 = gradient.abs().max().into_scalar();
            assert!(f64::from(found) <= self.noise, "{name}: {found}");
        }
    }
}

/// Checks the gradients of a module's trained parameters, which have these names in the order in which it holds them.
pub(crate) fn gradients_agree<M: Module>(
    tolerance: f64,
    module: &M,
    names: Vec<String>,
    gradients: &Gradients,
    golden: &Value,
) {
    let noise = 1e-4 * golden.as_object().unwrap().values().map(largest).fold(0.0, f64::max);
    let mut check = GradientCheck { gradients, names: names.into_iter(), golden, tolerance, noise };
    module.visit(&mut check);
    assert_eq!(check.names.next(), None);
}
