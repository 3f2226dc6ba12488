//! The doctor on healthy and misconfigured systems.

use flowgate_test_support::{Background, Namespace, Outcome, Program, entries};
use serde_json::Value;

use crate::operations::{flowgate, run};

/// The ID of a user without privileges.
const NOBODY: u32 = 65534;

/// Returns the findings of `-o json`.
fn findings(outcome: &Outcome) -> Vec<Value> {
    let findings: Vec<Value> =
        outcome.text().lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect();
    assert!(findings.len() > 15, "{findings:#?}");
    for finding in &findings {
        for key in ["level", "check", "text"] {
            assert!(finding[key].is_string(), "{finding}");
        }
    }
    findings
}

/// Returns the level and the command of a check.
fn of(findings: &[Value], check: &str) -> (String, String) {
    let finding = findings.iter().find(|finding| finding["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("nothing of {check} in {findings:#?}"));
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_string();
    (text("level"), text("mend"))
}

#[test]
fn what_is_off_is_told_with_the_command_that_turns_it_on() {
    Namespace::run(|namespace| {
        namespace.account(false);
        namespace.set("netfilter/nf_conntrack_events", 0);
        let outcome = run("doctor -o json");
        assert_eq!(outcome.status, 1, "no events are a problem: {}", outcome.text());
        let found = findings(&outcome);
        let wanted = [
            ("sysctl.nf_conntrack_acct", "warning", "sysctl -w net.netfilter.nf_conntrack_acct=1"),
            ("sysctl.nf_conntrack_timestamp", "warning", "sysctl -w net.netfilter.nf_conntrack_timestamp=1"),
            ("sysctl.nf_conntrack_events", "problem", "sysctl -w net.netfilter.nf_conntrack_events=1"),
        ];
        for (check, level, mend) in wanted {
            assert_eq!(of(&found, check), (level.to_string(), mend.to_string()));
        }
        // The suggested commands work.
        for (_, _, mend) in wanted {
            let (name, value) = mend.strip_prefix("sysctl -w net.").unwrap().split_once('=').unwrap();
            namespace.set(&name.replace('.', "/"), value);
        }
        let outcome = run("doctor --json");
        assert_eq!(outcome.status, 0, "{}", outcome.text());
        let found = findings(&outcome);
        for (check, _, _) in wanted {
            assert_eq!(of(&found, check), ("ok".to_string(), String::new()), "{check}");
        }
        namespace.set("netfilter/nf_conntrack_events", 2);
        assert_eq!(of(&findings(&run("doctor --json")), "sysctl.nf_conntrack_events").0, "ok");
    });
}

#[test]
fn the_kernel_of_this_machine_can_do_everything() {
    Namespace::run(|namespace| {
        let before = Program::new("conntrack").must(&["-L"]);
        let found = findings(&run("doctor --json"));
        for finding in &found {
            let check = finding["check"].as_str().unwrap();
            if ["feature.", "module.", "capability."].iter().any(|kind| check.starts_with(kind)) {
                assert_eq!(finding["level"], "ok", "{finding}");
            }
        }
        for check in ["mark", "status", "zone", "tuple", "family"] {
            of(&found, &format!("feature.filter.{check}"));
        }
        assert!(of(&found, "feature.labels").0 == "ok" && of(&found, "feature.flush").0 == "ok");
        assert_eq!(Program::new("conntrack").must(&["-L"]), before, "nothing was made or removed here");
        assert_eq!(namespace.directory().read_dir().unwrap().count(), 0);
    });
}

#[test]
fn for_people_it_is_plain_text() {
    Namespace::run(|namespace| {
        namespace.account(false);
        let outcome = run("doctor");
        let text = outcome.text();
        assert_eq!(outcome.status, 0, "{text}");
        assert!(!text.contains('\x1b'), "no colours where there is no terminal");
        assert!(text.contains("\nwarning  nf_conntrack_acct=0: "), "{text}");
        assert!(text.contains("\n         -> sysctl -w net.netfilter.nf_conntrack_acct=1\n"), "{text}");
        assert!(text.contains("not the initial one of the machine"), "{text}");
        assert!(text.contains("\nwarning  no rule turns connection tracking on in this network namespace"), "{text}");
        assert!(text.ends_with("0 problems, 3 warnings\n"), "{text}");
        assert!(outcome.stderr.is_empty(), "{}", outcome.errors());
    });
}

#[test]
fn without_privileges_it_says_which() {
    Namespace::run(|namespace| {
        let nobody = flowgate().copied_to(namespace.directory()).user(NOBODY);
        let outcome = nobody.run(&["doctor", "--json"]);
        assert_eq!(outcome.status, 1);
        let found = findings(&outcome);
        assert_eq!(of(&found, "capability.net_admin"), ("problem".into(), "sudo flowgate ...".into()));
        for check in ["capability.sys_admin", "capability.net_broadcast", "features", "module.nf_conntrack_netlink"] {
            assert_eq!(of(&found, check).0, "warning", "{check}");
        }
        // Commands that fail for lack of privileges suggest the doctor.
        for command in [&["-L"][..], &["-E"], &["-F"], &["-C"], &["-L", "expect"], &["-E", "expect"]] {
            let outcome = nobody.run(command);
            assert_eq!(outcome.status, 1, "{command:?}");
            assert!(outcome.errors().ends_with("`flowgate doctor` shows what is missing.\n"), "{}", outcome.errors());
        }
    });
}

#[test]
fn of_another_namespace() {
    Namespace::run(|namespace| {
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("netns add blue");
        namespace.account(true);
        let found = findings(&run("doctor --json --netns blue"));
        assert_eq!(
            of(&found, "sysctl.nf_conntrack_acct"),
            ("warning".into(), "nsenter --net=/run/netns/blue sysctl -w net.netfilter.nf_conntrack_acct=1".into())
        );
        let text = found.iter().find(|finding| finding["check"] == "namespace").unwrap()["text"].to_string();
        assert!(text.contains("] (blue), not the initial one"), "{text}");
        let outcome = run("doctor --netns green");
        assert_eq!(outcome.status, 1);
        assert!(outcome.errors().contains("there is no network namespace `green`; there are: blue"));
    });
}

/// Runs the doctor after a script, in a new mount namespace.
fn after(script: &str) -> Vec<Value> {
    let doctor = flowgate().path.display().to_string();
    findings(&Program::new("unshare").run(&["--mount", "sh", "-ec", &format!("{script}; exec {doctor} doctor --json")]))
}

#[test]
fn case_31_what_is_hidden_is_told_and_is_not_missing() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        for hidden in ["/proc/sys/net/netfilter", "/proc/sys/net", "/proc/sys"] {
            let found = after(&format!("mount -t tmpfs tmpfs {hidden}"));
            for check in ["module.nf_conntrack", "module.nf_conntrack_netlink", "module.nfnetlink", "table.fill"] {
                assert_eq!(of(&found, check).0, "ok", "{hidden}: {check}");
            }
            let (level, mend) = of(&found, "unit.proc");
            assert_eq!(level, "warning");
            assert!(mend.contains("--netns"), "{mend}");
            let fill = found.iter().find(|finding| finding["check"] == "table.fill").unwrap();
            assert!(
                fill["text"].as_str().unwrap().starts_with(&format!("{} of at most", entries::marks().len())),
                "{fill}"
            );
            assert!(
                !found.iter().any(|finding| finding["check"] == "protocols"),
                "nothing is said of what is not known"
            );
        }
        let found = after("mount -t tmpfs tmpfs /proc");
        assert_eq!((of(&found, "module.nf_conntrack").0, of(&found, "unit.proc").0), ("ok".into(), "warning".into()));
        assert_eq!(of(&findings(&run("doctor --json")), "module.nf_conntrack").0, "ok");
        assert!(!findings(&run("doctor --json")).iter().any(|finding| finding["check"] == "unit.proc"));
    });
}

