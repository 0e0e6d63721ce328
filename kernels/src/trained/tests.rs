use super::*;

/// Whole numbers small enough that every sum is exact in whatever order.
fn whole(i: usize) -> f32 {
    (i * 7 % 13) as f32 - 6.0
}

fn wholes(n: usize, factor: usize) -> Vec<f32> {
    (0..n).map(|i| whole(factor * i + 1)).collect()
}

/// Calls with the places of an output value, an input value and a kernel value that are multiplied.
fn each_product(shape: &Shape, mut call: impl FnMut(usize, usize, usize)) {
    let Shape { n_images, n_in, n_out, input: [h, w], output: [h_out, w_out], kernel, stride, before, depthwise } =
        *shape;
    for (image, o) in (0..n_images).flat_map(|image| (0..n_out).map(move |o| (image, o))) {
        for c in if depthwise { 0..1 } else { 0..n_in } {
            let channel = if depthwise { o } else { c };
            for (y, x) in (0..h_out).flat_map(|y| (0..w_out).map(move |x| (y, x))) {
                for (i, j) in (0..kernel).flat_map(|i| (0..kernel).map(move |j| (i, j))) {
                    let row = (y * stride + i).checked_sub(before[0]).filter(|row| *row < h);
                    let column = (x * stride + j).checked_sub(before[1]).filter(|column| *column < w);
                    let Some((row, column)) = row.zip(column) else { continue };
                    let read = if depthwise { 1 } else { n_in };
                    call(
                        ((image * n_out + o) * h_out + y) * w_out + x,
                        ((image * n_in + channel) * h + row) * w + column,
                        ((o * read + c) * kernel + i) * kernel + j,
                    );
                }
            }
        }
    }
}

/// Every window that the backbones have, on maps of several sizes: kernel, stride, zeros before and after.
fn shapes() -> Vec<Shape> {
    let windows = [
        (1, 1, 0, 0),
        (1, 2, 0, 0),
        (3, 1, 1, 1),
        (3, 1, 0, 0),
        (3, 2, 0, 1),
        (3, 2, 1, 1),
        (3, 2, 0, 0),
        (5, 1, 2, 2),
        (5, 2, 1, 2),
        (5, 2, 2, 2),
        (7, 2, 3, 3),
    ];
    let mut shapes = Vec::new();
    for (kernel, stride, before, after) in windows {
        for (n_images, h, w, n_in, n_out) in [(3, 9, 8, 5, 7), (1, 7, 7, 50, 17), (5, 4, 4, 37, 33), (2, 1, 20, 3, 8)] {
            let size = |size: usize| (size + before + after).checked_sub(kernel).map(|room| room / stride + 1);
            let Some(output) = size(h).zip(size(w)) else { continue };
            let (output, before) = ([output.0, output.1], [before; 2]);
            for depthwise in [false, true] {
                let n_out = if depthwise { n_in } else { n_out };
                shapes.push(Shape { n_images, n_in, n_out, input: [h, w], output, kernel, stride, before, depthwise });
            }
        }
    }
    shapes.push(Shape {
        n_images: 3,
        n_in: 390,
        n_out: 387,
        input: [5, 4],
        output: [5, 4],
        kernel: 3,
        stride: 1,
        before: [1, 1],
        depthwise: false,
    });
    assert!(shapes.len() > 70);
    shapes
}

#[test]
fn every_output_is_the_sum_it_is_defined_as() {
    for shape in shapes() {
        let (input, kernel, bias) = (wholes(shape.n_input(), 1), wholes(shape.n_kernel(), 3), wholes(shape.n_out, 5));
        let plane = shape.output[0] * shape.output[1];
        let mut expected: Vec<f32> = (0..shape.n_output()).map(|i| bias[i / plane % shape.n_out]).collect();
        each_product(&shape, |o, i, k| expected[o] += input[i] * kernel[k]);
        assert!(output(&shape, &input, &kernel, Some(&bias)) == expected, "{shape:?}");
    }
}

#[test]
fn every_gradient_is_the_sum_it_is_defined_as() {
    for shape in shapes() {
        let (input, kernel, gradient) =
            (wholes(shape.n_input(), 1), wholes(shape.n_kernel(), 3), wholes(shape.n_output(), 2));
        let mut of_input = vec![0.0; shape.n_input()];
        let mut of_kernel = vec![0.0; shape.n_kernel()];
        each_product(&shape, |o, i, k| {
            of_input[i] += gradient[o] * kernel[k];
            of_kernel[k] += gradient[o] * input[i];
        });
        assert!(input_gradient(&shape, &kernel, &gradient) == of_input, "{shape:?}");
        assert!(kernel_gradient(&shape, &input, &gradient) == of_kernel, "{shape:?}");
        let plane = shape.output[0] * shape.output[1];
        let mut of_bias = vec![0.0; shape.n_out];
        gradient.iter().enumerate().for_each(|(i, value)| of_bias[i / plane % shape.n_out] += value);
        assert!(bias_gradient(&shape, &gradient) == of_bias, "{shape:?}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let fraction = |n: usize, factor: usize| -> Vec<f32> { wholes(n, factor).iter().map(|v| v / 7.3).collect() };
    for depthwise in [false, true] {
        let n_out = if depthwise { 40 } else { 72 };
        let shape = Shape {
            n_images: 6,
            n_in: 40,
            n_out,
            input: [9, 9],
            output: [9, 9],
            kernel: 3,
            stride: 1,
            before: [1, 1],
            depthwise,
        };
        let input = fraction(shape.n_input(), 1);
        let (kernel, gradient) = (fraction(shape.n_kernel(), 3), fraction(shape.n_output(), 2));
        let all = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                [
                    output(&shape, &input, &kernel, None),
                    input_gradient(&shape, &kernel, &gradient),
                    kernel_gradient(&shape, &input, &gradient),
                    bias_gradient(&shape, &gradient),
                ]
            })
        };
        let one = all(1);
        for threads in [2, 4] {
            assert!(all(threads) == one, "{threads}");
        }
    }
}
