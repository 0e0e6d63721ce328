//! `xp export`: a run's network as files that Keras and PyTorch open.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::behind::made_of;
use crate::cli::context::Context;
use crate::cli::evaluate::{CheckpointChoice, loaded_spec};
use crate::cli::failure::Failure;
use crate::cli::output::{self, Overwrite};
use crate::cli::predict::{Network, trained};
use crate::export::framework::{self, Framework};
use crate::export::sidecar::{AxisOrder, ImageInput, Sidecar};
use crate::export::{ExportError, Trained, architecture, keras, npz, safetensors};
use crate::models::backbone;
use crate::models::parameters::Parameters;
use crate::report::json as report_json;
use crate::spec::schema::weights::Selection;
use crate::train::network::all_tensors;
use crate::train::plan::Plan;
use crate::train::predict::Predictor;
use crate::train::probe::{self, Gap};
use crate::train::{TrainError, device};
use crate::weights::load::FileParameters;
use crate::weights::matching::{Top, Wanted};
use crate::weights::registry::Source;

/// Write a run's network as files that Keras and PyTorch open.
///
/// Beside each file stands <FILE>.json with the classes and what pixels must go through. Keras' files are tested with Keras 3.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A run, as `xp show` takes it.
    run: String,
    /// What to write.
    #[arg(long)]
    format: ExportFormat,
    /// The file to write; for keras-h5 its name without an ending, for a .json and a .h5. By default in the run's folder.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which checkpoint: best, last or an epoch.
    #[arg(long, default_value = "best")]
    checkpoint: CheckpointChoice,
    /// Of a run that was trained on features: write it with the backbone before it, which made them: a folder of
    /// `xp features`, or the spec it was given. Without this its head is written alone.
    #[arg(long, value_name = "DIR|SPEC")]
    behind: Option<PathBuf>,
    /// Read the file back: every tensor must be the network's to the bit, and a network built from the file must give the
    /// same answers to generated images.
    #[arg(long)]
    verify: bool,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// The architecture as JSON and the weights as .h5, as Keras 2's to_json and save_weights wrote them.
    KerasH5,
    /// Architecture and weights in one .h5, as model.save("x.h5").
    H5,
    /// Keras 3's .weights.h5.
    WeightsH5,
    /// Keras 3's .keras.
    Keras,
    /// Safetensors with torchvision's or timm's names.
    Safetensors,
    /// Arrays for NumPy, with Keras' names and axes.
    Npz,
    /// The run: spec, metrics, environment.
    Json,
}

impl ExportFormat {
    fn as_str(self) -> &'static str {
        match self {
            Self::KerasH5 => "keras-h5",
            Self::H5 => "h5",
            Self::WeightsH5 => "weights-h5",
            Self::Keras => "keras",
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
            Self::Json => "json",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::KerasH5 | Self::H5 => "h5",
            Self::WeightsH5 => "weights.h5",
            Self::Keras => "keras",
            Self::Safetensors => "safetensors",
            Self::Npz => "npz",
            Self::Json => "json",
        }
    }
}

