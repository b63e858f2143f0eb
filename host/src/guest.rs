//! Guests: the engine that runs components, their instances, the host side of the contract, and the
//! host side of what a manifest grants in addition.
//!
//! A plugin's generation has a `Pool` of instances. An event checks an instance out of the pool and
//! calls the guest. An event may run for `event_timeout`, and may take `wait_timeout` with all its
//! waiting. Plugins share the processors (`processors`) and the memory (`memory`). The imports of a guest are served by `contract` (`wit/0.1`), `settings`, `keyvalue` and
//! `http`.

mod bindings;
mod bounded;
mod call;
mod clocks;
mod compile_process;
mod compiler;
mod component;
mod component_cache;
mod context;
mod contract;
mod engine;
mod event;
mod event_client;
mod event_times;
mod exports;
mod function;
mod function_cache;
mod http;
mod identity;
mod instance;
mod keyvalue;
mod log;
mod long_polls;
mod memory;
mod pool;
mod processors;
mod randomness;
mod services;
mod settings;
mod ticker;
mod trap;
mod turn_driver;
mod usage;

pub use self::call::{CallError, CallErrorCode, Caller};
pub(crate) use self::call::{Callees, Calling};
pub use self::compile_process::compile_if_asked;
pub use self::compiler::{CompileError, CompilerOptions};
pub(crate) use self::component::Components;
pub use self::component::{ComponentError, GrantSection, Interfaces};
pub(crate) use self::context::Context;
pub(crate) use self::event::{Acceptance, ConnectRefusal, StartError};
pub(crate) use self::event_client::EventClient;
pub(crate) use self::event_times::EventTimes;
pub(crate) use self::function::GuestFunction;
pub(crate) use self::http::grant::HttpGrant;
pub(crate) use self::identity::{Identity, LogAllowance};
pub use self::log::LOG_TARGET;
pub(crate) use self::memory::MemoryBudget;
pub(crate) use self::pool::{NoInstance, Pool, PooledInstance};
pub use self::services::Services;
pub(crate) use self::trap::{TrapKind, Trapped};
pub(crate) use self::usage::Usage;
