//! With this crate you write Jackfield plugins in Rust.
//!
//! A plugin is a type that implements [`Plugin`] and is handed to [`export!`]:
//!
//! ```
//! use jackfield_sdk::{ClientId, Message, Plugin, send_to_client};
//!
//! struct Echo;
//!
//! impl Plugin for Echo {
//!     fn on_message(client: ClientId, message: Message) {
//!         let _ = send_to_client(&client, message); // it may have left by now
//!     }
//! }
//!
//! jackfield_sdk::export!(Echo);
//!
//! // And in a test:
//! let ada = jackfield_sdk::testing::Host::of::<Echo>().connect("/")?;
//! ada.say("hello");
//! assert_eq!(ada.received(), ["hello".into()]);
//! # Ok::<(), jackfield_sdk::Refuse>(())
//! ```
//!
//! Built as a `cdylib` with `cargo build --release --target wasm32-wasip2`, it is a component
//! that a node loads from its plugins folder. Built natively, by plain `cargo test`, the same
//! functions work against [`testing::Host`], an in-memory stand-in for the node. The examples of
//! this crate run that way: where no event of a plugin calls a function, [`testing::Host::run`]
//! does.
//!
//! **What an instance keeps in its memory is a cache.** A node runs several instances of a
//! plugin and may end any of them after an event. So keep what must outlive an event in uids,
//! groups, info and [`keyvalue`] buckets.

mod api;
pub mod config;
mod handshake;
pub mod http;
#[cfg(feature = "json")]
mod json;
pub mod keyvalue;
mod message;
mod plugin;
#[cfg(feature = "json")]
pub mod rpc;
mod types;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

// The component's interface, and the bridge from it to this crate's words. Public only because
// `export!` expands in the plugin's crate.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod component;

#[cfg(target_family = "wasm")]
use component as host;
#[cfg(not(target_family = "wasm"))]
use testing as host;

pub use api::*;
pub use handshake::{Accept, Handshake, Refuse};
#[cfg(feature = "json")]
pub use json::{JsonError, from_json, to_json};
pub use message::Message;
pub use plugin::{CallHandler, Lifecycle, Plugin, TimerHandler};
pub use types::*;

// The guide's examples, which are tested with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

/// Makes a type that implements [`Plugin`] this component's plugin.
///
/// The component exports [`Lifecycle`] as well if `, lifecycle` follows the type's name. In the
/// same way `, call_handler` exports [`CallHandler`], and `, timer_handler` exports
/// [`TimerHandler`]. Natively there is nothing to export, and the macro only checks that the type
/// implements these traits.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{CallHandler, Lifecycle, Plugin, TimerHandler};
///
/// struct Chat;
/// impl Plugin for Chat {}
/// impl Lifecycle for Chat {}
/// impl CallHandler for Chat {}
/// impl TimerHandler for Chat {}
///
/// jackfield_sdk::export!(Chat, lifecycle, call_handler, timer_handler);
///
/// assert_eq!(Host::of::<Chat>().start(), Ok(()));
/// ```
///
/// A trait that is exported and not implemented is an error of the compiler:
///
/// ```compile_fail,E0277
/// use jackfield_sdk::Plugin;
///
/// struct Chat;
/// impl Plugin for Chat {}
///
/// jackfield_sdk::export!(Chat, lifecycle); // `Lifecycle` is not implemented for `Chat`
/// ```
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! export {
    ($plugin:ident) => {
        const _: () = {
            use $crate::bindings::plugin;
            type Exported = $crate::component::Exported<$plugin>;
            plugin::export_plugin!(Exported with_types_in plugin);
        };
        const _: () = {
            use $crate::bindings::turn_handler;
            type Exported = $crate::component::Exported<$plugin>;
            turn_handler::export_turn_handler!(Exported with_types_in turn_handler);
        };
    };
    ($plugin:ident, lifecycle $($more:tt)*) => {
        $crate::export!($plugin $($more)*);
        const _: () = {
            use $crate::bindings::lifecycle;
            type Exported = $crate::component::Exported<$plugin>;
            lifecycle::export_lifecycle!(Exported with_types_in lifecycle);
        };
    };
    ($plugin:ident, call_handler $($more:tt)*) => {
        $crate::export!($plugin $($more)*);
        const _: () = {
            use $crate::bindings::call_handler;
            type Exported = $crate::component::Exported<$plugin>;
            call_handler::export_call_handler!(Exported with_types_in call_handler);
        };
    };
    ($plugin:ident, timer_handler $($more:tt)*) => {
        $crate::export!($plugin $($more)*);
        const _: () = {
            use $crate::bindings::timer_handler;
            type Exported = $crate::component::Exported<$plugin>;
            timer_handler::export_timer_handler!(Exported with_types_in timer_handler);
        };
    };
}

/// Makes a type that implements [`Plugin`] this component's plugin.
///
/// The component exports [`Lifecycle`] as well if `, lifecycle` follows the type's name. In the
/// same way `, call_handler` exports [`CallHandler`], and `, timer_handler` exports
/// [`TimerHandler`]. Natively there is nothing to export, and the macro only checks that the type
/// implements these traits.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{CallHandler, Lifecycle, Plugin, TimerHandler};
///
/// struct Chat;
/// impl Plugin for Chat {}
/// impl Lifecycle for Chat {}
/// impl CallHandler for Chat {}
/// impl TimerHandler for Chat {}
///
/// jackfield_sdk::export!(Chat, lifecycle, call_handler, timer_handler);
///
/// assert_eq!(Host::of::<Chat>().start(), Ok(()));
/// ```
///
/// A trait that is exported and not implemented is an error of the compiler:
///
/// ```compile_fail,E0277
/// use jackfield_sdk::Plugin;
///
/// struct Chat;
/// impl Plugin for Chat {}
///
/// jackfield_sdk::export!(Chat, lifecycle); // `Lifecycle` is not implemented for `Chat`
/// ```
#[macro_export]
#[cfg(not(target_family = "wasm"))]
macro_rules! export {
    ($plugin:ident) => {
        const _: fn() = $crate::testing::is_plugin::<$plugin>;
    };
    ($plugin:ident, lifecycle $($more:tt)*) => {
        $crate::export!($plugin $($more)*);
        const _: fn() = $crate::testing::has_lifecycle::<$plugin>;
    };
    ($plugin:ident, call_handler $($more:tt)*) => {
        $crate::export!($plugin $($more)*);
        const _: fn() = $crate::testing::is_call_handler::<$plugin>;
    };
    ($plugin:ident, timer_handler $($more:tt)*) => {
        $crate::export!($plugin $($more)*);
        const _: fn() = $crate::testing::is_timer_handler::<$plugin>;
    };
}
