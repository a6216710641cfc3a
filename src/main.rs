//! The program: see [`confirmd::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    confirmd::cli::main()
}