pub(crate) fn export(args: &ExportArgs, context: &Context) -> Result<(), Failure> {
    let (store, id) = context.find_run(&args.run)?;
    let run = context.wait(store.run_detail(&id, &context.observer()))?;
    let name = &run.summary.name;
    let files = Files::named(args, name, &context.home.run_dir(&id).join("exports"))?;
    let overwrite = if args.force { Overwrite::Always } else { Overwrite::Never };
    files.check(overwrite)?;
    let path = &files.main;
    let at = |source| Failure::Io { what: format!("write {}", path.display()), source };
    fs::create_dir_all(output::folder_of(path)).map_err(at)?;
    if args.format == ExportFormat::Json {
        let text = format!("{:#}\n", report_json::detail(&run));
        output::write_whole(path, text.as_bytes(), overwrite).map_err(at)?;
        return output::print(&format!("{}\n", output::from_here(path).display()));
    }
    let wanted = match &args.behind {
        Some(behind) => Network::WithBackbone { behind: Some(behind) },
        None => Network::AsTrained,
    };
    let (predictor, plan) = trained(context, &id, &run, args.checkpoint, None, wanted)?;
    let tensors = all_tensors(&plan, predictor.trainee()).map_err(TrainError::from)?;
    let network = Trained { plan: plan.network.clone(), input_chw: plan.input_chw, tensors };
    // A backbone that ends earlier is no package's.
    let is_whole =
        |source: &&Source| backbone::layout(source.backbone, source.form).rows.len() == plan.network.layout.rows.len();
    let source = plan.source.filter(is_whole);
    let framework = source.and_then(|source| Framework::of(source.backbone, source.form));
    let is_torch = args.format == ExportFormat::Safetensors;
    let network = if is_torch { framework::named(&network, framework.as_ref()) } else { network };
    let described = Sidecar {
        run: json!(run.summary.id),
        name,
        format: args.format.as_str(),
        trained: &network,
        source: plan.source,
        weights: plan.weights.as_ref(),
        features: if plan.source.is_none() { made_of(&loaded_spec(&run, &[])?) } else { Value::Null },
        input: plan.source.map(|_| ImageInput {
            image_size: json!(plan.spec.data.image_size),
            decode: plan.spec.data.decode,
            pixels: plan.preprocessing,
            filter: plan.filter,
            exif: plan.spec.data.exif,
        }),
        classes: plan.classes(),
        framework: framework.as_ref().filter(|_| is_torch),
        order: if is_torch { AxisOrder::ChannelsFirst } else { AxisOrder::ChannelsLast },
    };
    write(args.format, &network, name, &described.json(), &files, overwrite)?;
    if args.verify {
        verify(&Written { format: args.format, path }, &network, &predictor, &plan)?;
    }
    output::print(&format!("{}\n", output::from_here(path).display()))
}

/// The files of an export.
struct Files {
    main: PathBuf,
    /// What keras-h5 has beside it: the architecture.
    architecture: Option<PathBuf>,
    /// What stands beside every file of tensors.
    sidecar: Option<PathBuf>,
}

impl Files {
    /// The name that is given is the name that is written; keras-h5 puts an ending of its own behind it, for two files.
    fn named(args: &ExportArgs, run: &str, exports: &Path) -> Result<Self, Failure> {
        let ending = args.format.ending();
        let mut stem = None;
        let main = match &args.output {
            Some(path) if args.format == ExportFormat::KerasH5 => {
                let text = path.to_string_lossy();
                let name = text.strip_suffix(".h5").or_else(|| text.strip_suffix(".json")).unwrap_or(&text).to_owned();
                let main = PathBuf::from(format!("{name}.h5"));
                stem = Some(name);
                main
            }
            Some(path) => path.clone(),
            None => {
                stem = Some(exports.join(run).to_string_lossy().into_owned());
                exports.join(format!("{run}.{ending}"))
            }
        };
        if (args.format, main.to_string_lossy().ends_with(".weights.h5")) == (ExportFormat::WeightsH5, false) {
            return Err(Failure::Usage {
                what: format!("{} does not end in .weights.h5", main.display()),
                hint: "Keras tells these files from older ones by that ending".to_owned(),
            });
        }
        let architecture =
            stem.filter(|_| args.format == ExportFormat::KerasH5).map(|stem| format!("{stem}.json").into());
        // What a link leads to is replaced, and not the link.
        let main = if main.is_symlink() { fs::canonicalize(&main).unwrap_or(main) } else { main };
        let has_sidecar = args.format != ExportFormat::Json;
        let sidecar = has_sidecar.then(|| PathBuf::from(format!("{}.json", main.display())));
        Ok(Self { main, architecture, sidecar })
    }

    /// Refuses to replace any of them, before any is written.
    fn check(&self, overwrite: Overwrite) -> Result<(), Failure> {
        let all = [Some(&self.main), self.architecture.as_ref(), self.sidecar.as_ref()];
        if let Some(path) = all.into_iter().flatten().find(|path| path.exists() && !path.is_file()) {
            return Err(Failure::Usage {
                what: format!("{} is no file that could be replaced", path.display()),
                hint: "`-o` names another".to_owned(),
            });
        }
        match all.into_iter().flatten().find(|path| path.exists()) {
            Some(path) if overwrite == Overwrite::Never => Err(there_already(path)),
            _ => Ok(()),
        }
    }
}

