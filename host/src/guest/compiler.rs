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
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compile_process::{ARGUMENT, CompileReport, CompileRequest};
use super::component_cache::{self, ComponentCache};
use super::turn_driver;
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
    running: Arc<Semaphore>,
    /// The tasks that write into the cache.
    keeping: TaskTracker,
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
        // A program that compiles and does not call `compile_if_asked` would start itself again and
        // again.
        anyhow::ensure!(
            std::env::args_os()
                .nth(1)
                .is_none_or(|first| first != ARGUMENT),
            "this program must call compile_if_asked first"
        );
        // Where the signal is ignored, as it is if the parent did so, nobody learns of a child's end.
        drop(signal(SignalKind::child())?);
        let cache = ComponentCache::open(&options.cache, options.cache_bytes)?;
        Ok(Compiler {
            cache: cache.map(Arc::new),
            running: Arc::new(Semaphore::new(COMPILATIONS)),
            keeping: TaskTracker::new(),
            options,
        })
    }

    /// Returns the folder for the builds of the plugins that are in this folder, if there is a cache.
    pub(super) fn builds(&self, plugins: &Path) -> Option<PathBuf> {
        Some(self.cache.as_ref()?.builds(plugins))
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
        let permit = self.running.clone().acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let content = self.run(plugin, &bytes, in_turns, permit).await?;
        let engine = engine.clone();
        let load_it = move || load(&engine, &content).map(|compiled| (compiled, content));
        let loaded = spawn_blocking(load_it).await.map_err(io::Error::other)?;
        // More tables or memory than an instance may have, say.
        let (compiled, content) =
            loaded.map_err(|error| CompileError::Invalid(format!("{error:#}")))?;
        if let Some(cache) = self.cache.clone() {
            // The plugin need not wait for the disk.
            let keep = move || cache.put(&key, &content);
            self.keeping.spawn_blocking(keep);
        }
        Ok(compiled)
    }

    /// Waits until no process compiles any more, nor keeps what it has compiled.
    pub(super) async fn idle(&self) {
        let all = u32::try_from(COMPILATIONS).unwrap_or(u32::MAX);
        let _ = self.running.acquire_many(all).await;
        self.keeping.close();
        self.keeping.wait().await;
    }

    /// Compiles a component in a process of its own.
    async fn run(
        &self,
        plugin: &str,
        component: &[u8],
        in_turns: bool,
        permit: OwnedSemaphorePermit,
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
        let process = self.spawn(&mut command)?;
        let ended = tokio::time::timeout(
            timeout.saturating_mul(PATIENCE),
            communicate(process, component, memory_bytes, permit),
        );
        match ended.await {
            Err(_) => Err(CompileError::TooSlow(timeout)),
            Ok(Ok((CompileReport::Invalid(why), _))) => Err(CompileError::Invalid(why)),
            Ok(Ok((
                CompileReport::Compiled {
                    has_driver,
                    functions_reused,
                    ..
                },
                mut content,
            ))) => {
                let took = started.elapsed();
                tracing::info!(plugin, ?took, functions_reused, "component compiled");
                content.push(has_driver.into());
                Ok(content)
            }
            Ok(Err(EndedProcess { status, said })) => {
                Err(match status.signal().and_then(Signal::from_named_raw) {
                    Some(Signal::XCPU) => CompileError::TooSlow(timeout),
                    Some(Signal::KILL) => {
                        let why = "its process was killed, perhaps for lack of memory";
                        io::Error::other(why).into()
                    }
                    _ if has_no_memory(&said) => CompileError::TooLarge(memory_bytes),
                    _ => CompileError::Crashed { status, said },
                })
            }
        }
    }

    fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        command.spawn().map_err(|error| {
            let program = self.options.program.display();
            io::Error::new(error.kind(), format!("{program}: {error}"))
        })
    }
}

/// How a process ended that did not answer.
struct EndedProcess {
    status: ExitStatus,
    /// What it wrote to stderr.
    said: String,
}

/// Passes a component to a process, and returns its answer. The process may go on after that, and
/// keeps its permit until its end.
async fn communicate(
    mut process: Child,
    component: &[u8],
    most_bytes: u64,
    permit: OwnedSemaphorePermit,
) -> Result<(CompileReport, Vec<u8>), EndedProcess> {
    let input = process.stdin.take();
    let output = process.stdout.take();
    let said = tokio::spawn(listen(process.stderr.take()));
    let write = async {
        if let Some(mut input) = input {
            // A process that crashes does not read to the end, and is looked at below.
            let _ = input.write_all(component).await;
        }
    };
    let ((), answer) = tokio::join!(write, read_answer(output, most_bytes));
    let end = async move {
        let status = process.wait().await.unwrap_or_default();
        let said = said.await.unwrap_or_default();
        drop(permit);
        EndedProcess { status, said }
    };
    match answer {
        Ok(answer) => {
            tokio::spawn(async move {
                let EndedProcess { status, said } = end.await;
                if !status.success() {
                    tracing::warn!(%status, "after compiling: {said}");
                }
            });
            Ok(answer)
        }
        Err(_) => Err(end.await),
    }
}

async fn read_answer(
    output: Option<ChildStdout>,
    most_bytes: u64,
) -> io::Result<(CompileReport, Vec<u8>)> {
    let mut output = output.ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = output.read_u32_le().await?;
    let mut report = Vec::new();
    (&mut output)
        .take(length.into())
        .read_to_end(&mut report)
        .await?;
    let report = serde_json::from_slice(&report)?;
    let mut image = Vec::new();
    if let CompileReport::Compiled { image_bytes, .. } = report {
        let bytes = image_bytes.min(most_bytes);
        image.reserve_exact(usize::try_from(bytes).unwrap_or_default().saturating_add(1));
        let read = (&mut output).take(bytes);
        { read }.read_to_end(&mut image).await?;
        if image.len() as u64 != image_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((report, image))
}

/// Reads the beginning of what a process writes to stderr, and discards the rest. A process that
/// nobody reads would wait without end.
async fn listen(errors: Option<ChildStderr>) -> String {
    let mut said = Vec::new();
    if let Some(errors) = errors {
        let mut errors = errors.take(STDERR_BYTES);
        let _ = errors.read_to_end(&mut said).await;
        let _ = tokio::io::copy(&mut errors.into_inner(), &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Whether a process says that it got no memory: Rust's abort, an error of wasmtime or of the
/// system, or a thread that could not be started.
fn has_no_memory(said: &str) -> bool {
    [
        "memory allocation of",
        "out of memory",
        "Cannot allocate memory",
        "Resource temporarily unavailable",
    ]
    .iter()
    .any(|words| said.contains(words))
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
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let driver = turn_driver::DRIVER;
    component_cache::key(&[version, &engine, driver, &[in_turns.into()], component])
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
