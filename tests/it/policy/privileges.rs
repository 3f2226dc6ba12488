//! Privileges that the service drops before it starts.

use std::{collections::BTreeSet, fs, io::Write as _, path::Path, process::Stdio};

use crate::policy::{Serving, compiling, flowgate, plugins, policy, policy_text, service};
use caps::Capability;
use flowgate_test_support::{AS_NOBODY_WITH_NET_ADMIN, Background, NOBODY, Namespace, Program, entries, until};

/// Returns a tenant without actions, with more keys.
fn tenant(keys: &str) -> String {
    format!("[[tenant]]\nname = 'one'\n{keys}\n[[tenant.scope]]\neverything = true\n[[tenant.plugin]]\nPLUGIN\n")
}

/// Returns the values of a line in the status of the service's threads: one if it is the same for all.
fn of_threads(serving: &Serving, field: &str) -> BTreeSet<String> {
    let values = of_process(&serving.proc(), field);
    assert!(values.len() > 3, "the threads of control, of events, of the clock and of the tenant");
    values.into_iter().collect()
}

/// Returns the value of a line in the status of each thread; threads that end meanwhile have none.
fn of_process(process: &Path, field: &str) -> Vec<String> {
    let tasks = process.join("task");
    let threads = fs::read_dir(tasks).into_iter().flatten().flatten();
    let status = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let value = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix(field).map(str::to_string))?;
        Some(line.trim_start_matches(':').trim().to_string())
    };
    status.filter_map(value).collect()
}

fn only(capabilities: &[Capability]) -> BTreeSet<String> {
    let bits: u64 = capabilities.iter().map(|capability| 1 << capability.index()).sum();
    BTreeSet::from([format!("{bits:016x}")])
}

#[test]
fn every_thread_has_one_capability_and_a_filter() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant(""));
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(of_threads(&serving, set), only(&[Capability::CAP_NET_ADMIN]), "{set}");
        }
        assert_eq!(of_threads(&serving, "NoNewPrivs"), BTreeSet::from(["1".into()]));
        assert_eq!(of_threads(&serving, "Seccomp"), BTreeSet::from(["2".into()]));
        serving.end();
    });
}

/// Plugins run in workers: no memory of the service itself becomes executable.
#[test]
fn a_keeper_has_one_capability_and_no_executable_memory() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &service::tenant("blue", 7, "", ""));
        entries::insert(namespace, &service::flow(7, 70));
        serving.until("its plugin runs", || service::output(&serving, "blue").contains("sport=70 "));
        assert_eq!(of_threads(&serving, "CapEff"), only(&[Capability::CAP_NET_ADMIN]));
        let process = serving.background.process();
        // What starts workers has three others, to give each a user of its own, and sees nothing of what they do.
        let kept = only(&[Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_KILL]);
        let below = compiling::below(process.as_raw());
        let spawners = below.into_iter().filter(|(_, (_, name))| name == "flowgate-spawne");
        let capabilities = spawners.map(|(spawner, _)| of_process(Path::new(&format!("/proc/{spawner}")), "CapEff"));
        assert_eq!(capabilities.flatten().map(|set| BTreeSet::from([set])).collect::<Vec<_>>(), [kept]);
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        for line in maps.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (protection, file) = (words[1], words.get(5).copied().unwrap_or_default());
            assert!(!(protection.contains('w') && protection.contains('x')), "{line}");
            assert!(!protection.contains('x') || file.starts_with('/') || file.starts_with("[v"), "{line}");
        }
        serving.end();
    });
}

