//! `xp summary`: a network row by row, what of it is frozen, and how many parameters train.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::data::feature_cache::FeatureCache;
use crate::models::backbone;
use crate::models::classifier::{NetworkPlan, ParameterCount, count_parameters};
use crate::models::head::dense_tensors;
use crate::models::layout::Row;
use crate::report::bill as report;
use crate::report::number::count_text;
use crate::run::bill::Bill;
use crate::settings::Resources;
use crate::spec::LoadedSpec;
use crate::spec::schema::model::{BackboneName, HeadLayer};
use crate::store::StoreError;
use crate::train::plan::{Plan, plan, plan_network};
use crate::train::{TrainError, bill, device};
use crate::weights::registry;

/// Show a network layer by layer: the rows that `frozen_layers` counts.
#[derive(Debug, Args)]
pub(crate) struct SummaryArgs {
    /// A spec file, a run, or the name of a backbone.
    subject: String,
    /// Replace a value of the spec: --set model.frozen_layers=7.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Also say what the frozen layers cost, how fast they run here, and what of them is kept. Needs a spec.
    #[arg(long)]
    cost: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The size that a backbone alone is shown for, pixels.
const DEFAULT_SIZE: usize = 224;

pub(crate) fn summary(args: &SummaryArgs, context: &Context) -> Result<(), Failure> {
    let rows = match BackboneName::ALL.into_iter().find(|name| name.as_str() == args.subject) {
        Some(name) => {
            let layout = backbone::layout(name, registry::default_source(name).form);
            if let Some(run) = context.run_called(&args.subject)? {
                let short = run.short();
                output::say(&format!(
                    "note: this is the backbone; a run is called so too, `xp summary {short}` shows it\n"
                ));
            }
            let title = format!("{} at {DEFAULT_SIZE}×{DEFAULT_SIZE}", layout.name);
            Summary { title, rows: layout.rows(DEFAULT_SIZE, DEFAULT_SIZE), network: None, cost: None }
        }
        None => of_spec_or_run(args, context)?,
    };
    if args.json { output::print_json(&rows.json()) } else { output::print(&rows.text()) }
}

fn backbone_names() -> String {
    BackboneName::ALL.map(BackboneName::as_str).join(", ")
}

fn of_spec_or_run(args: &SummaryArgs, context: &Context) -> Result<Summary, Failure> {
    let path = Path::new(&args.subject);
    if path.is_file() || path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        let plan = plan(&LoadedSpec::read(path, &args.sets)?)?;
        output::say_of_plan(&plan);
        let cost = if args.cost { Some(cost(&plan, context)?) } else { None };
        return Ok(Summary { cost, ..of_network(plan.network, plan.input_chw) });
    }
    if args.cost {
        return Err(Failure::Usage {
            what: format!("--cost needs a spec file, and {:?} is none", args.subject),
            hint: "what layers cost in all depends on the images that a spec names".to_owned(),
        });
    }
    let (store, id) = context.find_run(&args.subject).map_err(|failure| match failure {
        Failure::Store(StoreError::NotFound { query }) => Failure::NotThere {
            what: format!("{query:?} is no spec, no run and no backbone"),
            hint: format!("the backbones are {}; `xp list` shows the runs", backbone_names()),
        },
        other => other,
    })?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    let loaded = crate::cli::evaluate::loaded_spec(&run, &args.sets)?;
    // A run knows its classes, so its images may be gone.
    let (network, input_chw) = match &run.data {
        Some(data) => plan_network(&loaded, data.classes.len())?,
        None => {
            let plan = plan(&loaded)?;
            (plan.network, plan.input_chw)
        }
    };
    Ok(of_network(network, input_chw))
}

/// What the plan's frozen layers cost; their speed is measured on its device.
fn cost(plan: &Plan, context: &Context) -> Result<Cost, Failure> {
    let device = device::of_spec(&plan.spec)?;
    let cache = FeatureCache::of_spec(&plan.spec.cache, context.home.feature_cache_dir());
    let images: Vec<_> = plan.listings.iter().map(|(split, listing)| (*split, listing.images.len() as u64)).collect();
    let bill = bill::of(plan, &images, Resources::new(None), cache.as_ref());
    let images_per_s = bill::images_per_s(plan, &device).map_err(TrainError::from)?;
    Ok(Cost { bill, images_per_s })
}