#[test]
fn case_32_a_namespace_in_which_no_rule_tracks_is_reported() {
    Namespace::run(|namespace| {
        let level = || of(&findings(&run("doctor --json")), "tracking");
        let (found, mend) = level();
        assert_eq!(found, "warning");
        // Rules that do not use tracking make no difference.
        namespace.nft("add table ip plain; add chain ip plain c { type filter hook input priority 0; }; add rule ip plain c tcp dport 1 drop");
        assert_eq!(level().0, "warning");
        for rule in [
            "add rule ip plain c ct state established accept",
            "add rule ip plain c ct mark set 1",
            "add table ip n; add chain ip n p { type nat hook postrouting priority 100; }; add rule ip n p masquerade",
        ] {
            namespace.nft(rule);
            assert_eq!(level().0, "ok", "{rule}");
            namespace.nft("flush chain ip plain c");
            Program::new("nft").run(&["delete", "table", "ip", "n"]);
            assert_eq!(level().0, "warning", "without {rule}");
        }
        // The suggested command works: packets are tracked.
        Program::new("sh").must(&["-c", &mend]);
        assert_eq!(level().0, "ok");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"tracked", socket.local_addr().unwrap()).unwrap();
        assert_eq!(entries::count(namespace), 1);
        namespace.nft("flush ruleset");
        // Existing flows are detected, whatever created them.
        assert_eq!(level().0, "ok");
        let (found, _) = of(
            &findings(&Program::new("setpriv").run(&[
                "--bounding-set=-net_admin",
                "--inh-caps=-net_admin",
                &flowgate().path.display().to_string(),
                "doctor",
                "--json",
            ])),
            "tracking",
        );
        assert_eq!(found, "warning", "it cannot be known without the capability");
    });
}

#[test]
fn what_a_unit_keeps_from_it_is_reported() {
    Namespace::run(|_| {
        let found = findings(&run("doctor --json"));
        let separation = ["workers.users", "workers.pid_namespace", "workers.cgroup"];
        for check in ["unit.system_calls", "unit.threads", "unit.descriptors"].into_iter().chain(separation) {
            assert_eq!(of(&found, check).0, "ok", "{check}");
        }
        let program = flowgate().path.display().to_string();
        let found = findings(&Program::new("prlimit").run(&["--nofile=16", &program, "doctor", "--json"]));
        assert_eq!(of(&found, "unit.descriptors").0, "warning");
    });
}

#[test]
fn silence_points_to_it() {
    Namespace::run(|_| {
        let silent = |program: Program| {
            let mut listening = Background::start(&program, &["-E"]);
            // Signal handlers are installed before the socket is opened, so they are in place when it exists.
            listening.wait_until_listening();
            listening.finish().errors()
        };
        assert!(silent(flowgate()).contains("`flowgate doctor` finds out why"));
        assert!(!silent(flowgate().called("conntrack")).contains("doctor"));
    });
}
