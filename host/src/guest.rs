//! One component that runs: the engine, instances, the contract's host side, and what a manifest
//! grants beside.
//!
//! A plugin's generation has a `Pool` of instances. An event checks one out, enters the guest
//! with what the contract has for it, and ends within `event_timeout` of running and
//! `wait_timeout` of waiting. What a guest imports is served by `contract` (`wit/0.1`),
//! `settings`, `keyvalue` and `http`.

mod bindings;
mod bounded;
mod cache;
mod call;
mod component;
mod context;
mod contract;
mod engine;
mod event;
mod event_client;
mod exports;
mod http;
mod identity;
mod instance;
mod keyvalue;
mod log;
mod pool;
mod services;
mod settings;
mod ticker;
mod trap;

pub use self::call::{CallError, CallErrorCode, Caller};
pub(crate) use self::call::{Callees, Calling};
pub(crate) use self::component::Components;
pub use self::component::{ComponentError, Grant, Interfaces};
pub(crate) use self::context::Context;
pub(crate) use self::event::{Acceptance, Refusal, StartError};
pub(crate) use self::event_client::EventClient;
pub(crate) use self::http::grant::Grant as HttpGrant;
pub(crate) use self::identity::Identity;
pub(crate) use self::pool::{NoInstance, Pool, PooledInstance};
pub use self::services::Services;
pub(crate) use self::trap::Trapped;
