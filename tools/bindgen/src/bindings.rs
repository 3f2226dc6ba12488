//! Generates, from a world of the WIT package, a C header, its source, and the object file that names the world.

use std::{fs, path::Path};

use wit_bindgen_core::{Files, wit_parser::Resolve};

use crate::error::BindgenError;

/// Writes the bindings of a world. An unchanged file is not written, so that make can see what has changed.
pub(crate) fn write(wit: &Path, world: &str, out: &Path) -> Result<(), BindgenError> {
    let mut resolve = Resolve::default();
    let (package, _) =
        resolve.push_dir(wit).map_err(|error| BindgenError::Wit { path: wit.into(), said: format!("{error:#}") })?;
    let worlds = &resolve.packages[package].worlds;
    let id = *worlds.get(world).ok_or_else(|| BindgenError::World {
        world: world.into(),
        there: worlds.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
    })?;

    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut resolve, id, &mut files)
        .map_err(|error| BindgenError::Generate { world: world.into(), said: format!("{error:#}") })?;

    fs::create_dir_all(out).map_err(|source| BindgenError::Write { path: out.into(), source })?;
    for (name, content) in files.iter() {
        let path = out.join(name);
        if fs::read(&path).is_ok_and(|old| old == content) {
            continue;
        }
        fs::write(&path, content).map_err(|source| BindgenError::Write { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("flowgate-bindgen-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_world_becomes_three_files_once() {
        let out = scratch("bindings");
        write(&package(), "stage", &out).unwrap();
        let written = |name: &str| fs::metadata(out.join(name)).unwrap().modified().unwrap();
        let first = [written("stage.h"), written("stage.c"), written("stage_component_type.o")];
        write(&package(), "stage", &out).unwrap();
        assert_eq!(first, [written("stage.h"), written("stage.c"), written("stage_component_type.o")]);
        fs::remove_dir_all(out).unwrap();
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = write(&package(), "stagee", &scratch("none")).unwrap_err().to_string();
        assert!(error.contains("`stagee`") && error.contains("selecting-stage"), "{error}");
        let error = write(Path::new("/nowhere"), "stage", &scratch("none")).unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
