//! Notifications of systemd, on a socket in place of systemd's own; and the unit in `examples/policy`.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

use nix::{
    sys::ptrace,
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use super::{
    service::{flow, output, tenant},
    *,
};

/// The manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Manager(socket)
    }

    fn at(path: &Path) -> Self {
        Self::new(UnixDatagram::bind(path).unwrap())
    }

    /// Returns the variables of the next message.
    fn next(&self) -> Vec<(String, String)> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message within a minute");
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        text.lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    /// Returns the next message that sets this variable, after others with a state or a keep-alive.
    fn until(&self, name: &str) -> Vec<(String, String)> {
        loop {
            let message = self.next();
            if message[0].0 == name {
                return message;
            }
            assert!(["STATUS", "WATCHDOG"].contains(&message[0].0.as_str()), "{message:?} before {name}");
        }
    }
}

fn value<'a>(message: &'a [(String, String)], name: &str) -> &'a str {
    let found = message.iter().find(|(other, _)| other == name);
    &found.unwrap_or_else(|| panic!("no {name} in {message:?}")).1
}

fn now() -> u128 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros()
}

/// Checks the notifications from start to end.
fn check_notifications(namespace: &Namespace, manager: &Manager, name: &str) {
    let two = tenant("blue", 7, "", "") + &tenant("red", 8, "", "");
    policy(namespace, &two);
    let serving = Serving::launch(namespace, &flowgate().environment("NOTIFY_SOCKET", name), &[]);
    let ready = manager.next();
    assert_eq!((ready[0].0.as_str(), ready[0].1.as_str()), ("READY", "1"), "{ready:?}");
    assert_eq!(value(&ready, "STATUS"), "generation 1: 2 tenants (2 running)");
    // All plugins have started, and events from now on are shown.
    let status = serving.ask(&["status"]).text();
    assert_eq!(status.matches("plugin ").count(), 2, "{status}");
    entries::insert(namespace, &flow(7, 70));
    serving.until("it is shown", || output(&serving, "blue").contains("sport=70 "));
    assert_eq!(serving.ask(&["pause", "red"]).status, 0);
    assert_eq!(value(&manager.until("STATUS"), "STATUS"), "generation 1: 2 tenants (1 paused, 1 running)");
    for (text, status) in [
        (two.clone() + "colour = 1\n", "generation 1: 2 tenants (1 paused, 1 running); the new file has mistakes"),
        (tenant("blue", 7, "", ""), "generation 2: 1 tenant (1 running)"),
    ] {
        policy(namespace, &text);
        let before = now();
        serving.signal(Signal::SIGHUP);
        let reloading = manager.until("RELOADING");
        assert_eq!(reloading[0].1, "1");
        let time: u128 = value(&reloading, "MONOTONIC_USEC").parse().unwrap();
        assert!((before..=now()).contains(&time), "{time} is not between {before} and {}", now());
        assert!(value(&reloading, "STATUS").ends_with("; reloading the file"), "{reloading:?}");
        let ready = manager.until("READY");
        assert_eq!((ready[0].1.as_str(), value(&ready, "STATUS")), ("1", status));
    }
    serving.end();
    assert_eq!(manager.until("STOPPING")[0].1, "1");
}

#[test]
fn the_manager_is_told_by_a_socket_with_a_path() {
    Namespace::run(|namespace| {
        let path = namespace.directory().join("notify");
        check_notifications(namespace, &Manager::at(&path), path.to_str().unwrap());
    });
}

#[test]
fn the_manager_is_told_by_a_socket_with_an_abstract_name() {
    Namespace::run(|namespace| {
        let name = format!("flowgate-test-{}", namespace.directory().display());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        check_notifications(namespace, &Manager::new(socket), &format!("@{name}"));
    });
}

