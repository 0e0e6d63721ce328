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
pub mod train;

pub mod launch;

pub mod cli;
