//! The `xp` binary: everything is in [`xp::cli`].

fn main() -> std::process::ExitCode {
    xp::cli::main()
}
