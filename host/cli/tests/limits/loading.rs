//! Files that are rejected before any of their code is compiled, and file names with terminal escapes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use flowgate_runtime::{Failure, Instance, Limits, LoadError, PluginComponent, PluginEngine};
use flowgate_test_support::{
    Namespace, Outcome, Program,
    hostile::{self, HostileFile},
    wasm::{self, COMPONENT, MODULE, NOTHING, id, items, name, number, section},
};

use super::{
    multiplied::{HOST, watch},
    plugins,
};

/// Sequences that a terminal would interpret: a title, colours, clearing the screen by a C1 control, and bidirectional
/// text.
const ESCAPES: &str = "\x1b]0;owned by a plugin\x07\x1b[31mred\u{9b}2J\u{202e}\u{61c}\u{e0041}";

/// Returns a valid plugin as a component.
fn sound() -> Vec<u8> {
    fs::read(plugins::built_for("outside", "wasm32-wasip2")).unwrap()
}

/// Returns the same plugin with an additional core module, instantiated `times` times.
fn with_module(sections: &[Vec<u8>], times: usize) -> Vec<u8> {
    wasm::with_module(&sound(), sections, times)
}

fn load(bytes: &[u8]) -> Result<PluginComponent, LoadError> {
    PluginComponent::from_bytes(&PluginEngine::new(None).unwrap(), Path::new("some.wasm"), bytes)
}

