//! The SDK's side of the component interfaces.

use std::path::Path;

use anyhow::{Context, Result};
use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::{Opts, WithOption};

/// A file of `src/bindings/`, and the world it is made of.
struct Bindings {
    file: &'static str,
    wit: &'static str,
    world: &'static str,
    options: fn() -> Opts,
}

const ALL: [Bindings; 8] = [
    Bindings {
        file: "plugin",
        wit: "0.1",
        world: "plugin",
        options: || exports("plugin"),
    },
    Bindings {
        file: "lifecycle",
        wit: "0.1",
        world: "with-lifecycle",
        options: || exports("lifecycle"),
    },
    Bindings {
        file: "call_handler",
        wit: "0.1",
        world: "with-call-handler",
        options: || Opts {
            // One type for what `on-call` answers and what `call` does.
            with: vec![(
                "jackfield:plugin/types@0.1.0".to_owned(),
                WithOption::Path("super::plugin::jackfield::plugin::types".to_owned()),
            )],
            ..exports("call_handler")
        },
    },
    Bindings {
        file: "timer_handler",
        wit: "0.1",
        world: "with-timer-handler",
        options: || exports("timer_handler"),
    },
    Bindings {
        file: "turn_handler",
        wit: "0.1",
        world: "with-turn-handler",
        options: || exports("turn_handler"),
    },
    Bindings {
        file: "config",
        wit: "wasi/config",
        world: "imports",
        options: imports,
    },
    Bindings {
        file: "http",
        wit: "wasi/http",
        world: "imports",
        options: || Opts {
            generate_all: true,
            ..imports()
        },
    },
    Bindings {
        file: "keyvalue",
        wit: "wasi/keyvalue",
        world: "imports",
        options: imports,
    },
];

fn imports() -> Opts {
    Opts {
        format: true,
        ..Opts::default()
    }
}

fn exports(module: &str) -> Opts {
    Opts {
        pub_export_macro: true,
        export_macro_name: Some(format!("export_{module}")),
        default_bindings_module: Some(format!("jackfield_sdk::bindings::{module}")),
        ..imports()
    }
}

/// Each file's name and content.
pub(crate) fn generate(wit: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let file = |bindings: &Bindings| {
        let made = bindings.generate(wit);
        let made = made.with_context(|| format!("{} of {}", bindings.world, bindings.wit))?;
        Ok((format!("{}.rs", bindings.file), made))
    };
    ALL.iter().map(file).collect()
}

impl Bindings {
    fn generate(&self, wit: &Path) -> Result<Vec<u8>> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(wit.join(self.wit))?;
        let world = resolve.select_world(&[package], Some(self.world))?;
        let mut files = Files::default();
        (self.options)()
            .build()
            .generate(&mut resolve, world, &mut files)?;
        let (_, text) = files.iter().next().context("no file")?;
        Ok(text.to_vec())
    }
}
