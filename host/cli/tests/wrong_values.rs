//! Every option of the table and of every protocol, with invalid values of every kind, in every kind of command.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

use std::ffi::{OsStr, OsString};

use flowgate::args::{Invocation, parse};
use flowgate_syntax::{
    Argument, ProgramName, SystemEnvironment,
    options::{HelpSection, OPTIONS, OptionKey, OptionSpec},
    protocols::PROTOCOLS,
};
use flowgate_test_support::{
    Namespace,
    sample::{fill, refused, table},
    words,
};

/// Values that are not a number for any option.
const NO_NUMBERS: &[&str] =
    &["5x", "''", "-1", "99999999999999999999", "4294967296", "abc", "1-5", "1:5", "1,5", "0x", "5.0", "5+"];
/// Values that are neither a size nor a time.
const NO_MEASURES: &[&str] =
    &["5x", "''", "-1", "99999999999999999999", "4294967296", "abc", "1-5", "1:5", "1,5", "0x", "5+", "5kb", "5.0.0"];
const NO_MARKS: &[&str] = &["5/", "/5", "5/x", "5/-1", "5/0x1ffffffff", "5/1/1", "5/1x"];
const NO_ADDRESSES: &[&str] = &[
    "''",
    "/",
    "/8",
    "10.0.0.300",
    "10.0.0.1x",
    "host.example",
    "10.0.0.1-10.0.0.9",
    "10.0.0.1,10.0.0.2",
    "10.0.0.0/",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/8x",
    "10/8",
    "10.1",
];
const NO_TRANSLATIONS: &[&str] = &[
    "''",
    "10.0.0.1:",
    "10.0.0.1:70000",
    "10.0.0.1:1-5",
    "10.0.0.1:x",
    ":80",
    "[10.0.0.1",
    "x[10.0.0.1]:5",
    "10.0.0.0/8",
];

