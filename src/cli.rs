//! The command line: the only layer that parses flags, prints and picks exit codes.

mod augment;
mod behind;
mod cache;
mod check;
mod compare;
mod completions;
mod context;
mod doctor;
mod evaluate;
mod excerpt;
mod export;
mod failure;
mod features;
mod init;
mod list;
mod log;
mod lr_find;
mod output;
mod predict;
mod progress;
mod rerun;
mod resume;
mod run;
mod schema;
mod show;
mod summary;
mod sweep;
mod weights;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::train::device;

/// Transfer learning on images from one YAML file: train, record, compare.
#[derive(Debug, Parser)]
#[command(name = "xp", version, about, after_help = EXIT_CODES)]
struct Cli {
    /// The folder that holds the runs, instead of the nearest `.xp` from here upwards.
    #[arg(long, global = true, env = "XP_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Say more on standard error; twice says most. RUST_LOG has the last word.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the work failed, 2 usage or an invalid spec, \
3 a run or file named here is not there, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Resume(resume::ResumeArgs),
    Rerun(rerun::RerunArgs),
    Sweep(sweep::SweepArgs),
    LrFind(lr_find::LrFindArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Compare(compare::CompareArgs),
    Evaluate(evaluate::EvaluateArgs),
    Features(features::FeaturesArgs),
    Predict(predict::PredictArgs),
    Export(export::ExportArgs),
    Summary(summary::SummaryArgs),
    Augment(augment::AugmentArgs),
    Check(check::CheckArgs),
    Weights(weights::WeightsArgs),
    Cache(cache::CacheArgs),
    Init(init::InitArgs),
    Schema(schema::SchemaArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs the command line and returns its exit code.
pub fn main() -> ExitCode {
    device::default_to_cpu();
    let cli = Cli::parse();
    log::install(cli.verbose);
    let done = Context::new(cli.home.as_deref()).and_then(|context| dispatch(&cli.command, &context));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(args, context),
        Command::Resume(args) => resume::resume(args, context),
        Command::Rerun(args) => rerun::rerun(args, context),
        Command::LrFind(args) => lr_find::lr_find(args),
        Command::Sweep(args) => sweep::sweep(args, context),
        Command::List(args) => list::list(args, context),
        Command::Show(args) => show::show(args, context),
        Command::Compare(args) => compare::compare(args, context),
        Command::Evaluate(args) => evaluate::evaluate(args, context),
        Command::Features(args) => features::features(args),
        Command::Predict(args) => predict::predict(args, context),
        Command::Export(args) => export::export(args, context),
        Command::Summary(args) => summary::summary(args, context),
        Command::Augment(args) => augment::augment(args),
        Command::Check(args) => check::check(args),
        Command::Cache(args) => cache::cache(args, context),
        Command::Weights(args) => weights::weights(args),
        Command::Init(args) => init::init(args),
        Command::Schema(args) => schema::schema(args),
        Command::Doctor(args) => doctor::doctor(args, context),
        Command::Completions(args) => completions::completions(args, &mut Cli::command()),
    }
}
