//! MobileNetV2: a narrow map widened, filtered channel by channel, and narrowed again, with ReLU6.
//!
//! Source: Sandler et al. 2018, table 2. Rows are named and ordered as `model.layers` of `keras.applications` has them.

use crate::models::builder::Builder;
use crate::models::layout::{Form, Layout};
use crate::models::operation::{Activation, ConvShape, Names, NormShape, Operation, PadShape, Padding};
use crate::models::parameters::Initial;

/// Expansion, output channels, repeats, stride of the first block.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

const RELU6: Operation = Operation::Activation(Activation::Relu6);

/// The rows: 3-channel input to 1,280 channels at 1/32 of the resolution.
///
/// Keras' form has TensorFlow's padding, epsilon 1e-3 and momentum 0.999, torchvision's even padding, 1e-5 and 0.1.
pub fn layout(form: Form) -> Layout {
    let family = Family { form };
    let mut b = Builder::new("mobilenet_v2");
    let names = Names::both("Conv1", "features.0.0");
    b.row("Conv1", 1).then(Operation::Conv(ConvShape { kernel: 3, stride: 2, ..family.conv(names, [3, 32]) }));
    b.row("bn_Conv1", 1).then(family.norm(Names::both("bn_Conv1", "features.0.1"), 32));
    b.row("Conv1_relu", 1).then(RELU6);
    let (mut n_in, mut block) = (32, 0);
    for (stage, (expansion, n_out, repeats, stride)) in (2..).zip(STAGES) {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { stride } else { 1 };
            family.block(&mut b, stage, block, [n_in, n_out], expansion, stride);
            n_in = n_out;
            block += 1;
        }
    }
    b.row("Conv_1", 9).then(Operation::Conv(family.conv(Names::both("Conv_1", "features.18.0"), [n_in, 1280])));
    b.row("Conv_1_bn", 9).then(family.norm(Names::both("Conv_1_bn", "features.18.1"), 1280));
    b.row("out_relu", 9).then(RELU6);
    b.finish()
}

/// How the networks of a form are made.
struct Family {
    form: Form,
}

impl Family {
    /// A pointwise convolution.
    fn conv(&self, names: Names, [n_in, n_out]: [usize; 2]) -> ConvShape {
        ConvShape {
            names,
            n_in,
            n_out,
            kernel: 1,
            stride: 1,
            padding: match self.form {
                Form::Keras => Padding::Same,
                Form::Torch | Form::TimmEven => Padding::Symmetric,
            },
            depthwise: false,
            bias: false,
            initial: Initial::FanOutNormal,
        }
    }

    fn norm(&self, names: Names, n_channels: usize) -> Operation {
        let (epsilon, momentum) = match self.form {
            Form::Keras => (1e-3, 0.001),
            Form::Torch | Form::TimmEven => (1e-5, 0.1),
        };
        Operation::Norm(NormShape { names, n_channels, epsilon, momentum })
    }

    /// The first block has no expansion; a stride of 2 has its zeros in a row of their own.
    fn block(
        &self,
        b: &mut Builder,
        stage: u64,
        block: usize,
        [n_in, n_out]: [usize; 2],
        expansion: usize,
        stride: usize,
    ) {
        let path = if block == 0 { "expanded_conv".to_owned() } else { format!("block_{block}") };
        let n_hidden = n_in * expansion;
        // torchvision counts the stem as its first feature and numbers the modules of a block.
        let mut module = 0;
        let mut named = |part: &str, torch: &str| {
            let names = Names::both(format!("{path}_{part}"), format!("features.{}.conv.{module}{torch}", block + 1));
            if torch != ".0" {
                module += 1;
            }
            names
        };
        let input = b.last();
        if expansion != 1 {
            let conv = named("expand", ".0");
            b.row(conv.own(), stage).then(Operation::Conv(self.conv(conv, [n_in, n_hidden])));
            let norm = named("expand_BN", ".1");
            b.row(norm.own(), stage).then(self.norm(norm, n_hidden));
            b.row(format!("{path}_expand_relu"), stage).then(RELU6);
        }
        let names = named("depthwise", ".0");
        let depthwise = ConvShape { kernel: 3, stride, depthwise: true, ..self.conv(names.clone(), [n_hidden; 2]) };
        if stride == 2 {
            let pad = match self.form {
                Form::Keras => PadShape::Same { kernel: 3, stride },
                Form::Torch | Form::TimmEven => PadShape::Even(1),
            };
            b.row(format!("{path}_pad"), stage).then(Operation::Pad(pad));
            b.row(names.own(), stage).then(Operation::Conv(ConvShape { padding: Padding::Valid, ..depthwise }));
        } else {
            b.row(names.own(), stage).then(Operation::Conv(depthwise));
        }
        let norm = named("depthwise_BN", ".1");
        b.row(norm.own(), stage).then(self.norm(norm, n_hidden));
        b.row(format!("{path}_depthwise_relu"), stage).then(RELU6);
        let conv = named("project", "");
        b.row(conv.own(), stage).then(Operation::Conv(self.conv(conv, [n_hidden, n_out])));
        let norm = named("project_BN", "");
        let output = b.row(norm.own(), stage).then(self.norm(norm, n_out));
        if stride == 1 && n_in == n_out {
            b.row(format!("{path}_add"), stage).after(&[input, output], Operation::Add);
        }
    }
}
