//! The device that a spec asks for, opened only where it is known to be there.

use burn::tensor::Device;

use crate::spec::schema::Spec;
use crate::spec::schema::precision::PrefixPrecision;
use crate::spec::short_forms::DeviceChoice;

/// A device to train on.
#[derive(Clone, Debug)]
pub struct TrainDevice {
    /// Without autodiff.
    pub device: Device,
    /// `cpu` or `cuda`: part of a run's fingerprint.
    pub class: &'static str,
    /// For people: `CPU, 8 threads` or the card's name.
    pub description: String,
}

/// The class of every CPU.
pub const CPU: &str = "cpu";

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("{0} asked for, but this xp was built without CUDA; build it with `--features cuda`")]
    NotBuilt(DeviceChoice),
    #[error("{choice} asked for, but the driver shows {}; `device: cpu` trains without", devices_text(.n_found))]
    NotFound { choice: DeviceChoice, n_found: usize },
    #[error(
        "there is a GPU, but {missing}, which compiles its kernels; install the CUDA toolkit, or choose `device: cpu`"
    )]
    NoCompiler { missing: String },
    #[error("`precision.prefix: bf16` needs a GPU, and this is the CPU; leave it out, or choose `device: cuda`")]
    NoBf16,
}

/// Opens a device; `auto` takes the first CUDA device that can be used, else the CPU.
pub fn open(choice: DeviceChoice) -> Result<TrainDevice, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::Cuda(index) => cuda(index, choice),
        DeviceChoice::Auto => Ok(cuda(0, choice).unwrap_or_else(|error| match error {
            DeviceError::NotBuilt(_) | DeviceError::NotFound { .. } => cpu(),
            // A card that lies idle is worth a word.
            unusable => {
                let cpu = cpu();
                TrainDevice { description: format!("{}; no GPU: {unusable}", cpu.description), ..cpu }
            }
        })),
    }
}

/// Starts the program again, once, with the CPU as burn's default device; does nothing without CUDA.
///
/// burn puts an optimizer's saved state on its default device before the first step moves it: where CUDA is compiled in that
/// is a card, whether or not there is one. Only the environment says otherwise, and a process cannot safely change its own.
pub fn default_to_cpu() {
    #[cfg(all(feature = "cuda", unix))]
    {
        use std::os::unix::process::CommandExt;

        const NAME: &str = "BURN_DEVICE";
        let mut args = std::env::args_os();
        if let (None, Ok(program), Some(name)) = (std::env::var_os(NAME), std::env::current_exe(), args.next()) {
            // Comes back only where it fails; then all but resuming works.
            let _ = std::process::Command::new(program).arg0(name).args(args).env(NAME, "flex").exec();
        }
    }
}

/// The device of a spec, which must have the numbers that it asks for.
pub fn of_spec(spec: &Spec) -> Result<TrainDevice, DeviceError> {
    let device = open(spec.device)?;
    if spec.precision.prefix == PrefixPrecision::Bf16 && device.class == CPU {
        return Err(DeviceError::NoBf16);
    }
    Ok(device)
}

fn devices_text(n_found: &usize) -> String {
    match n_found {
        0 => "no CUDA device".to_owned(),
        1 => "one CUDA device, `cuda:0`".to_owned(),
        n => format!("{n} CUDA devices, `cuda:0` to `cuda:{}`", n - 1),
    }
}

fn cpu() -> TrainDevice {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    TrainDevice {
        device: Device::flex(),
        class: CPU,
        description: format!("CPU, {n_threads} thread{}", if n_threads == 1 { "" } else { "s" }),
    }
}

/// Keeps compiled kernels and what was tuned in the user's cache folder, where every later process finds them, and tunes
/// with little effort: the first epoch waits for it. A `cubecl.toml` has the last word on the effort.
#[cfg(feature = "cuda")]
fn keep_kernels() {
    use cubecl::config::autotune::AutotuneLevel;
    use cubecl::config::cache::CacheConfig;
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.environment.path = CacheConfig::Directory(crate::settings::kernels_dir());
    config.compilation.cache = true;
    if matches!(config.autotune.level, AutotuneLevel::Balanced) {
        config.autotune.level = AutotuneLevel::Minimal;
    }
    // Whoever was first has the say.
    let _ = CubeClRuntimeConfig::try_set(config);
}

/// Asks the driver before anything opens CUDA: what comes after panics without a card.
#[cfg(feature = "cuda")]
fn cuda(index: usize, choice: DeviceChoice) -> Result<TrainDevice, DeviceError> {
    keep_kernels();
    let n_found = Device::enumerate(burn::tensor::DeviceType::Cuda).len();
    if index >= n_found {
        return Err(DeviceError::NotFound { choice, n_found });
    }
    compiler_is_there()?;
    let device = Device::cuda(index);
    let description = device.identity().map_or_else(|| choice.to_string(), |identity| identity.name.to_string());
    Ok(TrainDevice { device, class: "cuda", description })
}

/// Headers that kernels include, below the toolkit's `include`.
#[cfg(feature = "cuda")]
const HEADERS: [&str; 2] = ["mma.h", "cuda_bf16.h"];

/// NVRTC and CUDA's headers, where cubecl looks for them: without either it panics at the first kernel.
#[cfg(feature = "cuda")]
fn compiler_is_there() -> Result<(), DeviceError> {
    let missing = |what: String| Err(DeviceError::NoCompiler { missing: what });
    let Some(toolkit) = cubecl::cuda::install::cuda_path() else {
        return missing("CUDA's headers are neither at CUDA_PATH nor in /usr/local/cuda or /opt/cuda".to_owned());
    };
    if let Some(header) = HEADERS.iter().map(|name| toolkit.join("include").join(name)).find(|path| !path.is_file()) {
        return missing(format!("{} is not there; CUDA_PATH says where CUDA's headers are", header.display()));
    }
    // cudarc panics where it cannot load the library, and nothing safe asks before.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let compiled = std::panic::catch_unwind(|| cudarc::nvrtc::compile_ptx("extern \"C\" __global__ void probe() {}"));
    std::panic::set_hook(hook);
    match compiled {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => missing(format!("NVRTC fails: {error:?}")),
        Err(_) => missing("the library NVRTC (libnvrtc.so) cannot be loaded".to_owned()),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize, choice: DeviceChoice) -> Result<TrainDevice, DeviceError> {
    Err(DeviceError::NotBuilt(choice))
}
