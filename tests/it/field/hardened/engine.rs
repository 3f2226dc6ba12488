//! Where no memory may be made executable, and where address space is scarce: classic commands work as elsewhere,
//! plugins from files run slower and say so, and nothing in the environment influences the choice.
#![allow(unsafe_code, reason = "what a unit sets, a test sets between fork and exec")]

use std::{
    fs, io,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use flowgate_test_support::{Namespace, Outcome, Program, entries, plugins, program::shell_status};
use nix::sys::resource::{Resource, setrlimit};

use super::super::flowgate;

/// A setting of a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Setting {
    /// No setting.
    Plain,
    /// `MemoryDenyWriteExecute=yes`.
    DenyWriteExecute,
    /// `LimitAS=`, in MiB.
    AddressSpace(u64),
}

/// Runs a command with a setting.
fn under(setting: Setting, mut command: Command) -> Outcome {
    let set = move || match setting {
        Setting::Plain => Ok(()),
        Setting::DenyWriteExecute => {
            const PR_SET_MDWE: libc::c_int = 65;
            // SAFETY: this request takes four numbers and touches no memory.
            match unsafe { libc::prctl(PR_SET_MDWE, 1, 0, 0, 0) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }
        Setting::AddressSpace(mib) => Ok(setrlimit(Resource::RLIMIT_AS, mib << 20, mib << 20)?),
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    let output = unsafe { command.pre_exec(set) }
        .output()
        .unwrap_or_else(|error| panic!("{setting:?} needs Linux 6.3 or later, and {command:?}: {error}"));
    Outcome { stdout: output.stdout, stderr: output.stderr, status: shell_status(output.status) }
}

/// Returns a plugin that was built for the last release.
fn plugin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compatibility/0.1.0/heavy_tcp.wasm")
}

/// Returns the output with numbers replaced and lines sorted: timeouts, ids and times differ between runs, and so does
/// the order of the kernel's table.
fn shape(bytes: &[u8]) -> String {
    let mut shape = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        let character = if character.is_ascii_digit() { '#' } else { character };
        if !matches!(character, '#' | ' ') || !shape.ends_with(character) {
            shape.push(character);
        }
    }
    let mut lines: Vec<&str> = shape.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Every classic command that ends by itself, in an order in which each finds an entry.
const COMMANDS: [&str; 24] = [
    "-C",
    "-S",
    "-L",
    "-L -o extended,id",
    "-L -o xml",
    "-L -o json",
    "-L -o save",
    "-L -o ktimestamp",
    "-L -p tcp --state ESTABLISHED",
    "-L -s 10.0.0.0/8",
    "-L dying",
    "-L unconfirmed",
    "-G -p tcp -s 10.0.0.1 -d 192.0.2.1 --sport 1000 --dport 80",
    "-I -p udp -s 10.9.0.1 -d 192.0.2.1 --sport 1 --dport 53 -t 600",
    "-A -p udp -s 10.9.0.1 -d 192.0.2.1 --sport 1 --dport 53 -t 700",
    "-U -p tcp -m 7",
    "-D -p udp --dport 53",
    "-D -p tcp -m 9",
    "-L expect",
    "-C expect",
    "-S expect",
    "-F expect",
    "-F",
    "-V",
];

/// Returns the results of the commands with a setting.
fn outcomes(setting: Setting) -> Vec<(&'static str, i32, String, String)> {
    Namespace::run(|namespace| {
        let flows: Vec<String> = (1..=20)
            .map(|n| {
                format!("-I -t 3600 -p tcp --state ESTABLISHED -s 10.0.0.{n} -d 192.0.2.1 --sport 1000 --dport 80 -u SEEN_REPLY")
            })
            .collect();
        entries::load(namespace, &flows);
        let file = namespace.directory().join("load");
        fs::write(&file, "-I -t 600 -p udp -s 10.8.0.1 -d 192.0.2.9 --sport 9 --dport 53\n").unwrap();
        let load = under(setting, flowgate().command(&["-R", file.to_str().unwrap()]));
        let mut outcomes = vec![("-R", load.status, shape(&load.stdout), shape(&load.stderr))];
        for command in COMMANDS {
            let words: Vec<&str> = command.split(' ').collect();
            let outcome = under(setting, flowgate().command(&words));
            outcomes.push((command, outcome.status, shape(&outcome.stdout), shape(&outcome.stderr)));
        }
        outcomes
    })
}

#[test]
fn case_08_classic_commands_work_under_memory_deny_write_execute() {
    let plain = outcomes(Setting::Plain);
    assert!(plain.iter().filter(|(_, status, ..)| *status == 0).count() > 20, "{plain:#?}");
    for (expected, found) in plain.iter().zip(outcomes(Setting::DenyWriteExecute)) {
        assert_eq!(*expected, found);
    }
}

#[test]
fn case_09_classic_commands_work_in_little_address_space() {
    let plain = outcomes(Setting::Plain);
    for mib in [512, 300] {
        for (expected, found) in plain.iter().zip(outcomes(Setting::AddressSpace(mib))) {
            assert_eq!(*expected, found, "{mib} MiB");
        }
    }
}

/// Creates one flow that the plugin keeps, and one that it does not.
fn two_flows(namespace: &Namespace) {
    namespace.account(true);
    entries::load(
        namespace,
        &[
            "-I -t 3600 -p tcp --state ESTABLISHED -s 10.0.0.1 -d 192.0.2.1 --sport 1 --dport 80 -u SEEN_REPLY"
                .to_owned(),
            "-I -t 3600 -p udp -s 10.0.0.1 -d 192.0.2.1 --sport 1 --dport 53".to_owned(),
        ],
    );
}

#[test]
fn case_08_plugins_are_interpreted_under_memory_deny_write_execute_and_it_is_said_once() {
    Namespace::run(|namespace| {
        two_flows(namespace);
        let heavy = format!("{},bytes=0", plugin().display());
        let words = ["-L", "-o", "id", "--plugin", &heavy, "--plugin", &heavy];
        let plain = under(Setting::Plain, flowgate().command(&words));
        let found = under(Setting::DenyWriteExecute, flowgate().command(&words));
        assert_eq!((plain.status, found.status), (0, 0), "{}{}", plain.errors(), found.errors());
        assert_eq!(shape(&plain.stdout), shape(&found.stdout));
        assert!(!plain.errors().contains("NOTICE"), "{}", plain.errors());
        let notices: Vec<String> =
            found.errors().lines().filter(|line| line.contains("NOTICE")).map(str::to_string).collect();
        assert_eq!(notices.len(), 1, "{}", found.errors());
        for words in ["interpreted code", "MemoryDenyWriteExecute=yes", "10 to 25 times the time"] {
            assert!(notices[0].contains(words), "{notices:?}");
        }
        // A classic command prints no such notice.
        let classic = under(Setting::DenyWriteExecute, flowgate().command(&["-L"]));
        assert!(!classic.errors().contains("NOTICE"), "{}", classic.errors());
    });
}

#[test]
fn case_08_inspect_and_doctor_say_how_plugins_run() {
    let plugin = plugin().display().to_string();
    for (setting, name, words) in [
        (Setting::Plain, "native", "machine code"),
        (
            Setting::DenyWriteExecute,
            "interpreted",
            "interpreted code, since this process may not make memory executable",
        ),
        (Setting::AddressSpace(900), "checked", "limited to 943718400 bytes (RLIMIT_AS, `ulimit -v`)"),
    ] {
        let inspected = under(setting, flowgate().command(&["plugin", "inspect", &plugin]));
        assert_eq!(inspected.status, 0, "{setting:?}: {}{}", inspected.text(), inspected.errors());
        assert_eq!(inspected.text().contains(words), setting != Setting::Plain, "{}", inspected.text());
        let object = under(setting, flowgate().command(&["plugin", "inspect", "-o", "json", &plugin]));
        let object: serde_json::Value = serde_json::from_slice(&object.stdout).unwrap();
        assert_eq!(object["execution"], name, "{setting:?}");
        let doctor = under(setting, flowgate().command(&["doctor", "-o", "json"]));
        let finding = doctor
            .text()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find(|finding| finding["check"] == "plugins.code")
            .unwrap();
        assert!(finding["text"].as_str().unwrap().contains(words), "{finding}");
        assert_eq!(finding["mend"].is_string(), setting != Setting::Plain, "{finding}");
    }
}

#[test]
fn case_09_plugins_run_in_little_address_space() {
    Namespace::run(|namespace| {
        two_flows(namespace);
        let heavy = format!("{},bytes=0", plugin().display());
        let plain = under(Setting::Plain, flowgate().command(&["-L", "--plugin", &heavy]));
        let found = under(Setting::AddressSpace(900), flowgate().command(&["-L", "--plugin", &heavy]));
        assert_eq!((plain.status, found.status), (0, 0), "{}{}", plain.errors(), found.errors());
        assert_eq!(shape(&plain.stdout), shape(&found.stdout));
        assert!(found.errors().contains("limited to 943718400 bytes (RLIMIT_AS"), "{}", found.errors());
    });
}

#[test]
fn case_09_where_address_space_does_not_do_the_limit_is_named() {
    Namespace::run(|namespace| {
        two_flows(namespace);
        // There is a range of limits in which the program itself fits, but not the memory of a stock plugin.
        let outcomes: Vec<(u64, Outcome)> = (6..=30)
            .map(|tens| (tens * 10, under(Setting::AddressSpace(tens * 10), flowgate().command(&["-L"]))))
            .collect();
        let named = |mib: u64, outcome: &Outcome| {
            outcome
                .errors()
                .contains(&format!("this process is limited to {} bytes (RLIMIT_AS, `ulimit -v`", mib << 20))
        };
        assert!(outcomes.iter().any(|(mib, outcome)| named(*mib, outcome) && outcome.status == 1), "{outcomes:?}");
        for (mib, outcome) in outcomes {
            assert!(!outcome.errors().contains("cannot be read: Cannot allocate"), "{mib} MiB: {}", outcome.errors());
        }
    });
}

#[test]
fn case_28_no_variable_of_a_library_decides_anything() {
    Namespace::run(|namespace| {
        two_flows(namespace);
        let heavy = format!("{},bytes=0", plugin().display());
        for (name, value) in [
            ("WASMTIME_BACKTRACE_DETAILS", "1"),
            ("WASMTIME_LOG", "trace"),
            ("WASMTIME_TEST_FORCE_MPK", "1"),
            ("RAYON_NUM_THREADS", "100000"),
            ("RAYON_RS_NUM_CPUS", "100000"),
            ("PULLEY_SAMPLING_FREQ", "x"),
            ("RUST_LOG", "trace"),
            ("RUST_BACKTRACE", "full"),
        ] {
            for words in [&["-L"][..], &["-L", "--plugin", &heavy]] {
                let plain = flowgate().run(words);
                let found = flowgate().environment(name, value).run(words);
                let expected = (plain.status, shape(&plain.stdout), shape(&plain.stderr));
                assert_eq!(
                    (found.status, shape(&found.stdout), shape(&found.stderr)),
                    expected,
                    "{name}={value} {words:?}"
                );
            }
        }
    });
}

/// Returns the files in a directory and below it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn case_29_compiled_code_is_kept_but_not_for_a_program_with_file_capabilities() {
    const NOBODY: u32 = 65534;
    Namespace::run(|_| {
        // A directory whose whole path belongs to root; only this thread sees the mount.
        Program::new("mount").must(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt"]);
        let own = Path::new("/mnt");
        let (home, bin) = (own.join("home"), own.join("bin"));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        let file = own.join("heavy_tcp.wasm");
        fs::copy(plugin(), &file).unwrap();
        let program = flowgate().copied_to(&bin).user(NOBODY).environment("XDG_CACHE_HOME", home.to_str().unwrap());
        let bench = ["plugin", "bench", "--flows", "1000", file.to_str().unwrap()];

        Program::new("setcap").must(&["cap_net_admin+ep", program.path.to_str().unwrap()]);
        program.must(&bench);
        assert_eq!(files(&home), Vec::<PathBuf>::new(), "its environment is another user's");

        Program::new("setcap").must(&["-r", program.path.to_str().unwrap()]);
        program.must(&bench);
        let kept = files(&home.join("flowgate"));
        assert_eq!(kept.len(), 1, "{kept:?}");
        // A corrupted file is replaced by newly compiled code.
        let mut spoilt = fs::read(&kept[0]).unwrap();
        let middle = spoilt.len() / 2;
        spoilt[middle] ^= 1;
        fs::write(&kept[0], &spoilt).unwrap();
        program.must(&bench);
        assert_eq!(files(&home.join("flowgate")), kept);
        assert!(fs::read(&kept[0]).unwrap() != spoilt);
    });
}

/// Returns the plugin's own name, as run with this cache directory: it shows whether cached or newly compiled code ran.
fn name_with(variable: &str, directory: &Path, plugin: &Path) -> String {
    let words = ["plugin", "bench", "--flows", "64", "--batch", "8", plugin.to_str().unwrap()];
    let program = flowgate().environment("XDG_CACHE_HOME", "").environment(variable, directory.to_str().unwrap());
    let output = program.must(&words);
    output.lines().nth(2).and_then(|row| row.split_whitespace().next()).unwrap_or_else(|| panic!("{output}")).to_owned()
}

/// A change after which a cached file of machine code, which root would run, might have been written by somebody other
/// than root.
type Forgery = (&'static str, fn(&Path, &Path));

/// A user who cannot write to root's cache, but may have created the files in it.
const OTHER: u32 = 65534;

fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(OTHER), Some(OTHER)).unwrap();
}

