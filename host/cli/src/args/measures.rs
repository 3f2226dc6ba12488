//! Tests of sizes and times: a value that is valid in a file is valid for an option, and the other way round.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::{Invocation, Subcommand, parse};
use flowgate_base::units::{self, SIZE, TIME};
use flowgate_config::{
    Config, SourceText,
    keys::{Key, Kind, SECTIONS as PIPELINE_SECTIONS, Section},
};
use flowgate_policy::Policy;
use flowgate_policy::keys::SECTIONS as POLICY_SECTIONS;
use flowgate_syntax::{LabelMap, ProgramName, SystemEnvironment};

/// Valid sizes, invalid ones, and valid ones that are too large for some places.
const SIZES: &[&str] = &[
    "65536",
    "64k",
    "64K",
    "64KiB",
    "64kB",
    "64KB",
    "64 KiB",
    "1M",
    "1MiB",
    "1MB",
    "1.5MiB",
    "1G",
    "1GB",
    "1TiB",
    "0",
    "0B",
    "1.5",
    "1.5B",
    "",
    "k",
    "MiB",
    "64mib",
    "64m",
    "64Kib",
    "64kib",
    "1P",
    "-1",
    "-1k",
    "1,5M",
    "0x10",
    "1 2k",
    "1k ",
    "1kk",
    "10s",
    "many",
    "nan",
    "inf",
    "99999999999999999999",
    "18446744073709551615KiB",
];
/// The same as [`SIZES`] for times.
const TIMES: &[&str] = &[
    "10",
    "10s",
    "0.5",
    "0.5s",
    "500ms",
    "1.5h",
    "2m",
    "1h",
    "7d",
    "5 m",
    "0",
    "0ms",
    "400d",
    "",
    "s",
    "5x",
    "1w",
    "1min",
    "1M",
    "-1",
    "-1s",
    "1,5s",
    "0x10",
    "1 2s",
    "10s ",
    "64k",
    "never",
    "nan",
    "inf",
    "99999999999999999999",
];

/// The result for a value in a place: `understood` is true if it is a size or a time at all, `taken` is its value if it
/// is accepted.
#[derive(Debug, PartialEq)]
struct Answer {
    understood: bool,
    /// Accepted value in bytes or nanoseconds.
    taken: Option<u128>,
}

fn answer(result: Result<u128, String>) -> Answer {
    match result {
        Ok(taken) => Answer { understood: true, taken: Some(taken) },
        Err(message) => Answer { understood: !message.contains(SIZE) && !message.contains(TIME), taken: None },
    }
}

fn invocation(words: &[&str]) -> Result<Invocation, String> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    parse(&ProgramName::of(OsStr::new("flowgate")), &words, &SystemEnvironment)
        .result
        .map_err(|error| error.to_string())
}

