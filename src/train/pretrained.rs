//! The weights that a plan begins with: which file they are in, and whether it fits.

use crate::models::layout::Layout;
use crate::models::top;
use crate::spec::LoadedSpec;
use crate::spec::problem::Problem;
use crate::spec::schema::Spec;
use crate::spec::schema::model::BackboneName;
use crate::spec::schema::weights::Weights;
use crate::weights::cache::Cache;
use crate::weights::load::FileParameters;
use crate::weights::locate::{self, Located};
use crate::weights::lookalike::{self, Finding};
use crate::weights::matching::{Matched, Top, Wanted};
use crate::weights::registry::{self, Source};

/// The file that the spec's weights are in; whatever is wrong is added to `problems`.
pub(super) fn located(loaded: &LoadedSpec, problems: &mut Vec<Problem>) -> Option<Located> {
    let backbone = loaded.spec.model.backbone?;
    let found = locate::locate(&loaded.spec.model.weights, backbone, &Cache::of_user(), |path| loaded.resolve(path));
    found.map_err(|problem| problems.push(problem)).ok().flatten()
}

/// The source whose form of the network and whose preprocessing belong to some weights.
pub(super) fn source(weights: &Weights, located: Option<&Located>, backbone: BackboneName) -> &'static Source {
    if let Some(located) = located {
        return located.source;
    }
    let named = match weights {
        Weights::Imagenet | Weights::Random => None,
        Weights::Source(named) => registry::by_name(&named.source),
        Weights::File(file) => file.source.as_deref().and_then(registry::by_name),
    };
    named.filter(|source| source.backbone == backbone).unwrap_or_else(|| registry::default_source(backbone))
}

/// Holds a file's tensors against the backbone's: which are whose.
pub(super) fn matched(spec: &Spec, weights: &Located, layout: &Layout, problems: &mut Vec<Problem>) -> Option<Matched> {
    let key = if matches!(spec.model.weights, Weights::File(_)) { "model.weights.file" } else { "model.weights" };
    let known = top::imagenet(weights.source.backbone, [1; 3]);
    match FileParameters::located(weights, Wanted { layout, top: Top::Known(&known) }) {
        Ok(file) => {
            let mut matched = file.matched().clone();
            match lookalike::find(weights, &file) {
                Finding::Sure => {}
                Finding::Unsure(warning) => matched.warnings.push(warning),
                Finding::Other { reason, hint } => problems.push(Problem::new("model.weights.file", reason, hint)),
            }
            Some(matched)
        }
        Err(error) => {
            let of_all = "`xp weights list` shows whose weights there are; `as` says whose a file is";
            problems.push(Problem::new(key, format!("cannot {error}"), error.hint().unwrap_or(of_all)));
            None
        }
    }
}
