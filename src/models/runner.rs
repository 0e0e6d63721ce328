//! A stretch of a frozen network as the CPU runs it: weights laid out once, norms and activations part of what stands
//! before them, an image a thread.
//!
//! An image's output depends neither on the batch that it comes in nor on the number of threads: `xp_kernels` adds in an
//! order that is fixed by channels and kernel positions alone.

use std::collections::HashMap;

use burn::tensor::{DType, TensorData};
use rayon::prelude::*;
use xp_kernels::dense::{Buffers, Dense};
use xp_kernels::depthwise::Depthwise;
use xp_kernels::elementwise;
use xp_kernels::map::{Extent, Map};
use xp_kernels::window::{Before, Clamp, Window};

use crate::models::layout::NodeShape;
use crate::models::operation::{Activation, ConvShape, NormShape, Operation, PadShape, Padding};
use crate::models::segment::Segment;

/// What is done, in which order.
#[derive(Clone, Debug)]
pub struct Runner {
    steps: Vec<Step>,
    /// The step whose output leaves, 1-based; 0 where nothing is done.
    output: usize,
    n_input_channels: usize,
}

/// One operation with all that follows it in place.
#[derive(Clone, Debug)]
struct Step {
    operation: Operation,
    work: Work,
    clamp: Clamp,
    /// What it takes: 0 is the image, `i` the `i`-th step's output.
    inputs: Vec<usize>,
}

/// The tensors of an operation as they are used.
#[derive(Clone, Debug)]
enum Work {
    Dense(Box<Dense>),
    Depthwise(Depthwise),
    /// A norm that no convolution stands before.
    Scale {
        scales: Vec<f32>,
        shifts: Vec<f32>,
    },
    /// All that has no tensors.
    Plain,
}

/// A thread's buffers, used again from image to image.
#[derive(Default)]
struct Workspace {
    free: Vec<Vec<f32>>,
    buffers: Buffers,
}

/// The vector unit of this machine that frozen layers run on; another may round differently.
pub fn vector_unit() -> &'static str {
    xp_kernels::vector_unit()
}