#[test]
fn what_does_not_start_is_not_ready() {
    Namespace::run(|namespace| {
        let path = namespace.directory().join("notify");
        let manager = Manager::at(&path);
        // The first plugin starts; the second, which is required, does not.
        let digest = attacker().1;
        let other: String = digest.chars().rev().collect();
        let text = tenant("blue", 7, "", "") + &tenant("red", 8, "", "").replace("PLUGIN", &format!("PLUGIN{other}"));
        let text = text.replace("name = \"red\"", "name = \"red\"\nrequired = true");
        let file = policy(namespace, &text);
        let text = fs::read_to_string(&file).unwrap().replace(&format!("\"{digest}\"{other}"), &format!("\"{other}\""));
        fs::write(&file, text).unwrap();
        let program = flowgate().environment("NOTIFY_SOCKET", path.to_str().unwrap());
        let outcome = program.run(&["run", file.to_str().unwrap()]);
        assert!(outcome.status == 1 && outcome.errors().contains("the SHA-256 of"), "{}", outcome.errors());
        manager.0.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(length) = manager.0.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            assert!(!text.contains("READY"), "{text}");
        }
    });
}

/// Starts a service with a watchdog for this process, or for another.
fn watched(namespace: &Namespace, period: &str, process: Option<&str>) -> (Manager, Serving) {
    let path = namespace.directory().join("notify");
    let manager = Manager::at(&path);
    policy(namespace, &tenant("blue", 7, "", ""));
    let mut program = flowgate().environment("NOTIFY_SOCKET", path.to_str().unwrap());
    program = program.environment("WATCHDOG_USEC", period);
    if let Some(process) = process {
        program = program.environment("WATCHDOG_PID", process);
    }
    let serving = Serving::launch(namespace, &program, &[]);
    manager.until("READY");
    (manager, serving)
}

#[test]
fn the_watchdog_is_fed_while_events_are_received() {
    Namespace::run(|namespace| {
        let (manager, serving) = watched(namespace, "300000", None);
        for _ in 0..10 {
            assert_eq!(manager.until("WATCHDOG")[0].1, "1");
        }
        // Only the thread that receives events is stopped.
        let tasks = serving.proc().join("task").display().to_string();
        let is_it = |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "events");
        let thread = fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path()).find(|task| is_it(task)).unwrap();
        let thread = Pid::from_raw(thread.file_name().unwrap().to_str().unwrap().parse().unwrap());
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        nix::sys::wait::waitpid(thread, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
        serving.until("it is missed", || serving.errors().contains("what receives events does not answer"));
        // The service still answers, but sends no keep-alive.
        assert_eq!(serving.ask(&["status"]).status, 0);
        manager.0.set_nonblocking(true).unwrap();
        while manager.0.recv(&mut [0; 4096]).is_ok() {}
        assert_eq!(serving.ask(&["pause", "blue"]).status, 0);
        manager.0.set_nonblocking(false).unwrap();
        assert_eq!(manager.next()[0].0, "STATUS", "and not WATCHDOG");
        ptrace::detach(thread, None).unwrap();
        manager.until("WATCHDOG");
        serving.end();
    });
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    Namespace::run(|namespace| {
        let (manager, serving) = watched(namespace, "1000", Some("1"));
        for order in ["pause", "resume", "pause"] {
            assert_eq!(serving.ask(&[order, "blue"]).status, 0);
            assert_eq!(manager.next()[0].0, "STATUS", "and not WATCHDOG");
        }
        serving.end();
        assert_eq!(manager.next()[0].0, "STOPPING");
    });
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let units = flowgate_test_support::built::root().join("packaging/systemd");
    for (file, name) in [
        ("flowgate-policy.service.in", "flowgate-policy.service"),
        ("flowgate-pipeline@.service.in", "flowgate-pipeline@one.service"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(units.join(file)).unwrap();
        // systemd's set of system calls for services lacks the one by which flowgate installs its filter.
        let filter = text.lines().find_map(|line| line.strip_prefix("SystemCallFilter=")).expect("a filter");
        assert!(filter.split(' ').any(|word| word == "seccomp"), "{filter}");
        // The only complaint is the path of the program.
        let text = text.replace("@PREFIX@/bin/flowgate", &flowgate().path.display().to_string());
        assert!(!text.contains("@PREFIX@"), "{text}");
        let copy = directory.path().join(name);
        fs::write(&copy, text).unwrap();
        let outcome = Program::new("systemd-analyze").run(&["verify", "--man=no", copy.to_str().unwrap()]);
        let said = outcome.text() + &outcome.errors();
        let about: Vec<&str> = said.lines().filter(|line| line.contains("flowgate")).collect();
        assert!(outcome.status == 0 && about.is_empty(), "{name}: {said}");
    }
}
