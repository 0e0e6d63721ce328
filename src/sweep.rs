//! Sweeps: which points to try, for how long, and their trials as processes of their own.
//!
//! What is tried next is decided by pure functions of the sweep's section and its history ([`search`], [`asha`]);
//! [`standing`] puts them together
//! and [`driver`] carries it out. A trial is a child process, so that this module knows nothing of training.

pub mod asha;
pub mod domain;
pub mod driver;
pub mod labels;
pub mod point;
pub mod search;
pub mod specs;
pub mod standing;
