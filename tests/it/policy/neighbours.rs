//! Tenants of one network namespace, whatever name each of them uses for it.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use flowgate_test_support::until;
use nix::{
    errno::Errno,
    sys::socket::{self, AddressFamily, SockFlag, SockType},
};

use super::{
    recording::attacking,
    service::{flow, output, tenant},
    *,
};

/// Two names of one network namespace are one namespace.
#[test]
fn neighbours_are_found_under_another_name_of_their_namespace() {
    Namespace::run(|namespace| {
        // A private /run, so that the names of the host are neither visible nor changed.
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("netns add one");
        namespace.ip("netns add three");
        fs::write("/run/netns/two", "").unwrap();
        Program::new("mount").must(&["--bind", "/run/netns/one", "/run/netns/two"]);
        fs::write("/run/netns/own", "").unwrap();
        Program::new("mount").must(&["--bind", "/proc/self/ns/net", "/run/netns/own"]);
        let within = |name: &str, namespace: &str| {
            let keys = format!("mark-mask = \"0x100\"{namespace}");
            attacking(name, "", "\"update.mark\"", &keys)
        };
        for (one, two, same) in [
            ("\nnamespace = \"one\"", "\nnamespace = \"two\"", true),
            ("", "\nnamespace = \"own\"", true),
            ("\nnamespace = \"one\"", "\nnamespace = \"three\"", false),
            ("", "\nnamespace = \"three\"", false),
            ("\nnamespace = \"none\"", "\nnamespace = \"nothing\"", false),
        ] {
            let path = policy(namespace, &(within("blue", one) + &within("red", two)));
            let path = path.to_str().unwrap();
            let outcome = flowgate().run(&["policy", "check", path]);
            let what = "own the mark bits 0x100 both, and a flow may be in both their scopes (the network namespaces";
            assert_eq!(outcome.status, i32::from(same), "{one} {two}: {}", outcome.errors());
            assert_eq!(outcome.errors().contains(what), same, "{one} {two}: {}", outcome.errors());
            if same {
                let outcome = flowgate().run(&["run", path]);
                assert!(outcome.status == 1 && outcome.errors().contains(what), "{}", outcome.errors());
            }
        }
        // Tenants of both names without a conflict share the event listener.
        let zone = |name: &str, zone: u16, namespace: &str| {
            tenant(name, zone, "", "")
                .replace("[[tenant.scope]]", &format!("namespace = \"{namespace}\"\n[[tenant.scope]]"))
        };
        let serving = Serving::start(namespace, &(zone("blue", 7, "one") + &zone("red", 8, "two")));
        let inside = |words: &str| namespace.ip(&format!("netns exec one conntrack -I {words}"));
        inside(&flow(7, 70));
        inside(&flow(8, 80));
        serving.until("blue sees its own", || output(&serving, "blue").contains("sport=70 "));
        serving.until("red sees its own", || output(&serving, "red").contains("sport=80 "));
        let path = namespace.directory().join("policy.toml").display().to_string();
        let words = ["policy", "explain", "--namespace", "two", &path, "--"];
        let line = "-s 10.1.0.1 -d 192.0.2.1 -p udp --sport 1 --dport 2 -w 7".split(' ');
        let reported = flowgate().must(&words.into_iter().chain(line).collect::<Vec<_>>());
        assert!(reported.contains("tenant blue: sees it"), "{reported}");
        serving.end();
        for name in ["one", "two", "three", "own"] {
            // The rest is unmounted with the mount namespace of the test.
            let _ = nix::mount::umount(format!("/run/netns/{name}").as_str());
        }
    });
}