/// As a unit with User= starts it: another user, and the capability as an ambient one.
#[test]
fn the_service_runs_without_root() {
    Namespace::run(|namespace| {
        policy(namespace, &service::tenant("blue", 7, "", ""));
        let program = flowgate().copied_to(namespace.directory());
        Program::new("chown").must(&["-R", NOBODY, namespace.directory().to_str().unwrap()]);
        let path = namespace.directory().join("policy.toml");
        let service = [program.path.to_str().unwrap(), "run", path.to_str().unwrap()];
        let [setpriv, words @ ..] = AS_NOBODY_WITH_NET_ADMIN;
        let mut command = Program::new(setpriv).command(&[&words[..], &service].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let serving = Serving::spawn(namespace, command);
        serving.until("it runs", || serving.errors().contains("generation 1 runs"));
        assert_eq!(of_threads(&serving, "CapEff"), only(&[Capability::CAP_NET_ADMIN]));
        assert!(of_threads(&serving, "Uid").iter().all(|users| users.split_whitespace().all(|user| user == NOBODY)));
        entries::insert(namespace, &service::flow(7, 70));
        serving.until("it receives flows", || service::output(&serving, "blue").contains("sport=70 "));
        let answer = serving.ask(&["reload"]);
        assert_eq!(answer.text(), "generation 2\n", "{}", answer.errors());
        serving.end();
    });
}

#[test]
fn namespaces_cost_a_capability_that_cannot_be_had_later() {
    Namespace::run(|namespace| {
        // A private /run, so that the names of the host are neither visible nor changed.
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("netns add inner");
        let elsewhere = tenant("namespace = 'inner'\nrequired = true");
        let serving = Serving::start(namespace, &tenant(""));
        policy(namespace, &elsewhere);
        let answer = serving.ask(&["reload"]);
        assert_eq!(answer.status, 1, "{}", answer.errors());
        assert!(answer.errors().contains("has given it up: restart it"), "{}", answer.errors());
        serving.until("the old one goes on", || serving.errors().contains("generation 1 stays in force"));
        serving.end();

        let serving = Serving::start(namespace, &elsewhere);
        let kept = [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN, Capability::CAP_NET_BROADCAST];
        assert_eq!(of_threads(&serving, "CapEff"), only(&kept));
        serving.end();
    });
}

/// However a plugin is named, it runs behind the filter, in a process without capabilities for namespaces.
#[test]
fn wherever_a_plugin_is_named_it_is_confined() {
    let plugin = plugins::built("hostile").display().to_string();
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let looping = format!("{plugin},do=loop");
        let line = format!("-D -p udp --plugin {looping}\n");
        let file = namespace.directory().join("lines");
        fs::write(&file, &line).unwrap();
        let pipeline =
            format!("[source]\nkind = 'dump'\n[[stage]]\nplugin = '{plugin}'\noptions = {{ do = 'loop' }}\n");
        let recording = namespace.directory().join("recording").display().to_string();
        flowgate().must(&["record", &recording, "--", "-L"]);
        let file = file.display().to_string();
        let cases: [(&[&str], &str); 7] = [
            (&["-L", "--plugin", &looping], ""),
            (&["-R", &file], ""),
            (&["-R", "-"], &line),
            (&["run", "/dev/stdin"], &pipeline),
            (&["replay", &recording, "--", "--plugin", &looping], ""),
            (&["record", "/dev/null", "--show", "--", "-L", &format!("--plugin={looping}")], ""),
            (&["top", "--once", "--", "--plugin", &looping], ""),
        ];
        for (words, input) in cases {
            let mut command = flowgate().command(words);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut running = Background::spawn(command);
            running.take_input().write_all(input.as_bytes()).unwrap();
            let process = Path::new("/proc").join(running.process().to_string());
            // It loops for a second of CPU time, after it has been compiled.
            let (mut seen, mut calls) = (0, Vec::new());
            let loops = || {
                calls = of_process(&process, "Seccomp");
                // The thread of the clock exists from the first plugin on.
                seen += usize::from(calls.len() > 1);
                seen == 3 || !running.runs()
            };
            until(&format!("{words:?} loops"), loops);
            let capabilities = of_process(&process, "CapEff");
            drop(running);
            assert!(seen == 3, "{words:?}: it did not loop");
            assert!(calls.iter().all(|mode| mode == "2"), "{words:?}: {calls:?}");
            for capabilities in capabilities {
                let bits = u64::from_str_radix(&capabilities, 16).unwrap();
                assert_eq!(bits & Capability::CAP_SYS_ADMIN.bitmask(), 0, "{words:?}: {capabilities}");
            }
        }
    });
}

/// Compiled code of tenants is stored in a directory of the service alone, or not at all. A command of the same user
/// caches it.
#[test]
fn the_service_keeps_no_compiled_code_where_a_user_does() {
    Namespace::run(|namespace| {
        // The whole path of a cache directory must belong to root, unlike that of /tmp. Only this thread sees it.
        Program::new("mount").must(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt"]);
        let program = flowgate().environment("XDG_CACHE_HOME", "/mnt");
        policy(namespace, &tenant(""));
        let serving = Serving::launch(namespace, &program, &[]);
        serving.until("it runs", || serving.errors().contains("generation 1 runs"));
        assert_eq!(serving.ask(&["reload"]).status, 0);
        serving.end();
        assert_eq!(fs::read_dir("/mnt").unwrap().count(), 0);
        program.must(&["-L", "--plugin", plugins::built("attacker").to_str().unwrap()]);
        assert_eq!(fs::read_dir("/mnt/flowgate").unwrap().count(), 1, "it would have been kept there");
    });
}

/// The file is read once: privileges are decided by the bytes that are run.
#[test]
fn a_policy_comes_through_a_pipe() {
    Namespace::run(|namespace| {
        let text = policy_text(namespace, "", &tenant(""));
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut command = flowgate().command(&["run", "/dev/stdin"]);
        command.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
        let serving = Serving::spawn(namespace, command);
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        serving.until("it runs", || serving.errors().contains("generation 1 runs"));
        assert_eq!(of_threads(&serving, "CapEff"), only(&[Capability::CAP_NET_ADMIN]));
        let answer = serving.ask(&["reload"]);
        assert_eq!(answer.status, 1);
        assert!(answer.errors().contains("can be read only once"), "{}", answer.errors());
        let errors = serving.end();
        assert!(errors.contains("generation 1 stays in force"), "{errors}");
    });
}
