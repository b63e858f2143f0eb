//! The component that hands a turn's messages to a plugin without `turn-handler`.

use std::path::Path;

use anyhow::Result;
use wit_bindgen_core::wit_parser::Resolve;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// What the driver imports and exports.
const WORLD: &str = "
    package jackfield:driver;
    world driver {
        import jackfield:plugin/handler@0.1.0;
        import jackfield:plugin/turns@0.1.0;
        export jackfield:plugin/turn-handler@0.1.0;
    }
";

/// The file's name and content.
pub(crate) fn generate(root: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut module = wat::parse_file(root.join("host/src/guest/turn_driver.wat"))?;
    let mut resolve = Resolve::default();
    resolve.push_path(root.join("wit/0.1"))?;
    let package = resolve.push_str("driver.wit", WORLD)?;
    let world = resolve.select_world(&[package], None)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let mut encoder = ComponentEncoder::default();
    let made = encoder.validate(true).module(&module)?.encode()?;
    Ok(vec![("turn_driver.wasm".to_owned(), made)])
}
