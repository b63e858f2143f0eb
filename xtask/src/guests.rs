//! The components that only tests load: `target/guests/NAME.wasm`, and for a guest with
//! variants one `NAME-VARIANT.wasm` for each instead.

use anyhow::Result;

use crate::workspace::{Package, Workspace};
use crate::{component, wasm_target};

pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    wasm_target::ensure(workspace)?;
    workspace
        .guests()
        .into_iter()
        .try_for_each(|guest| build_one(workspace, guest))
}

fn build_one(workspace: &Workspace, guest: &Package) -> Result<()> {
    let folder = workspace.guest_folder();
    if guest.variants.is_empty() {
        let built = component::build(workspace, guest, None)?;
        return component::install(
            workspace,
            &built,
            &folder.join(format!("{}.wasm", guest.name)),
        );
    }
    for variant in &guest.variants {
        let built = component::build(workspace, guest, Some(variant))?;
        component::install(
            workspace,
            &built,
            &folder.join(format!("{}-{variant}.wasm", guest.name)),
        )?;
    }
    Ok(())
}
