//! References that a plugin repeats so that the host would have to copy their target as often: memory and time of the
//! host stay in proportion to what was handed over, with batches of 1, 1,024 and 65,536 rows, and each refusal names
//! its cause.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use flowgate_base::clock::thread_time;
use flowgate_model::{
    Annotations, Expectations, Flows, Outcome, Texts, bounds, check, expectation_field, field, grants::Grants, result,
};
use flowgate_netlink::decode::{ExpectationDecoder, FlowDecoder};
use flowgate_pipeline::{
    executor::{Executor, Shows},
    outcome::{ActionResults, StageOutcome},
    stage::Stage,
};
use flowgate_runtime::{Failure, Instance, Limits, deadline::Watch};
use flowgate_test_support::{
    Namespace, Program, entries,
    hostile::{Attack, attacks},
};

use super::{batch, executor, failure, hostile, plugins, setup, started};

/// Memory limit of the host itself, and of each plugin.
pub(crate) const HOST: u64 = 192 << 20;
pub(crate) const PLUGIN: u64 = 64 << 20;

/// Resources that a process has used so far: peak memory in bytes, and CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub memory: u64,
    pub time: Duration,
    /// True if the process exceeded its limits and was stopped.
    pub stopped: bool,
}

impl Usage {
    /// Returns the usage of a running process; zero for one that has ended.
    pub(crate) fn of(child: &Child) -> Self {
        // For a moment after `spawn` has returned, the kernel still shows the memory of the parent.
        let program = |process: &str| std::fs::read_link(format!("/proc/{process}/exe")).ok();
        if program(&child.id().to_string()) == program("self") {
            return Usage::default();
        }
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap_or_default();
        let status = file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        // utime and stime, in hundredths of a second, are the 12th and 13th word after the name in parentheses.
        let ticks = file("stat").rsplit(')').next().map_or(0, |rest| {
            rest.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
        });
        Usage { memory: kibibytes.unwrap_or(0) << 10, time: Duration::from_millis(10 * ticks), stopped: false }
    }
}

