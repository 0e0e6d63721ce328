//! What the machine was doing while a run went: the names of what is measured, and one look at it.

/// Share of all cores that the whole machine used, percent.
pub const CPU_PERCENT: &str = "system.cpu_percent";

/// Share of all cores that the run's process used, percent.
pub const PROCESS_CPU_PERCENT: &str = "system.process_cpu_percent";

/// Memory of the run's process that lies in RAM, bytes.
pub const PROCESS_MEMORY_BYTES: &str = "system.process_memory_bytes";

/// Memory of the machine that is in use, bytes.
pub const MEMORY_USED_BYTES: &str = "system.memory_used_bytes";

/// Memory of the machine that could still be had, bytes.
pub const MEMORY_AVAILABLE_BYTES: &str = "system.memory_available_bytes";

/// Share of the time in which a GPU ran anything, percent; `index` as the driver counts.
pub fn gpu_percent(index: u32) -> String {
    format!("system.gpu{index}_percent")
}

/// Memory of a GPU that is in use, bytes.
pub fn gpu_memory_bytes(index: u32) -> String {
    format!("system.gpu{index}_memory_bytes")
}

/// Everything that was measured at one time, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemSample {
    pub at_ms: i64,
    pub values: Vec<(String, f64)>,
}
