//! The machine: which processor runs what, and what /proc knows of it.
//!
//! Needs Linux.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The processor that serves, and the one that loads.
pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const CLIENT_CORE: usize = 1;

/// Puts this thread, and whatever it starts, on one processor.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)
        .with_context(|| format!("cannot run on processor {core}; two are needed"))
}

/// Lets this thread, and whatever it starts, run on both processors.
pub(crate) fn pin_nowhere() -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(SERVER_CORE);
    cores.set(CLIENT_CORE);
    sched_setaffinity(None, &cores).context("cannot run on both processors")
}

/// Lets this process, and whatever it starts, open as many files as the system allows.
pub(crate) fn raise_file_limit(needed: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        most >= needed,
        "{needed} open files are needed, and `ulimit -Hn` is {most}"
    );
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

/// CPU time that a process has used, user and system.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The command's name, in parentheses, may itself have spaces and parentheses.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("/proc/PID/stat has no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // utime and stime: fields 14 and 15 by proc(5), which counts the two before these.
    let ticks = fields.get(11..13).context("/proc/PID/stat is too short")?;
    let ticks: Vec<u64> = ticks
        .iter()
        .map(|ticks| ticks.parse())
        .collect::<Result<_, _>>()?;
    Ok(from_ticks(ticks.iter().sum()))
}

/// CPU time that everything together has used, on all processors, and what the machine
/// under this one has kept for others.
pub(crate) fn cpu_of_all() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .context("/proc/stat is empty")?
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse())
        .collect::<Result<_, _>>()?;
    // user, nice, system, (idle, iowait,) irq, softirq, steal
    let busy = [0, 1, 2, 5, 6, 7].map(|field| fields.get(field).copied().unwrap_or(0));
    Ok(from_ticks(busy.iter().sum()))
}

/// Resident memory of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    /// All of it, code included.
    pub(crate) bytes: u64,
    /// What it has allocated.
    pub(crate) anonymous_bytes: u64,
}

/// What of a process is in memory.
pub(crate) fn resident(process: u32) -> Result<Resident> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let bytes = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib = kib.with_context(|| format!("/proc/PID/status has no {name}"))?;
        Ok(kib.trim().parse::<u64>()? << 10)
    };
    Ok(Resident {
        bytes: bytes("VmRSS:")?,
        anonymous_bytes: bytes("RssAnon:")?,
    })
}

/// What a process has done so far, all its threads together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Activity {
    /// Time on a processor.
    pub(crate) cpu: Duration,
    /// How often a thread waited for something, and thus was woken.
    pub(crate) waits: u64,
}

impl Activity {
    /// What was done since `before`.
    pub(crate) fn since(self, before: Activity) -> Activity {
        Activity {
            cpu: self.cpu.saturating_sub(before.cpu),
            waits: self.waits.saturating_sub(before.waits),
        }
    }
}

/// What a process has done so far. To the nanosecond, which `cpu_of` is not.
pub(crate) fn activity(process: u32) -> Result<Activity> {
    let mut all = Activity::default();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let Some(task) = activity_of_thread(&task?.path())? else {
            continue;
        };
        all.cpu += task.cpu;
        all.waits += task.waits;
    }
    Ok(all)
}

/// What one thread has done so far. None if it has ended since its folder was listed.
fn activity_of_thread(task: &Path) -> Result<Option<Activity>> {
    let read = |name: &str| match fs::read_to_string(task.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // The file was opened, and the thread ended before it was read.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    };
    let (Some(schedstat), Some(status)) = (read("schedstat")?, read("status")?) else {
        return Ok(None);
    };
    let on_cpu = schedstat.split_whitespace().next().context("schedstat")?;
    let mut lines = status.lines();
    let waits = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    let waits = waits.context("/proc/PID/task/TID/status has no voluntary_ctxt_switches")?;
    Ok(Some(Activity {
        cpu: Duration::from_nanos(on_cpu.parse()?),
        waits: waits.trim().parse()?,
    }))
}

/// The machine in a line.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name"))
        .map(|line| line.trim_start_matches([' ', '\t', ':']))
        .collect();
    format!(
        "{} × {}, Linux {}, load {}",
        models.len(),
        models.first().unwrap_or(&"unknown processor"),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").trim(),
    )
}

/// The clock of /proc ticks 100 times a second, whatever the kernel's own does.
fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::{self, JoinHandle};

    use super::*;

    #[test]
    fn this_process_can_be_read() -> Result<()> {
        let process = std::process::id();
        assert!(cpu_of(process)? <= cpu_of_all()?);
        let resident = resident(process)?;
        assert!(resident.anonymous_bytes > 0 && resident.anonymous_bytes <= resident.bytes);
        assert!(activity(process)?.cpu > Duration::ZERO);
        Ok(())
    }

    #[test]
    fn threads_that_end_meanwhile_are_left_out() -> Result<()> {
        let process = std::process::id();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let threads: [_; 8] = std::array::from_fn(|_| thread::spawn(|| ()));
                    drop(threads.map(JoinHandle::join));
                }
            });
            let read = (0..500).try_for_each(|_| activity(process).map(drop));
            done.store(true, Ordering::Relaxed);
            read
        })
    }
}