/// Returns the reason why a file is rejected.
fn excess(bytes: &[u8]) -> String {
    match load(bytes).err() {
        Some(error @ LoadError::Excessive { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_takes_too_much_to_compile_is_not_compiled() {
    let types = items(id::TYPES, 1, NOTHING);
    let global = [0x7e, 0x00, 0x42, 0x01, 0x0b];
    let one = |body: &[u8]| wasm::code([body]);
    let long = [&[0][..], &[0x01].repeat(2 << 20), &[0x0b]].concat();
    let meetings = [&[1][..], &number(10_000), &[0x7e], &[0x02, 0x40, 0x0b].repeat(5000), &[0x0b]].concat();
    for (sections, times, words) in [
        (vec![items(id::GLOBALS, 1_000_000, &global)], 50, "globals or more"),
        (vec![items(id::TYPES, 1_000_000, NOTHING)], 0, "types or more"),
        (vec![items(id::TABLES, 50, &[&[0x70, 0x00][..], &number(1 << 20)].concat())], 1, "elements of tables or more"),
        (vec![types.clone(), items(id::FUNCTIONS, 500_000, &[0])], 0, "functions or more"),
        (vec![types.clone(), items(id::FUNCTIONS, 1, &[0]), one(&long)], 0, "a function of 2097154 bytes"),
        (vec![types.clone(), items(id::FUNCTIONS, 1, &[0]), one(&meetings)], 0, "blocks and 10000 local variables"),
    ] {
        let message = excess(&with_module(&sections, times));
        assert!(
            message.starts_with("plugin some.wasm is not compiled: it has ") && message.contains(words),
            "{message}"
        );
    }
    assert!(excess(&with_module(&[], 2000)).contains("instances or more"));
}

#[test]
fn a_core_module_is_looked_at_before_a_component_is_made_of_it() {
    let global = [0x7e, 0x00, 0x42, 0x01, 0x0b];
    assert!(excess(&[MODULE, &items(id::GLOBALS, 100_000, &global)].concat()).contains("100000 globals"));
}

#[test]
fn types_within_each_other_are_an_error_and_no_overflow() {
    for levels in [10, 500, 1000, 2000, 3000, 1_000_000] {
        let types = [number(1), [0x42, 1, 1].repeat(levels), vec![0x42, 0]].concat();
        let nested = [sound(), section(7, &types)].concat();
        match load(&nested).err() {
            Some(LoadError::Excessive { .. }) => assert!(levels > 2000, "{levels}"),
            // Wasmtime may accept or reject it, as long as it returns an error and does not crash.
            other => assert!(levels <= 2000, "{levels}: {other:?}"),
        }
        // The same in the metadata of a core module.
        let metadata = [name("component-type:x"), COMPONENT.to_vec(), section(7, &types)].concat();
        assert!(load(&[MODULE, &section(0, &metadata)].concat()).is_err(), "{levels}");
    }
}

#[test]
fn tables_count_as_memory() {
    // Two tables of 256 Ki elements, 8 bytes each: 4 MiB.
    let tables = items(id::TABLES, 2, &[&[0x70, 0x00][..], &number(256 << 10)].concat());
    let component = load(&with_module(&[tables], 1)).unwrap();
    let memory = |limit| Limits { memory: limit, ..Limits::default() };
    let error = Instance::new(&component, memory(4 << 20)).err().unwrap();
    assert!(matches!(error.failure, Failure::Memory { limit: 4_194_304, .. }), "{error}");
    let instance = Instance::new(&component, memory(16 << 20)).unwrap();
    assert!(instance.memory() > 4 << 20);
}

/// What such files take until they are refused, as plugins of a command: not more than the host may take without them.
#[test]
fn hostile_files_take_no_more_than_others() {
    let directory = tempfile::tempdir().unwrap();
    Namespace::run(|_| {
        for HostileFile { name, bytes, words } in hostile::files(&sound()) {
            let path = directory.path().join("hostile.wasm");
            fs::write(&path, bytes).unwrap();
            let (errors, path) = (directory.path().join("errors"), path.display().to_string());
            let mut command = Program::new(env!("CARGO_BIN_EXE_flowgate")).command(&["-L", "--plugin", &path]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&errors).unwrap());
            let mut child = command.spawn().unwrap();
            let seen = watch(&mut child, HOST, Limits::default().start_up * 3 / 2);
            let errors = fs::read_to_string(errors).unwrap();
            assert!(!seen.stopped && errors.contains(words), "{name}: {seen:?}, {errors}");
            assert_eq!(child.wait().unwrap().code(), Some(1), "{name}");
        }
    });
}

#[test]
fn what_never_ends_or_is_too_long_is_refused_at_once() {
    let flowgate = Program::new(env!("CARGO_BIN_EXE_flowgate"));
    let directory = tempfile::tempdir().unwrap();
    let large = directory.path().join("large.wasm");
    let file = fs::File::create(&large).unwrap();
    std::io::Write::write_all(&mut &file, COMPONENT).unwrap();
    file.set_len(1 << 40).unwrap();
    for (path, words) in [
        (Path::new("/dev/zero"), "/dev/zero is not a WebAssembly component: it begins with `"),
        (Path::new("/dev/urandom"), "/dev/urandom is not a WebAssembly component: it begins with `"),
        (&large, "is not compiled: it has more than 33554432 bytes"),
    ] {
        let path = path.to_str().unwrap();
        for words_of in [&["plugin", "inspect", path][..], &["plugin", "bench", path], &["-L", "--plugin", path]] {
            let outcome = flowgate.run(words_of);
            assert_eq!(outcome.status, 1, "{words_of:?}");
            let both = outcome.text() + &outcome.errors();
            assert!(both.contains(words), "{words_of:?}: {both}");
        }
    }
}

/// Asserts that no control sequence was written.
fn assert_clean(outcome: &Outcome, what: &str) {
    for bytes in [&outcome.stdout, &outcome.stderr] {
        let text = String::from_utf8(bytes.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let bad = text.chars().find(|&c| (c.is_control() && c != '\n') || "\u{202e}\u{61c}\u{e0041}".contains(c));
        assert_eq!(bad, None, "{what}: {text:?}");
    }
}

/// Runs a file with these bytes through every command that loads plugins.
fn through_every_command(bytes: &[u8], words: &str) {
    let flowgate = Program::new(env!("CARGO_BIN_EXE_flowgate"));
    let directory = tempfile::tempdir().unwrap();
    // The file's name contains escapes, too.
    let plugin = directory.path().join(format!("{ESCAPES}.wasm"));
    fs::write(&plugin, bytes).unwrap();
    let write = |name: &str, text: String| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let quoted = serde_json::Value::from(plugin.to_str().unwrap()).to_string();
    // TOML has the escapes of JSON, but not raw control characters of C1.
    let quoted = quoted.replace('\u{9b}', "\\u009b");
    let digest = PluginComponent::digest(bytes);
    let pipeline = write("pipeline.toml", format!("[source]\nkind = \"dump\"\n\n[[stage]]\nplugin = {quoted}\n"));
    let policy = write(
        "policy.toml",
        format!(
            "[[tenant]]\nname = \"blue\"\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\nfile = {quoted}\nsha256 = \"{digest}\"\n"
        ),
    );
    let plugin = plugin.to_str().unwrap();
    let (pipeline, policy) = (pipeline.to_str().unwrap(), policy.to_str().unwrap());
    Namespace::run(|_| {
        for line in [
            &["plugin", "inspect", plugin][..],
            &["-L", "--plugin", plugin],
            &["-E", "--explain", "--plugin", plugin],
            &["run", "--check", pipeline],
            &["policy", "check", policy],
        ] {
            let outcome = flowgate.run(line);
            assert_clean(&outcome, &format!("{line:?}"));
            let both = outcome.text() + &outcome.errors();
            assert!(both.contains(words), "{line:?}: {both}");
            assert_eq!(outcome.status, 1, "{line:?}: {both}");
        }
    });
}

#[test]
fn names_in_errors_of_the_compiler_move_no_cursor() {
    let export = [name(ESCAPES), vec![0, 0]].concat();
    let types = items(id::TYPES, 1, NOTHING);
    let code = wasm::code([&[0, 0x0b][..]]);
    let module = [types, items(id::FUNCTIONS, 1, &[0]), items(id::EXPORTS, 2, &export), code];
    through_every_command(&with_module(&module, 0), "duplicate export name `\\u{1b}]0;owned by a plugin\\u{7}");
}

#[test]
fn names_of_files_move_no_cursor() {
    through_every_command(b"no plugin", "begins with `no plugi`");
    through_every_command(COMPONENT, "it exports nothing");
}

/// Paths that were typed or found by a script occur in error messages that do not clean them: everything written to
/// standard error is cleaned centrally.
#[test]
fn paths_in_errors_move_no_cursor() {
    let flowgate = Program::new(env!("CARGO_BIN_EXE_flowgate"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(format!("none/{ESCAPES}"));
    let path = path.to_str().unwrap();
    Namespace::run(|_| {
        for line in [
            &["run", path][..],
            &["policy", "check", path],
            &["policy", "status", "--socket", path],
            &["record", path, "--", "-L"],
            &["replay", path],
            &["-L", "--netns", path],
            &["-E", "--metrics", &format!("unix:{path}")],
        ] {
            let outcome = flowgate.run(line);
            assert_clean(&outcome, &format!("{line:?}"));
            assert!(
                outcome.errors().contains("none/\\u{1b}]0;owned by a plugin\\u{7}"),
                "{line:?}: {}",
                outcome.errors()
            );
            assert_eq!(outcome.status, 1, "{line:?}: {}", outcome.errors());
        }
    });
}
