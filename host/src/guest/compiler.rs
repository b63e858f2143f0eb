//! The compiler of components: a process of its own for each component, bounded in time and in
//! memory.
//!
//! Some components make the compiler take minutes and gigabytes, overflow its stack, or panic. In a
//! process of its own, this ends with an error for the one component, and the memory goes back to
//! the system. The process has the lowest priority, so a reload takes little processor time from the
//! clients that are served meanwhile.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compile_process::{ARGUMENT, CompileReport, CompileRequest};
use super::component_cache::{self, ComponentCache};
use crate::config::CacheFolder;
use crate::limits::Limits;

/// This program, also if its file was replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The most components that are compiled at the same time. One that takes long does not keep others
/// waiting.
const COMPILATIONS: usize = 4;

/// The most threads of one compilation.
const THREADS: usize = 4;

/// A process that takes this many times its processor time does not work any more. Beside a node
/// that takes all processors, a process of the lowest priority gets a sixtieth of them.
const PATIENCE: u32 = 100;

/// The most bytes that are read from stderr.
const STDERR_BYTES: u64 = 64 << 10;

/// The compiler, and the cache of what it has compiled.
pub(super) struct Compiler {
    cache: Option<Arc<ComponentCache>>,
    running: Semaphore,
    options: CompilerOptions,
}

/// How components are compiled, and what is kept of it.
#[derive(Clone, Debug)]
pub struct CompilerOptions {
    /// The program that is run, which calls `compile_if_asked` first.
    pub program: PathBuf,
    /// The folder for compiled components.
    pub cache: CacheFolder,
    /// The most bytes of the files in the folder.
    pub cache_bytes: u64,
    /// The most processor time for one component.
    pub timeout: Duration,
    /// The most memory for one component, in bytes.
    pub memory_bytes: u64,
}

/// A component in its compiled form.
pub(super) struct Compiled {
    pub(super) component: Component,
    /// Whether the driver of turns was put beside the component.
    pub(super) has_driver: bool,
}

/// The reason why a component is not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are no component that can be compiled.
    #[error("{0}{hint}", hint = hint(.0))]
    Invalid(String),
    /// Compiling took too much processor time.
    #[error(
        "compiling it takes more than {} of processor time (limits.compile_timeout): make the \
         component smaller, or raise the limit",
        humantime::format_duration(*.0)
    )]
    TooSlow(Duration),
    /// Compiling took too much memory.
    #[error(
        "compiling it takes more than {0} bytes of memory (limits.compile_bytes): make the \
         component smaller, or raise the limit"
    )]
    TooLarge(u64),
    /// The compiler crashed at the component.
    #[error("the compiler crashed at it ({status}): {said}")]
    Crashed {
        /// How the compiler's process ended.
        status: ExitStatus,
        /// The text that it wrote to stderr.
        said: String,
    },
    /// The compiler's process could not be run.
    #[error("the compiler cannot be run: {0}")]
    Run(#[from] io::Error),
}

impl CompilerOptions {
    /// Compiles with this very program, within the operator's limits. `cache` is the folder for
    /// what is compiled.
    pub fn new(cache: &CacheFolder, limits: &Limits) -> CompilerOptions {
        CompilerOptions {
            program: THIS_PROGRAM.into(),
            cache: cache.clone(),
            cache_bytes: limits.cache_bytes,
            timeout: limits.compile_timeout,
            memory_bytes: limits.compile_bytes,
        }
    }
}

impl Compiler {
    /// Opens the cache.
    ///
    /// # Errors
    ///
    /// A folder that the operator has named cannot be used.
    pub(super) fn new(options: CompilerOptions) -> anyhow::Result<Compiler> {
        let cache = ComponentCache::open(&options.cache, options.cache_bytes)?;
        Ok(Compiler {
            cache: cache.map(Arc::new),
            running: Semaphore::new(COMPILATIONS),
            options,
        })
    }

    /// Compiles the component of a plugin, or fetches it from the cache. `in_turns` says whether
    /// the component shall take several messages at once, by a driver if it can't by itself.
    ///
    /// # Errors
    ///
    /// The bytes are no component, or one that cannot be compiled within the limits.
    pub(super) async fn compile(
        &self,
        engine: &Engine,
        plugin: &str,
        bytes: Vec<u8>,
        in_turns: bool,
    ) -> Result<Compiled, CompileError> {
        let bytes = Arc::new(bytes);
        let (key, known) = {
            let (engine, bytes, cache) = (engine.clone(), bytes.clone(), self.cache.clone());
            let look = move || {
                let key = key(&engine, &bytes, in_turns);
                let content = cache.and_then(|cache| cache.get(&key));
                // One that cannot be loaded is compiled again.
                let known = content.and_then(|content| load(&engine, &content).ok());
                (key, known)
            };
            spawn_blocking(look).await.map_err(io::Error::other)?
        };
        if let Some(compiled) = known {
            return Ok(compiled);
        }
        let content = {
            let _one_of_few = self.running.acquire().await;
            self.run(plugin, &bytes, in_turns).await?
        };
        let (engine, cache) = (engine.clone(), self.cache.clone());
        let load_and_keep = move || {
            let loaded = load(&engine, &content);
            if let Some(cache) = cache {
                cache.put(&key, &content);
            }
            loaded
        };
        let loaded = spawn_blocking(load_and_keep)
            .await
            .map_err(io::Error::other)?;
        Ok(loaded.map_err(io::Error::other)?)
    }

