//! What a command prints.

use std::io::{self, ErrorKind, Write as _};

/// Prints a text to the standard output. Whoever reads it may have enough of it: the process then
/// ends, and that is no error.
///
/// # Errors
///
/// The text cannot be written, for example since a disk is full.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes());
    match printed.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        printed => Ok(printed?),
    }
}
