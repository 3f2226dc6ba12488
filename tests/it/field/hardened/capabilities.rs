//! CAP_NET_ADMIN and nothing else, however it was granted; and root without capabilities.

use std::process::{Command, Stdio};

use flowgate_test_support::{Namespace, Program};

use super::{behind, classic_commands_work, events_are_seen, in_good_order, run};
use crate::field::flowgate;

/// A user without privileges that runs nothing else.
pub(super) const USER: &str = "64917";

/// Returns the words that run a program as that user, with this capability and no other.
pub(super) fn unprivileged(capability: &str) -> Vec<String> {
    let mut words: Vec<String> = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"].map(Into::into).into();
    if !capability.is_empty() {
        words.push(format!("--inh-caps=-all,+{capability}"));
        words.push(format!("--ambient-caps=-all,+{capability}"));
        words.push(format!("--bounding-set=-all,+{capability}"));
    }
    words
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn an_ambient_capability_is_enough() {
    Namespace::run(|namespace| {
        let copy = flowgate().copied_to(namespace.directory()).path;
        let start = behind(&words(&unprivileged("net_admin")), &copy);
        classic_commands_work(&start);
        events_are_seen(namespace, &start);
    });
}

#[test]
fn a_capability_of_the_file_is_enough() {
    Namespace::run(|namespace| {
        let copy = flowgate().copied_to(namespace.directory()).path;
        Program::new("setcap").must(&["cap_net_admin+ep", &copy.display().to_string()]);
        let start = behind(&words(&unprivileged("")), &copy);
        classic_commands_work(&start);
        events_are_seen(namespace, &start);
    });
}

#[test]
fn root_without_capabilities_is_told_so() {
    Namespace::run(|_| {
        let start = behind(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], &super::built());
        for line in [
            "-L",
            "-D -p udp",
            "-F",
            "-C",
            "-E",
            "-U -m 1",
            "-I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 9",
        ] {
            let outcome = run(start(&line.split_whitespace().collect::<Vec<_>>()), b"");
            in_good_order(line, &outcome);
            assert_eq!(outcome.status, 1, "{line}: {}", outcome.errors());
            assert!(outcome.errors().contains("`flowgate doctor` shows"), "{line}: {}", outcome.errors());
        }
        for line in ["-V", "-h"] {
            assert_eq!(run(start(&[line]), b"").status, 0, "{line}");
        }
    });
}

#[test]
fn root_of_a_user_namespace_is_as_good() {
    Namespace::run(|_| {
        // This process keeps the namespaces alive.
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Its answer shows that it has entered the namespaces.
        std::io::Write::write_all(holder.stdin.as_mut().unwrap(), b"!").unwrap();
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let process = holder.id().to_string();
        let inside = ["nsenter", "--target", &process, "--user", "--net", "--preserve-credentials"];
        classic_commands_work(&behind(&inside, &super::built()));
        let doctor = run(behind(&inside, &super::built())(&["doctor"]), b"");
        in_good_order("doctor", &doctor);
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
    });
}