fn change_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// Changes applied to a forged file in a cache; the second argument is a directory for auxiliary files.
const FORGERIES: [Forgery; 14] = [
    ("a file of another user", |file, _| give(file)),
    ("a file that a group can write", |file, _| change_mode(file, 0o620)),
    ("a file that everybody can write", |file, _| change_mode(file, 0o602)),
    ("a link", |file, beside| {
        fs::rename(file, beside.join("forged")).unwrap();
        symlink(beside.join("forged"), file).unwrap();
    }),
    ("another name of a file of another user", |file, beside| {
        fs::rename(file, beside.join("forged")).unwrap();
        give(&beside.join("forged"));
        fs::hard_link(beside.join("forged"), file).unwrap();
    }),
    ("a directory of another user", |file, _| give(file.parent().unwrap())),
    ("a directory in a directory of another user", |file, _| give(file.ancestors().nth(2).unwrap())),
    ("a directory far below one of another user", |file, _| give(file.ancestors().nth(3).unwrap())),
    ("a directory that everybody can write", |file, _| change_mode(file.parent().unwrap(), 0o777)),
    ("a directory such as /tmp", |file, _| change_mode(file.ancestors().nth(2).unwrap(), 0o1777)),
    ("a directory that a group can write", |file, _| change_mode(file.parent().unwrap(), 0o770)),
    ("a link of another user to the directory", |file, beside| {
        let directory = file.parent().unwrap();
        fs::rename(directory, beside.join("flowgate")).unwrap();
        symlink(beside.join("flowgate"), directory).unwrap();
        give(directory);
    }),
    ("a link of root's to a directory of another user", |file, beside| {
        let directory = file.parent().unwrap();
        fs::rename(directory, beside.join("flowgate")).unwrap();
        give(&beside.join("flowgate"));
        symlink(beside.join("flowgate"), directory).unwrap();
    }),
    ("a file that has been cut", |file, _| {
        let length = fs::metadata(file).unwrap().len();
        fs::File::options().write(true).open(file).unwrap().set_len(length - 1).unwrap();
    }),
];

