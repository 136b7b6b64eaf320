//! The `bake` program: either the command line, or the small helper that the sandbox starts from
//! the same file.

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    // A file that grows past the limit on its size (`ulimit -f`) is an error of the write, not the
    // end of the process. A handler, not "ignore": programs of steps get the usual signal again.
    let handled = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    debug_assert!(handled.is_ok(), "a signal that may be handled");
    // The helper must be recognised before anything else runs: a user namespace needs a
    // single-threaded process.
    if let Some(code) = bake::sandbox::helper_main::<bake::job::Call>() {
        return code;
    }
    // What is cached and logged is nobody else's to write to, whoever started this.
    bake::files::tighten_umask();
    bake::cli::main()
}
