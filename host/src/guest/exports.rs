//! The exports of the contract that a component has; they are looked up once, at load.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use super::bindings::call_handler::WithCallHandlerIndices;
use super::bindings::lifecycle::WithLifecycleIndices;
use super::bindings::plugin::PluginIndices;
use super::bindings::timer_handler::WithTimerHandlerIndices;
use super::bindings::turn_handler::WithTurnHandlerIndices;

/// The export that every component must have.
pub(super) const HANDLER: &str = "jackfield:plugin/handler@0.1.0";

const LIFECYCLE: &str = "jackfield:plugin/lifecycle@0.1.0";
const CALL_HANDLER: &str = "jackfield:plugin/call-handler@0.1.0";
const TIMER_HANDLER: &str = "jackfield:plugin/timer-handler@0.1.0";

/// The export by which a component takes several messages at once.
pub(super) const TURN_HANDLER: &str = "jackfield:plugin/turn-handler@0.1.0";

/// The interface by which a component takes the messages of a turn.
pub(super) const TURNS: &str = "jackfield:plugin/turns@0.1.0";

/// The interface that a component imports to set timers, without its version.
const TIMERS: &str = "jackfield:plugin/timers@";

/// A linked component and the indices of its exports.
pub(super) struct Exports<T: 'static> {
    pub(super) pre: InstancePre<T>,
    pub(super) handler: PluginIndices,
    pub(super) lifecycle: Option<WithLifecycleIndices>,
    pub(super) call_handler: Option<WithCallHandlerIndices>,
    pub(super) timer_handler: Option<WithTimerHandlerIndices>,
    pub(super) turn_handler: Option<WithTurnHandlerIndices>,
    /// Whether the component imports `set-timer`.
    pub(super) sets_timers: bool,
}

impl<T: 'static> Exports<T> {
    /// Finds the exports of a linked component.
    ///
    /// # Errors
    ///
    /// An export lacks a function of the contract.
    pub(super) fn find(pre: InstancePre<T>) -> wasmtime::Result<Exports<T>> {
        let component = pre.component();
        let exports = |name| component.get_export_index(None, name).is_some();
        let lifecycle = exports(LIFECYCLE).then(|| WithLifecycleIndices::new(&pre));
        let call_handler = exports(CALL_HANDLER).then(|| WithCallHandlerIndices::new(&pre));
        let timer_handler = exports(TIMER_HANDLER).then(|| WithTimerHandlerIndices::new(&pre));
        let turn_handler = exports(TURN_HANDLER).then(|| WithTurnHandlerIndices::new(&pre));
        Ok(Exports {
            handler: PluginIndices::new(&pre)?,
            lifecycle: lifecycle.transpose()?,
            call_handler: call_handler.transpose()?,
            timer_handler: timer_handler.transpose()?,
            turn_handler: turn_handler.transpose()?,
            sets_timers: sets_timers(component),
            pre,
        })
    }
}

fn sets_timers(component: &Component) -> bool {
    let engine = component.engine();
    let component_type = component.component_type();
    let mut imports = component_type.imports(engine);
    imports.any(|(name, import)| {
        let ComponentItem::ComponentInstance(functions) = import.ty else {
            return false;
        };
        name.starts_with(TIMERS) && functions.get_export(engine, "set-timer").is_some()
    })
}
