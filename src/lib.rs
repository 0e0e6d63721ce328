//! `xp`: transfer learning on images from one YAML file.
//!
//! The modules stand in reading order, lowest rank first.

pub mod run;

pub mod spec;

pub mod cli;
