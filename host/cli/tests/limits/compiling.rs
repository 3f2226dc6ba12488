//! Kinds of code that take a compiler far more memory than their size suggests: the largest amount of each that is
//! accepted compiles within the memory limit, and anything larger is rejected before compilation.

use std::{process::Stdio, time::Duration};

use flowgate_test_support::{
    Program,
    wasm::{self, NOTHING, function_type, id, items, number, section},
};

use super::{multiplied::watch, plugins};

/// Memory limit for compiling.
const COMPILING: u64 = 1 << 30;
/// Memory limit for a file that is rejected before compilation: only the file and its sections are read.
const LOOKING: u64 = 160 << 20;

/// `local.get 0`, and `drop`.
const GET: &[u8] = &[0x20, 0];
const DROP: &[u8] = &[0x1a];

/// A kind of code: parameters and results of type 0, the repeated part, and the maximum number of repetitions that is
/// compiled.
struct Kind {
    name: &'static str,
    arity: usize,
    repeated: &'static [u8],
    most: usize,
}

const KINDS: [Kind; 9] = [
    Kind { name: "loops", arity: 0, repeated: &[0x03, 0x40, 0x0b], most: 3_900 },
    Kind { name: "call_indirect", arity: 0, repeated: &[0x20, 0, 0x11, 1, 0], most: 9_000 },
    Kind { name: "table.get", arity: 0, repeated: &[0x20, 0, 0x25, 0, 0x1a], most: 11_500 },
    Kind { name: "calls", arity: 0, repeated: &[0x10, 0], most: 95_000 },
    Kind { name: "blocks", arity: 0, repeated: &[0x20, 0, 0x04, 0x40, 0x0b], most: 83_000 },
    Kind { name: "additions", arity: 0, repeated: &[0x20, 0, 0x41, 3, 0x6a, 0x28, 2, 0, 0x21, 0], most: 44_000 },
    Kind { name: "calls of a thousand values", arity: 1000, repeated: &[0x10, 0], most: 295 },
    Kind { name: "blocks of a thousand values", arity: 1000, repeated: &[0x02, 0, 0x0b], most: 145 },
    Kind { name: "loops of a thousand values", arity: 1000, repeated: &[0x03, 0, 0x0b], most: 140 },
];

impl Kind {
    /// Returns a plugin with four functions, one for each compiling thread, each with the given number of repetitions.
    fn plugin(&self, times: usize) -> Vec<u8> {
        let sound = std::fs::read(plugins::built_for("outside", "wasm32-wasip2")).unwrap();
        let code = [GET.repeat(self.arity), self.repeated.repeat(times), DROP.repeat(self.arity), vec![0x0b]].concat();
        let heavy = [&[1, 1, 0x7f][..], &code].concat();
        // Only the first function is called: it returns its parameters.
        let called: Vec<u8> =
            [vec![0], (0..self.arity).flat_map(|local| [vec![0x20], number(local)].concat()).collect(), vec![0x0b]]
                .concat();
        let types = section(id::TYPES, &[number(2), function_type(self.arity, self.arity), NOTHING.to_vec()].concat());
        let functions = section(id::FUNCTIONS, &[number(5), vec![0, 1, 1, 1, 1]].concat());
        let bodies = wasm::code([&called[..], &heavy, &heavy, &heavy, &heavy]);
        let (table, memory) = (items(id::TABLES, 1, &[0x70, 0, 1]), items(id::MEMORIES, 1, &[0, 1]));
        wasm::with_module(&sound, &[types, functions, table, memory, bodies], 0)
    }
}

/// Returns the output of `plugin inspect` for a plugin, run with this memory limit.
fn inspect(what: &str, bytes: &[u8], memory: u64) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("heavy.wasm");
    std::fs::write(&path, bytes).unwrap();
    let program = Program::new(env!("CARGO_BIN_EXE_flowgate")).environment("XDG_CACHE_HOME", "/dev/null");
    let mut command = program.command(&["plugin", "inspect", path.to_str().unwrap()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let seen = watch(&mut child, memory, Duration::from_secs(300));
    assert!(!seen.stopped, "{what}: {seen:?}");
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn heavy_code_takes_bounded_memory_or_is_not_compiled() {
    for kind in &KINDS {
        let output = inspect(kind.name, &kind.plugin(kind.most), COMPILING);
        assert!(output.contains("runs here   yes"), "{}: {output}", kind.name);
        // A tenth more than the maximum, and three times as much.
        for times in [kind.most * 11 / 10, kind.most * 3] {
            let output = inspect(kind.name, &kind.plugin(times), LOOKING);
            assert!(
                output.contains("units of weight in a function") || output.contains("a function of "),
                "{}: {output}",
                kind.name
            );
        }
    }
}

#[test]
fn very_many_functions_take_bounded_memory_or_are_not_compiled() {
    let sound = std::fs::read(plugins::built_for("outside", "wasm32-wasip2")).unwrap();
    for (count, parameters, words) in [
        (50_000, 0, "runs here   yes"),
        (50_000, 300, "runs here   yes"),
        (60_000, 1000, "units of weight in its code"),
        (100_000, 1000, "functions or more"),
    ] {
        let types = items(id::TYPES, 1, &function_type(parameters, 0));
        let functions = items(id::FUNCTIONS, count, &[0]);
        let bodies = wasm::code(std::iter::repeat_n(&[0, 0x0b][..], count));
        let plugin = wasm::with_module(&sound, &[types, functions, bodies], 0);
        let memory = if words.contains("yes") { COMPILING } else { LOOKING };
        let output = inspect(&format!("{count} functions of {parameters}"), &plugin, memory);
        assert!(output.contains(words), "{count} {parameters}: {output}");
    }
}