impl Runner {
    /// Lays out a segment whose norms are folded; `shapes` are its nodes.
    pub fn new(segment: &Segment, shapes: &[NodeShape], n_input_channels: usize) -> Self {
        let tensors: Vec<Vec<Vec<f32>>> = segment
            .tensors(shapes)
            .map(|(_, tensors)| tensors.into_iter().map(|(_, data)| values_of(data)).collect())
            .collect();
        let n_uses = segment.n_uses();
        // The node in whose step each node's output comes to be, and what its step clamps to.
        let mut owners = vec![0];
        let mut clamps = vec![Clamp::NONE; shapes.len() + 1];
        for (i, shape) in shapes.iter().enumerate() {
            let input = shape.inputs[0];
            let owner = owners[input];
            let is_next = owner > 0 && n_uses[input] == 1 && clamps[owner] == Clamp::NONE;
            let is_part = match shape.operation {
                Operation::Norm(_) => tensors[i].is_empty(),
                Operation::Activation(activation) if is_next && clamps_itself(&shapes[owner - 1].operation) => {
                    clamps[owner] = clamp_of(activation);
                    true
                }
                _ => false,
            };
            owners.push(if is_part { owner } else { i + 1 });
        }
        let mut steps: Vec<Step> = Vec::new();
        let mut places = vec![0; shapes.len() + 1];
        for (i, (shape, tensors)) in shapes.iter().zip(tensors).enumerate().filter(|(i, _)| owners[i + 1] == i + 1) {
            let clamp = match shape.operation {
                Operation::Activation(activation) => clamp_of(activation),
                _ => clamps[i + 1],
            };
            let inputs = shape.inputs.iter().map(|input| places[owners[*input]]).collect();
            let work = work(&shape.operation, tensors, clamp);
            steps.push(Step { operation: shape.operation.clone(), work, clamp, inputs });
            places[i + 1] = steps.len();
        }
        Self { steps, output: places[owners[shapes.len()]], n_input_channels }
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Shape: `[n, c, h, w]`, `input_chw` of one image → `[n, c', h', w']`.
    pub fn forward(&self, images: &[f32], input_chw: [usize; 3]) -> (Vec<f32>, [usize; 3]) {
        let extents = self.extents(input_chw);
        let output = extents[self.output];
        let output_chw = [output.n_channels, output.height, output.width];
        let n_values = |chw: [usize; 3]| chw.iter().product::<usize>().max(1);
        let n_images = images.len() / n_values(input_chw);
        let mut outputs = vec![0.0; n_images * n_values(output_chw)];
        outputs
            .par_chunks_exact_mut(n_values(output_chw))
            .zip(images.par_chunks_exact(n_values(input_chw)))
            .with_max_len(1)
            .for_each_init(Workspace::default, |workspace, (output, image)| {
                self.run(image, &extents, workspace).write_planes(output);
            });
        (outputs, output_chw)
    }

    /// The tensors by name as they run: kernels with the norms in them.
    pub fn tensors(&self) -> Vec<(String, TensorData)> {
        self.steps.iter().flat_map(Step::tensors).collect()
    }

    /// The extents of the image and of every step's output; maps of one size have one border.
    fn extents(&self, [n_channels, height, width]: [usize; 3]) -> Vec<Extent> {
        assert_eq!(n_channels, self.n_input_channels);
        let mut extents = vec![Extent { n_channels, height, width, border: 0 }];
        let mut borders = HashMap::from([([height, width], 0)]);
        let mut widen = |size: [usize; 2], border: usize| {
            let widest = borders.entry(size).or_insert(0);
            *widest = border.max(*widest);
        };
        for step in &self.steps {
            let from = extents[step.inputs[0]];
            let [n_channels, height, width] = step.operation.output_chw([from.n_channels, from.height, from.width]);
            if let Operation::Conv(conv) = &step.operation {
                let window = window(conv);
                let is_in_place = conv.stride == 1 && conv.padding != Padding::Valid;
                widen([from.height, from.width], if is_in_place { window.reach().div_ceil(2) } else { 0 });
                widen([height, width], if is_in_place { 0 } else { window.reach() });
            }
            widen([height, width], 0);
            extents.push(Extent { n_channels, height, width, border: 0 });
        }
        let bordered = |extent: Extent| Extent { border: borders[&[extent.height, extent.width]], ..extent };
        extents.into_iter().map(bordered).collect()
    }

    /// One image through all steps.
    fn run(&self, image: &[f32], extents: &[Extent], workspace: &mut Workspace) -> Map {
        let mut n_uses = vec![0; self.steps.len() + 1];
        self.steps.iter().flat_map(|step| &step.inputs).for_each(|&input| n_uses[input] += 1);
        let mut maps: Vec<Option<Map>> = vec![None; self.steps.len() + 1];
        maps[0] = Some(Map::from_planes(image, extents[0], workspace.buffer()));
        for (i, step) in self.steps.iter().enumerate() {
            let first = step.inputs[0];
            for &input in &step.inputs {
                n_uses[input] -= 1;
            }
            let input = maps[first].take().expect("steps come after what they take");
            let mut output = step.output(&input, extents[i + 1], workspace);
            if let [_, second] = step.inputs[..] {
                let second = if second == first { &input } else { maps[second].as_ref().expect("as above") };
                elementwise::add(&mut output, second, step.clamp);
            }
            maps[first] = Some(input);
            for &input in &step.inputs {
                if n_uses[input] == 0 && input != self.output {
                    workspace.free.extend(maps[input].take().map(|map| map.values));
                }
            }
            maps[i + 1] = Some(output);
        }
        maps[self.output].take().expect("the last step's output is there")
    }
}

impl Step {
    /// Computes its output; of a sum, its first input.
    fn output(&self, input: &Map, extent: Extent, workspace: &mut Workspace) -> Map {
        let mut output = Map::new(extent, workspace.buffer());
        let from = input.extent;
        match (&self.operation, &self.work) {
            (Operation::Conv(conv), Work::Dense(dense)) => {
                dense.run(input, before(conv, from, extent), &mut output, &mut workspace.buffers);
            }
            (Operation::Conv(conv), Work::Depthwise(depthwise)) => {
                depthwise.run(input, before(conv, from, extent), &mut output, &mut workspace.buffers.scratch);
            }
            (Operation::MaxPool(pool), _) => {
                elementwise::max_pool(input, pool.window, pool.stride, &mut output, &mut workspace.buffers.scratch);
            }
            (Operation::Pad(pad), _) => {
                elementwise::pad(input, &mut output, [pad.amounts(from.height).0, pad.amounts(from.width).0]);
            }
            (_, work) => {
                output.values.copy_from_slice(&input.values);
                match work {
                    Work::Scale { scales, shifts } => elementwise::scale(&mut output, scales, shifts, self.clamp),
                    _ if matches!(self.operation, Operation::Activation(_)) => {
                        elementwise::clamp(&mut output, self.clamp);
                    }
                    _ => {}
                }
            }
        }
        output
    }