fn of_network(network: NetworkPlan, input_chw: [usize; 3]) -> Summary {
    let [_, height, width] = input_chw;
    let rows = network.layout.rows(height, width);
    let title = format!("{} at {height}×{width}", network.layout.name);
    Summary { title, rows, network: Some(network), cost: None }
}

/// What is printed.
struct Summary {
    title: String,
    rows: Vec<Row>,
    network: Option<NetworkPlan>,
    cost: Option<Cost>,
}

struct Cost {
    bill: Bill,
    /// Through the frozen layers.
    images_per_s: Option<f64>,
}

impl Summary {
    fn frozen(&self, row: usize) -> Option<bool> {
        self.network.as_ref().map(|network| (row as u64) < network.freeze.n_rows)
    }

    fn text(&self) -> String {
        let name_width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(20);
        // Where a single tensor passes after every row, there is nothing to mark.
        let branches = self.rows.iter().any(|row| !row.is_cut);
        let mut text = format!(
            "{}\n{:>4}  {:name_width$} {:>5}  {:9} {:>12} {:>11}  {}\n",
            self.title,
            "row",
            "name",
            "stage",
            "kind",
            "output",
            "parameters",
            if self.network.is_some() { "state" } else { "" }
        );
        for (i, row) in self.rows.iter().enumerate() {
            let output = row.output_chw.map(|n| n.to_string()).join("×");
            let state = match self.frozen(i) {
                Some(true) => "frozen",
                Some(false) if row.n_parameters > 0 => "trains",
                _ => "",
            };
            let parameters = count_text(row.n_parameters);
            let cut = if branches && row.is_cut { "*" } else { "" };
            let line = format!(
                "{:>4}  {:name_width$} {:>5}  {:9} {output:>12} {parameters:>11}  {state:6} {cut}",
                i + 1,
                row.name,
                row.stage,
                row.kind
            );
            text += line.trim_end();
            text.push('\n');
        }
        if branches {
            text += "* one tensor passes: frozen rows up to the last such row run outside autodiff\n";
        }
        if let Some(network) = &self.network {
            text += &head_lines(network);
            let count = count_parameters(network);
            text += &format!(
                "{} of {} parameters train, {} are frozen\n",
                count_text(count.trained),
                count_text(count.total),
                count_text(count.frozen())
            );
            if network.layout.has_norms() {
                text += "running statistics are not counted\n";
            }
        }
        if let Some(Cost { bill, images_per_s }) = &self.cost {
            text += &report::text(bill, *images_per_s);
        }
        text
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().enumerate().map(|(i, row)| {
            json!({
                "row": i + 1,
                "name": row.name,
                "kind": row.kind,
                "stage": row.stage,
                "output": row.output_chw,
                "parameters": row.n_parameters,
                "cut": row.is_cut,
                "frozen": self.frozen(i),
            })
        });
        let count = self.network.as_ref().map(count_parameters);
        json!({
            "schema": 1,
            "rows": rows.collect::<Vec<_>>(),
            "head": self.network.as_ref().map(|network| &network.head.layers),
            "parameters": count.map(|count| count.total),
            "trained_parameters": count.map(|count| count.trained),
            "frozen_parameters": count.map(ParameterCount::frozen),
            "cost": self.cost.as_ref().map(|Cost { bill, images_per_s }| json!({
                "bill": bill,
                "frozen_share": bill.frozen_share(),
                "images_per_second": images_per_s,
            })),
        })
    }
}

/// The head's layers, which are never counted as rows.
fn head_lines(network: &NetworkPlan) -> String {
    let mut dense = dense_tensors(&network.head).into_iter();
    let line = |layer: &HeadLayer| {
        let (kind, n_parameters) = match layer {
            HeadLayer::GlobalAveragePool => ("global_average_pool".to_owned(), 0),
            HeadLayer::Flatten => ("flatten".to_owned(), 0),
            HeadLayer::Dropout(rate) => (format!("dropout {rate}"), 0),
            HeadLayer::Dense(layer) => {
                let tensors = dense.next().expect("a plan has tensors for every dense layer");
                let n_parameters = tensors.iter().map(|tensor| tensor.n_values() as u64).sum();
                (format!("dense {} {}", layer.units, format!("{:?}", layer.activation).to_lowercase()), n_parameters)
            }
        };
        let state = if n_parameters > 0 { "trains" } else { "" };
        let line = format!("head  {kind:50} {:>11}  {state}", count_text(n_parameters));
        line.trim_end().to_owned() + "\n"
    };
    network.head.layers.iter().map(line).collect()
}
