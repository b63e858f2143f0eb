//! What a person sees while a silent step runs: a spinner on a terminal, one plain line
//! where stderr is a file or a pipe. Steps that print by themselves (cargo, rustup) need
//! neither.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Runs `work` and shows `what` meanwhile.
pub(crate) fn step<T, E>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    if !io::stderr().is_terminal() {
        eprintln!("{what} …");
        return work();
    }
    let started = Instant::now();
    let spinner = ProgressBar::new_spinner()
        .with_message(what.to_owned())
        .with_style(style());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let result = work();
    spinner.finish_and_clear();
    if result.is_ok() {
        eprintln!("{what}: {}", duration(started.elapsed()));
    }
    result
}

/// A duration for people: `3.4 s`, `12 min 05 s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

fn style() -> ProgressStyle {
    // The template is ours; were it wrong, the default one shows the same facts.
    ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(Duration::from_millis(3_449)), "3.4 s");
        assert_eq!(duration(Duration::from_secs(725)), "12 min 05 s");
    }
}
