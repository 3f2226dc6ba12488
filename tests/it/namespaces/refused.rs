//! Namespaces that do not exist, and missing privileges.

use flowgate_test_support::{Namespace, Program};

use crate::namespaces::{Inhabitant, flowgate, run, with_two, words};

/// The ID of a user without privileges.
const NOBODY: u32 = 65534;

#[test]
fn what_is_no_namespace_is_said() {
    with_two(|_| {
        for (word, error) in [
            ("green", "there is no network namespace `green`; there are: blue, red"),
            ("999999999", "there is no process 999999999"),
            ("/run/netns/green", "cannot open the network namespace /run/netns/green: No such file"),
            ("/dev/null", "/dev/null is not a network namespace"),
            ("/proc/self/ns/mnt", "/proc/self/ns/mnt is not a network namespace"),
            ("/run", "/run is not a network namespace"),
        ] {
            for command in ["-L", "-F", "-C", "-S", "-E", "-E expect", "-D -p udp", "-L expect"] {
                let outcome = run(&format!("{command} --netns {word}"));
                assert_eq!(outcome.status, 1, "{command} {word}");
                assert!(outcome.errors().contains(error), "{command} {word}: {}", outcome.errors());
                assert!(outcome.stdout.is_empty());
            }
        }
        let outcome = flowgate().run(&["-L", "--netns", ""]);
        assert_eq!(outcome.status, 2);
        assert!(outcome.errors().contains("--netns takes the name of a network namespace"), "{}", outcome.errors());
    });
}

#[test]
fn where_there_is_none_it_says_how_to_make_one() {
    Namespace::run(|_| {
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        let errors = run("-L --netns blue").errors();
        assert!(errors.contains("there is none in /run/netns (`ip netns add NAME` makes one)"), "{errors}");
    });
}

#[test]
fn others_may_not() {
    with_two(|namespace| {
        let nobody = flowgate().copied_to(namespace.directory()).user(NOBODY);
        let inhabitant = Inhabitant::of("blue");
        let process = inhabitant.process().to_string();
        for (word, error) in [("blue", "takes the capability CAP_SYS_ADMIN"), (&process, "CAP_SYS_PTRACE")] {
            let outcome = nobody.run(&["-L", "--netns", word]);
            assert_eq!(outcome.status, 1);
            assert!(outcome.errors().contains(error), "{word}: {}", outcome.errors());
            assert!(outcome.errors().contains("`flowgate doctor` shows what is missing."), "{}", outcome.errors());
        }
        let outcome = nobody.run(&words("-E --all-netns"));
        assert_eq!(outcome.status, 1);
        assert!(outcome.errors().contains("CAP_NET_BROADCAST"), "{}", outcome.errors());
        // Invoked as conntrack, it has only the messages of conntrack.
        let outcome = nobody.called("conntrack").run(&["-L"]);
        assert!(!outcome.errors().contains("doctor"), "{}", outcome.errors());
    });
}
