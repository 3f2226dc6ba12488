//! Files that are links, are endless, or can be written by others.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use flowgate_test_support::{Namespace, Outcome, Program, entries, program::shell_status};

use crate::field::flowgate;

/// Runs flowgate with at most 600 MiB of memory (memory that is reserved but unused does not count) for at most two
/// minutes, so that an endless run fails without harming the machine.
fn bounded(words: &[&str]) -> Outcome {
    let line = format!("ulimit -d 600000; exec timeout 120 {} \"$@\"", flowgate().path.display());
    let mut command = Program::new("sh").command(&[&["-c", line.as_str(), "sh"], words].concat());
    let output = command.stdin(Stdio::null()).output().expect("sh");
    Outcome { stdout: output.stdout, stderr: output.stderr, status: shell_status(output.status) }
}

fn must_say(outcome: &Outcome, text: &str, what: &str) {
    let errors = outcome.errors() + &outcome.text();
    assert!(
        (1..=2).contains(&outcome.status) && errors.contains(text),
        "{what}: status {}, and not {text:?}: {errors}",
        outcome.status
    );
}

#[test]
fn case_36_every_file_that_is_read_has_a_limit() {
    let directory = tempfile::tempdir().expect("a directory");
    let plugin = directory.path().join("x.wasm");
    fs::write(&plugin, b"\0asm\x01\0\0\0").expect("a file");
    let option = format!("{},list=@/dev/zero", plugin.display());
    let limit = "the maximum for such a file";
    for (words, text) in [
        (&["plugin", "inspect", "/dev/zero"][..], "is not a WebAssembly"),
        (&["run", "/dev/zero"], limit),
        (&["run", "--check", "/dev/zero"], limit),
        (&["policy", "check", "/dev/zero"], limit),
        (&["-L", "--plugin", "/dev/zero"], "is not a WebAssembly"),
        (&["-L", "--plugin", &option], limit),
        (&["plugin", "bench", "/dev/zero"], "is not a WebAssembly"),
        (&["replay", "/dev/zero"], "recording"),
        (&["top", "--once", "/dev/zero"], "recording"),
        (&["audit", "/dev/zero"], ""),
        (&["-R", "/dev/zero"], ""),
    ] {
        must_say(&bounded(words), text, &words.join(" "));
    }
    for words in [
        &["plugin", "inspect", "/"][..],
        &["run", "/"],
        &["policy", "check", "/"],
        &["-L", "--plugin", "/"],
        &["replay", "/"],
        &["-R", "/"],
        &["audit", "/"],
    ] {
        must_say(&bounded(words), "", &words.join(" "));
    }
    must_say(&bounded(&["plugin", "inspect", "/"]), "Is a directory", "a directory");
}

/// Returns the outcomes of checking and of running a pipeline file.
fn checked(directory: &Path, text: &str) -> [Outcome; 2] {
    let file = directory.join("pipeline.toml");
    fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    [flowgate().run(&["run", "--check", &file]), flowgate().run(&["run", &file])]
}

/// `printf ... | flowgate run /dev/stdin`, and all other arguments that name files.
#[test]
fn case_35_what_comes_through_a_pipe_is_read_once() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let (all, none) = (entries::marks().len(), 0);
        let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("compatibility/0.1.0/heavy_tcp.wasm");
        let plugin = fs::read(plugin).expect("a plugin");
        let recording = namespace.directory().join("table.pcap");
        assert_eq!(flowgate().run(&["record", &recording.display().to_string(), "--", "-L"]).status, 0);
        let recording = fs::read(recording).expect("a recording");
        let pipeline = b"[source]\nkind = 'dump'\n".as_slice();
        let line = b"-A -t 60 -s 192.0.2.1 -d 192.0.2.2 -p udp --sport 1 --dport 2\n".as_slice();
        for pipe in ["/dev/stdin", "/proc/self/fd/0"] {
            let option = format!("{pipe},bytes=0");
            for (words, input, lines) in [
                (&["run", pipe][..], pipeline, all),
                (&["run", "--check", pipe], pipeline, 1),
                (&["replay", pipe], &recording, all),
                (&["replay", "-"], &recording, all),
                (&["-L", "--plugin", &option], &plugin, none),
                (&["-L", "-l", "x", "--labelmap", pipe], b"1 x\n", none),
                (&["-R", pipe, "--dry-run"], line, 1),
                (&["-R", "-", "--dry-run"], line, 1),
            ] {
                let outcome = flowgate().run_with(words, input);
                let found = outcome.text().lines().count();
                assert_eq!((outcome.status, found), (0, lines), "{words:?}: {}", outcome.errors());
            }
            for words in [
                &["plugin", "inspect", pipe][..],
                &["plugin", "bench", "--flows", "100", pipe],
                &["run", "--explain", pipe],
            ] {
                let input = if words[0] == "run" { pipeline } else { &plugin };
                let outcome = flowgate().run_with(words, input);
                assert!(outcome.status == 0 && outcome.text().lines().count() > 2, "{words:?}: {}", outcome.errors());
            }
        }
    });
}

