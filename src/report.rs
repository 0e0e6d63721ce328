//! What is told about runs: structs in; text, JSON or a picture out.
//!
//! Prints nothing, reads nothing and writes no file; it knows [`crate::run`] and no other layer.

pub mod bill;
pub mod bootstrap;
pub mod cache;
pub mod compare;
pub mod curve;
pub mod detail;
pub mod freezing;
pub mod json;
pub mod list;
pub mod number;
pub mod plot;
pub mod predictions;
pub mod ranking;
pub mod rates;
pub mod repeat;
#[cfg(test)]
mod sample;
pub mod statistics;
pub(crate) mod table;
mod time;
