//! Turns a core module into a component.

use std::{fs, path::Path};

use crate::error::BindgenError;

/// Turns a core module into a component, as the host does when it loads a module.
pub(crate) fn make(module: &Path, out: &Path) -> Result<(), BindgenError> {
    let bytes = fs::read(module).map_err(|source| BindgenError::Read { path: module.into(), source })?;
    let component = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| BindgenError::Component { path: module.into(), said: one_line(&format!("{error:#}")) })?;
    if let Some(directory) = out.parent() {
        fs::create_dir_all(directory).map_err(|source| BindgenError::Write { path: directory.into(), source })?;
    }
    fs::write(out, component).map_err(|source| BindgenError::Write { path: out.into(), source })
}

/// Joins the lines of the encoder's errors.
fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_named() {
        let missing = make(Path::new("/nowhere.wasm"), Path::new("/nowhere/out.wasm")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere.wasm"), "{missing}");
        let this = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let other = make(&this, Path::new("/nowhere/out.wasm")).unwrap_err().to_string();
        assert!(other.contains("Cargo.toml") && other.contains("cannot be made a component"), "{other}");
    }
}