/// Watches a process until it ends; kills it if it exceeds these limits.
pub(crate) fn watch(child: &mut Child, memory: u64, time: Duration) -> Usage {
    let mut seen = Usage::default();
    loop {
        let now = Usage::of(child);
        (seen.memory, seen.time) = (seen.memory.max(now.memory), seen.time.max(now.time));
        if !seen.stopped && (seen.memory > memory || seen.time > time) {
            seen.stopped = true;
            child.kill().unwrap();
        }
        if child.try_wait().unwrap().is_some() {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a listing with hostile plugins that are skipped when they fail; panics if it exceeds its limits.
fn bounded(batch: &str, plugins: &[String], more: &[&str], time: Duration) -> Usage {
    bounded_if("skip", batch, plugins, more, time)
}

/// Does the same, with another value of `--on-error`.
fn bounded_if(on_error: &str, batch: &str, plugins: &[String], more: &[&str], time: Duration) -> Usage {
    let mut words = vec!["-L", "--batch", batch];
    for plugin in plugins {
        words.extend(["--plugin", plugin, "--on-error", on_error]);
    }
    words.extend(more);
    let command = Program::new(env!("CARGO_BIN_EXE_flowgate"));
    let mut child =
        command.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let most = HOST + PLUGIN * plugins.len() as u64;
    let seen = watch(&mut child, most, time);
    assert!(
        !seen.stopped,
        "{words:?}: {} MiB of at most {}, {:?} of at most {time:?}",
        seen.memory >> 20,
        most >> 20,
        seen.time
    );
    let ended = child.wait().unwrap();
    assert!(ended.success() || on_error == "stop" && ended.code() == Some(1), "{words:?}: {ended}");
    seen
}

/// Returns the options of an attack as the value of `--plugin`, and further words of the command line. Actions are only
/// printed.
fn words(plugin: &std::path::Path, attack: &Attack) -> (String, Vec<&'static str>) {
    let more = match attack.grant {
        "" => vec![],
        "log" => vec!["--grant", "log"],
        grant => vec!["--grant", grant, "--dry-run"],
    };
    (format!("{},{}", plugin.display(), attack.text()), more)
}

/// Every way to misbehave that the plugin has is tried, and with every column.
#[test]
fn every_attack_is_tried() {
    let sources = [
        include_str!("../../../../tests/plugins/hostile/src/lib.rs"),
        include_str!("../../../../tests/plugins/hostile/src/multiply.rs"),
    ];
    let arms = sources.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let (names, _) = line.trim().strip_prefix('"')?.split_once("\" =>")?;
        Some(names.split("\" | \""))
    });
    let tried: Vec<String> =
        attacks().iter().flat_map(|attack| attack.options.clone()).map(|(_, value)| value).collect();
    let mut names = 0;
    for name in arms.flatten() {
        names += 1;
        // What a format writes.
        assert!(tried.iter().any(|tried| tried == name) || name.ends_with("-text"), "`{name}` is not tried");
    }
    assert!(names > 30, "{names} were found");
}

/// With batches of one flow and of a few: attacks that multiply something other than rows.
#[test]
fn small_batches_take_no_more_than_was_handed_over() {
    let plugin = plugins::built("hostile");
    Namespace::run(|namespace| {
        let flows: Vec<String> = (0..40).map(|host| format!("-I -t 600 -p 50 -s 10.0.0.{host} -d 10.1.0.1")).collect();
        entries::load(namespace, &flows);
        let usual = bounded("1024", &[format!("{},do=nothing", plugin.display())], &[], Duration::from_secs(60));
        for attack in attacks() {
            let (plugin, more) = words(&plugin, &attack);
            // Printing 60,000 actions for each of 40 flows legitimately takes a long time.
            for batch in
                ["1", "1024", "65536"].into_iter().filter(|&batch| batch != "1" || !more.contains(&"--dry-run"))
            {
                bounded(batch, std::slice::from_ref(&plugin), &more, usual.time * 2 + FAILURES * CALL * 3 / 2);
                // The first failure ends the command: it takes as long as one call.
                bounded_if("stop", batch, std::slice::from_ref(&plugin), &more, usual.time * 2 + CALL * 3 / 2);
            }
        }
    });
}

/// Number of failures after which a plugin is not called any more.
const FAILURES: u32 = 5;
/// Time limit of a call.
const CALL: Duration = Duration::from_secs(1);

/// With the maximum number of rows in a batch.
#[test]
fn large_batches_take_no_more_than_was_handed_over() {
    let plugin = plugins::built("hostile");
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(70_000));
        assert!(entries::count(namespace) > 65_536);
        for output in ["", "json", "xml"] {
            let output = if output.is_empty() { vec![] } else { vec!["-o", output] };
            let name = |attack: &str| format!("{},{attack}", plugin.display());
            let usual = bounded("65536", &[name("do=nothing")], &output, Duration::from_secs(60));
            let most = usual.time * 2 + FAILURES * CALL * 3 / 2;
            // The format only affects what is shown.
            let shown = |attack: &str| attack.contains("notes") || attack.contains("amplify-change");
            for attack in attacks().iter().filter(|attack| output.is_empty() || shown(&attack.text())) {
                let (plugin, more) = words(&plugin, attack);
                bounded("65536", std::slice::from_ref(&plugin), &[&output[..], &more].concat(), most);
                // Printing 60,000 actions for each of 68 batches legitimately takes a long time.
                if output.is_empty() && !more.contains(&"--dry-run") {
                    bounded("1024", &[plugin], &more, most * 2);
                }
            }
            // Annotations of several stages accumulate in the batch.
            let several: Vec<String> = vec![name("do=amplify-notes,bytes=200"); 4];
            bounded("65536", &several, &output, most * 4);
        }
    });
}

#[test]
fn each_refusal_says_what_was_too_much() {
    let component = hostile();
    for (what, words) in [
        ("amplify-change", "a value of 20971520 bytes; such a value has at most 256"),
        ("slow-change", "300000 changes of a batch of 10 rows; there can be 4 for each row"),
        ("one-change-too-many", "41 changes of a batch of 10 rows"),
        ("empty-notes", "more annotations for row 0 than the 64 of 4096 bytes in all"),
        ("duplicate-rows", "`helper` for row 0 more than once"),
        ("huge-ends", "whose values end outside their 9 bytes"),
        ("overlapping-ends", "whose values end outside their 9 bytes"),
        ("more-columns", "returned"),
    ] {
        let roomy = Limits { output: 32 << 20, memory: 128 << 20, call: Duration::from_secs(20), ..super::LIMITS };
        let mut instance = Instance::new(&component, roomy).unwrap();
        let bytes = if what == "slow-change" { "15" } else { "0" };
        instance.configure(&setup(&[("do", what), ("bytes", bytes)])).unwrap();
        instance.end_start_up();
        let mut stage = Stage::new(instance, field::ALL, Grants::NONE);
        let mut rows = batch(10);
        let error = stage.batch(&mut rows, &mut executor()).unwrap_err();
        assert_eq!(rows, batch(10), "{what}: a failed stage leaves the batch as it was");
        assert!(error.to_string().contains(words), "{what}: {error}");
        assert!(matches!(error.failure, Failure::BadValue(_) | Failure::Output { .. }), "{what}: {error}");
    }
}

