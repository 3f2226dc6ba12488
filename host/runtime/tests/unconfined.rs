//! The profile of a process can be recorded only once, so this test runs in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is a failed test")]

use std::path::Path;

use flowgate_privileges::PrivilegeProfile;
use flowgate_runtime::{LoadError, PluginComponent, PluginEngine};

/// A plugin's file is not loaded without a system-call filter, whichever way it is loaded.
#[test]
fn a_plugin_is_not_loaded_in_a_process_that_is_not_confined() {
    let engine = PluginEngine::new(None).unwrap();
    let load = || PluginComponent::from_bytes(&engine, Path::new("some.wasm"), b"\0asm\x0d\0\x01\0");
    assert!(matches!(load().err(), Some(LoadError::Mismatch { .. })), "it is read where nothing stands in the way");
    std::thread::spawn(|| PrivilegeProfile::Command { namespaces: false, plugins: false }.apply().unwrap())
        .join()
        .unwrap();
    let error = load().err().unwrap();
    assert!(matches!(error, LoadError::Unconfined { .. }), "{error}");
    assert!(error.to_string().contains("its command line named none"), "{error}");
}