fn subcommand(words: &[&str]) -> Result<Subcommand, String> {
    match invocation(words)? {
        Invocation::Subcommand(subcommand) => Ok(*subcommand),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// Parses a size by every option that takes one.
fn sizes(value: &str) -> Vec<(&'static str, Result<u128, String>)> {
    let events = |option: &str| {
        let line = invocation(&["-E", option, value])?;
        let Invocation::Run(settings) = line else { panic!("{line:?}") };
        let size = if option == "--buffer-max" { settings.buffer_max } else { settings.buffer_size };
        Ok(size.expect("it was given").into())
    };
    let record = || match subcommand(&["record", &format!("--max-size={value}"), "x.pcap"])? {
        Subcommand::Record { max_size, .. } => Ok(max_size.expect("it was given").into()),
        other => panic!("{other:?}"),
    };
    vec![
        ("-b", events("-b")),
        ("--buffer-size", events("--buffer-size")),
        ("--buffer-max", events("--buffer-max")),
        ("record --max-size", record()),
    ]
}

/// Parses a time by every option that takes one.
fn times(value: &str) -> Vec<(&'static str, Result<u128, String>)> {
    let nanoseconds = |time: Duration| time.as_nanos();
    let record = || match subcommand(&["record", &format!("--duration={value}"), "x.pcap"])? {
        Subcommand::Record { duration, .. } => Ok(nanoseconds(duration.expect("it was given"))),
        other => panic!("{other:?}"),
    };
    let top = || match subcommand(&["top", &format!("--interval={value}")])? {
        Subcommand::Top { interval, .. } => Ok(nanoseconds(interval)),
        other => panic!("{other:?}"),
    };
    let audit = || match subcommand(&["audit", &format!("--since={value}")])? {
        Subcommand::Audit(options) => Ok(nanoseconds(options.since.expect("it was given"))),
        other => panic!("{other:?}"),
    };
    let timeout = || {
        let line = invocation(&["-D", "-s", "192.0.2.1", "-t", value])?;
        let Invocation::Run(settings) = line else { panic!("{line:?}") };
        let seconds = settings.selection.timeout.expect("it was given");
        Ok(nanoseconds(Duration::from_secs(seconds.into())))
    };
    vec![
        ("record --duration", record()),
        ("top --interval", top()),
        ("audit --since", audit()),
        ("--timeout", timeout()),
    ]
}

/// A key of a file.
struct Place {
    /// Headers of its table and of the enclosing ones.
    headers: String,
    key: &'static Key,
    /// Parses such a file and returns its mistakes.
    read: fn(SourceText) -> Vec<String>,
}

/// Adds the keys of a table that take a size or a time.
fn places(headers: &str, path: &str, keys: &'static [Key], read: fn(SourceText) -> Vec<String>, into: &mut Vec<Place>) {
    for key in keys {
        let inner = format!("{path}.{}", key.name);
        match key.kind {
            Kind::Size | Kind::Time => into.push(Place { headers: headers.to_owned(), key, read }),
            Kind::Table(keys) => places(&format!("{headers}[{inner}]\n"), &inner, keys, read, into),
            Kind::Tables(keys) => places(&format!("{headers}[[{inner}]]\n"), &inner, keys, read, into),
            _ => {}
        }
    }
}

fn all_places() -> Vec<Place> {
    fn pipeline(text: SourceText) -> Vec<String> {
        Config::parse(text).1.iter().map(ToString::to_string).collect()
    }
    fn policy(text: SourceText) -> Vec<String> {
        Policy::parse(text, LabelMap::default()).1.iter().map(ToString::to_string).collect()
    }
    let mut all = Vec::new();
    for (sections, read) in
        [(&PIPELINE_SECTIONS[..], pipeline as fn(SourceText) -> Vec<String>), (&POLICY_SECTIONS[..], policy)]
    {
        for Section { name, several, keys, .. } in sections {
            let header = if *several { format!("[[{name}]]\n") } else { format!("[{name}]\n") };
            places(&header, name, keys, read, &mut all);
        }
    }
    all
}

#[test]
fn sizes_and_times_are_the_same_behind_options_and_in_files() {
    let right = |value: &str, kind: Kind| match kind {
        Kind::Size => units::size(value).map(u128::from),
        _ => units::time(value).map(|time| time.as_nanos()),
    };
    let places = all_places();
    assert!(places.len() > 40, "{}", places.len());
    let (mut wrong, mut taken) = (Vec::new(), 0);
    for (values, kind) in [(SIZES, Kind::Size), (TIMES, Kind::Time)] {
        for value in values {
            let expected = right(value, kind);
            let options = if matches!(kind, Kind::Size) { sizes(value) } else { times(value) };
            for (option, result) in options {
                let answer = answer(result.clone());
                taken += usize::from(answer.taken.is_some());
                let same = answer.taken.is_none() || answer.taken == expected;
                if answer.understood != expected.is_some() || !same {
                    wrong.push(format!("{option} {value:?}: {result:?}"));
                }
            }
            let same_kind = |place: &&Place| matches!(place.key.kind, Kind::Size) == matches!(kind, Kind::Size);
            for place in places.iter().filter(same_kind) {
                let bare = value.parse::<f64>().is_ok_and(f64::is_finite) && !value.starts_with('-');
                for written in [Some(format!("{value:?}")), bare.then(|| (*value).to_owned())].into_iter().flatten() {
                    let text = format!("{}{} = {written}\n", place.headers, place.key.name);
                    let diagnostics = (place.read)(SourceText { path: "x.toml".into(), text: text.clone() });
                    let understood =
                        !diagnostics.iter().any(|diagnostic| diagnostic.contains(SIZE) || diagnostic.contains(TIME));
                    // A number that is too large for TOML is another mistake.
                    let read = !diagnostics.iter().any(|diagnostic| diagnostic.contains("number"));
                    if understood != expected.is_some() && read {
                        wrong.push(format!("{text}: {diagnostics:?}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them, such as\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(taken > 60, "{taken}");
}

#[test]
fn timeouts_are_times_in_policies_and_grants() {
    let policy = |range: &str| {
        let text = format!("[[tenant]]\nname = 'a'\ntimeouts = '{range}'\n");
        let (_, diagnostics, _) = Policy::parse(SourceText { path: "x.toml".into(), text }, LabelMap::default());
        !diagnostics.iter().any(|diagnostic| diagnostic.to_string().contains("timeouts"))
    };
    for (range, right) in [
        ("1..3600", true),
        ("1s..1h", true),
        ("60..10m", true),
        ("1..0.5", false),
        ("2..1", false),
        ("500ms..1h", false),
        ("5", false),
        ("1..x", false),
    ] {
        let grant = format!("update.timeout={range}").parse::<flowgate_model::grants::Grants>();
        assert_eq!((policy(range), grant.is_ok()), (right, right), "{range}: {grant:?}");
    }
}

/// Under the name `conntrack`, options take the same values as in `conntrack`: only the leading digits, if it only
/// lists.
#[test]
fn the_classic_name_knows_no_units() {
    let classic = |line: &str| {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        match parse(&ProgramName::of(OsStr::new("conntrack")), &words, &SystemEnvironment).result {
            Ok(Invocation::Run(settings)) => Ok((settings.buffer_size, settings.selection.timeout)),
            Ok(other) => panic!("{line}: {other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    assert_eq!(classic("-E -b 64k"), Ok((Some(64), None)));
    assert_eq!(classic("-E -b many"), Ok((Some(0), None)));
    for value in ["10m", "5.0", "10s"] {
        let message = classic(&format!("-D -s 192.0.2.1 -t {value}")).unwrap_err();
        assert!(message.ends_with("--timeout takes a decimal number from 0 to 4294967295"), "{message}");
    }
}
