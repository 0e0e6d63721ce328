//! `xp schema`: the JSON Schema of a spec.

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::spec::json_schema::json_schema;

/// Print the JSON Schema of a spec: every key with its description, range and default.
///
/// An editor completes and checks a spec that begins with `# yaml-language-server: $schema=xp.schema.json`
/// when that file holds what this prints.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {}

pub(crate) fn schema(_: &SchemaArgs) -> Result<(), Failure> {
    output::print_json(&json_schema())
}
