//! What users of silky, GatewayWorker and bin-x/websocket have at home, on real nodes: their
//! examples, as plugins.

mod silky;
