//! Where a plugin stands on a node, in one word for operators.

use super::handle::Plugin;
use super::slot::Slot;

/// Where a plugin stands on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// A generation runs and handles events.
    Running,
    /// A generation runs, and its build is taken back if too many of its events fail.
    Probation,
    /// A generation is there, and handles no events for the moment, since all of them failed.
    Paused,
    /// The plugin's clients are being closed.
    Draining,
    /// The plugin runs at other nodes only.
    Elsewhere,
    /// The plugin does not run anywhere.
    Stopped,
}

impl PluginState {
    /// The word for the state.
    pub fn as_str(self) -> &'static str {
        match self {
            PluginState::Running => "running",
            PluginState::Probation => "probation",
            PluginState::Paused => "paused",
            PluginState::Draining => "draining",
            PluginState::Elsewhere => "elsewhere",
            PluginState::Stopped => "stopped",
        }
    }
}

impl Plugin {
    /// Returns where the plugin stands on this node.
    pub fn state(&self) -> PluginState {
        match &**self.slot() {
            Slot::Running(generations) => {
                let generation = &generations.stable;
                let probation = &generation.probation;
                if probation.paused_for().is_some() {
                    PluginState::Paused
                } else if probation.is_under_way(generation.limits(), generation.events()) {
                    PluginState::Probation
                } else {
                    PluginState::Running
                }
            }
            Slot::Draining(_) | Slot::DrainingOrphans => PluginState::Draining,
            Slot::Empty if self.is_open() => PluginState::Elsewhere,
            Slot::Empty => PluginState::Stopped,
        }
    }
}
