//! A peer that does not read the service's output blocks only itself: standard error, standard output, a log server.

use std::{
    io::{PipeReader, PipeWriter, Read as _, Write as _},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    sync::{Arc, Mutex},
    thread,
};

use super::{
    service::{flow, output, tenant},
    *,
};

/// Returns a full pipe: writing to it blocks until it is read.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // The capacity of a pipe (pipe(7)).
    writer.write_all(&[b'.'; 65_536]).unwrap();
    (reader, writer)
}

/// Starts the service on a policy, with these as standard output and standard error.
fn serve(namespace: &Namespace, text: &str, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Serving {
    let path = policy(namespace, text).display().to_string();
    let mut command = flowgate().command(&["run", &path]);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let serving = Serving::spawn(namespace, command);
    serving.until("it runs", || serving.ask(&["status"]).text().contains("generation 1"));
    serving
}

/// Ends the service; returns its exit status.
fn end(mut serving: Serving) -> i32 {
    serving.background.end_by(Signal::SIGTERM).status
}

/// Number of loads of a policy with mistakes: more lines than all buffers hold.
const ATTEMPTS: usize = 20;
/// Number of mistakes of a file that are reported, one per line.
const REPORTED: usize = 100;

/// Returns a policy with more mistakes than are reported, each of which is a long line.
fn wrong(namespace: &Namespace) {
    let keys: String = (0..2 * REPORTED).map(|number| format!("no-such-key-{number:0400} = 1\n")).collect();
    policy(namespace, &(tenant("blue", 7, "", "") + "[[tenant]]\nname = \"red\"\n" + &keys));
}

#[test]
fn a_full_standard_error_holds_up_nobody() {
    Namespace::run(|namespace| {
        let text = tenant("blue", 7, "", "") + &tenant("red", 8, "", "");
        let (mut reader, writer) = full();
        let serving = serve(namespace, &text, Stdio::null(), writer);
        for port in 1..=200 {
            entries::insert(namespace, &flow(7 + port % 2, port));
        }
        // Their plugins log each batch to an output that is not read; the tenants still get their flows.
        serving.until("blue sees all", || output(&serving, "blue").lines().count() == 100);
        serving.until("red sees all", || output(&serving, "red").lines().count() == 100);
        wrong(namespace);
        for _ in 0..ATTEMPTS {
            let outcome = serving.ask(&["reload"]);
            assert_eq!(outcome.status, 1);
            assert!(outcome.errors().lines().count() >= REPORTED, "{}", outcome.errors().lines().count());
        }
        assert_eq!(serving.ask(&["pause", "blue"]).status, 0);
        assert_eq!(serving.ask(&["resume", "blue"]).status, 0);
        policy(namespace, &text);
        assert_eq!(serving.ask(&["reload"]).status, 0);
        entries::insert(namespace, &flow(7, 1000));
        serving.until("generation 2 sees it", || output(&serving, "blue").contains("sport=1000 "));
        // The output is read again: first the buffered lines, then the number of missing ones, then all lines as
        // before.
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = text.clone();
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut part) {
                kept.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        let printed = || String::from_utf8(text.lock().unwrap().clone()).unwrap();
        serving.until("it says how many lines are missing", || printed().contains(" lines were dropped here, because"));
        assert_eq!(serving.ask(&["reload"]).status, 0);
        serving.until("it is heard again", || printed().contains("\npolicy: generation 3 runs\n"));
        let all = printed();
        assert!(all.trim_start_matches('.').contains("policy: generation 1 runs, 2 tenants\n"), "{}", &all[..66_000]);
        let dropped = all.lines().find(|line| line.contains("lines were dropped here")).unwrap();
        let count: usize = dropped.split(' ').nth(1).unwrap().parse().unwrap();
        let there = all.lines().filter(|line| line.contains("there is no key of `tenant` `no-such-key-")).count();
        // No line about the loads is lost without being counted.
        let said = ATTEMPTS * REPORTED;
        assert!(there < said && count + there >= said, "{count} dropped, {there} there");
        assert!(all.lines().all(|line| !line.is_empty()));
        assert_eq!(end(serving), 0);
    });
}

/// Connects a stream to a server that does not read, like a journal that hangs.
fn stuck() -> (UnixStream, UnixStream) {
    let (reader, mut writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    writer.set_nonblocking(false).unwrap();
    (reader, writer)
}

#[test]
fn the_service_works_and_ends_though_standard_error_is_full() {
    for journal in [false, true] {
        Namespace::run(|namespace| {
            let (pipe, socket) = (full(), stuck());
            let stderr = if journal { Stdio::from(OwnedFd::from(socket.1)) } else { Stdio::from(pipe.1) };
            let serving = serve(namespace, &tenant("blue", 7, "", ""), Stdio::null(), stderr);
            wrong(namespace);
            assert_eq!(serving.ask(&["reload"]).status, 1);
            entries::insert(namespace, &flow(7, 70));
            serving.until("blue sees it", || output(&serving, "blue").contains("sport=70 "));
            assert_eq!(end(serving), 0);
            drop((pipe.0, socket.0));
        });
    }
}

#[test]
fn sinks_that_nobody_reads_hold_up_their_own_tenant_at_most() {
    Namespace::run(|namespace| {
        // It accepts and never reads; the buffers between are small.
        for buffer in ["rmem", "wmem"] {
            namespace.set(&format!("ipv4/tcp_{buffer}"), "4096 4096 4096");
        }
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        namespace.ip("link set lo up");
        let address = server.local_addr().unwrap();
        let shown = |name: &str, zone: u16, sink: &str| {
            let file = format!("kind = \"file\"\npath = \"DIR/{name}.log\"");
            tenant(name, zone, "", "").replace(&file, sink)
        };
        let text = tenant("blue", 7, "", "")
            + &shown("out", 8, "kind = \"stdout\"")
            + &shown("tcp", 9, &format!("kind = \"tcp\"\naddress = \"{address}\"\nbuffer = \"4KiB\""))
            + &shown("log", 10, &format!("kind = \"syslog\"\naddress = \"tcp://{address}\"\nbuffer = \"4KiB\""));
        let (reader, writer) = full();
        let errors = fs::File::create(namespace.directory().join("errors")).unwrap();
        let serving = serve(namespace, &text, writer, errors);
        let lines: Vec<String> =
            (7..=10).flat_map(|zone| (1..=500).map(move |port| format!("-I {}", flow(zone, port)))).collect();
        entries::load(namespace, &lines);
        serving.until("blue sees all", || output(&serving, "blue").lines().count() == 500);
        let answer = serving.ask(&["status"]).text();
        for name in ["out", "tcp", "log"] {
            assert!(answer.contains(&format!("tenant {name}: running")), "{answer}");
            assert_eq!(serving.ask(&["pause", name]).status, 0);
            assert_eq!(serving.ask(&["resume", name]).status, 0);
        }
        assert_eq!(serving.ask(&["reload"]).status, 0);
        entries::insert(namespace, &flow(7, 1000));
        serving.until("blue goes on", || output(&serving, "blue").contains("sport=1000 "));
        assert_eq!(end(serving), 0);
        drop(reader);
    });
}

/// A client reads no more than the maximum length of an answer.
#[test]
fn an_answer_without_an_end_is_not_read_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write as _;
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
        });
        let outcome = flowgate().run(&["policy", "status", "--socket", path.to_str().unwrap()]);
        assert_eq!(outcome.status, 1, "{}", outcome.errors());
        assert!(outcome.errors().contains("its answer is longer than 16 MiB"), "{}", outcome.errors());
    });
}
