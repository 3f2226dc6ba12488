//! Dumps through stages into sinks.

use std::{
    io::Read as _,
    net::TcpListener,
    os::unix::net::{UnixDatagram, UnixListener},
    thread,
};

use flowgate_test_support::{Namespace, entries, program::shell_status, traffic::Traffic};

use crate::run::{conntrack, content, file, flowgate, must, plugins, run};

#[test]
fn formats_are_those_of_the_command_line() {
    Namespace::run(|namespace| {
        namespace.keep_entries();
        let _traffic = Traffic::everything(namespace);
        for (source, format, line) in [
            ("", "", "-L"),
            ("select = '-p tcp'", "kind = 'text'\nshow = ['extended', 'id']", "-L -p tcp -o extended,id"),
            ("select = '-f ipv6 -p udp'", "kind = 'xml'", "-L -f ipv6 -p udp -o xml"),
            ("select = '-s 10.9.0.0/24'", "kind = 'save'\nbatch = 1", "-L -s 10.9.0.0/24 -o save"),
            ("table = 'expect'", "kind = 'text'", "-L expect"),
            ("table = 'expect'\nselect = '-f ipv6'", "", "-L expect -f ipv6"),
        ] {
            let command = || flowgate().run(&line.split(' ').collect::<Vec<_>>());
            let pipeline = format!("[source]\nkind = 'dump'\n{source}\n[format]\n{format}\n");
            // Timeouts decrease, and a late packet may reset one, so this is repeated until both show the same.
            let (mut theirs, mut ours) = (command(), run(namespace, &pipeline, &[]));
            for _ in 0..100 {
                if ours.text() == theirs.text() {
                    break;
                }
                (theirs, ours) = (command(), run(namespace, &pipeline, &[]));
            }
            assert!(!theirs.stdout.is_empty(), "{line}");
            assert_eq!(ours.text(), theirs.text(), "{line}");
            assert_eq!((ours.errors(), ours.status), (theirs.errors(), theirs.status), "{line}");
        }
    });
}

#[test]
fn all_sinks_get_the_same_bytes() {
    Namespace::run(|namespace| {
        namespace.account(true);
        namespace.keep_entries();
        entries::load(namespace, &entries::every_protocol());
        let directory = namespace.directory();
        let lines = conntrack().must(&["-L", "-f", "ipv4"]).lines().count();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let unix = UnixListener::bind(directory.join("stream")).unwrap();
        let log = UnixDatagram::bind(directory.join("log")).unwrap();
        let readers = [
            thread::spawn(move || {
                let mut text = String::new();
                tcp.accept().unwrap().0.read_to_string(&mut text).map(|_| text)
            }),
            thread::spawn(move || {
                let mut text = String::new();
                unix.accept().unwrap().0.read_to_string(&mut text).map(|_| text)
            }),
        ];
        let messages = thread::spawn(move || {
            let mut buffer = [0; 4096];
            let read = |_| {
                let length = log.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            };
            (0..lines).map(read).collect::<Vec<String>>()
        });
        let text = must(
            namespace,
            &format!(
                "[source]\nkind = 'dump'\n\
                 [[stage]]\nstock = 'match'\nselect = '-f ipv4'\n\
                 [format]\nshow = ['id']\n\
                 [[sink]]\nkind = 'stdout'\n\
                 [[sink]]\nkind = 'file'\npath = 'flows'\nrotate-size = '1KiB'\nkeep = 999\n\
                 [[sink]]\nkind = 'tcp'\naddress = '{address}'\n\
                 [[sink]]\nkind = 'unix'\npath = 'stream'\n\
                 [[sink]]\nkind = 'syslog'\naddress = 'log'\napp-name = 'flows'\n"
            ),
        );
        assert!(text.len() > 2000, "several files: {text}");
        for reader in readers {
            assert_eq!(reader.join().unwrap().unwrap(), text);
        }
        let mut parts: Vec<String> = (1..)
            .map(|number| format!("flows.{number}"))
            .take_while(|name| directory.join(name).exists())
            .map(|name| content(namespace, &name))
            .collect();
        parts.insert(0, content(namespace, "flows"));
        parts.reverse();
        assert!(parts.len() > 2 && parts.iter().all(|part| part.len() <= 1024 && part.ends_with('\n')), "{parts:#?}");
        assert_eq!(parts.concat(), text);
        for (line, message) in text.lines().zip(messages.join().unwrap()) {
            assert!(message.starts_with("<30>1 ") && message.contains(" flows "), "{message}");
            assert!(message.ends_with(&format!(" - - {line}")), "{message}");
        }
    });
}

