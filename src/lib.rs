//! `xp`: transfer learning on images from one YAML file.
//!
//! The modules stand in reading order, lowest rank first.

pub mod run;

pub mod settings;
pub mod spec;

pub mod data;
pub mod models;
pub mod report;
pub mod store;
pub mod weights;

pub mod export;
pub mod sweep;
pub mod train;

pub mod launch;

pub mod cli;

/// Keeps pages that training frees and takes again at every step; glibc gives buffers of megabytes back to the system and
/// has them cleared anew, which takes a seventh of a step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
