//! A server without keys and TLS in the namespace of a test, and what is in its streams, read by its text protocol.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
};

use flowgate_test_support::{Background, Namespace, Program, built::profile_directory, wait::until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Where it listens.
pub(super) const ADDRESS: &str = "127.0.0.1:4222";

/// The present server, and the oldest that is supported.
pub(super) const SERVERS: [&str; 2] = ["nats-server", "debian/nats-server"];

/// A server with JetStream, which ends with this.
pub(super) struct Server {
    program: PathBuf,
    configuration: PathBuf,
    process: Background,
}

/// A message of a stream.
pub(super) struct Message {
    /// Its headers.
    pub(super) headers: String,
    /// Its content.
    pub(super) text: String,
}

impl Server {
    pub(super) fn start(namespace: &Namespace, program: &str) -> Self {
        let path = profile_directory().parent().unwrap().join("nats").join(program);
        let configuration = namespace.directory().join("nats.conf");
        let store = namespace.directory().join("store");
        let sync = if program.contains("debian") { "" } else { "sync_interval: always" };
        let text = format!("listen: \"{ADDRESS}\"\njetstream {{\n store_dir: \"{}\"\n{sync}\n}}\n", store.display());
        fs::write(&configuration, text).unwrap();
        let process = Self::run(&path, &configuration);
        Server { program: path, configuration, process }
    }

    fn run(program: &std::path::Path, configuration: &std::path::Path) -> Background {
        let configuration = configuration.display().to_string();
        let process = Background::start(&Program::new(program), &["-c", &configuration]);
        until("the server listens", || TcpStream::connect(ADDRESS).is_ok());
        process
    }

    /// Kills it at once, and starts another one on the same files.
    pub(super) fn kill_and_start(&mut self) {
        self.process.end_by(Signal::SIGKILL);
        self.process = Self::run(&self.program, &self.configuration);
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Returns the messages of a stream; none if there is no such stream.
    pub(super) fn stream(&self, name: &str) -> Vec<Message> {
        let mut client = Client::connect();
        let info = client.ask(&format!("$JS.API.STREAM.INFO.{name}"), &json!({}));
        let last = info["state"]["last_seq"].as_u64().unwrap_or(0);
        let first = info["state"]["first_seq"].as_u64().unwrap_or(0);
        let get = |sequence| {
            let answer = client.ask(&format!("$JS.API.STREAM.MSG.GET.{name}"), &json!({ "seq": sequence }));
            let part = |name: &str| {
                let bytes = of_base64(answer["message"][name].as_str().unwrap_or_default());
                String::from_utf8(bytes).expect("text")
            };
            Message { headers: part("hdrs"), text: part("data") }
        };
        (first.max(1)..=last).map(get).collect()
    }

    /// Returns the number of messages of a stream.
    pub(super) fn messages(&self, name: &str) -> u64 {
        let info = Client::connect().ask(&format!("$JS.API.STREAM.INFO.{name}"), &json!({}));
        info["state"]["messages"].as_u64().unwrap_or(0)
    }

    /// Returns the rows of a stream, in its order.
    pub(super) fn rows(&self, name: &str) -> Vec<Value> {
        let messages = self.stream(name);
        messages.iter().flat_map(|message| super::objects(&message.text)).collect()
    }
}

/// A client.
struct Client {
    reader: BufReader<TcpStream>,
    asked: u64,
}

impl Client {
    fn connect() -> Self {
        let stream = TcpStream::connect(ADDRESS).unwrap();
        let mut client = Client { reader: BufReader::new(stream), asked: 0 };
        client.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB _T.* 1\r\nPING\r\n");
        while client.line() != "PONG" {}
        client
    }

    fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the server has closed the connection");
        line.trim_end().to_owned()
    }

    /// Sends a request; returns the answer, `null` if nobody answers.
    fn ask(&mut self, subject: &str, question: &Value) -> Value {
        let question = question.to_string();
        self.asked += 1;
        let reply = format!("_T.{}", self.asked);
        self.send(&format!("PUB {subject} {reply} {}\r\n{question}\r\n", question.len()));
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[words.len() - at].parse::<usize>().unwrap();
            let (headers, length) = match words[0] {
                "HMSG" => (number(2), number(1)),
                "MSG" => (0, number(1)),
                _ => continue,
            };
            let mut content = vec![0; length + 2];
            self.reader.read_exact(&mut content).unwrap();
            if words[1] == reply {
                return serde_json::from_slice(&content[headers..length]).unwrap_or(Value::Null);
            }
        }
    }
}

fn of_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        bits = bits << 6 | u32::from(digit(byte));
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes
}
