//! Calls of a backend, as the API's room makes them, to a plugin in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jackfield::config::CacheFolder;
use jackfield::counters::Counters;
use jackfield::guest::{CallError, CallErrorCode, Caller, CompilerOptions, Services};
use jackfield::id::Incarnation;
use jackfield::limits::{Limits, PluginLimits};
use jackfield::plugin::{Plugin, Plugins};
use jackfield::registry::Registry;
use jackfield::tracer::Tracer;

const BACKEND: Caller<'_> = Caller::Api("billing");

#[tokio::test]
async fn a_backend_needs_no_manifest_and_is_told_what_went_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = console(folder.path()).await;
    let call = async |method: &str, payload: &str| {
        let answer = plugin.on_call(BACKEND, method, payload.as_bytes()).await;
        answer.map(|answer| String::from_utf8(answer).expect("text"))
    };
    assert_eq!(call("caller", "").await.as_deref(), Ok("api billing"));
    let denied = CallError::Refused {
        code: CallErrorCode::Denied,
        message: "asked to fail".to_owned(),
    };
    assert_eq!(call("fail", "denied").await, Err(denied));
    assert_eq!(call("do", "panic").await, Err(CallError::Trapped));
    let stranger = Caller::Plugin {
        name: "stranger",
        depth: 0,
    };
    let caller = "stranger".to_owned();
    let refused = plugin.on_call(stranger, "echo", b"").await;
    assert_eq!(refused, Err(CallError::Denied { caller }));
}

#[tokio::test]
async fn a_plugin_that_drains_serves_those_who_may_have_to_end_and_no_backend() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = console(folder.path()).await;
    let chat = Caller::Plugin {
        name: "chat",
        depth: 0,
    };
    let staying = plugin.session(None);
    std::fs::remove_file(folder.path().join("console.wasm")).expect("removed");

    assert_eq!(until_error(&plugin, BACKEND).await, CallError::Draining);
    let answer = plugin.on_call(chat, "echo", b"last orders").await;
    assert_eq!(answer.as_deref(), Ok(&b"last orders"[..]));

    drop(staying);
    assert_eq!(until_error(&plugin, chat).await, CallError::Absent);
    assert_eq!(until_error(&plugin, BACKEND).await, CallError::Absent);
}

async fn until_error(plugin: &Plugin, caller: Caller<'_>) -> CallError {
    loop {
        if let Err(error) = plugin.on_call(caller, "echo", b"").await {
            return error;
        }
        tokio::task::yield_now().await;
    }
}

async fn console(folder: &Path) -> Arc<Plugin> {
    let component = built().join("console.wasm");
    std::fs::copy(&component, folder.join("console.wasm"))
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", component.display()));
    std::fs::write(folder.join("console.toml"), "[calls]\nallow = ['chat']").expect("a manifest");
    let counters = Arc::<Counters>::default();
    let incarnation = Incarnation::draw().expect("randomness");
    let registry = Registry::new(
        incarnation,
        Limits::default(),
        counters,
        Tracer::default(),
        1,
        false,
    );
    let services = Services::in_memory().expect("roots");
    let compiler = CompilerOptions {
        program: env!("CARGO_BIN_EXE_jackfield").into(),
        ..CompilerOptions::new(&CacheFolder::Off, &Limits::default())
    };
    let plugins = Plugins::open(
        folder.into(),
        compiler,
        PluginLimits::default(),
        registry,
        None,
        services,
        Plugins::PATIENCE,
    )
    .await
    .expect("plugins");
    plugins.get("console").expect("the console")
}

/// Where `cargo xtask build-plugins` leaves components.
fn built() -> PathBuf {
    match std::env::var_os("JACKFIELD_PLUGINS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins"),
    }
}