#[test]
fn case_37_the_check_finds_what_the_run_would() {
    Namespace::run(|namespace| {
        let directory = namespace.directory();
        let at = |name: &str| directory.join(name).display().to_string();
        for name in ["directory", "open"] {
            fs::create_dir(directory.join(name)).expect("a directory");
        }
        fs::set_permissions(directory.join("open"), Permissions::from_mode(0o777)).expect("a mode");
        fs::write(directory.join("file"), "").expect("a file");
        fs::hard_link(directory.join("file"), directory.join("twin")).expect("a name");
        symlink("file", directory.join("link")).expect("a link");
        let sink = |path: &str| format!("[source]\nkind = 'dump'\n[[sink]]\nkind = 'file'\npath = '{path}'\n");
        let source = |line: &str| format!("[source]\n{line}\n");
        let long = format!("/run/{}", "x".repeat(120));
        for (text, expected) in [
            (sink(&at("directory")), "Is a directory"),
            (sink(&at("nowhere/file")), "there is no directory"),
            (sink(&at("open/file")), "can be written by everybody"),
            (sink(&at("link")), "is a symbolic link"),
            (sink(&at("file")), "has 2 names"),
            (sink("/proc/version/x"), "there is no directory /proc/version"),
            (sink(&at("a")) + &format!("[[sink]]\nkind = 'file'\npath = '{}'\n", at("./a")), "same destination"),
            (
                sink(&at("a")) + &format!("[[sink]]\nkind = 'file'\npath = '{}'\n", at("directory/../a")),
                "same destination",
            ),
            (
                sink(&at("a"))
                    + "rotate-size = '1MiB'\n"
                    + &format!("[[sink]]\nkind = 'file'\npath = '{}'\n", at("a.1")),
                "same destination",
            ),
            (sink("/dev/null") + "rotate-size = '1MiB'\n", "is no regular file"),
            (source("kind = 'dump'") + &format!("[[sink]]\nkind = 'unix'\npath = '{long}'\n"), "at most 107 bytes"),
            (source("kind = 'dump'\nselect = '-p \"tcp'"), "a quotation mark is not closed"),
            (source("kind = 'dump'\nselect = '-s 10.0.0.300'"), "10.0.0.300"),
            (source("kind = 'dump'\nnetns = 'not-there'"), "there is no network namespace `not-there`"),
            (source(&format!("kind = 'recording'\nfile = '{}'", at("not-there.pcap"))), "No such file or directory"),
            (source(&format!("kind = 'recording'\nfile = '{}'", at("file"))), "recording"),
            (source("kind = 'dump'") + "[[stage]]\nplugin = 'missing.wasm'\n", "cannot read plugin"),
        ] {
            for (outcome, what) in checked(directory, &text).iter().zip(["--check", "run"]) {
                assert_eq!(outcome.status, 1, "{what}: {text}{}", outcome.errors());
                assert!(outcome.errors().contains(expected), "{what}: {expected}: {text}{}", outcome.errors());
            }
            assert!(!directory.join("a").exists(), "nothing is made: {text}");
        }
        // A sink's file that does not exist yet is not an error.
        let [check, run] = checked(directory, &sink(&at("made")));
        assert_eq!((check.status, run.status), (0, 0), "{}{}", check.errors(), run.errors());
    });
}

#[test]
fn a_check_makes_no_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("flows.log");
    let text = format!("[source]\nkind = 'dump'\n[[sink]]\nkind = 'file'\npath = '{}'\n", path.display());
    let file = directory.path().join("pipeline.toml");
    fs::write(&file, text).expect("a file");
    assert_eq!(flowgate().run(&["run", "--check", &file.display().to_string()]).status, 0);
    assert!(!path.exists());
}

/// A file that no name may lead to, and directories that others can write to.
struct Place {
    directory: tempfile::TempDir,
    victim: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").expect("a file");
        for (name, mode) in [("shared", 0o777), ("sticky", 0o1777), ("group", 0o2775)] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
            fs::set_permissions(directory.path().join(name), Permissions::from_mode(mode)).expect("a mode");
        }
        Place { directory, victim }
    }

    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn link(&self, name: &str) -> String {
        let _ = fs::remove_file(self.at(name));
        symlink(&self.victim, self.at(name)).expect("a link");
        self.at(name)
    }

    fn is_untouched(&self) {
        assert_eq!(fs::read(&self.victim).expect("the victim"), b"untouched");
    }
}

#[test]
fn recordings_follow_no_links() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let place = Place::new();
        let record = |path: &str| flowgate().run(&["record", path, "--", "-L"]);
        for name in ["link", "shared/link", "sticky/link"] {
            must_say(&record(&place.link(name)), "is a symbolic link", name);
        }
        fs::hard_link(&place.victim, place.at("twin")).expect("a name");
        must_say(&record(&place.at("twin")), "has 2 names", "a hard link");
        place.is_untouched();
        fs::remove_file(place.at("twin")).expect("its end");
        // A file named by the user may be in a directory that others can write to, and replaces an older file.
        for name in ["plain", "shared/plain", "sticky/plain", "group/plain"] {
            for _ in 0..2 {
                assert_eq!(record(&place.at(name)).status, 0, "{name}: {}", record(&place.at(name)).errors());
            }
            assert!(flowgate().must(&["replay", &place.at(name)]).lines().count() > 10);
        }
    });
}

#[test]
fn sinks_and_states_are_where_nobody_else_writes() {
    Namespace::run(|namespace| {
        let place = Place::new();
        let run = |sink: &str| {
            let text = format!("[source]\nkind = 'dump'\n[[sink]]\nkind = 'file'\npath = '{sink}'\n");
            let file = namespace.directory().join("pipeline.toml");
            fs::write(&file, text).expect("a file");
            flowgate().run(&["run", &file.display().to_string()])
        };
        for name in ["link", "sticky/link"] {
            must_say(&run(&place.link(name)), "is a symbolic link", name);
        }
        must_say(&run(&place.at("shared/log")), "can be written by everybody", "shared");
        must_say(&run(&place.at("group/log")), "can be written by group", "group");
        symlink(place.at(""), place.at("shared/way")).expect("a link");
        must_say(&run(&place.at("shared/way/log")), "is a symbolic link in a directory that others can write", "way");
        place.is_untouched();
        for name in ["sticky/log", "log"] {
            assert_eq!(run(&place.at(name)).status, 0, "{name}: {}", run(&place.at(name)).errors());
        }
    });
}