/// Runs a stage that misbehaves in this way, with generous memory limits, and returns its failure for this number of
/// rows.
fn with_rows(rows: u32, options: &[(&str, &str)]) -> (Flows, Result<(), Failure>) {
    let mut instance =
        Instance::new(&hostile(), Limits { call: Duration::from_secs(20), ..Limits::default() }).unwrap();
    instance.configure(&setup(options)).unwrap();
    instance.end_start_up();
    let mut stage = Stage::new(instance, field::ALL, Grants::NONE);
    let mut flows = batch(rows);
    let result = stage.batch(&mut flows, &mut executor()).map_err(|error| error.failure);
    (flows, result)
}

#[test]
fn a_text_for_every_row_is_written_as_long_as_it_is_in_proportion() {
    for (column, bytes) in [("helper", "15"), ("labels", "16"), ("security-context", "100")] {
        let (flows, result) = with_rows(3000, &[("do", "amplify-change"), ("column", column), ("bytes", bytes)]);
        assert_eq!(result, Ok(()), "{column}");
        check::flows(&flows).unwrap();
        let rare = flows.rare.unwrap();
        let written = [&rare.helper, &rare.labels, &rare.security_context].map(|column| column.texts.bytes.len());
        assert_eq!(written.iter().sum::<usize>(), 3000 * bytes.parse::<usize>().unwrap());
    }
    // The kernel's own helpers and labels are shorter.
    for (column, bytes, most) in [("helper", "16", "15"), ("labels", "20", "16")] {
        let (_, result) = with_rows(10, &[("do", "amplify-change"), ("column", column), ("bytes", bytes)]);
        let Err(Failure::BadValue(text)) = result else { panic!("{column}: {result:?}") };
        assert!(text.contains(&format!("`{column}` of {bytes} bytes; the kernel's have at most {most}")), "{text}");
    }
    let context = [("do", "amplify-change"), ("column", "security-context"), ("bytes", "4000")];
    let (_, result) = with_rows(3000, &context);
    // Each row crosses with its presence bits and a change.
    let returned = 3000 * (8 + 16) + 4000;
    let limit = bounds::TEXT_FACTOR * returned;
    assert_eq!(result, Err(Failure::Amplified { returned, bytes: 3000 * 4000, limit }));
}

#[test]
fn annotations_of_a_batch_are_bounded_as_they_are_shown() {
    let (flows, result) = with_rows(3000, &[("do", "amplify-notes"), ("bytes", "4000")]);
    assert_eq!(result, Ok(()));
    assert_eq!(flows.rare.unwrap().annotations.rows.len(), 3000);
    let (_, result) = with_rows(10, &[("do", "amplify-notes"), ("bytes", "4096")]);
    assert!(matches!(result, Err(Failure::BadValue(_))), "{result:?}");
    // A text longer than 1,000 characters is truncated.
    for (what, bytes, rows) in [("amplify-notes", "1000", 20_000), ("escaped-notes", "1000", 6000)] {
        let (_, result) = with_rows(rows, &[("do", what), ("bytes", bytes)]);
        let Err(Failure::Amplified { limit: bounds::MAX_TEXT, .. }) = result else { panic!("{result:?}") };
    }
}

