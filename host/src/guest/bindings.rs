//! The bindings of `wit/0.1`, made by wasmtime's generator: one module for each world.

#![allow(
    missing_docs,
    unreachable_pub,
    unused,
    unused_qualifications,
    clippy::all
)]

pub(super) use self::plugin::jackfield::plugin as wit;

pub mod plugin {
    wasmtime::component::bindgen!({
        path: "../wit/0.1",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        // What may have to ask another node, concerns many clients, or runs another plugin.
        imports: {
            "jackfield:plugin/uids": async,
            "jackfield:plugin/groups": async,
            "jackfield:plugin/clients": async,
            "jackfield:plugin/close": async,
            "jackfield:plugin/infos": async,
            "jackfield:plugin/calls": async,
        },
        exports: { default: async },
    });
}
pub mod lifecycle {
    wasmtime::component::bindgen!({
        path: "../wit/0.1",
        world: "with-lifecycle",
        exports: { default: async },
    });
}
pub mod call_handler {
    wasmtime::component::bindgen!({
        path: "../wit/0.1",
        world: "with-call-handler",
        exports: { default: async },
    });
}
pub mod timer_handler {
    wasmtime::component::bindgen!({
        path: "../wit/0.1",
        world: "with-timer-handler",
        exports: { default: async },
    });
}
pub mod turn_handler {
    wasmtime::component::bindgen!({
        path: "../wit/0.1",
        world: "with-turn-handler",
        exports: { default: async },
    });
}
