//! Arbitrary bytes as what travels in a fleet: questions, answers, entries of the registry, plans, releases, bundles,
//! lines of audits, and rows. Nothing panics, memory and time for reading are proportional to the bytes, what was read is
//! read again from what is written of it, and messages contain no terminal escapes.

use std::cell::Cell;

use flowgate_base::text;
use flowgate_fleet::{
    audit::Chain,
    bundle::Bundle,
    later, lines,
    message::{self, Answer, Entry, MAX_COMMAND, Question},
    plan::Plan,
    release::{Desired, Release},
    table::Form,
};

use super::{input::Input, linear::linear, text::text as edited};

const EXAMPLES: &[&[u8]] = &[
    br#"{"version":1,"ask":"list","words":["-p","tcp","--where","bytes > 1M"],"form":"json","first":65536}"#,
    br#"{"version":1,"ask":"pull","cursor":"0011","chunk":3}"#,
    br#"{"version":1,"ask":"apply","plan":{"plan":"{}","signatures":[{"key":"U","signature":"00"}]}}"#,
    b"{\"version\":1,\"state\":\"answered\",\"time\":1,\"took\":2,\"flows\":3}\ntcp 6 x\nudp 17 y\n",
    b"{\"version\":1,\"state\":\"refused\",\"reason\":\"no \\u001b[2J\",\"time\":1}",
    br#"{"version":1,"name":"web-1","labels":["role=web","x"],"boot":"00","facts":{"flowgate":"0.1.0","kernel":"6.18","flows":1,"flows_max":2}}"#,
    br#"{"version":1,"id":"00112233445566778899aabbccddeeff","action":"delete","words":["-p","udp"],"made":1,"expires":2,"allowance":10,"agents":[]}"#,
    br#"{"version":1,"id":"00","generation":7,"bundle":null,"audience":{"labels":["role=web"]},"made":1,"expires":2}"#,
    b"{\"version\":1,\"kind\":\"policy\",\"entry\":\"policy.toml\",\"files\":[{\"name\":\"policy.toml\",\"size\":3}]}\nabc",
    br#"{"number":1,"time":2,"stage":"intent","plan":"00","action":"delete","count":3,"before":""}"#,
    b"{\"a\":1}\n{\"agent\":\"x\"}\n",
];

const WORDS: &[&str] = &[
    "null",
    "\"version\":1,",
    "\"version\":2,",
    "\"ask\":",
    "\"ping\"",
    "\"words\":[",
    "\"plan\":",
    "\"labels\":[",
    "\"state\":",
    "\"files\":[",
    "\"size\":",
    "\"..\"",
    "\"../x\"",
    "\"a/b\"",
    "\"agent\":",
    "\\u202e",
    "\\u009b",
];

thread_local! {
    static READ: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Returns how often something was read, and how often it was refused.
#[allow(dead_code, reason = "the fuzz target does not count")]
pub(crate) fn read_so_far() -> (u64, u64) {
    READ.get()
}

/// Counts a result, and checks its message.
fn judged<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    let (read, refused) = READ.get();
    match result {
        Ok(value) => {
            READ.set((read + 1, refused));
            Some(value)
        }
        Err(error) => {
            READ.set((read, refused + 1));
            let message = error.to_string();
            assert!(!message.is_empty());
            assert_eq!(text::line(message.as_bytes()), message, "not escaped");
            None
        }
    }
}

/// Reads the input as each of these.
///
/// # Panics
/// If one of these properties does not hold.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let bytes = if input.one_in(8) { input.0.to_vec() } else { edited(&mut input, EXAMPLES, WORDS) };
    let length = bytes.len();
    if let Some(question) = judged(linear("question", length, || Question::read(&bytes, MAX_COMMAND))) {
        let again = Question::read(&message::write(&question), usize::MAX);
        assert_eq!(again.expect("what was written is read"), question);
    }
    if let Some(answer) = judged(linear("answer", length, || Answer::read(&bytes))) {
        // Numbers in exponents and the like have another form, which may be longer than a head may be.
        if let Ok(again) = Answer::read(&answer.write()) {
            assert_eq!(again, answer);
        }
    }
    if let Some(entry) = judged(linear("entry", length, || Entry::read(&bytes))) {
        assert_eq!(text::clean(entry.name.as_str()), entry.name.as_str());
    }
    let written = String::from_utf8_lossy(&bytes).into_owned();
    if let Some(plan) = judged(linear("plan", length, || Plan::read(&written))) {
        let _ = plan.most(u64::MAX);
    }
    if let Some(release) = judged(linear("release", length, || Release::read(&written))) {
        let _ = release.check_time(u64::MAX);
    }
    judged(linear("desired state", length, || Desired::read(&bytes)));
    judged(linear("notes", length, || later::read(&bytes)));
    if let Some(bundle) = judged(linear("bundle", length, || Bundle::read(bytes.clone()))) {
        let again = Bundle::read(bundle.bytes().to_vec()).expect("what was read is read again");
        assert_eq!(again.digest(), bundle.digest());
    }
    linear("audit", length, || {
        let mut chain = Chain::default();
        for line in bytes.split(|&byte| byte == b'\n') {
            let (_, flaw) = chain.follow(line);
            if let Some(flaw) = flaw {
                let message = flaw.to_string();
                assert_eq!(text::line(message.as_bytes()), message, "not escaped");
            }
        }
    });
    for form in [Form::Text, Form::Json] {
        let mut out = Vec::new();
        let appended = linear("rows", length, || lines::append(&mut out, "web-1", 8, form, &bytes));
        let escapes = |byte: u8| byte < b' ' && byte != b'\n' && byte != b'\t' || byte == 0x7f;
        if judged(appended).is_some() && form == Form::Text {
            assert!(!out.iter().any(|&byte| escapes(byte)), "not escaped");
        }
    }
}