    fn tensors(&self) -> Vec<(String, TensorData)> {
        let tensor = |name: String, values: Vec<f32>, shape: Vec<usize>| (name, TensorData::new(values, shape));
        match (&self.operation, &self.work) {
            (Operation::Conv(conv), work) => {
                let (kernel, bias) = match work {
                    Work::Dense(dense) => (dense.kernel(), dense.bias()),
                    Work::Depthwise(depthwise) => (depthwise.kernel().to_vec(), depthwise.bias()),
                    _ => unreachable!("a convolution has its tensors"),
                };
                let address = conv.kernel();
                vec![
                    tensor(address.name, kernel, address.shape),
                    tensor(conv.bias_name(), bias.to_vec(), vec![conv.n_out]),
                ]
            }
            (Operation::Norm(norm), Work::Scale { scales, shifts }) => {
                let [scale, shift, ..] = norm.tensors();
                vec![tensor(scale.name, scales.clone(), scale.shape), tensor(shift.name, shifts.clone(), shift.shape)]
            }
            _ => Vec::new(),
        }
    }
}

impl Workspace {
    fn buffer(&mut self) -> Vec<f32> {
        self.free.pop().unwrap_or_default()
    }
}

fn work(operation: &Operation, tensors: Vec<Vec<f32>>, clamp: Clamp) -> Work {
    match (operation, &tensors[..]) {
        (Operation::Conv(conv), [kernel, bias @ ..]) => {
            let none = vec![0.0; conv.n_out];
            let bias = bias.first().unwrap_or(&none);
            if conv.depthwise {
                Work::Depthwise(Depthwise::new(kernel, bias, window(conv), clamp))
            } else {
                Work::Dense(Box::new(Dense::new(kernel, bias, conv.n_in, window(conv), clamp)))
            }
        }
        (Operation::Norm(norm), [scale, shift, mean, variance]) => scaling(norm, [scale, shift, mean, variance]),
        _ => Work::Plain,
    }
}

/// A norm in inference mode as one product and one sum.
fn scaling(norm: &NormShape, [scale, shift, mean, variance]: [&[f32]; 4]) -> Work {
    let scales: Vec<f32> = scale.iter().zip(variance).map(|(s, v)| s / (v + norm.epsilon as f32).sqrt()).collect();
    let shifts = shift.iter().zip(mean).zip(&scales).map(|((shift, mean), scale)| shift - mean * scale).collect();
    Work::Scale { scales, shifts }
}

fn window(conv: &ConvShape) -> Window {
    Window { kernel: conv.kernel, stride: conv.stride }
}

fn before(conv: &ConvShape, from: Extent, to: Extent) -> Before {
    let before = |size: usize, n_outputs: usize| match conv.padding {
        Padding::Valid => 0,
        Padding::Symmetric => (conv.kernel - 1) / 2,
        Padding::Same => {
            debug_assert_eq!(size.div_ceil(conv.stride), n_outputs);
            PadShape::Same { kernel: conv.kernel, stride: conv.stride }.amounts(size).0
        }
    };
    [before(from.height, to.height), before(from.width, to.width)]
}

fn clamp_of(activation: Activation) -> Clamp {
    match activation {
        Activation::Relu => Clamp::RELU,
        Activation::Relu6 => Clamp::RELU6,
    }
}

/// Whether an activation can be the end of an operation's own step.
fn clamps_itself(operation: &Operation) -> bool {
    matches!(operation, Operation::Conv(_) | Operation::Norm(_) | Operation::Add)
}

fn values_of(data: TensorData) -> Vec<f32> {
    data.convert_dtype(DType::F32).try_into_vec().expect("a network's tensors are f32")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::models::layout::Layout;
    use crate::models::mobilenet_v2;
    use crate::models::parameters::RandomParameters;
    use crate::models::resnet::RESNET18;
    use crate::models::vgg::VGG_TINY;

    fn runner(layout: &Layout) -> Runner {
        let random = RandomParameters { seed: 3 };
        let segment = Segment::new(&layout.nodes, 0, &random, &Device::flex()).unwrap().folded();
        Runner::new(&segment, &layout.nodes, 3)
    }

    /// Alone, among others, in another place, on one thread or on several: the same bytes.
    #[test]
    fn an_images_output_depends_on_nothing_but_the_image() {
        let form = crate::models::layout::Form::Torch;
        for layout in [VGG_TINY.layout(), RESNET18.basic_layout(), mobilenet_v2::layout(form)] {
            let chw = [3, 70, 53];
            let n_values: usize = chw.iter().product();
            let images: Vec<f32> = (0..5 * n_values).map(|i| (i * 31 % 101) as f32 / 50.0 - 1.0).collect();
            let runner = runner(&layout);
            let (together, output_chw) = runner.forward(&images, chw);
            let n_outputs: usize = output_chw.iter().product();
            assert_eq!((together.len(), output_chw), (5 * n_outputs, layout.output_chw(layout.nodes.len(), 70, 53)));
            for n_threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
                for (i, image) in images.chunks_exact(n_values).enumerate() {
                    let (alone, _) = pool.install(|| runner.forward(image, chw));
                    assert!(alone == together[i * n_outputs..(i + 1) * n_outputs], "{} {i}", layout.name);
                }
            }
        }
    }

    #[test]
    fn nothing_is_lost_on_the_way_to_the_tensors() {
        let layout = RESNET18.basic_layout();
        let random = RandomParameters { seed: 3 };
        let segment = Segment::new(&layout.nodes, 0, &random, &Device::flex()).unwrap().folded();
        let expected: Vec<_> = segment.tensors(&layout.nodes).flat_map(|(_, tensors)| tensors).collect();
        let found = Runner::new(&segment, &layout.nodes, 3).tensors();
        assert!(!expected.is_empty());
        assert!(found == expected);
    }
}