#[test]
fn plugins_look_at_what_the_selector_leaves() {
    Namespace::run(|namespace| {
        namespace.account(true);
        let flows = ["8.8.8.8", "10.0.0.2"].map(|to| {
            format!("-I -t 600 -p tcp --state ESTABLISHED -s 10.0.0.1 -d {to} --sport 1000 --dport 443 -u SEEN_REPLY,ASSURED")
        });
        entries::load(namespace, &flows);
        let heavy = plugins::built("heavy-tcp").display().to_string();
        std::fs::write(namespace.directory().join("bytes.txt"), "0").unwrap();
        let pipeline = |options: &str| format!("[source]\nkind = 'dump'\n[[stage]]\nplugin = '{heavy}'\n{options}\n");
        // Without packets no flow has more than 0 bytes.
        assert_eq!(must(namespace, &pipeline("options = { bytes = 0 }")), "");
        assert_eq!(must(namespace, &pipeline("options-file = { bytes = 'bytes.txt' }")), "");
        let outcome = run(namespace, &pipeline(""), &["--plugin-stats"]);
        assert!(outcome.errors().contains(", 2 rows in, 0 out"), "{}", outcome.errors());
    });
}

#[test]
fn stock_stages_act_and_a_dry_run_does_not() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::every_protocol());
        let count = || conntrack().must(&["-C"]).trim().parse::<usize>().unwrap();
        let all = count();
        let udp = conntrack().must(&["-L", "-p", "udp"]).lines().count();
        assert!(udp > 0 && udp < all);
        let delete = "[source]\nkind = 'dump'\nselect = '-p udp'\n[[stage]]\nstock = 'delete'\n";
        let dry = run(namespace, delete, &["--dry-run"]);
        assert_eq!((dry.status, dry.text().lines().count(), count()), (0, udp, all), "{}", dry.errors());
        assert!(dry.text().lines().all(|line| line.starts_with("-D ")), "{}", dry.text());

        let update = "[source]\nkind = 'dump'\nselect = '-p udp'\n[[stage]]\nstock = 'update'\nset = '--mark 77'\n";
        let text = must(namespace, update);
        assert!(text.lines().count() == udp && text.lines().all(|line| line.contains("mark=77 ")), "{text}");
        assert_eq!(conntrack().must(&["-L", "-m", "77"]).lines().count(), udp);

        let outcome = run(namespace, delete, &[]);
        assert_eq!((outcome.status, outcome.text().lines().count(), count()), (0, udp, all - udp));
        assert!(outcome.errors().contains(&format!("{udp} actions have been done, 0 have been refused.")));
    });
}

#[test]
fn plugins_act_by_grant() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::every_protocol());
        let active = plugins::built("active").display().to_string();
        let pipeline = |grants: &str| {
            format!(
                "[source]\nkind = 'dump'\n[[stage]]\nplugin = '{active}'\nname = 'marker'\noptions = {{ do = 'mark' }}\n\
                 grants = [{grants}]\nstate = 'state'\n[format]\nkind = 'none'\n"
            )
        };
        let refused = run(namespace, &pipeline("'time'"), &[]);
        assert_eq!((refused.status, refused.text().as_str()), (0, ""), "{}", refused.errors());
        assert!(refused.errors().contains("marker asked to update"), "{}", refused.errors());
        let all = conntrack().must(&["-C"]).trim().to_owned();
        assert!(refused.errors().contains(&format!("{all} entries have passed.")), "{}", refused.errors());
        let done = run(namespace, &pipeline("'time', 'update.mark=0xff00'"), &[]);
        assert!(done.errors().contains(" actions have been done, 0 have been refused."), "{}", done.errors());
        assert!(conntrack().must(&["-L", "-m", "256"]).lines().count() > 0);
        assert!(namespace.directory().join("state").exists());
    });
}