/// Cached machine code under the name of a plugin, with a correct digest, is run only if nobody but root and the user
/// can have put it there. Otherwise the plugin is compiled.
#[test]
fn case_29_forged_machine_code_is_not_run() {
    Namespace::run(|_| {
        // A directory whose whole path belongs to root; only this thread sees the mount.
        Program::new("mount").must(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt"]);
        let own = Path::new("/mnt/own");
        fs::create_dir(own).unwrap();
        let (heavy, other) = (plugin(), plugins::built("heavy"));
        assert_eq!(name_with("XDG_CACHE_HOME", own, &heavy), "heavy-tcp");
        let kept = files(own).remove(0);
        assert_eq!(name_with("XDG_CACHE_HOME", own, &other), "heavy-rust");
        let of_other = files(own).into_iter().find(|file| *file != kept).unwrap();
        // The header (magic number and key) of one file, the digest and the code of the other.
        let (sound, of_other) = (fs::read(&kept).unwrap(), fs::read(of_other).unwrap());
        let forged = [&sound[..48], &of_other[48..]].concat();
        fs::write(&kept, &forged).unwrap();
        assert_eq!(name_with("XDG_CACHE_HOME", own, &heavy), "heavy-rust", "root's own file is run whatever it is");
        fs::write(&kept, &of_other).unwrap();
        assert_eq!(name_with("XDG_CACHE_HOME", own, &heavy), "heavy-tcp", "it has the name of another one");

        for (number, (what, forge)) in FORGERIES.into_iter().enumerate() {
            for (variable, within) in [("XDG_CACHE_HOME", ""), ("HOME", ".cache")] {
                let place = own.join(format!("{number}{within}"));
                let (home, beside) = (place.join("home"), place.join("beside"));
                let file = home.join(within).join("flowgate").join(kept.file_name().unwrap());
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::create_dir(&beside).unwrap();
                fs::write(&file, &forged).unwrap();
                assert_eq!(name_with(variable, &home, &heavy), "heavy-rust", "it is root's own until now");
                forge(&file, &beside);
                assert_eq!(name_with(variable, &home, &heavy), "heavy-tcp", "{what}: {variable}");
            }
        }
    });
}
