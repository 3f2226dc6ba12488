//! `--metrics`: the export while events run, checked by promtool; bad addresses; clients that hang.
//!
//! Needs root, and `conntrack` and `promtool`: `make setup` installs them.

use flowgate_test_support::{
    Background, Namespace, Outcome, Program, entries, flowgate, plugins, until, wait::PATIENCE,
};
use nix::sys::signal::Signal;
use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
};

/// A flowgate that listens to events, and the address of its metrics.
struct Listening {
    background: Background,
    address: String,
}

impl Listening {
    fn start(words: &[&str]) -> Self {
        let mut background = Background::start(&flowgate(), words);
        let notice = background.wait_for_error("");
        let address = notice.strip_prefix("NOTICE: Metrics are served at ").and_then(|rest| rest.strip_suffix('.'));
        let address = address.unwrap_or_else(|| panic!("no address in: {notice}")).to_owned();
        background.wait_until_listening();
        Self { background, address }
    }

    /// Waits for a line that contains a word.
    fn line(&mut self, word: &str) -> String {
        self.background.wait_for_output(word)
    }

    /// Ends it; returns standard error after the address.
    fn end(mut self) -> Outcome {
        let outcome = self.background.end_by(Signal::SIGINT);
        let rest = outcome.errors().split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned());
        Outcome { stderr: rest.into_bytes(), ..outcome }
    }

    fn tcp(&self) -> TcpStream {
        let address = self.address.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics"));
        let stream = TcpStream::connect(address.expect("an address over TCP")).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream
    }

    /// Returns the metrics.
    fn scrape(&self) -> String {
        let answer = request(self.tcp(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
        body.to_owned()
    }
}

/// Sends a request, and reads until the peer closes the connection.
fn request(mut stream: impl Read + Write, text: &str) -> String {
    stream.write_all(text.as_bytes()).expect("sending");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Returns the value of a metric, by its name and labels as in the text.
fn value(text: &str, metric: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {metric} in\n{text}")).parse().expect("a number")
}

/// Creates a flow with this source port.
fn happen(namespace: &Namespace, port: u16) {
    entries::insert(namespace, &format!("-t 600 -p udp -s 10.0.0.2 -d 10.1.0.1 --sport {port} --dport 53"));
}

#[test]
fn events_are_counted_and_promtool_is_content() {
    Namespace::run(|namespace| {
        let plugin = plugins::built("heavy-tcp").display().to_string();
        let listening = Listening::start(&["-E", "--metrics", "127.0.0.1:0", "--plugin", &plugin, "--plugin", &plugin]);
        for port in 1..=3 {
            happen(namespace, port);
        }
        flowgate().must(&["-U", "-p", "udp", "--sport", "1", "-m", "7"]);
        Program::new("conntrack").must(&["-D", "-p", "udp", "--sport", "2"]);
        // An event is counted when it comes, and once more when the first stage has dropped it.
        let dropped = format!("flowgate_stage_rows_dropped_total{{plugin=\"{plugin}\",stage=\"0\"}}");
        until("all has been counted", || {
            let text = listening.scrape();
            value(&text, "flowgate_events_total{kind=\"destroy\"}") == 1.0 && value(&text, &dropped) >= 5.0
        });
        let text = listening.scrape();
        assert_eq!(value(&text, "flowgate_events_total{kind=\"new\"}"), 3.0);
        assert_eq!(value(&text, "flowgate_events_total{kind=\"update\"}"), 1.0);
        assert_eq!(value(&text, "flowgate_events_total{kind=\"other\"}"), 0.0);
        for metric in [
            "gaps",
            "lost_events",
            "resyncs",
            "malformed_messages",
            "receive_dropped_datagrams",
            "entries",
            "rows_shown",
        ] {
            assert_eq!(value(&text, &format!("flowgate_{metric}_total")), 0.0, "{metric}");
        }
        assert!(value(&text, "flowgate_datagrams_total") >= 5.0);
        assert!(value(&text, "flowgate_received_bytes_total") > 500.0);
        assert!(value(&text, "flowgate_receive_buffer_bytes") >= 8_388_608.0);
        assert_eq!(value(&text, "flowgate_receive_buffer_used_bytes"), 0.0);
        assert_eq!(value(&text, "flowgate_queue_datagrams"), 0.0);
        let stage = |metric: &str, number: u8| {
            value(&text, &format!("flowgate_stage_{metric}{{plugin=\"{plugin}\",stage=\"{number}\"}}"))
        };
        // It keeps no UDP flows, so the second stage sees none.
        assert_eq!(
            (stage("rows_in_total", 0), stage("rows_out_total", 0), stage("rows_dropped_total", 0)),
            (5.0, 0.0, 5.0)
        );
        assert_eq!(
            (stage("rows_in_total", 1), stage("failures_total", 0), stage("restarts_total", 0)),
            (0.0, 0.0, 0.0)
        );
        assert!(stage("calls_total", 0) >= 1.0 && stage("seconds_total", 0) > 0.0 && stage("memory_bytes", 0) > 0.0);
        assert!(stage("longest_call_seconds", 0) <= stage("seconds_total", 0));
        let exported: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut names = documented(false);
        assert!(names.len() > 30, "{names:?}");
        names.retain(|name| !exported.contains(&name.as_str()));
        assert_eq!(names, Vec::<String>::new(), "all are exported");
        let judged = Program::new("promtool").run_with(&["check", "metrics"], text.as_bytes());
        assert_eq!((judged.status, judged.text() + &judged.errors()), (0, String::new()), "{text}");
        let end = listening.end();
        assert_eq!(end.status, 0, "{}", end.errors());
    });
}

#[test]
fn flows_are_counted_by_keys_and_the_number_of_series_has_a_bound() {
    Namespace::run(|namespace| {
        let file = namespace.directory().join("metrics.toml");
        let text = "[source]\nkind = 'events'\nevents = ['new']\n\
                    [[metric]]\nname = 'opened'\nhelp = 'Flows that have begun'\nby = 'proto,dst/24'\n\
                    [[metric]]\nname = 'marks'\nby = 'sport'\nsum = 'mark & 0xff'\nmax-series = 2\n";
        std::fs::write(&file, text).expect("a file in a temporary directory");
        let listening = Listening::start(&["run", file.to_str().expect("UTF-8"), "--metrics", "127.0.0.1:0"]);
        for (port, mark) in [(1, 5), (2, 7), (3, 11), (4, 13), (1, 2)] {
            let line = format!("-t 600 -p udp -s 10.0.0.{mark} -d 10.1.0.1 --sport {port} --dport 53 -m {mark}");
            entries::insert(namespace, &line);
        }
        entries::insert(namespace, "-t 600 -p 200 -s 10.0.0.1 -d 10.1.2.1");
        let all = "flowgate_flow_opened_total{proto=\"200\",dst_24=\"10.1.2.0/24\"}";
        until("all have been counted", || listening.scrape().contains(all));
        let text = listening.scrape();
        assert_eq!(value(&text, all), 1.0);
        assert_eq!(value(&text, "flowgate_flow_opened_total{proto=\"udp\",dst_24=\"10.1.0.0/24\"}"), 5.0);
        // Which two came first depends on how many events the first second had.
        let series: Vec<&str> = text.lines().filter(|line| line.starts_with("flowgate_flow_marks_total{")).collect();
        let sum: f64 = series.iter().map(|line| line.split(' ').nth(1).expect("a value").parse::<f64>().unwrap()).sum();
        assert_eq!((series.len(), sum), (3, 38.0), "{series:?}");
        assert!(value(&text, "flowgate_flow_marks_total{sport=\"other\"}") > 0.0, "{series:?}");
        assert!(text.contains("# HELP flowgate_flow_opened_total Flows that have begun\n"), "{text}");
        assert!(text.contains("# HELP flowgate_flow_marks_total marks\n"), "{text}");
        let judged = Program::new("promtool").run_with(&["check", "metrics"], text.as_bytes());
        assert_eq!((judged.status, judged.text() + &judged.errors()), (0, String::new()), "{text}");
        let end = listening.end();
        assert_eq!((end.status, end.text()), (0, String::new()), "{}", end.errors());
    });
}

#[test]
fn only_metrics_are_served() {
    Namespace::run(|_| {
        let listening = Listening::start(&["-E", "--metrics", "127.0.0.1:0"]);
        for (line, status) in [
            ("GET /metrics", "200"),
            ("HEAD /metrics", "200"),
            ("GET /metrics?x=y", "200"),
            ("GET /", "200"),
            ("GET /etc/passwd", "404"),
            ("POST /metrics", "405"),
            ("nonsense", "400"),
        ] {
            let answer = request(listening.tcp(), &format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        }
        listening.end();
    });
}

#[test]
fn a_client_that_hangs_holds_nothing_up() {
    Namespace::run(|namespace| {
        let mut listening = Listening::start(&["-E", "--metrics", "127.0.0.1:0"]);
        let mut hanging = Vec::new();
        for number in 0..12 {
            let mut stream = listening.tcp();
            let part = ["", "GET", "GET /metrics HTTP/1.1\r\n", "GET /metrics HTTP/1.1\r\n\r\n"][number % 4];
            stream.write_all(part.as_bytes()).expect("sending");
            hanging.push(stream);
        }
        for port in 1..=20 {
            happen(namespace, port);
            listening.line(&format!("sport={port} "));
        }
        // The last one is counted as shown just after it has been written.
        until("all are counted", || value(&listening.scrape(), "flowgate_rows_shown_total") >= 20.0);
        assert_eq!(value(&listening.scrape(), "flowgate_events_total{kind=\"new\"}"), 20.0);
        assert_eq!(value(&listening.scrape(), "flowgate_rows_shown_total"), 20.0);
        // Beyond the maximum number of clients the oldest are closed.
        hanging.extend((0..30).map(|_| listening.tcp()));
        happen(namespace, 21);
        listening.line("sport=21 ");
        listening.scrape();
        let closed = |stream: &mut TcpStream| {
            stream.set_nonblocking(true).expect("a flag");
            let mut rest = Vec::new();
            !stream.read_to_end(&mut rest).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        let open: Vec<usize> = (0..hanging.len()).filter(|&at| !closed(&mut hanging[at])).collect();
        assert!(open.len() <= 16 && open.iter().all(|&at| at >= 12), "{open:?} of {} are open", hanging.len());
        let end = listening.end();
        assert_eq!(end.status, 0, "{}", end.errors());
    });
}

#[test]
fn a_request_without_an_end_is_refused() {
    Namespace::run(|_| {
        let listening = Listening::start(&["-E", "--metrics", "127.0.0.1:0"]);
        for part in ["x".repeat(1 << 20), format!("X: {}\r\n", "y".repeat(1000)).repeat(1000)] {
            let mut stream = listening.tcp();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").expect("sending");
            // The server closes the connection before it has read everything, so the rest of its answer may be lost.
            let _ = stream.write_all(part.as_bytes());
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
        // A request that fits is answered.
        let answer = request(listening.tcp(), &format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(8000)));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // A client that does not read the answer does not block others.
        let mut deaf: Vec<TcpStream> = (0..20).map(|_| listening.tcp()).collect();
        for stream in &mut deaf {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("sending");
        }
        listening.scrape();
        assert_eq!(listening.end().status, 0);
    });
}

#[test]
fn a_socket_in_the_file_system_comes_and_goes() {
    Namespace::run(|namespace| {
        let path = namespace.directory().join("metrics.sock");
        let address = format!("unix:{}", path.display());
        let listening = Listening::start(&["-E", "expect", "--metrics", &address]);
        assert_eq!(listening.address, address);
        let scrape = |path: &Path| {
            let stream = UnixStream::connect(path).expect("a connection");
            request(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        };
        assert!(scrape(&path).contains("flowgate_build_info{version=\""));
        let second = flowgate().run(&["-E", "--metrics", &address]);
        assert!(second.status == 1 && second.errors().contains("in use"), "{}", second.errors());
        // A killed process leaves the socket behind; the next one replaces it.
        let mut listening = listening;
        listening.background.end_by(Signal::SIGKILL);
        assert!(path.exists());
        let listening = Listening::start(&["-E", "--metrics", &address]);
        assert!(scrape(&path).starts_with("HTTP/1.1 200 "));
        assert_eq!(listening.end().status, 0);
        assert!(!path.exists(), "it is removed at the end");
        std::fs::write(&path, "a file").expect("a file");
        let refused = flowgate().run(&["-E", "--metrics", &address]);
        assert!(refused.status == 1 && refused.errors().contains(&address), "{}", refused.errors());
        assert_eq!(std::fs::read(&path).expect("it is still there"), b"a file");
    });
}

#[test]
fn addresses_that_cannot_be_are_refused() {
    Namespace::run(|_| {
        for (address, status, words) in [
            ("localhost:1", 2, "`localhost:1` is no address to serve metrics at"),
            ("127.0.0.1", 2, "the port is missing"),
            (":70000", 2, "no port"),
            ("unix:", 2, "no path follows"),
            ("192.0.2.1:9465", 1, "cannot serve metrics at http://192.0.2.1:9465/metrics"),
            ("unix:/nonexistent/x", 1, "cannot serve metrics at unix:/nonexistent/x"),
        ] {
            let outcome = flowgate().run(&["-E", "--metrics", address]);
            assert!(outcome.status == status && outcome.errors().contains(words), "{address}: {}", outcome.errors());
        }
        let illegal = flowgate().run(&["-L", "--metrics", ":1"]);
        assert_eq!(illegal.status, 2, "{}", illegal.errors());
        let listening = Listening::start(&["-E", "--metrics", ":0"]);
        let port = listening.address.rsplit_once(':').expect("a port").1.trim_end_matches("/metrics").to_owned();
        let second = flowgate().run(&["-E", "--metrics", &format!("127.0.0.1:{port}")]);
        let free = flowgate().run(&["-E", "--metrics", &format!(":{port}")]);
        for outcome in [second, free] {
            assert!(outcome.status == 1 && outcome.errors().contains("in use"), "{}", outcome.errors());
        }
        listening.end();
    });
}

/// Returns the names of metrics in docs/METRICS.md: those of tenants, or the others. A test of the crate `metrics`
/// checks that the list is complete.
pub(crate) fn documented(of_tenants: bool) -> Vec<String> {
    let text = std::fs::read_to_string(flowgate_test_support::built::root().join("docs/METRICS.md")).expect("the page");
    let (others, tenants) = text.split_once("\n## Tenants\n").expect("a section about tenants");
    let rows = if of_tenants { tenants } else { others }.lines().filter(|line| line.starts_with("| `flowgate_"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(','));
    names.map(|name| name.trim().trim_matches('`').to_owned()).collect()
}