fn write(
    format: ExportFormat,
    network: &Trained,
    name: &str,
    described: &Value,
    files: &Files,
    overwrite: Overwrite,
) -> Result<(), Failure> {
    whole(&files.main, overwrite, |path| match format {
        ExportFormat::KerasH5 => keras::write_legacy_weights(network, path),
        ExportFormat::H5 => keras::write_legacy_model(network, name, path),
        ExportFormat::WeightsH5 => keras::write_weights(network, path),
        ExportFormat::Keras => keras::write_archive(network, name, path),
        ExportFormat::Safetensors => {
            let metadata =
                BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("xp".to_owned(), described.to_string())]);
            safetensors::write(network, metadata, path)
        }
        ExportFormat::Npz => npz::write(network, path),
        ExportFormat::Json => unreachable!("a run has no tensors to write"),
    })?;
    let architecture = || architecture::json(name, &architecture::layers(network)).to_string();
    let texts = [
        files.architecture.as_ref().map(|path| (path, architecture())),
        files.sidecar.as_ref().map(|path| (path, format!("{described:#}\n"))),
    ];
    for (path, text) in texts.into_iter().flatten() {
        output::write_whole(path, text.as_bytes(), overwrite)
            .map_err(|source| Failure::Io { what: format!("write {}", path.display()), source })?;
    }
    Ok(())
}

/// Writes under another name, and gives the file its own once it is whole.
fn whole(
    path: &Path,
    overwrite: Overwrite,
    write: impl FnOnce(&Path) -> Result<(), ExportError>,
) -> Result<(), Failure> {
    let at = |source| Failure::Io { what: format!("write {}", path.display()), source };
    let folder = tempfile::Builder::new().prefix(".xp-").tempdir_in(output::folder_of(path)).map_err(at)?;
    let written = folder.path().join("export");
    write(&written).map_err(Failure::Export)?;
    fs::File::open(&written).and_then(|file| file.sync_all()).map_err(at)?;
    // A second name is not given where there is such a file by now; where there are no second names, it is looked for.
    if overwrite == Overwrite::Never {
        match fs::hard_link(&written, path) {
            Ok(()) => return Ok(()),
            Err(_) if path.exists() => return Err(there_already(path)),
            Err(_) => {}
        }
    }
    fs::rename(&written, path).map_err(at)
}

fn there_already(path: &Path) -> Failure {
    Failure::Usage {
        what: format!("{} is there already", path.display()),
        hint: "`--force` replaces it, `-o` names another".to_owned(),
    }
}

/// A file to be read back.
struct Written<'a> {
    format: ExportFormat,
    path: &'a Path,
}

impl Written<'_> {
    /// Opens it as any other file of weights is opened; an .npz, which is none, as what it is.
    fn open(&self, network: &Trained) -> Result<Box<dyn Parameters>, Failure> {
        let wanted = Wanted { layout: &network.plan.layout, top: Top::Needed(&network.plan.head) };
        match self.format {
            ExportFormat::Npz => Ok(Box::new(npz::Arrays::open(self.path).map_err(|error| self.unlike(&error))?)),
            _ => {
                let opened = FileParameters::open(self.path, wanted, &Selection::default(), String::new());
                Ok(Box::new(opened.map_err(|error| self.unlike(&error))?))
            }
        }
    }

    fn unlike(&self, what: &dyn Display) -> Failure {
        Failure::Unlike { path: self.path.to_owned(), what: what.to_string() }
    }
}

/// Compares the file's tensors with the network's, and the answers of a network built from it with the run's.
fn verify(written: &Written<'_>, network: &Trained, predictor: &Predictor, plan: &Plan) -> Result<(), Failure> {
    let file = written.open(network)?;
    for (address, values) in &network.tensors {
        let found = file.values(address).map_err(|error| written.unlike(&error))?;
        let is_same = found.len() == values.len() && found.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits());
        if !is_same {
            return Err(written.unlike(&format!("{} differs", address.name)));
        }
    }
    let device = device::open(plan.spec.device)?;
    let rebuilt = Predictor::of_parameters(plan, &device, &*file).map_err(|error| written.unlike(&error))?;
    let gap = probe::compare(predictor, &rebuilt, plan.input_chw);
    let Gap { n_images, largest, scale } = gap;
    let found = match largest {
        0.0 => "are the same to the bit".to_owned(),
        _ => format!("differ by up to {largest:.1e}, where the largest is {scale:.3}"),
    };
    if !gap.is_small() {
        return Err(written.unlike(&format!("its logits for {n_images} images {found}")));
    }
    let n_tensors = network.tensors.len();
    output::say(&format!(
        "{n_tensors} tensors read back are the same to the bit; logits for {n_images} images {found}\n"
    ));
    Ok(())
}
