//! Tests through the built binary, and of the layers together.

#![allow(clippy::unwrap_used)]

mod backbones;
mod cache;
mod cli_augment;
mod cli_check;
mod cli_init;
mod cli_run;
mod concurrency;
mod effects;
mod export;
#[cfg(target_os = "linux")]
mod faults;
mod features;
mod foreign_weights;
mod freezing;
mod golden;
mod hostile_images;
mod hostile_specs;
mod kills;
mod layers;
mod notebook;
mod old_checkpoints;
mod old_home;
mod plan;
mod predict;
mod predictions;
mod readme;
mod rerun;
mod resume;
mod schema;
mod sources;
mod stretches;
mod support;
mod sweep;
mod sweep_labels;
mod sweep_property;
mod training;
mod vgg16;
mod weight_matrix;
mod weights;