/// Returns a socket with a full backlog: another client blocks until the descriptors are closed.
fn busy(path: &Path) -> Vec<OwnedFd> {
    let address = socket::UnixAddr::new(path).unwrap();
    let open = |flags| socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    let listener = open(SockFlag::SOCK_CLOEXEC);
    socket::bind(listener.as_raw_fd(), &address).unwrap();
    socket::listen(&listener, socket::Backlog::new(0).unwrap()).unwrap();
    let mut all = vec![listener];
    loop {
        let client = open(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK);
        let connected = socket::connect(client.as_raw_fd(), &address);
        all.push(client);
        match connected {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A name that refers to a neighbour's network namespace only after the file has been read is detected at the start.
#[test]
fn neighbours_are_compared_once_more_when_they_start() {
    Namespace::run(|namespace| {
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        ["one", "two"].iter().for_each(|name| namespace.ip(&format!("netns add {name}")));
        let within = |name: &str, more: &str| attacking(name, "", "\"update.mark\"", more);
        let mut text = within("blue", "mark-mask = \"0x100\"\nnamespace = \"one\"")
            + &within("red", "mark-mask = \"0x100\"\nnamespace = \"two\"");
        // These are noted when the file is read.
        text += &(within("green", "mark-mask = \"0x1\"") + &within("grey", "mark-mask = \"0x2\""));
        policy(namespace, &text);
        // The service checks whether another one runs after it has read the file, and before it starts anything.
        let held = busy(&namespace.directory().join("socket"));
        let mut serving = Serving::launch(namespace, &flowgate(), &[]);
        serving.until("it has read the file", || serving.errors().contains("a flow may be in the scopes of both"));
        nix::mount::umount("/run/netns/two").unwrap();
        Program::new("mount").must(&["--bind", "/run/netns/one", "/run/netns/two"]);
        drop(held);
        until("it starts or ends", || {
            !serving.background.runs() || serving.background.errors().contains("generation 1")
        });
        let runs = serving.background.runs();
        let outcome = if runs { serving.background.end_by(Signal::SIGTERM) } else { serving.background.end() };
        let what = "own the mark bits 0x100 both, and a flow may be in both their scopes (the network namespaces";
        assert_eq!(outcome.status, 1, "{}", outcome.errors());
        assert_eq!(outcome.errors().matches(what).count(), 1, "{}", outcome.errors());
        for name in ["one", "two"] {
            // The rest is unmounted with the mount namespace of the test.
            let _ = nix::mount::umount(format!("/run/netns/{name}").as_str());
        }
    });
}

/// The same for a tenant that is started later than the others.
#[test]
fn neighbours_are_compared_when_one_is_started_by_hand() {
    Namespace::run(|namespace| {
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("netns add one");
        namespace.ip("netns add three");
        let within = |name: &str, namespace: &str| {
            attacking(name, "", "\"update.mark\"", &format!("mark-mask = \"0x100\"\nnamespace = \"{namespace}\""))
        };
        let serving = Serving::start(namespace, &(within("blue", "one") + &within("red", "two")));
        assert!(serving.ask(&["status", "red"]).text().contains("tenant red: ended"));
        fs::write("/run/netns/two", "").unwrap();
        Program::new("mount").must(&["--bind", "/run/netns/one", "/run/netns/two"]);
        let outcome = serving.ask(&["resume", "red"]);
        let what = "own the mark bits 0x100 both, and a flow may be in both their scopes (the network namespaces";
        assert!(outcome.status == 1 && outcome.errors().contains(what), "{}", outcome.errors());
        assert!(serving.ask(&["status", "red"]).text().contains("tenant red: ended"));
        nix::mount::umount("/run/netns/two").unwrap();
        Program::new("mount").must(&["--bind", "/run/netns/three", "/run/netns/two"]);
        let outcome = serving.ask(&["resume", "red"]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert!(serving.ask(&["status", "red"]).text().contains("tenant red: running"));
        serving.end();
        for name in ["one", "two", "three"] {
            // The rest is unmounted with the mount namespace of the test.
            let _ = nix::mount::umount(format!("/run/netns/{name}").as_str());
        }
    });
}
