//! The process that compiles one component, seen from inside. The node starts its own program for
//! it, and `compiler` sees it from the outside.
//!
//! The component comes in on stdin. A report goes out on stdout: its length as 32 bits in
//! little-endian order, then JSON. The machine code follows it, if there is any. The process then
//! still keeps the functions for the next build, and nobody waits for that.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};
use wasmtime::{Engine, InstanceAllocationStrategy};

use super::engine;
use super::function_cache::FunctionCache;
use super::turn_driver;

/// The first argument of a process that compiles a component.
pub(super) const ARGUMENT: &str = "compile-component";

/// The longest reason why a component is wrong, in bytes. It may contain names of any length.
const WHY_BYTES: usize = 8 << 10;

/// What the process shall do: its second argument, as JSON. The third one is the path of the file
/// with the functions of the last build, if there is one. (It need not be UTF-8.)
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct CompileRequest {
    /// Whether the component shall take several messages at once, by a driver if it can't by
    /// itself.
    pub(super) in_turns: bool,
    /// The most processor time, in seconds. Beyond that, the process is ended with SIGXCPU.
    pub(super) processor_seconds: u64,
    /// The most memory, in bytes. Beyond that, the process aborts.
    pub(super) memory_bytes: u64,
}

/// The result of a compilation that came to its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum CompileReport {
    /// The component is compiled.
    Compiled {
        /// Whether the driver of turns was put beside the component.
        has_driver: bool,
        /// The number of functions whose machine code was taken from the last build.
        functions_reused: usize,
        /// The length of the machine code that follows the report.
        image_bytes: u64,
    },
    /// The component is wrong, for this reason.
    Invalid(String),
}

/// Compiles a component if this process was started to do so. A program that loads plugins calls
/// this function first, and ends with the returned exit code, if there is one.
pub fn compile_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let request = arguments.next();
    let functions = arguments.next().map(PathBuf::from);
    let run = request
        .context("no request")
        .and_then(|request| run(request, functions));
    Some(match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    })
}

fn run(request: OsString, functions: Option<PathBuf>) -> anyhow::Result<()> {
    let request = request.to_str().context("a request that is no text")?;
    let request: CompileRequest = serde_json::from_str(request)?;
    confine(&request)?;
    // Both take a while, and neither waits for the other.
    let read = functions.map(|path| std::thread::spawn(move || FunctionCache::read(&path)));
    let mut component = Vec::new();
    std::io::stdin().read_to_end(&mut component)?;
    let composed = match request.in_turns {
        // What is wrong with a component is said of the component alone.
        true => turn_driver::put_beside(&component).ok().flatten(),
        false => None,
    };
    let functions = read
        .map(JoinHandle::join)
        .and_then(Result::ok)
        .map(Arc::new);
    let (image, has_driver) = match compile(&component, composed, functions.clone()) {
        Ok(compiled) => compiled,
        Err(error) if error.is::<wasmtime::OutOfMemory>() => return Err(error.into()),
        Err(error) => {
            let mut why = format!("{error:#}");
            why.truncate(why.floor_char_boundary(WHY_BYTES));
            return answer(&CompileReport::Invalid(why), &[]);
        }
    };
    let report = CompileReport::Compiled {
        has_driver,
        functions_reused: functions.as_ref().map_or(0, |functions| functions.reused()),
        image_bytes: image.len() as u64,
    };
    answer(&report, &image)?;
    // Without them, the next build is compiled as a whole.
    if let Some(functions) = functions {
        functions
            .write()
            .context("the machine code of its functions cannot be kept")?;
    }
    Ok(())
}

fn answer(report: &CompileReport, image: &[u8]) -> anyhow::Result<()> {
    let report = serde_json::to_vec(report)?;
    let length = u32::try_from(report.len())?;
    let mut stdout = std::io::stdout();
    for part in [&length.to_le_bytes()[..], &report, image] {
        stdout.write_all(part)?;
    }
    Ok(stdout.flush()?)
}

/// Limits what this process may take. All its threads are started later, and inherit the limits.
fn confine(request: &CompileRequest) -> std::io::Result<()> {
    use rustix::process::{
        getrlimit, set_parent_process_death_signal, setpriority_process, setrlimit,
    };
    // Refused, compiling is only less polite.
    let _ = setpriority_process(None, 19);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let limits = [
        (Resource::Core, 0),
        (Resource::Cpu, request.processor_seconds),
        (Resource::Data, request.memory_bytes),
    ];
    for (resource, most) in limits {
        // The process may be limited already, and may not raise that.
        let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit {
            current: Some(most.min(hard)),
            // The hard limit of the time would end the process with SIGKILL, as others may do.
            maximum: Some(most.saturating_add(1).min(hard)),
        };
        setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Compiles a component, with the driver of turns beside it if that was put there.
fn compile(
    component: &[u8],
    composed: Option<Vec<u8>>,
    functions: Option<Arc<FunctionCache>>,
) -> wasmtime::Result<(Vec<u8>, bool)> {
    let mut config = engine::config(InstanceAllocationStrategy::OnDemand);
    if let Some(functions) = functions {
        config.enable_incremental_compilation(functions)?;
    }
    let engine = Engine::new(&config)?;
    if let Some(composed) = composed
        && let Ok(image) = engine.precompile_component(&composed)
    {
        return Ok((image, true));
    }
    Ok((engine.precompile_component(component)?, false))
}
