//! What is written is read, and whatever else arrives is refused.

use flowgate_isolation::frame::HEADER;

use flowgate_isolation::{Frame, Record};
use flowgate_model::level;
use flowgate_pipeline::{
    loader::ProblemPlace,
    stats::{Health, StageStats},
};

use super::{statistics::counters, *};

/// Number of plugins of the worker.
const COUNT: u16 = 3;

fn record(report: &Report<'_>) -> Vec<u8> {
    report.write(|kind| Record::new(kind, 5)).finish().unwrap()
}

fn read(record: &[u8]) -> Result<Report<'_>, Violation> {
    Report::read(Frame::read(record, 5)?, COUNT)
}

/// Returns a frame of any kind with these fields.
fn raw(kind: u16, fields: &[u8]) -> Vec<u8> {
    Record::new(kind, 5).append(fields).finish().unwrap()
}

/// Returns a list of requests in a frame.
fn requests(list: &[&[u8]]) -> Vec<u8> {
    look_up(|kind| Record::new(kind, 5), list).finish().unwrap()
}

fn statistics(full: bool) -> StageStats {
    let mut stats = StageStats { health: Health::Quarantined, ..StageStats::default() };
    for (place, number) in counters(&mut stats).into_iter().zip(100..) {
        *place = number << 50;
    }
    stats.actions.iter_mut().zip(7..).for_each(|(place, number)| *place = number);
    if full {
        stats.last_error = Some("it \u{1b}[2J fails".into());
        for step in 0..usize::from(STEPS) {
            assert!(stats.times.set_count(step, step as u64 + 1));
        }
    }
    stats
}

/// Returns a record of each kind of report, in all variants.
fn records() -> Vec<Vec<u8>> {
    let text = "t\u{e9}xt".repeat(600);
    let reports = [
        Report::Confined { landlock: None, no_executable_memory: true },
        Report::Confined { landlock: Some(7), no_executable_memory: false },
        Report::Ready,
        Report::Problem { part: Part::Pipeline, place: ProblemPlace::File, what: "" },
        Report::Problem { part: Part::Plugin(2), place: ProblemPlace::Grants("delete".into()), what: &text },
        Report::Problem { part: Part::Plugin(0), place: ProblemPlace::Digest, what: "x" },
        Report::Problem { part: Part::Plugin(0), place: ProblemPlace::Option(None), what: "x" },
        Report::Problem { part: Part::Plugin(0), place: ProblemPlace::Option(Some(65_535)), what: "x" },
        Report::Problem { part: Part::Plugin(0), place: ProblemPlace::Named, what: "x" },
        Report::Warning(&text),
        Report::Log { plugin: 2, level: level::DEBUG, message: "line\n" },
        Report::State { plugin: 1, key: b"", value: None, more: false },
        Report::State { plugin: 1, key: &[0xff; KEY], value: Some(&[7; VALUE]), more: true },
        Report::State { plugin: 1, key: b"k", value: Some(b""), more: false },
        Report::Output(b""),
        Report::Output(&[0xfe; BYTES]),
        Report::List(0),
        Report::Next(LISTINGS - 1),
        Report::Barrier,
        Report::Done { frames: u64::MAX, resyncs: 1, shown: 0, output: b"" },
        Report::Done { frames: 1, resyncs: 0, shown: 2, output: &[0xfe; BYTES] },
        Report::Statistics { plugin: 0, stats: Box::new(StageStats::default()) },
        Report::Statistics { plugin: 2, stats: Box::new(statistics(false)) },
        Report::Statistics { plugin: 2, stats: Box::new(statistics(true)) },
        Report::Failed("it fails"),
        Report::Finished,
    ];
    let mut records: Vec<Vec<u8>> = reports.iter().map(record).collect();
    let long = [9; REQUEST];
    let proposed = [
        ProposedAction { kind: 0, request: Ok(b"") },
        ProposedAction { kind: 255, request: Ok(&long) },
        ProposedAction { kind: 1, request: Err(NoRequest::NotGranted) },
        ProposedAction { kind: 2, request: Err(NoRequest::Unencodable("no tuple")) },
    ];
    let frame = |kind| Record::new(kind, 5);
    records.push(actions(frame, 1, &proposed, false).finish().unwrap());
    records.push(actions(frame, 1, &[proposed[2]; REQUESTS as usize], true).finish().unwrap());
    records.push(actions(frame, 1, &[], true).finish().unwrap());
    records.push(requests(&[]));
    records.push(requests(&[b"one".as_slice(), b"", &long]));
    records.push(requests(&[b"x".as_slice(); LOOKUPS as usize]));
    records
}

