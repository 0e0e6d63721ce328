//! The words every layer shares: what a run, a metric and an event are.
//!
//! Plain data without I/O, without burn and without a database.

pub mod bill;
pub mod detail;
pub mod draw;
pub mod engine;
pub mod event;
pub mod freezing;
pub mod id;
pub mod look;
pub mod metric;
pub mod panic;
pub mod repeat;
pub mod stop;
pub mod stretch;
pub mod summary;
pub mod sweep;
pub mod system;
