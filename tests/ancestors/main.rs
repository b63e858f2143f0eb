//! What users of silky, GatewayWorker and bin-x/websocket have at home, on real nodes: the
//! programs of `docs/from-*.md`.

mod pages;
mod silky;