#[test]
fn sinks_that_fail_end_the_run() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::every_protocol());
        let sink = |sink: &str| run(namespace, &format!("[source]\nkind = 'dump'\n[[sink]]\n{sink}\n"), &[]);
        let full = sink("kind = 'file'\npath = '/dev/full'");
        assert_eq!(full.status, 1);
        assert!(full.errors().contains("cannot write /dev/full: No space left on device"), "{}", full.errors());
        let lines = conntrack().must(&["-L"]).lines().count();
        let away = sink("kind = 'unix'\npath = 'nobody'\nlinger = '100ms'");
        assert_eq!(away.status, 1);
        assert!(away.errors().contains(&format!("{lines} lines could not be delivered")), "{}", away.errors());
        assert!(away.errors().contains("nobody: cannot connect: No such file or directory"), "{}", away.errors());
        let optional = sink("kind = 'unix'\npath = 'nobody'\nlinger = '100ms'\noptional = true");
        assert_eq!(optional.status, 0, "{}", optional.errors());
    });
}

#[test]
fn a_reader_that_leaves_ends_it_as_a_pipe_does() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(20_000));
        let path = file(namespace.directory(), "[source]\nkind = 'dump'\n").display().to_string();
        let mut child = flowgate().spawn(&["run", &path]);
        let mut pipe = child.stdout.take().unwrap();
        pipe.read_exact(&mut [0; 100]).unwrap();
        drop(pipe);
        assert_eq!(shell_status(child.wait().unwrap()), 141);
    });
}

#[test]
fn recordings_stand_in_for_the_kernel() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::every_protocol());
        let trace = namespace.directory().join("trace.pcap").display().to_string();
        flowgate().must(&["record", &trace, "--", "-L"]);
        // The listing is of the recording as well, since timeouts in a live one would differ.
        let listed = flowgate().must(&["replay", &trace, "--", "-L", "-p", "udp", "-o", "save"]);
        conntrack().must(&["-F"]);
        let source = "[source]\nkind = 'recording'\nfile = 'trace.pcap'\nselect = '-p udp'\n";
        assert_eq!(must(namespace, &format!("{source}[format]\nkind = 'save'\n")), listed);
        let deleting = format!("{source}[[stage]]\nstock = 'delete'\n");
        let outcome = run(namespace, &deleting, &[]);
        assert_eq!(outcome.status, 1);
        assert!(outcome.errors().contains("pipeline.toml:5:1: nothing can be done to flows of a recording"));
        let dry = run(namespace, &deleting, &["--dry-run"]);
        assert_eq!((dry.status, dry.text().lines().count()), (0, listed.lines().count()), "{}", dry.errors());
    });
}

/// A pipe can be read once.
#[test]
fn a_pipeline_comes_through_a_pipe() {
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::marks());
        let file = "[source]\nkind = 'dump'\n[format]\nkind = 'save'\n";
        for path in ["/dev/stdin", "/proc/self/fd/0"] {
            let text = flowgate().must_with(&["run", path], file.as_bytes());
            assert_eq!(text.lines().count(), entries::marks().len(), "{path}");
        }
        let checked = flowgate().must_with(&["run", "--check", "/dev/stdin"], file.as_bytes());
        assert_eq!(checked, "/dev/stdin: no mistakes\n");
        let wrong = flowgate().run_with(&["run", "/dev/stdin"], b"[sauce]\n");
        assert_eq!(wrong.status, 1);
        assert!(wrong.errors().contains("/dev/stdin has"), "{}", wrong.errors());
    });
}
