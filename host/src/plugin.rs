//! Plugins: business logic as components, replaced while the sockets stay open.
//!
//! The folder (`folder`) loads a build (`load`) into a plugin's slot (`slot`, `handle`). A client
//! has a `session` with its plugin. Where the plugin runs at other nodes only, the client's events
//! go there (`gateway`) and are handled there (`worker`). A new build may be for a part of the clients
//! at first (`canary`).

mod activity;
mod answer;
mod build_mark;
mod builds;
mod call;
mod canary;
mod canary_change;
mod canary_member;
mod canary_request;
mod canary_rules;
mod canary_state;
mod check;
mod connect;
mod deploy;
mod deploy_outcome;
mod deployments;
mod directory;
mod drain;
mod drain_reason;
mod folder;
mod folders;
mod gateway;
mod generation;
mod handle;
mod lease;
mod load;
mod load_checks;
mod loads;
mod look;
mod lookup;
#[cfg(feature = "bench-native")]
mod native;
mod peer_events;
mod preparation;
mod preparations;
mod prepare;
mod probation;
mod recorded_handshake;
mod requests;
mod rollback;
mod rollback_load;
mod rollback_request;
mod session;
mod slot;
mod spread;
mod state;
mod take_over;
mod timer;
mod wanted;
mod watch;
mod worker;

pub use self::answer::{Accepted, Answer, Failure};
pub use self::builds::{KeptBuild, UnknownBuild};
pub use self::canary_request::{CanaryChange, CanaryError, RolloutChange};
pub use self::check::{Checked, check};
pub use self::deploy::DeployOrder;
pub use self::deploy_outcome::{DeployError, Deployed, DeployedNode};
pub use self::deployments::ReceivedBuild;
pub use self::folder::Plugins;
pub use self::folders::PluginFolders;
pub(crate) use self::handle::Delay;
pub use self::handle::Plugin;
pub use self::load::{Advice, LoadError};
pub use self::rollback_request::{RollbackError, RolledBack};
pub use self::session::Session;
#[cfg(not(feature = "bench-native"))]
pub use self::session::Turn;
pub use self::state::PluginState;
#[cfg(feature = "bench-native")]
pub use self::{native::NativeTurn as Turn, session::Turn as GuestTurn};
