//! The `bake` program: either the command line, or the small helper that the sandbox starts from
//! the same file.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The helper must be recognised before anything else runs: a user namespace needs a
    // single-threaded process.
    if let Some(code) = bake::sandbox::helper_main::<bake::engine::Call>() {
        return code;
    }
    // What is cached and logged is nobody else's to write to, whoever started this.
    bake::files::tighten_umask();
    bake::cli::main()
}
