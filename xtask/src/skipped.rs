//! What is left out since a program is not on this machine. The tests read it, and say so too.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::file;
use crate::process;

/// The file that says which program something was left out for.
const SKIPPED: &str = "SKIPPED";

/// Whether `what` is left out: a program that it needs is not here. Its folder `to` then says which.
pub(crate) fn is_skipped(what: &str, needs: &[&str], to: &Path) -> Result<bool> {
    let mut programs = needs.iter().copied();
    let Some(missing) = programs.find(|program| process::find_program(program).is_none()) else {
        let _ = fs::remove_file(to.join(SKIPPED));
        return Ok(false);
    };
    eprintln!("== SKIPPED: {what}, since there is no `{missing}` here");
    // What was built when there was one would be tested as if it were new.
    file::remove(to)?;
    fs::create_dir_all(to)?;
    fs::write(to.join(SKIPPED), missing)?;
    Ok(true)
}