/// Returns invalid values of an option.
fn wrong_values(spec: &OptionSpec) -> Vec<&'static str> {
    let lists: &[&[&str]] = match spec.key {
        OptionKey::Id | OptionKey::Secmark | OptionKey::Batch | OptionKey::ConfirmAbove => &[NO_NUMBERS],
        OptionKey::Timeout => &[NO_MEASURES],
        // A buffer size is at most half of INT_MAX.
        OptionKey::BufferSize | OptionKey::BufferMax => &[NO_MEASURES, &["1073741824", "1GiB", "5.5"]],
        OptionKey::Zone | OptionKey::OriginalZone | OptionKey::ReplyZone => &[NO_NUMBERS, &["65536", "-5"]],
        OptionKey::Mark => &[NO_NUMBERS, NO_MARKS],
        OptionKey::Source | OptionKey::Destination | OptionKey::TupleSource | OptionKey::TupleDestination => {
            &[NO_ADDRESSES]
        }
        OptionKey::ReplySource | OptionKey::ReplyDestination | OptionKey::MaskSource | OptionKey::MaskDestination => {
            &[NO_ADDRESSES, &["10.0.0.0/8"]]
        }
        OptionKey::SourceNat | OptionKey::DestinationNat | OptionKey::AnyNat => &[NO_TRANSLATIONS],
        OptionKey::Protocol => &[&["''", "tcpx", "256", "-1", "6x", "tcp,udp", "6-17", "99999999999999999999"]],
        OptionKey::Status => &[&["''", "FOO", "4", "ASSURED,", "ASSURED,FOO", "UNREPLIEDX", "ASSURED-EXPECTED"]],
        OptionKey::EventMask => &[&["''", "FOO", "7", "NEW,", "NEW,FOO"]],
        OptionKey::Family => &[&["''", "ipv4x", "ipv6,ipv4", "inet", "4", "-1"]],
        OptionKey::Output => &[&["''", "foo", "xml,", "xml,foo", "5"]],
        OptionKey::Label | OptionKey::LabelAdd | OptionKey::LabelDelete => &[&["''", "nosuch", "5", "nosuch,other"]],
        OptionKey::Plugin => &[&["''", ",a=1", "x.wasm,a", "x.wasm,a=1,a=2", "x.wasm,=1", "x.wasm,"]],
        OptionKey::Grant => &[&["''", "fly", ",", "delete,fly", "update.mark=x"]],
        OptionKey::OnError => &[&["''", "go", "skip,drop", "5"]],
        OptionKey::Metrics => &[&["''", "nonsense", "127.0.0.1:99999", "127.0.0.1:1-5"]],
        OptionKey::Netns => &[&["''"]],
        // A file that does not exist is not an error of the command line.
        OptionKey::LabelMap => &[&["''"]],
        // Obsolete: ignored, whatever its value.
        OptionKey::NatRange => &[],
        OptionKey::Zero
        | OptionKey::DryRun
        | OptionKey::Stats
        | OptionKey::Reliable
        | OptionKey::Resync
        | OptionKey::AllNetns
        | OptionKey::Explain
        | OptionKey::Quiet
        | OptionKey::All
        | OptionKey::KeepGoing => &[],
        OptionKey::By => &[&["''", "nosuch", "src/33x", "src/64/64", "src,src", "src,"]],
        OptionKey::Sum | OptionKey::Avg => &[&["''", "nosuch", "src", "sport", "bytes,bytes"]],
        OptionKey::Min | OptionKey::Max => &[&["''", "nosuch", "src", "bytes,bytes"]],
        OptionKey::Distinct => &[&["''", "nosuch", "src,src"]],
        OptionKey::Sort => &[&["''", "nosuch", "-", "count,count"]],
        OptionKey::Top | OptionKey::MaxGroups => &[&["''", "0", "-1", "x", "5x", "4294967296"]],
        OptionKey::Every => &[&["''", "0", "x", "1ms", "-1s"]],
        OptionKey::CountFlows | OptionKey::Approximate => &[],
        OptionKey::Where => &[&[
            "''",
            "sport",
            "sport=",
            "sport==x",
            "sport==70000",
            "src==5",
            "mark==0x1ffffffff",
            "nosuch==1",
            "(sport==1",
        ]],
        OptionKey::NoHeader => &[],
        OptionKey::Columns => &[&["''", "nosuch", "src,", "src,nosuch", "annotations."]],
        OptionKey::Color => &[&["''", "yes", "alwaysx"]],
        OptionKey::SetZone => &[NO_NUMBERS, &["65536", "-5"]],
        OptionKey::Labels => {
            &[&["''", "x", "0x", "-1", "+1", "5x", "5/", "/5", "1-5", "0x100000000000000000000000000000000"]]
        }
        OptionKey::Helper => &[&["''", "0123456789abcdef"]],
        OptionKey::OriginalSequence | OptionKey::ReplySequence => {
            &[&["''", "1", "1:2", "1:2:3:4", "x:1:1", "-1:0:0", "1:2147483648:0", "1:0:5x", "1:0-5:0"]]
        }
        OptionKey::OriginalTcpFlags | OptionKey::ReplyTcpFlags => {
            &[&["''", "256", "1/256", "1/", "/1", "x", "-1", "1-5"]]
        }
        OptionKey::OriginalWindowScale | OptionKey::ReplyWindowScale => &[&["''", "256", "-1", "x", "7x", "1-5"]],
        OptionKey::Synproxy => &[&["''", "1:2", "1:-2:3", "1:2:3:4", "x", "4294967296:1:1"]],
        OptionKey::Master => &[&[
            "''",
            "tcp",
            "x,192.0.2.1,192.0.2.2,1,2",
            "tcp,192.0.2.1,192.0.2.2",
            "tcp,192.0.2.1,::1,1,2",
            "tcp,192.0.2.1,192.0.2.2,1,70000",
            "50,192.0.2.1,192.0.2.2,1,2",
        ]],
    };
    lists.concat()
}

/// Commands that change something, each complete except for the option under test. Options in the last column are
/// omitted when they are the option under test.
const CHANGING: &[&[&str]] = &[
    &["-D", "-s 192.0.2.1"],
    &["-U", "-s 192.0.2.1", "-m 5"],
    &["-I", "-t 600", "-p udp", "-s 192.0.2.9", "-d 198.51.100.9", "--sport 1", "--dport 2"],
    &["-A", "-t 600", "-p udp", "-r 192.0.2.9", "-q 198.51.100.9", "--reply-port-src 1", "--reply-port-dst 2"],
    &["-F"],
    &["-L -z"],
    &["-F expect"],
    &[
        "-D expect",
        "-p udp",
        "-s 192.0.2.9",
        "-d 198.51.100.9",
        "--sport 1",
        "--dport 2",
        "--reply-port-src 1",
        "--reply-port-dst 2",
    ],
    &[
        "-I expect",
        "-t 60",
        "-p udp",
        "-s 192.0.2.1",
        "-d 198.51.100.1",
        "--sport 4000",
        "--dport 53",
        "--tuple-src 192.0.2.1",
        "--tuple-dst 198.51.100.1",
        "--mask-src 255.255.255.255",
        "--mask-dst 255.255.255.255",
        "--tuple-port-src 0",
        "--tuple-port-dst 5",
        "--mask-port-src 0",
        "--mask-port-dst 65535",
    ],
];

/// Commands that only show something.
const SHOWING: &[&[&str]] = &[
    &["-L"],
    &["-L dying"],
    &["-L expect"],
    &["-G", "-p udp", "-s 192.0.2.1", "-d 198.51.100.1", "--sport 4000", "--dport 53"],
    &["-E"],
    &["-E expect"],
    &["-C"],
    &["-S"],
];

