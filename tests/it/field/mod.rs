//! Command lines, and the units and containers they run in, as found in the field. Each case has a number, which the
//! names of its tests contain:
//!
//! | case | subject | tests |
//! |---|---|---|
//! | 1 to 7 | ranges, names, stray words, attached tables, empty selections, marks outside the mask | `command_lines::cases` |
//! | 8, 9, 28, 29 | non-executable memory, address space, environment, cached machine code | `hardened::engine` |
//! | 10 | system-call filters | `hardened::filtered` |
//! | 11, 12 | banners, wrappers, descriptors | `names` |
//! | 13 | the name that scripts look up | `scripts`; installed files: `tests/package` |
//! | 14 to 20 | saved and loaded tables | `carrying_state` |
//! | 21 | pasted lines as fixtures | `host/fixture/tests/pasted.rs` |
//! | 22 to 25, 39 | output that cannot be written, is slow, or is closed; terminals that answer nothing | `output` |
//! | 26, 27 | dry runs, and mistyped words next to the file of `-R` | `command_lines::cases` |
//! | 30 | unknown subcommands | `names`, `shells` |
//! | 31, 32 | the doctor in containers and without rules | `operations::doctor` |
//! | 33, 34 | one task, few descriptors, no /dev | `hardened::{scarce, filtered, bare}`, `output` |
//! | 35 to 37 | pipes, endless files, `run --check` | `files` |
//! | 38, 41 | completions, manual page and help | `shells` |
//! | 40 | values of plugins | `command_lines::plugins` |

mod carrying_state;
mod command_lines;
mod files;
mod hardened;
mod kernels;
mod names;
mod output;
mod scripts;
mod shells;

use flowgate_test_support::flowgate;

/// The table above is complete, and stays complete.
#[test]
fn every_case_has_a_test_of_its_number() {
    let root = flowgate_test_support::built::root();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let mut text = read("tests/it/operations/doctor.rs") + &read("host/fixture/tests/pasted.rs");
    let mut directories = vec![root.join("tests/it/field")];
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