#[test]
fn expectations_are_no_way_around() {
    let expectations = |rows: usize| Expectations {
        length: rows as u32,
        has: vec![expectation_field::TIMEOUT; rows],
        family: vec![2; rows],
        timeout: vec![5; rows],
        ..Expectations::default()
    };
    let run = |what: &str, rows: usize, bytes: &str, grants: &str| {
        let limits = Limits { call: Duration::from_secs(20), ..Limits::default() };
        let mut instance = Instance::new(&hostile(), limits).unwrap();
        instance.configure(&setup(&[("do", what), ("bytes", bytes)])).unwrap();
        instance.end_start_up();
        let mut stage = Stage::new(instance, field::ALL, grants.parse().unwrap());
        let mut executor = Executor::<Expectations>::new(Shows::Entries, ExpectationDecoder::new());
        executor.detach();
        let mut batch = expectations(rows);
        let result = stage.batch(&mut batch, &mut executor);
        check::expectations(&batch).unwrap();
        (batch, result.map_err(|error| error.failure))
    };
    let (batch, result) = run("amplify-notes", 1000, "1000", "");
    assert_eq!((result, batch.annotations.unwrap().rows.len()), (Ok(()), 1000));
    let (batch, result) = run("amplify-notes", 65_536, "300", "");
    assert!(matches!(result, Err(Failure::Amplified { .. })), "{result:?}");
    assert_eq!(batch.annotations, None);
    let (_, result) = run("amplify", 10, "0", "");
    assert!(matches!(result, Err(Failure::BadValue(_))), "{result:?}");
    let (_, result) = run("amplify-actions", 10, "0", "create,delete");
    assert!(matches!(result, Err(Failure::BadValue(_))), "{result:?}");
    let (_, result) = run("amplify-actions", 10, "60000", "create,delete");
    assert_eq!(result, Ok(()));
}

/// The host's work caused by a call counts towards the time limit of the call: here the host would have to encode
/// 100,000 actions.
#[test]
fn the_hosts_work_is_in_the_time_of_the_call() {
    let limits = Limits { call: Duration::from_millis(20), actions: 200_000, ..Limits::default() };
    let mut instance = Instance::new(&hostile(), limits).unwrap();
    instance.configure(&setup(&[("do", "action-flood")])).unwrap();
    instance.end_start_up();
    let mut stage = Stage::new(instance, field::ALL, "delete".parse().unwrap());
    let mut executor = Executor::<Flows>::new(Shows::Entries, FlowDecoder::new(0));
    executor.detach();
    let mut flows = batch(10);
    flows.has.fill(field::TUPLES | field::MARK | field::PROTOCOL);
    for addresses in [&mut flows.original.source, &mut flows.original.destination] {
        addresses.lo = vec![0xffff_0a00_0001; 10];
    }
    let given = flows.clone();
    let before = thread_time();
    let error = stage.batch(&mut flows, &mut executor).unwrap_err();
    let used = thread_time() - before;
    assert_eq!((error.failure, flows), (Failure::Deadline(limits.call), given));
    assert!(used < limits.call * 5, "{used:?}");
    let results = stage.stats().lock().actions;
    assert!(results[usize::from(result::OVER_LIMIT)] > 0, "those that were left are refused: {results:?}");
    assert_eq!(results.iter().sum::<u64>(), 100_000);
}

#[test]
fn without_time_an_outcome_is_not_even_carried_out() {
    let outcome = Outcome {
        annotations: Some(Annotations {
            rows: vec![0],
            keys: Texts { ends: vec![1], bytes: vec![b'k'] },
            values: Texts { ends: vec![1], bytes: vec![b'v'] },
        }),
        ..Outcome::default()
    };
    let mut watch = Watch::begin(Duration::ZERO, Some(Duration::ZERO));
    let checked = StageOutcome::from(outcome.clone()).checked(&batch(1), 0, 0, &mut watch);
    assert_eq!(checked.unwrap_err(), Failure::Deadline(Duration::ZERO));
    let mut rows = batch(1);
    let checked = StageOutcome::from(outcome).checked(&rows, 0, 0, &mut Watch::unlimited()).unwrap();
    assert_eq!(checked.apply(&mut rows, ActionResults::default()), 0);
    assert_eq!(rows.rare.unwrap().annotations.values.bytes, b"v");
}

#[test]
fn the_end_of_the_stream_and_failures_are_as_bounded() {
    for what in ["amplify-change", "amplify-notes", "raw-attributes"] {
        let options = [("do", what), ("when", "finish"), ("bytes", "2000000")];
        let mut stage = started(&hostile(), &options).unwrap();
        let error = stage.finish(&mut executor()).unwrap_err();
        assert!(matches!(error.failure, Failure::BadValue(_) | Failure::Output { .. }), "{what}: {error}");
    }
    assert!(matches!(failure(&hostile(), "amplify"), Failure::Output { .. } | Failure::Memory { .. }));
}
