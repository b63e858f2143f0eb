//! Keeps `src/bindings/` what `wit-bindgen` makes of `wit/`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
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

const ALL: [Bindings; 7] = [
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

/// Writes what is not current, so that a run on an author's machine mends it; where `CI` is
/// set, it only fails.
#[test]
fn the_bindings_are_those_of_the_wit() -> Result<()> {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stale = Vec::new();
    for bindings in &ALL {
        let file = sdk.join(format!("src/bindings/{}.rs", bindings.file));
        let made = bindings
            .generate(sdk)
            .with_context(|| format!("{} of {}", bindings.world, bindings.wit))?;
        if fs::read_to_string(&file).is_ok_and(|text| text == made) {
            continue;
        }
        stale.push(bindings.file);
        if std::env::var_os("CI").is_none() {
            fs::write(&file, made)?;
        }
    }
    ensure!(
        stale.is_empty(),
        "src/bindings/ was not what wit/ makes of it: {}; `cargo test -p jackfield-sdk --test \
         bindings` has written it anew (not where CI is set): look at the change, and commit it",
        stale.join(", ")
    );
    Ok(())
}

impl Bindings {
    fn generate(&self, sdk: &Path) -> Result<String> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(sdk.join("../wit").join(self.wit))?;
        let world = resolve.select_world(&[package], Some(self.world))?;
        let mut files = Files::default();
        (self.options)()
            .build()
            .generate(&mut resolve, world, &mut files)?;
        let (_, text) = files.iter().next().context("no file")?;
        Ok(String::from_utf8(text.to_vec())?)
    }
}
