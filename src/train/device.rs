//! The device that a spec asks for, opened only where it is known to be there.

use burn::tensor::Device;

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

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("{0} asked for, but this xp was built without CUDA; build it with `--features cuda`")]
    NotBuilt(DeviceChoice),
    #[error("{choice} asked for, but the driver shows {n_found} CUDA devices")]
    NotFound { choice: DeviceChoice, n_found: usize },
}

/// Opens a device; `auto` takes the first CUDA device that answers, else the CPU.
pub fn open(choice: DeviceChoice) -> Result<TrainDevice, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(cpu()),
        DeviceChoice::Auto => Ok(cuda(0, choice).unwrap_or_else(|_| cpu())),
        DeviceChoice::Cuda(index) => cuda(index, choice),
    }
}

fn cpu() -> TrainDevice {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    TrainDevice {
        device: Device::flex(),
        class: "cpu",
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
    let device = Device::cuda(index);
    let description = device.identity().map_or_else(|| choice.to_string(), |identity| identity.name.to_string());
    Ok(TrainDevice { device, class: "cuda", description })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize, choice: DeviceChoice) -> Result<TrainDevice, DeviceError> {
    Err(DeviceError::NotBuilt(choice))
}
