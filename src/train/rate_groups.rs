//! Learning rates of parts of a network: which parameters a name of the spec means.

use burn::module::ParamGroup;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;

use crate::models::classifier::NetworkPlan;
use crate::models::freeze::Freeze;
use crate::models::layout::Layout;
use crate::spec::problem::Problem;
use crate::spec::schema::Spec;
use crate::train::schedule::StepSchedule;

/// The name of what stands on the backbone.
const HEAD: &str = "head";

/// A part of the network with a rate of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct RateGroup {
    pub rate: f64,
    part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Head,
    /// Nodes after the cut, counted from it.
    Nodes(Vec<usize>),
}

/// The groups that a spec asks for, wider ones first, and what is wrong with the names of others.
pub fn of(spec: &Spec, NetworkPlan { layout, freeze, .. }: &NetworkPlan) -> (Vec<RateGroup>, Vec<Problem>) {
    // A longer name is part of a shorter one that it begins with.
    let mut rates: Vec<(&String, &f64)> = spec.learning_rates.iter().collect();
    rates.sort_by_key(|(name, _)| name.len());
    let mut problems = Vec::new();
    let mut groups = Vec::new();
    for (name, rate) in rates {
        match part(name, layout, freeze) {
            Ok(part) => groups.push(RateGroup { rate: *rate, part }),
            Err((message, hint)) => problems.push(Problem::new(&format!("learning_rates.{name}"), message, hint)),
        }
    }
    (groups, problems)
}

/// Whether every parameter that trains has a rate of its own, so that the optimizer's is nobody's.
pub fn have_all(groups: &[RateGroup], network: &NetworkPlan) -> bool {
    let n_trained = network.layout.nodes.len() - network.freeze.n_prefix_nodes;
    let first = network.freeze.n_branch_nodes;
    let has_rate =
        |node: usize| groups.iter().any(|group| matches!(&group.part, Part::Nodes(nodes) if nodes.contains(&node)));
    groups.iter().any(|group| group.part == Part::Head) && (first..n_trained).all(has_rate)
}

fn part(name: &str, layout: &Layout, freeze: &Freeze) -> Result<Part, (String, String)> {
    if name == HEAD {
        return Ok(Part::Head);
    }
    let is_meant =
        |row: &str| row.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']));
    let (mut start, mut meant, mut trained) = (0, 0, Vec::new());
    for row in &layout.rows {
        let nodes = start..start + row.n_nodes;
        start = nodes.end;
        if is_meant(&row.name) {
            meant += 1;
            trained.extend(nodes.filter(|node| *node >= freeze.n_nodes()).map(|node| node - freeze.n_prefix_nodes));
        }
    }
    match (meant, trained.is_empty()) {
        (0, _) => {
            let hint =
                format!("names are `head`, rows of `xp summary {}`, and what several rows begin with", layout.name);
            Err(("no row begins with this name".to_owned(), hint))
        }
        (_, true) => Err(("all of it is frozen".to_owned(), "leave it out, or freeze fewer layers".to_owned())),
        _ => Ok(Part::Nodes(trained)),
    }
}

/// The schedule of every parameter: `schedule` of a base rate, for all parameters and then for each group.
pub fn scheduler(base: f64, groups: &[RateGroup], schedule: impl Fn(f64) -> StepSchedule) -> ModuleLrScheduler {
    groups.iter().fold(ModuleLrScheduler::new(schedule(base)), |all, group| {
        all.with_group(group.parameters(), schedule(group.rate))
    })
}

impl RateGroup {
    /// By their places in a [`crate::train::step::Trainee`].
    fn parameters(&self) -> ParamGroup {
        let patterns = match &self.part {
            Part::Head => vec![r"^tail\.head\.".to_owned()],
            Part::Nodes(nodes) => nodes.iter().map(|node| format!(r"^tail\.nodes\.nodes\.{node}\.")).collect(),
        };
        ParamGroup::from_any_regexes(patterns).expect("the patterns are fixed but for numbers")
    }
}
