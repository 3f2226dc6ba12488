//! `plugin new`: the project builds and passes its tests, outside of this source tree.

use std::{fs, path::Path, process::Command};

use super::{directory, flowgate, profile_directory, root, text};

/// Runs make in the project with this flowgate.
fn make(project: &Path, target: &str) -> (bool, String) {
    let output = Command::new("make")
        .arg(target)
        .current_dir(project)
        .env("FLOWGATE", flowgate_test_support::flowgate().path)
        // Its dependencies are those of this source tree, which have been fetched for it.
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", project.join("target"))
        .env("XDG_CACHE_HOME", project.join(".cache"))
        .env_remove("RUSTFLAGS")
        .env_remove("MAKEFLAGS")
        .output()
        .expect("make runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

/// Returns the code blocks of a page with their languages.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let inside = page.split("```").skip(1).step_by(2);
    inside.filter_map(|block| block.split_once('\n')).filter(|(_, text)| text.contains('\n')).collect()
}

#[test]
fn a_new_project_passes_its_tests_and_the_tutorial_holds() {
    let place = directory("new");
    flowgate(&place, &["plugin", "new", "no-telnet"]).stdout(0);
    let project = place.join("no-telnet");
    let (good, said) = make(&project, "test");
    assert!(good && said.contains("3 passed, 0 failed"), "{said}");

    // From here on, follows docs/PLUGINS.md step by step.
    let page = fs::read_to_string(root().join("docs/PLUGINS.md")).expect("the tutorial");
    let blocks = blocks(&page);
    let first = |language: &str, beginning: &str| {
        let found = blocks.iter().find(|(of, text)| *of == language && text.starts_with(beginning));
        found.unwrap_or_else(|| panic!("a block of {language:?} that begins with {beginning:?}")).1
    };
    fs::write(project.join("src/lib.rs"), first("rust", "//! Keeps")).expect("a file");
    fs::write(project.join("flows.txt"), first("", "# Telnet")).expect("a file");
    fs::write(project.join("test.toml"), first("toml", "[[case]]")).expect("a file");
    fs::remove_dir_all(project.join("expected")).expect("it goes away");
    let (good, said) = make(&project, "bless");
    assert!(good && said.contains("1 passed, 0 failed, 2 written"), "{said}");
    let expected = fs::read_to_string(project.join("expected/asks-to-delete-what-is-established.txt"));
    assert_eq!(expected.expect("it was written"), first("", "keep "));

    // A difference is detected. The plugin is found without being named.
    fs::write(project.join("expected/without-the-grant-nothing-is-done.txt"), "keep nothing\n").expect("a file");
    let outcome = flowgate(&project, &["plugin", "test"]);
    assert!(outcome.stdout(1).contains("2 passed, 1 failed"), "{}", outcome.stdout);
    outcome.says("- keep nothing");
    for target in ["inspect", "bench"] {
        let (good, said) = make(&project, target);
        assert!(good, "{target}: {said}");
    }
}

/// Builds and tests a project in a language whose tools come from a package registry. It uses the virtual environment
/// of the examples, to which the project adds what is missing.
fn builds_and_passes(language: &str) {
    let place = directory(&format!("new-{language}"));
    flowgate(&place, &["plugin", "new", "see-dns", "--lang", language]).stdout(0);
    let project = place.join("see-dns");
    let target = &profile_directory().parent().expect("profiles lie in the build directory").to_path_buf();
    let venv = format!("VENV={}", text(&target.join("venv")));
    let make = |goal: &str| {
        let output = Command::new("make")
            .args([goal, &venv])
            .current_dir(&project)
            .env("FLOWGATE", flowgate_test_support::flowgate().path)
            .env("XDG_CACHE_HOME", project.join(".cache"))
            .env("ZIG_GLOBAL_CACHE_DIR", target.join("zig-global-cache"))
            .env_remove("ZIG_LOCAL_CACHE_DIR")
            .env_remove("MAKEFLAGS")
            .output()
            .expect("make runs");
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let (good, said) = make("test");
    assert!(good && said.contains("3 passed, 0 failed"), "{language}: {said}");
    // A second build does nothing.
    let (good, said) = make("all");
    assert!(good && said.contains("Nothing to be done"), "{language}: {said}");
    // The plugin is found without being named, and code compiled for the first test is cached.
    let outcome = flowgate(&project, &["plugin", "test"]);
    assert!(outcome.stdout(0).contains("3 passed, 0 failed"), "{language}: {}", outcome.stdout);
}

#[test]
fn a_new_project_in_c_zig_or_python_passes_its_tests() {
    // One after the other, since all of them add to the same virtual environment.
    builds_and_passes("c");
    builds_and_passes("zig");
    builds_and_passes("python");
}

#[test]
fn a_new_project_in_javascript_passes_its_tests() {
    builds_and_passes("javascript");
}

#[test]
fn a_place_that_is_taken_stays_as_it_is() {
    let place = directory("new-taken");
    fs::create_dir(place.join("taken")).expect("a directory");
    fs::write(place.join("taken/file"), "mine").expect("a file");
    let outcome = flowgate(&place, &["plugin", "new", "taken"]);
    assert_eq!(outcome.status, 1);
    outcome.says("taken exists already and is not empty");
    assert_eq!(fs::read_dir(place.join("taken")).expect("the directory").count(), 1);
    let outcome = flowgate(&place, &["plugin", "new", "Wrong_Name"]);
    outcome.says("`Wrong_Name` is no name for a plugin: it begins with a small letter");
    assert_eq!(outcome.status, 1);
}