    /// Compiles a component in a process of its own.
    async fn run(
        &self,
        plugin: &str,
        component: &[u8],
        in_turns: bool,
    ) -> Result<Vec<u8>, CompileError> {
        let CompilerOptions {
            timeout,
            memory_bytes,
            ..
        } = self.options;
        let request = CompileRequest {
            in_turns,
            processor_seconds: timeout.as_secs().max(1),
            memory_bytes,
        };
        let request = serde_json::to_string(&request).map_err(io::Error::other)?;
        let started = Instant::now();
        let mut command = Command::new(&self.options.program);
        command
            .args([ARGUMENT, &request])
            .args(self.cache.as_ref().map(|cache| cache.functions(plugin)))
            // It needs nothing of what the node was told in confidence.
            .env_clear()
            .env("RAYON_NUM_THREADS", threads().to_string())
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let ended = tokio::time::timeout(
            timeout.saturating_mul(PATIENCE),
            communicate(command.spawn()?, component, memory_bytes),
        );
        let Ok(ended) = ended.await else {
            return Err(CompileError::TooSlow(timeout));
        };
        let Ended {
            status,
            stdout: mut content,
            stderr: said,
        } = ended?;
        let report = said
            .lines()
            .find_map(|line| serde_json::from_str(line).ok());
        match report {
            Some(CompileReport::Compiled { has_driver, reused }) => {
                if !status.success() {
                    tracing::warn!(plugin, %status, "after compiling: {said}");
                }
                let took = started.elapsed();
                tracing::info!(
                    plugin,
                    ?took,
                    functions_reused = reused,
                    "component compiled"
                );
                content.push(has_driver.into());
                Ok(content)
            }
            Some(CompileReport::Invalid(why)) => Err(CompileError::Invalid(why)),
            _ => Err(match status.signal().and_then(Signal::from_named_raw) {
                Some(Signal::XCPU) => CompileError::TooSlow(timeout),
                Some(Signal::KILL) => {
                    io::Error::other("its process was killed, perhaps for lack of memory").into()
                }
                _ if said.contains("memory allocation of") => CompileError::TooLarge(memory_bytes),
                _ => CompileError::Crashed { status, said },
            }),
        }
    }
}

/// What came out of a process.
struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

/// Passes bytes to a process, and waits for its end.
async fn communicate(mut process: Child, stdin: &[u8], stdout_bytes: u64) -> io::Result<Ended> {
    let pipes = (
        process.stdin.take(),
        process.stdout.take(),
        process.stderr.take(),
    );
    let (Some(mut input), Some(output), Some(errors)) = pipes else {
        return Err(io::Error::other("it has no pipes"));
    };
    let write = async move {
        // A process that crashes does not read to the end, and is looked at below.
        let _ = input.write_all(stdin).await;
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut output, mut errors) = (output.take(stdout_bytes), errors.take(STDERR_BYTES));
    let ((), read, said) = tokio::join!(
        write,
        output.read_to_end(&mut stdout),
        errors.read_to_end(&mut stderr)
    );
    let _ = (read?, said?);
    Ok(Ended {
        status: process.wait().await?,
        stdout,
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

fn threads() -> usize {
    let processors = std::thread::available_parallelism();
    processors.map_or(1, |processors| processors.get().min(THREADS))
}

/// The key of a component in the cache. Another version or configuration of the engine has others.
fn key(engine: &Engine, component: &[u8], in_turns: bool) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let engine = hasher.finish().to_le_bytes();
    component_cache::key(&[&engine, &[in_turns.into()], component])
}

/// Loads the machine code of a component, behind which is a byte that says whether it has a driver.
fn load(engine: &Engine, content: &[u8]) -> wasmtime::Result<Compiled> {
    let Some((has_driver, image)) = content.split_last() else {
        return Err(wasmtime::Error::msg("the compiled component is empty"));
    };
    // SAFETY: this program has written it: it comes out of a process that it started, or out of a
    // folder where only the node may write, with a digest that fits.
    let component = unsafe { Component::deserialize(engine, image) }?;
    Ok(Compiled {
        component,
        has_driver: *has_driver != 0,
    })
}

/// Advice that fits to what is wrong with a component.
fn hint(said: &str) -> &'static str {
    if said.contains("unexpected end") || said.contains("out of bounds") {
        "; the file ends too early, perhaps it was copied only in part: copy it again"
    } else if said.contains("component model async feature") {
        "; components of the async ABI are not served: build it with synchronous exports"
    } else {
        "; build it again, with a toolchain for components of WASI 0.2"
    }
}
