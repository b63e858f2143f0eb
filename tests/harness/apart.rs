//! Tests that need something of the machine which not every machine gives: a network or mounts of
//! their own.

use std::io::Write as _;

/// Runs a test on a thread of its own, with what is made there: a namespace is the thread's, and
/// of what it starts. Where that can't be made, the test says so and ends well; but not in CI.
pub(crate) fn run_apart<T>(
    what: &'static str,
    make: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    test: impl AsyncFnOnce(&T) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let name = std::thread::current().name().unwrap_or(what).to_owned();
    let run = move || {
        let made = match make() {
            Ok(made) => made,
            Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                return Err(error.context(format!("in CI there must be a {what}")));
            }
            Err(error) => return skip(what, &error),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(Box::pin(test(&made)))
    };
    let thread = std::thread::Builder::new().name(name).spawn(run)?;
    match thread.join() {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Past the capture of a test that ends well: who reads "ok" must read this, too.
fn skip(what: &str, error: &anyhow::Error) -> anyhow::Result<()> {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("\nSKIPPED {name}: there can be no {what} here: {error:#}\n");
    Ok(std::io::stderr().write_all(line.as_bytes())?)
}
