//! Plugins for tests and benches, built once per process from the sources beside this file and in `examples/`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test without its plugin is a failed test")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
};

/// The core module of a plugin package of this workspace, built with the profile for plugins.
///
/// # Panics
/// If it cannot be built: no test goes on without its plugin.
pub fn built(package: &str) -> PathBuf {
    built_for(package, "wasm32-unknown-unknown")
}

/// As [`built`], for a target: `wasm32-wasip2` makes a component that imports WASI.
///
/// # Panics
/// As [`built`].
pub fn built_for(package: &str, machine: &str) -> PathBuf {
    static ONE_AT_A_TIME: OnceLock<Mutex<()>> = OnceLock::new();
    let _guard = ONE_AT_A_TIME.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = target_directory().join("test-plugins");
    let output = Command::new(env!("CARGO"))
        .current_dir(&root)
        .args(["build", "--profile", "plugin", "--target", machine, "-p", package, "--target-dir"])
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "building {package} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    target.join(machine).join("plugin").join(format!("{}.wasm", package.replace('-', "_")))
}

/// The directory that this test was built in: .../target/PROFILE/deps/TEST.
fn target_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(3).expect("a test lies three levels deep in the target directory").to_path_buf()
}
