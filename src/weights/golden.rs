//! Whether a file gives the answers that are known of it: one that is read wrongly still has numbers.

use burn::tensor::{Device, Tensor, TensorData};

use crate::models::backbone;
use crate::models::classifier::{NetworkPlan, Prefix, Sources, Tail};
use crate::models::freeze::freeze;
use crate::models::segment::Norms;
use crate::models::top;
use crate::spec::schema::precision::PrefixPrecision;
use crate::spec::short_forms::FrozenLayers;
use crate::weights::load::{FileParameters, LoadError};
use crate::weights::locate::Located;
use crate::weights::matching::{Top, Wanted};
use crate::weights::registry::{Contents, Golden, Source};

impl Source {
    /// The network with the classifier that it was trained with, everything frozen.
    pub fn whole_network(&self) -> NetworkPlan {
        let layout = backbone::layout(self.backbone, self.form);
        let size = self.preprocessing.image_size as usize;
        let head = top::imagenet(self.backbone, layout.output_chw(layout.nodes.len(), size, size));
        let freeze = freeze(&FrozenLayers::All, &layout).expect("every backbone can be frozen whole");
        NetworkPlan { head, layout, freeze, norms: Norms::Frozen, prefix_precision: PrefixPrecision::F32 }
    }
}

impl Golden {
    /// Whether a network's logits for the image are those that are known.
    pub fn are_given_by(&self, logits: &[f64]) -> bool {
        let largest = logits.iter().fold(0.0_f64, |largest, logit| largest.max(logit.abs()));
        let pairs = logits.iter().zip(self.logits);
        logits.len() >= self.logits.len()
            && pairs.map(|(found, expected)| (found - expected).abs()).all(|gap| gap <= self.tolerance * largest)
    }
}

/// Asks a published file's network, on the CPU; one of which no answers are known, one without a classifier, and one of
/// the user's own, which may have learned something else, pass unasked.
///
/// Errors: the file cannot be read, does not fit, or gives other answers.
pub fn check(located: &Located) -> Result<(), LoadError> {
    let (Some(golden), Some(published)) = (&located.source.golden, located.published) else { return Ok(()) };
    if published.contents != Contents::WithTop {
        return Ok(());
    }
    let is_known = golden.are_given_by(&logits(located, golden)?);
    if is_known { Ok(()) } else { Err(LoadError::Answers { name: located.source.name }) }
}

/// Whether a file gives a source's known answers about as exactly as `tolerance` says, a part of the largest logit;
/// `None` where no answers are known, or the file has no such classifier.
pub fn answers(located: &Located, tolerance: f64) -> Option<bool> {
    let golden = located.source.golden?;
    let logits = logits(located, &golden).ok()?;
    Some(Golden { tolerance, ..golden }.are_given_by(&logits))
}

/// What a file's network with its classifier gives for the known image.
fn logits(located: &Located, golden: &Golden) -> Result<Vec<f64>, LoadError> {
    let plan = located.source.whole_network();
    let file = FileParameters::located(located, Wanted { layout: &plan.layout, top: Top::Needed(&plan.head) })?;
    let (sources, device) = (Sources { backbone: &file, head: &file }, Device::flex());
    let unreadable = |error| LoadError::Parameters { name: located.source.name, source: error };
    let prefix = Prefix::new(&plan, sources, &device).map_err(unreadable)?;
    let tail = Tail::new(&plan, sources, &device).map_err(unreadable)?;
    let size = golden.image_size as usize;
    let mut image_chw = vec![0.0_f32; 3 * size * size];
    located.source.preprocessing.pixels.planes_from_pixels(&golden.image_hwc_u8(), &mut image_chw);
    let image = Tensor::from_data(TensorData::new(image_chw, [1, 3, size, size]), &device);
    Ok(tail.forward(prefix.forward(image), None).try_into_vec_as::<f64>().expect("logits are numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::schema::model::BackboneName;
    use crate::weights::cache::Cache;
    use crate::weights::locate::{Stored, on_this_machine};
    use crate::weights::registry;

    fn lite0() -> Located {
        let cache = Cache { dir: "nowhere".into() };
        let source = registry::default_source(BackboneName::EfficientnetLite0);
        on_this_machine(source, Contents::Features, &cache).unwrap().unwrap()
    }

    #[test]
    fn the_weights_in_the_binary_give_the_known_answers() {
        check(&lite0()).unwrap();
    }

    /// Values in the middle of the network, their signs turned.
    #[test]
    fn altered_weights_are_refused_by_name() {
        let Stored::Embedded(bytes) = lite0().stored else { panic!("it is in the binary") };
        let mut altered = bytes.to_vec();
        let n_header = u64::from_le_bytes(*altered.first_chunk().unwrap()) as usize;
        let middle = n_header + 8 + (altered.len() - n_header) / 2;
        altered[middle..][..20_000].iter_mut().skip(1).step_by(2).for_each(|byte| *byte ^= 0x80);
        let altered = Located { stored: Stored::Embedded(altered.leak()), ..lite0() };
        let refused = check(&altered).unwrap_err();
        assert!(matches!(refused, LoadError::Answers { name: "efficientnet_lite0.timm" }), "{refused}");
        // The user's own may have learned something else.
        check(&Located { published: None, ..altered }).unwrap();
    }

    #[test]
    fn too_few_logits_and_nan_are_other_answers() {
        let golden = lite0().source.golden.unwrap();
        assert!(golden.are_given_by(golden.logits));
        assert!(!golden.are_given_by(&golden.logits[1..]));
        let nan: Vec<f64> = golden.logits.iter().map(|_| f64::NAN).collect();
        assert!(!golden.are_given_by(&nan));
    }
}
