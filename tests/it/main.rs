//! Tests through the built binary.

mod cli_check;
mod layers;
