//! Arbitrary bytes as a request to the service for tenants, and as its answer: neither end panics, memory and time for
//! reading are proportional to the bytes, a value that was read has a single encoding, and printed text contains no
//! terminal escapes.

use std::io::{self, Read};

use flowgate_base::text;
use flowgate_policy::control::{ControlAnswer, RequestReader};

use super::{input::Input, linear::linear, text::text as edited};

const EXAMPLES: &[&[u8]] = &[
    br#"{"command":"status","tenant":"blue"}"#,
    br#"{"command":"reload","without":"blue"}"#,
    b"{\"command\":\"pause\",\"tenant\":\"blue\",\"reason\":\"too loud\"}\n",
    br#"{"reason":null,"tenant":"b\u0065","command":"quarantine"}"#,
    br#"{"ok":false,"generation":2,"errors":["no tenant \u001b[2J"]}"#,
    br#"{"ok":true,"generation":3,"tenants":[{"tenant":"blue","generation":3,"state":"ended","reason":"x","events":5,
        "handed":4,"lost":1,"gaps":1,"waiting":80,"output-dropped":7,"plugins":[{"plugin":"blue:p","health":"backing-off",
        "calls":1,"rows_in":2,"rows_out":3,"rows_dropped":4,"rows_without":5,"ticks":6,"nanoseconds":7,"longest":8,"p50":9,
        "p99":10,"memory":11,"failures":12,"last_error":"y","restarts":13,"actions":[0,1,2,3,4,5,6,7],"log_lines":14,
        "log_dropped":15,"state_bytes":16}]}]}"#,
];

const WORDS: &[&str] = &[
    "null",
    "\"command\":",
    "\"tenant\":",
    "\"reason\":",
    "\"status\"",
    "\"resume\"",
    "\"quarantined\"",
    "\"errors\":[",
    "\"tenants\":[",
    "\"plugins\":[",
    "\"state\":",
    "\"x\",",
    "{},",
    "\\u202e",
    "\\u009b",
];

/// A connection on which the bytes arrive in parts.
struct Parts<'a> {
    left: &'a [u8],
    length: usize,
    blocks: bool,
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.blocks = !self.blocks;
        if self.blocks {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.length.min(buffer.len()).min(self.left.len());
        let (part, left) = self.left.split_at(count);
        buffer[..count].copy_from_slice(part);
        self.left = left;
        Ok(count)
    }
}

/// Reads the input at both ends.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let length = 1 + input.up_to(4096);
    let bytes = if input.one_in(8) { input.0.to_vec() } else { edited(&mut input, EXAMPLES, WORDS) };
    let request = linear("request", bytes.len(), || {
        let (mut reader, mut connection) = (RequestReader::default(), Parts { left: &bytes, length, blocks: false });
        loop {
            if let Some(request) = reader.read(&mut connection).expect("no error but that it would block") {
                break request;
            }
        }
    });
    match request {
        Ok(request) => {
            let form = serde_json::to_vec(&request).expect("a request has a form");
            let again = RequestReader::default().read(&mut &*form).expect("a slice").expect("the whole of it");
            assert_eq!(again.expect("what was written is read"), request);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let answer = linear("answer", bytes.len(), || ControlAnswer::read(&*bytes));
    match answer {
        Ok(answer) => {
            for line in linear("text", bytes.len(), || answer.text()).lines() {
                assert_eq!(text::line(line.as_bytes()), line, "not escaped");
            }
            let line = answer.line();
            assert_eq!(text::message(&line).as_bytes(), line, "not escaped");
            assert_eq!(ControlAnswer::read(&*line).expect("what was written is read"), answer);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