#[test]
fn what_is_written_is_read() {
    let mut kinds = std::collections::BTreeSet::new();
    for bytes in records() {
        let report = read(&bytes).unwrap();
        kinds.insert(u16::from_ne_bytes([bytes[0], bytes[1]]));
        assert_eq!(record(&report), bytes, "{report:?}");
    }
    assert_eq!(kinds, (reports::READY..=reports::CONFINED).collect());
}

#[test]
fn lists_have_what_was_put_into_them() {
    let proposed = [
        ProposedAction { kind: 3, request: Ok(b"request".as_slice()) },
        ProposedAction { kind: 1, request: Err(NoRequest::Unencodable("reason")) },
    ];
    let bytes = actions(|kind| Record::new(kind, 5), 2, &proposed, true).finish().unwrap();
    let Ok(Report::Actions { plugin: 2, actions, more: true }) = read(&bytes) else { panic!("other actions") };
    assert_eq!((actions.len(), actions.is_empty()), (2, false));
    assert_eq!(actions.collect::<Vec<_>>(), proposed);
    let bytes = requests(&[b"a".as_slice(), b"bc"]);
    let Ok(Report::LookUp(list)) = read(&bytes) else { panic!("other requests") };
    assert_eq!(list.collect::<Vec<_>>(), [b"a".as_slice(), b"bc"]);
}