/// Returns the options that a flow of a protocol needs besides addresses.
fn needed(protocol: &str) -> &'static [&'static str] {
    match protocol {
        "tcp" => &["--sport 1", "--dport 2", "--state ESTABLISHED"],
        "sctp" => &["--sport 1", "--dport 2", "--state ESTABLISHED", "--orig-vtag 1", "--reply-vtag 2"],
        "dccp" => &["--sport 1", "--dport 2", "--state OPEN", "--role client"],
        "icmp" => &["--icmp-type 8", "--icmp-code 0"],
        "icmpv6" => &["--icmpv6-type 128", "--icmpv6-code 0"],
        "gre" => &["--srckey 1", "--dstkey 2"],
        _ => &["--sport 1", "--dport 2"],
    }
}

/// Returns a command with the option under test, which replaces the command's own use of it.
fn line(command: &[&str], trial: &Trial, spelling: &str) -> String {
    let tried = |part: &str| trial.names.iter().any(|name| part.starts_with(&format!("{name} ")));
    let protocol = trial.before.strip_prefix("-p ").map(str::trim);
    let port = |part: &str| part.contains("port");
    let mut line = Vec::new();
    for part in command.iter().filter(|part| !tried(part)) {
        match protocol {
            // The protocol is replaced by another one, with the options that it needs.
            Some(_) if part.starts_with("-p ") => {}
            Some(name) if port(part) && !["tcp", "udp", "udplite", "sctp", "dccp"].contains(&name) => {}
            _ => line.push(*part),
        }
    }
    // Options of the protocol come after it.
    let at = line.iter().position(|part| port(part)).unwrap_or(line.len());
    line.insert(at, trial.before.trim());
    if let Some(protocol) = protocol.filter(|_| command[0] == "-I") {
        line.retain(|part| !port(part));
        line.extend(needed(protocol).iter().filter(|part| !tried(part)));
    }
    line.push(spelling);
    line.retain(|part| !part.is_empty());
    line.join(" ")
}

/// Returns the status of a command line that is rejected before anything is done, and `None` for one that would be
/// executed.
fn status(program: &str, line: &str) -> Option<(u8, String)> {
    let words: Vec<OsString> = words(line).iter().map(OsString::from).collect();
    match parse(&ProgramName::of(OsStr::new(program)), &words, &SystemEnvironment).result {
        Err(error) => Some((error.status(), error.to_string())),
        Ok(Invocation::Run(_) | Invocation::Load(_)) => None,
        Ok(other) => panic!("{line}: {other:?}"),
    }
}

/// An option under test: its spellings with an invalid value, and its names for use elsewhere.
struct Trial {
    /// As in `-t 5x` and `--timeout=5x`.
    spellings: Vec<String>,
    /// The names of the option, short and long.
    names: Vec<String>,
    value: &'static str,
    /// What must precede it: the protocol that has the option, or the plugin that it applies to.
    before: String,
    own: bool,
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for spec in OPTIONS.iter().filter(|spec| spec.argument != Argument::None) {
        let mut names: Vec<String> = spec.long.iter().map(|name| format!("--{name}")).collect();
        names.extend(spec.short.map(|letter| format!("-{}", char::from(letter))));
        let values = wrong_values(spec);
        assert!(!values.is_empty() || spec.key == OptionKey::NatRange, "{}: no wrong value is tried", spec.name());
        for value in values {
            let mut spellings: Vec<String> = names.iter().map(|name| format!("{name} {value}")).collect();
            if spec.argument == Argument::Required && value != "''" {
                spellings.extend(spec.long.iter().map(|name| format!("--{name}={value}")));
            }
            // The next word is not the value of such an option if it begins with a hyphen.
            if spec.argument == Argument::Optional && value.starts_with('-') {
                continue;
            }
            let speaks_of = matches!(spec.key, OptionKey::Grant | OptionKey::OnError);
            let before = if speaks_of { "--plugin x.wasm ".to_owned() } else { String::new() };
            let own = spec.section == HelpSection::Flowgate;
            trials.push(Trial { spellings, names: names.clone(), value, before, own });
        }
        // A value attached with `=`, which an option with an optional value does not accept.
        if spec.argument == Argument::Optional {
            let spellings = spec.long.iter().map(|name| format!("--{name}=10.0.0.1")).collect();
            trials.push(Trial {
                spellings,
                names: names.clone(),
                value: "10.0.0.1",
                before: String::new(),
                own: false,
            });
        }
    }
    for spec in OPTIONS.iter().filter(|spec| spec.argument == Argument::None) {
        let spellings = spec.long.iter().map(|name| format!("--{name}=1")).collect();
        let own = spec.section == HelpSection::Flowgate;
        trials.push(Trial { spellings, names: Vec::new(), value: "1", before: String::new(), own });
    }
    for spec in &PROTOCOLS {
        for option in spec.options {
            let names: Vec<String> = option.long.iter().map(|name| format!("--{name}")).collect();
            let values: Vec<&str> = match option.placeholder {
                "state" | "role" => vec!["''", "nonsense", "5", "-1", "ESTABLISHED,CLOSE"],
                "value" => NO_NUMBERS.to_vec(),
                _ if option.name().ends_with("type") || option.name().ends_with("code") => {
                    [NO_NUMBERS, &["256", "264"]].concat()
                }
                _ => [NO_NUMBERS, &["65536", "70000"]].concat(),
            };
            for value in values {
                let mut spellings: Vec<String> = names.iter().map(|name| format!("{name} {value}")).collect();
                if value != "''" {
                    spellings.extend(names.iter().map(|name| format!("{name}={value}")));
                }
                let before = format!("-p {} ", spec.name);
                trials.push(Trial { spellings, names: names.clone(), value, before, own: false });
            }
        }
    }
    trials
}

