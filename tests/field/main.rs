//! What people really type, in the units in which they really run it. Each case has a number, which its tests have in their names:
//!
//! | case | what is typed, or where | tests |
//! |---|---|---|
//! | 1 to 7 | ranges, names, stray words, attached tables, nothing selected, marks outside of their mask | `command_lines::cases` |
//! | 8, 9, 28, 29 | memory that may not be made executable, address space, environment, kept machine code | `hardened::engine` |
//! | 10 | filters of system calls | `hardened::filtered` |
//! | 11, 12 | banners, wrappers, descriptors | `names` |
//! | 13 | the name that scripts look for | `scripts`; what is installed: `tests/package` |
//! | 14 to 20 | tables saved and loaded | `carrying_state` |
//! | 21 | pasted lines as fixtures | `fixtures` |
//! | 22 to 25, 39 | output that cannot be written, is slow, or is closed; terminals that answer nothing | `output` |
//! | 26, 27 | what only looks, and slips beside the file of `-R` | `command_lines::cases` |
//! | 30 | subcommands that there are not | `names`, `shells` |
//! | 31, 32 | what the doctor sees in containers and without rules | `doctor.rs` of the suite `operations` |
//! | 33, 34 | one task, few descriptors, no /dev | `hardened::scarce`, `hardened::filtered`, `hardened::bare`, `output` |
//! | 35 to 37 | pipes, endless files, `run --check` | `files` |
//! | 38, 41 | completions, manual page and help | `shells` |
//! | 40 | values of plugins | `command_lines::plugins` |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

#[path = "../plugins/mod.rs"]
mod plugins;

mod carrying_state;
mod command_lines;
mod files;
mod fixtures;
mod hardened;
mod kernels;
mod names;
mod output;
mod scripts;
mod shells;

use flowgate_test_support::Program;

/// The program under its own name.
#[allow(dead_code, reason = "modules are filled one by one")]
fn flowgate() -> Program {
    Program::new(env!("CARGO_BIN_EXE_flowgate"))
}

/// The table above is complete, and stays so.
#[test]
fn every_case_has_a_test_of_its_number() {
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let mut text = std::fs::read_to_string(tests.join("operations/doctor.rs")).unwrap();
    let mut directories = vec![tests.join("field")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => text += &std::fs::read_to_string(entry.path()).unwrap(),
            }
        }
    }
    let missing: Vec<u32> = (1..=41).filter(|case| !text.contains(&format!("#[test]\nfn case_{case:02}_"))).collect();
    assert!(missing.is_empty(), "no test has the number of {missing:?}");
}
