//! What a network costs to run.

use crate::models::layout::Layout;
use crate::models::operation::Operation;

/// Multiply-adds of every node for one image of this size; pools, norms and sums count as nothing.
pub fn multiply_adds(layout: &Layout, height: usize, width: usize) -> Vec<u64> {
    let outputs = layout.outputs_chw(height, width);
    let of = |(operation, [_, height, width]): (&Operation, &[usize; 3])| match operation {
        Operation::Conv(conv) => {
            let n_in = if conv.depthwise { 1 } else { conv.n_in };
            (n_in * conv.n_out * conv.kernel * conv.kernel * height * width) as u64
        }
        _ => 0,
    };
    layout.nodes.iter().map(|node| &node.operation).zip(&outputs[1..]).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::vgg::VGG16;

    /// By hand from the paper's table of layers: 15.35 billion for 224×224 (Simonyan and Zisserman 2014, configuration D),
    /// and of 150×150 the four blocks before the cut make 91 %.
    #[test]
    fn vgg16_costs_what_its_paper_says() {
        let layout = VGG16.layout();
        let total: u64 = multiply_adds(&layout, 224, 224).iter().sum();
        assert_eq!(total, 15_346_630_656);
        let costs = multiply_adds(&layout, 150, 150);
        let (frozen, all): (u64, u64) = (costs[..layout.n_nodes(15)].iter().sum(), costs.iter().sum());
        assert_eq!((frozen as f64 / all as f64 * 100.0).round(), 91.0);
    }
}