#[test]
fn each_field_has_its_bounds() {
    let longer = |most: usize| [&u32::try_from(most + 1).unwrap().to_ne_bytes()[..], &vec![b'x'; most + 1]].concat();
    let many = |count: u16| count.to_ne_bytes().to_vec();
    let zero = [0, 0];
    let excessive = |most: usize| Violation::Excessive { length: most + 1, most };
    for (kind, fields, violation) in [
        (reports::WARNING, longer(TEXT), excessive(TEXT)),
        (reports::FAILED, longer(TEXT), excessive(TEXT)),
        (reports::LOG, [&zero[..], &[0], &longer(TEXT)].concat(), excessive(TEXT)),
        (reports::LOG, [&COUNT.to_ne_bytes()[..], &[0; 5]].concat(), Violation::Value(COUNT.into())),
        (reports::LOG, [&zero[..], &[level::DEBUG + 1], &[0; 4]].concat(), Violation::Value(5)),
        (reports::OUTPUT, longer(BYTES), excessive(BYTES)),
        (reports::STATE, [&zero[..], &longer(KEY)].concat(), excessive(KEY)),
        (reports::STATE, [&zero[..], &[0; 4], &[1], &longer(VALUE)].concat(), excessive(VALUE)),
        (reports::STATE, [&zero[..], &[0; 4], &[2]].concat(), Violation::Value(2)),
        (reports::PROBLEM, [&COUNT.to_ne_bytes()[..], &[0; 5]].concat(), Violation::Value(COUNT.into())),
        (reports::PROBLEM, [&zero[..], &[6]].concat(), Violation::Value(6)),
        (reports::PROBLEM, [&zero[..], &[2], &longer(100)].concat(), excessive(100)),
        (reports::ACTIONS, [&zero[..], &many(REQUESTS + 1)].concat(), Violation::Value(u64::from(REQUESTS) + 1)),
        (reports::ACTIONS, [&zero[..], &many(1), &[1, 0], &longer(REQUEST)].concat(), excessive(REQUEST)),
        (reports::ACTIONS, [&zero[..], &many(1), &[1, 2], &longer(REASON)].concat(), excessive(REASON)),
        (reports::ACTIONS, [&zero[..], &many(1), &[1, 3]].concat(), Violation::Value(3)),
        (reports::ACTIONS, [&zero[..], &many(REQUESTS)].concat(), Violation::Field { wanted: 1, left: 0 }),
        (reports::ACTIONS, [&zero[..], &many(0), &[0]].concat(), Violation::Trailing(1)),
        (reports::LOOK_UP, many(LOOKUPS + 1), Violation::Value(u64::from(LOOKUPS) + 1)),
        (reports::LOOK_UP, [&many(1)[..], &longer(REQUEST)].concat(), excessive(REQUEST)),
        (reports::LIST, vec![LISTINGS], Violation::Value(LISTINGS.into())),
        (reports::NEXT, vec![LISTINGS], Violation::Value(LISTINGS.into())),
        (reports::READY, vec![0], Violation::Trailing(1)),
        (reports::DONE, vec![0; 23], Violation::Field { wanted: 8, left: 7 }),
        (reports::DONE, [&[0; 24][..], &longer(BYTES)].concat(), excessive(BYTES)),
        (reports::STATISTICS, [&zero[..], &[3]].concat(), Violation::Value(3)),
        (reports::CONFINED + 1, vec![], Violation::Kind(reports::CONFINED + 1)),
        (kind::EVENTS, vec![], Violation::Kind(kind::EVENTS)),
    ] {
        let bytes = raw(kind, &fields);
        assert_eq!(read(&bytes).unwrap_err(), violation, "kind {kind}");
    }
    // Steps of the histogram: too many of them, and one that there is not.
    let all = record(&Report::Statistics { plugin: 0, stats: Box::new(statistics(true)) });
    let steps = all.len() - usize::from(STEPS) * 10;
    let mut more = all.clone();
    more[steps - 2..steps].copy_from_slice(&(STEPS + 1).to_ne_bytes());
    assert_eq!(read(&more).unwrap_err(), Violation::Value(u64::from(STEPS) + 1));
    let mut other = all;
    other[steps..steps + 2].copy_from_slice(&STEPS.to_ne_bytes());
    assert_eq!(read(&other).unwrap_err(), Violation::Value(STEPS.into()));
    // Only states and actions have parts; the removal of an entry has none.
    for bytes in records() {
        let frame = Frame::read(&bytes, 5).unwrap();
        let parts = Report::read(Frame { more: true, ..frame }, COUNT);
        let has_parts = match read(&bytes).unwrap() {
            Report::Actions { .. } => true,
            Report::State { value, .. } => value.is_some(),
            _ => false,
        };
        assert_eq!(parts.is_ok(), has_parts, "{parts:?}");
    }
}

/// What is read is written as something that is read as the same.
fn is_stable(bytes: &[u8]) {
    if let Ok(report) = read(bytes) {
        let again = record(&report);
        assert_eq!(record(&read(&again).unwrap()), again);
    }
}

#[test]
fn changed_records_are_refused_or_read_as_something_else() {
    for bytes in records() {
        // Long ones consist of the same bytes for the most part.
        let step = (bytes.len() / 400).max(1);
        for at in (0..bytes.len()).filter(|at| *at < 64 || at % step == 0) {
            for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                is_stable(&changed);
            }
            // Shorter, with a length that is right.
            if at >= HEADER {
                let mut cut = bytes[..at].to_vec();
                cut[4..8].copy_from_slice(&u32::try_from(at).unwrap().to_ne_bytes());
                is_stable(&cut);
                assert!(read(&bytes[..at]).is_err());
            }
        }
    }
}

#[test]
fn random_records_make_nothing_panic() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as u8
    };
    let mut read_ones = 0;
    for round in 0..50_000u16 {
        let length = usize::from(next()) % 60;
        let fields: Vec<u8> = (0..length).map(|_| if next() % 3 == 0 { next() } else { next() % 4 }).collect();
        let bytes = raw(reports::READY + round % 16, &fields);
        is_stable(&bytes);
        read_ones += u32::from(read(&bytes).is_ok());
    }
    assert!(read_ones > 100, "{read_ones}");
}