/// Returns true if a message says what is wrong: the value, or an option that is not allowed there.
fn names_fault(message: &str, value: &str) -> bool {
    let value = value.replace("''", "");
    let elsewhere = [
        "Invalid commands combination",
        "Illegal option",
        "You need to supply",
        "you have to specify",
        "unknown option",
        "cannot specify",
    ];
    let says = [
        value.as_str(),
        "Bad parameter",
        "CIDR notation",
        "Can't use",
        "Invalid IP address",
        "Invalid netmask",
        "Invalid port",
        "No closing",
        "No port",
        "mismatched",
        "unknown label",
        "--grant:",
        "--where:",
        "--by:",
        "--sum:",
        "--min:",
        "--max:",
        "--avg:",
        "--distinct:",
        "--sort:",
        "--top:",
        "--every:",
        "--max-groups:",
        "--metrics:",
    ];
    says.iter().chain(&elsewhere).any(|text| message.contains(text))
}

#[test]
fn what_changes_the_table_takes_no_wrong_value() {
    let trials = trials();
    assert!(trials.len() > 600, "{}", trials.len());
    let (mut wrong, mut quoted) = (Vec::new(), 0);
    for trial in &trials {
        for command in CHANGING {
            for spelling in &trial.spellings {
                let line = line(command, trial, spelling);
                for program in ["conntrack", "flowgate"] {
                    match status(program, &line) {
                        Some((2, message)) if names_fault(&message, trial.value) => {
                            quoted += usize::from(message.contains(&format!("'{}'", trial.value)));
                        }
                        other => wrong.push(format!("{program} {line}: {other:?}")),
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them, such as\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(quoted > 4000, "{quoted} messages quote the value");
}

#[test]
fn under_its_own_name_what_shows_the_table_takes_no_wrong_value() {
    let mut wrong = Vec::new();
    for trial in trials() {
        for command in SHOWING {
            for spelling in &trial.spellings {
                let line = line(command, &trial, spelling);
                match status("flowgate", &line) {
                    Some((2, message)) if names_fault(&message, trial.value) => {}
                    other => wrong.push(format!("flowgate {line}: {other:?}")),
                }
                // The program does not have these options when invoked as conntrack.
                if trial.own {
                    assert_eq!(status("conntrack", &line).map(|(status, _)| status), Some(2), "{line}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them, such as\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

/// The same through the program itself: once for each option and value, with a command that takes the option; and as a
/// line of a file.
#[test]
fn the_kernels_table_stays_as_it_was() {
    let program = flowgate_test_support::Program::new(env!("CARGO_BIN_EXE_flowgate"));
    let both = ["conntrack", "flowgate"].map(|name| (name, program.clone().called(name)));
    Namespace::run(|namespace| {
        fill(namespace);
        let before = table();
        let file = namespace.directory().join("lines");
        let file = file.to_str().unwrap();
        for (number, trial) in trials().iter().enumerate() {
            let spelling = &trial.spellings[number % trial.spellings.len()];
            // The commands in turn, restricted to commands on flows that are allowed in a file.
            let line = line(CHANGING[number % CHANGING.len()], trial, spelling);
            let in_file = self::line(CHANGING[number % 5], trial, spelling);
            std::fs::write(file, in_file.replace("''", "\"\"")).unwrap();
            let (name, program) = &both[number % 2];
            let alone = program.run(&words(&line));
            assert!(refused(&alone), "{name} {line}: {alone:?}");
            let loaded = program.run(&["-R", file]);
            assert!(refused(&loaded), "{name} -R: {in_file}: {loaded:?}");
        }
        assert_eq!(table(), before);
    });
}
