//! Plugins for tests and benchmarks, built once per process from the sources in `tests/plugins` and `examples`.

use crate::built::{profile_directory, root};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// Returns the SHA-256 digest of a plugin's file in hexadecimal, as used in policies.
///
/// # Panics
/// If the file cannot be read.
pub fn digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the core module of a plugin package of this workspace, built with the profile for plugins.
///
/// # Panics
/// If it cannot be built.
pub fn built(package: &str) -> PathBuf {
    built_for(package, "wasm32-unknown-unknown")
}

/// The same as [`built`] for a target: `wasm32-wasip2` produces a component that imports WASI.
///
/// # Panics
/// The same as for [`built`].
pub fn built_for(package: &str, machine: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<(String, String), PathBuf>> = Mutex::new(BTreeMap::new());
    // A test that panicked here has left no incomplete state.
    let mut known = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry((package.into(), machine.into())).or_insert_with(|| build(package, machine)).clone()
}

fn build(package: &str, machine: &str) -> PathBuf {
    let target = profile_directory().parent().expect("profiles lie in the build directory").join("test-plugins");
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["build", "--profile", "plugin", "--target", machine, "-p", package, "--target-dir"])
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "building {package} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    target.join(machine).join("plugin").join(format!("{}.wasm", package.replace('-', "_")))
}
