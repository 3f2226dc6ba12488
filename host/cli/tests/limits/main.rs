//! Hostile plugins: each way to misbehave has a distinct, clear error, ends within its limits, and does not affect the
//! host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

#[path = "../../../../fuzz/oracles/allocation.rs"]
mod allocation;
mod bounds;
mod calls;
mod charged;
mod compiling;
mod loading;
mod multiplied;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use flowgate_test_support::{Namespace, Program, entries, plugins};

use flowgate_base::Warnings;
use flowgate_model::{Flows, OnError, OptionValue, Setup, field, grants::Grants, result};
use flowgate_netlink::decode::FlowDecoder;
use flowgate_pipeline::{
    executor::{Executor, Shows},
    stage::Stage,
    stats::Health,
    supervisor::Policy,
};
use flowgate_runtime::{Failure, Instance, Limits, LoadError, PluginComponent, PluginEngine, PluginError};

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

const LIMITS: Limits = Limits {
    memory: 16 << 20,
    call: Duration::from_millis(200),
    start_up: Duration::from_millis(1500),
    output: 8 << 20,
    actions: 1000,
};

fn hostile() -> PluginComponent {
    let engine = PluginEngine::new(None).unwrap();
    PluginComponent::open(&engine, &plugins::built("hostile")).unwrap()
}

/// Returns a batch of rows that are distinguished by their marks.
fn batch(rows: u32) -> Flows {
    Flows {
        length: rows,
        has: vec![field::MARK | field::PROTOCOL; rows as usize],
        family: vec![2; rows as usize],
        protocol: vec![6; rows as usize],
        mark: (0..rows).collect(),
        ..Flows::default()
    }
}

fn setup(options: &[(&str, &str)]) -> Setup {
    Setup { options: options.iter().map(|(name, value)| OptionValue::new(*name, *value)).collect(), ..Setup::default() }
}

fn started(component: &PluginComponent, options: &[(&str, &str)]) -> Result<Stage, PluginError> {
    let mut instance = Instance::new(component, LIMITS)?;
    let reads = instance.describe()?.reads;
    instance.configure(&setup(options))?;
    instance.end_start_up();
    Ok(Stage::new(instance, reads, Grants::NONE))
}

/// Returns an executor for stages that request no actions; a warning panics.
fn executor() -> Executor<Flows> {
    Executor::new(Shows::Entries, FlowDecoder::new(0)).with_warnings(Warnings::new(|warning| panic!("{warning}")))
}

/// Returns the failure when the plugin misbehaves in this way on a batch of ten rows.
fn failure(component: &PluginComponent, what: &str) -> Failure {
    let mut stage = started(component, &[("do", what)]).unwrap();
    let mut rows = batch(10);
    let error = stage.batch(&mut rows, &mut executor()).unwrap_err();
    assert!(error.plugin.ends_with("hostile.wasm"), "{error}");
    assert_eq!(rows, batch(10), "a failed stage leaves the batch as it was");
    error.failure
}

#[test]
fn a_trap_is_named() {
    assert!(matches!(failure(&hostile(), "trap"), Failure::Trap(_)));
}

#[test]
fn an_endless_loop_is_stopped_in_time() {
    let before = Instant::now();
    assert_eq!(failure(&hostile(), "loop"), Failure::Deadline(LIMITS.call));
    assert!(before.elapsed() < Duration::from_secs(60), "it was stopped at all");
}

#[test]
fn an_endless_loop_at_start_up_is_stopped_too() {
    let error = started(&hostile(), &[("do", "loop"), ("when", "configure")]).err().unwrap();
    assert_eq!(error.failure, Failure::Deadline(LIMITS.start_up));
}

#[test]
fn endless_recursion_is_named() {
    assert_eq!(failure(&hostile(), "recurse"), Failure::Stack);
}

#[test]
fn memory_is_capped() {
    let Failure::Memory { wanted, limit } = failure(&hostile(), "memory") else { panic!("another failure") };
    assert_eq!(limit, LIMITS.memory);
    assert!(wanted > limit && wanted < limit + (4 << 20), "{wanted}");
}

#[test]
fn output_is_capped() {
    let component = hostile();
    let roomy = Limits { memory: 256 << 20, ..LIMITS };
    for what in ["output", "amplify"] {
        let mut instance = Instance::new(&component, roomy).unwrap();
        instance.configure(&setup(&[("do", what)])).unwrap();
        instance.end_start_up();
        let mut stage = Stage::new(instance, field::ALL, Grants::NONE);
        let error = stage.batch(&mut batch(10), &mut executor()).unwrap_err();
        assert_eq!(error.failure, Failure::Output { limit: LIMITS.output }, "{what}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let component = hostile();
    for (what, words) in [
        ("short-verdicts", "9 verdicts for a batch of 10 rows"),
        ("long-verdicts", "11 verdicts for a batch of 10 rows"),
        ("strange-verdict", "the verdict 7 for row 0"),
        ("strange-row", "an annotation` for row 10 of a batch of 10 rows"),
        ("strange-texts", "values end outside their 3 bytes"),
        ("strange-change", "a change by values for row 5 of a batch of 0 rows"),
        ("strange-table", "a table of 2147483648 rows whose column `has` has 1 elements"),
        ("strange-action", "an action for row 17 of a batch of 10 rows"),
    ] {
        let failure = failure(&component, what);
        let Failure::BadValue(text) = &failure else { panic!("{what}: {failure}") };
        assert!(text.contains(words), "{what}: {text}");
    }
}

#[test]
fn changes_after_the_end_are_refused() {
    let mut stage = started(&hostile(), &[("do", "late-changes")]).unwrap();
    let error = stage.finish(&mut executor()).unwrap_err();
    assert!(matches!(error.failure, Failure::BadValue(_)), "{error}");
}

#[test]
fn a_failed_instance_is_never_entered_again() {
    let mut instance = Instance::new(&hostile(), LIMITS).unwrap();
    instance.configure(&setup(&[("do", "trap")])).unwrap();
    instance.end_start_up();
    assert!(instance.process_flows(&batch(1)).is_err());
    let again = instance.process_flows(&batch(1)).unwrap_err();
    assert_eq!(again.failure, Failure::Host("it has failed before".into()));
}

#[test]
fn a_refusal_is_shown_without_escape_sequences() {
    let error = started(&hostile(), &[("do", "refuse")]).err().unwrap();
    assert_eq!(error.failure, Failure::Refused("this plugin \\u{1b}[31mrefuses\\u{1b}[0m to start".into()));
}

#[test]
fn annotations_are_cleaned() {
    let mut stage = started(&hostile(), &[("do", "escape")]).unwrap();
    let mut rows = batch(2);
    stage.batch(&mut rows, &mut executor()).unwrap();
    let annotations = rows.rare.unwrap().annotations;
    assert_eq!(annotations.rows, [0]);
    for text in [annotations.keys.bytes, annotations.values.bytes] {
        let text = String::from_utf8(text).expect("what is shown is UTF-8");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

#[test]
fn what_was_not_granted_is_refused_and_told_once() {
    static WARNINGS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let warnings = Warnings::new(|warning| WARNINGS.lock().unwrap().push(warning.to_string()));
    let mut executor = Executor::new(Shows::Entries, FlowDecoder::new(0)).with_warnings(warnings);
    let mut stage = started(&hostile(), &[("do", "ungranted")]).unwrap();
    for _ in 0..2 {
        let mut rows = batch(10);
        stage.batch(&mut rows, &mut executor).unwrap();
        assert_eq!(rows, batch(10), "the flows themselves go on");
    }
    assert_eq!((executor.refused(), executor.done()), (20, 0));
    let received = WARNINGS.lock().unwrap();
    assert_eq!(received.len(), 1, "{received:?}");
    assert!(
        received[0].contains("hostile.wasm asked to delete")
            && received[0].contains("not granted; refused. To allow it: --grant delete"),
        "{received:?}"
    );
}

#[test]
fn a_flood_of_actions_is_refused_as_a_whole() {
    assert_eq!(failure(&hostile(), "action-flood"), Failure::Actions { asked: 100_000, limit: LIMITS.actions });
}

/// Returns a stage whose instances misbehave from the `at`th flow on and are replaced.
fn supervised(what: &str, at: &str, policy: Policy) -> Stage {
    let component = hostile();
    let setup = setup(&[("do", what), ("at", at)]);
    let make = move || {
        let mut instance = Instance::new(&component, LIMITS)?;
        instance.configure(&setup)?;
        instance.end_start_up();
        Ok(instance)
    };
    let first = make().unwrap();
    Stage::new(first, field::ALL, Grants::NONE).supervised(Box::new(make), policy)
}

/// Returns an executor whose warnings are discarded.
fn quiet() -> Executor<Flows> {
    Executor::new(Shows::Entries, FlowDecoder::new(0))
}

#[test]
fn a_failing_plugin_is_replaced_then_waits_and_is_then_quarantined() {
    for (on_error, left) in [(OnError::Skip, 10), (OnError::Drop, 0)] {
        let policy = Policy { on_error, failures: 3, window: Duration::from_secs(3600) };
        let mut stage = supervised("trap", "1", policy);
        let pass = |stage: &mut Stage| {
            let mut rows = batch(10);
            stage.batch(&mut rows, &mut quiet()).unwrap();
            assert_eq!(rows.length, left, "{on_error}");
        };
        pass(&mut stage);
        let known = |stage: &Stage| stage.stats().lock().clone();
        assert_eq!((known(&stage).failures, known(&stage).health), (1, Health::BackingOff));
        // The first replacement starts immediately, the second one after a delay.
        pass(&mut stage);
        assert_eq!((known(&stage).failures, known(&stage).restarts), (2, 1));
        pass(&mut stage);
        assert_eq!(known(&stage).failures, 2, "it is not called while it is given time");
        let deadline = Instant::now() + Duration::from_secs(60);
        while known(&stage).failures < 3 {
            assert!(Instant::now() < deadline, "it was never started again");
            std::thread::sleep(Duration::from_millis(20));
            pass(&mut stage);
        }
        // The time of the next start, which was set at the second failure, has passed.
        assert_eq!(known(&stage).health, Health::Quarantined);
        pass(&mut stage);
        let stats = known(&stage);
        assert_eq!((stats.failures, stats.restarts, stats.health), (3, 2, Health::Quarantined));
        assert!(stats.last_error.unwrap().contains("trapped"));
        assert_eq!(stats.rows_without, stats.rows_in, "no batch went through it");
    }
}

#[test]
fn a_failure_on_the_nth_flow_costs_one_batch_and_the_next_instance_goes_on() {
    let policy = Policy { on_error: OnError::Skip, failures: 100, window: Duration::from_secs(3600) };
    let mut stage = supervised("long-verdicts", "25", policy);
    for _ in 0..4 {
        let mut rows = batch(10);
        stage.batch(&mut rows, &mut quiet()).unwrap();
        assert_eq!(rows, batch(10));
    }
    let stats = stage.stats().lock().clone();
    assert_eq!((stats.failures, stats.restarts, stats.rows_without, stats.rows_out), (1, 1, 10, 40));
    assert!(stats.last_error.unwrap().contains("11 verdicts for a batch of 10 rows"));
}

#[test]
fn on_error_stop_ends_the_run_with_the_name_of_the_plugin() {
    let mut stage = supervised("trap", "1", Policy::default());
    let error = stage.batch(&mut batch(10), &mut quiet()).unwrap_err();
    assert!(matches!(error.failure, Failure::Trap(_)) && error.plugin.ends_with("hostile.wasm"), "{error}");
}

#[test]
fn refusals_are_counted_by_what_became_of_the_actions() {
    let mut stage = started(&hostile(), &[("do", "ungranted")]).unwrap();
    stage.batch(&mut batch(10), &mut quiet()).unwrap();
    assert_eq!(stage.stats().lock().actions[usize::from(result::NOT_GRANTED)], 10);
}

#[test]
fn a_plugin_for_another_version_is_refused_in_words() {
    let path = plugins::built_for("outside", "wasm32-wasip2");
    let mut bytes = std::fs::read(path).unwrap();
    // The same component, as if built for another version of the package.
    let (ours, other) = (b"flowgate:conntrack/flow-stage@0.1.1", b"flowgate:conntrack/flow-stage@0.9.0");
    let mut found = 0;
    for at in 0..bytes.len() - ours.len() {
        if bytes[at..].starts_with(ours) {
            bytes[at..at + ours.len()].copy_from_slice(other);
            found += 1;
        }
    }
    assert!(found > 0);
    let error = load_error(&bytes).to_string();
    for words in ["wants flowgate:conntrack/flow-stage@0.9.0", "offers 0.1.1", "rebuild the plugin"] {
        assert!(error.contains(words), "{error}");
    }
}

/// Whatever a plugin tries to reach through WASI is denied, and the message names it.
#[test]
fn the_outside_is_out_of_reach() {
    let plugin = plugins::built_for("outside", "wasm32-wasip2");
    let plugin = plugin.display();
    let cases = [
        ("file", "called `wasi:"),
        ("write", "called `wasi:"),
        ("network", "called `wasi:"),
        ("clock", "called `wasi:clocks/wall-clock"),
        ("timer", "called `wasi:clocks/monotonic-clock"),
        ("print", "called `wasi:cli/"),
        ("exit", "called `wasi:cli/exit"),
    ];
    Namespace::run(|namespace| {
        entries::load(namespace, &["-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1".to_owned()]);
        let flowgate = Program::new(env!("CARGO_BIN_EXE_flowgate"));
        for (what, words) in cases {
            let outcome = flowgate.run(&["-L", "--plugin", &format!("{plugin},do={what}")]);
            let errors = outcome.errors();
            assert_eq!(outcome.status, 1, "{what}: {errors}");
            assert!(errors.contains(words) && errors.contains("outside.wasm"), "{what}: {errors}");
            assert_eq!(outcome.text(), "", "{what}");
        }
        // The standard library requests these two by itself; they are empty.
        for what in ["environment", "arguments"] {
            let outcome = flowgate.run(&["-L", "--plugin", &format!("{plugin},do={what}")]);
            assert!(outcome.text().contains("found=[]"), "{what}: {}{}", outcome.text(), outcome.errors());
        }
        assert!(!Path::new("/tmp/flowgate-was-here").exists());
    });
}

/// When one stage misbehaves, the stage after it still processes every flow.
#[test]
fn an_innocent_stage_loses_no_flow() {
    let (hostile, active) = (plugins::built("hostile"), plugins::built("active"));
    Namespace::run(|namespace| {
        let flows: Vec<String> = (0..40).map(|host| format!("-I -t 600 -p 50 -s 10.0.0.{host} -d 10.1.0.1")).collect();
        entries::load(namespace, &flows);
        let flowgate = Program::new(env!("CARGO_BIN_EXE_flowgate"));
        for what in ["trap", "loop", "recurse", "memory", "output", "long-verdicts", "strange-row", "action-flood"] {
            let hostile = format!("{},do={what},at=3", hostile.display());
            let active = format!("{},do=annotate", active.display());
            let arguments = ["-L", "--batch", "1", "--plugin", &hostile, "--on-error", "skip", "--plugin", &active];
            let grants = ["--grant", "state,time", "--plugin-stats"];
            let outcome = flowgate.run(&[&arguments[..], &grants].concat());
            let (text, errors) = (outcome.text(), outcome.errors());
            assert_eq!((outcome.status, text.lines().count()), (0, 40), "{what}: {errors}");
            assert!(text.lines().all(|line| line.contains(" seen=")), "{what}: {text}");
            assert!(errors.contains("until it runs again flows pass by it"), "{what}: {errors}");
            assert!(errors.contains("40 flow entries have been shown"), "{what}: {errors}");
            assert!(errors.contains("rows without it; the last: "), "{what}: {errors}");
            assert!(!errors.contains("thread '"), "{what}: {errors}");
        }
        // Dropping is the configured behaviour here, and is counted.
        let arguments = ["-L", "--batch", "1", "--on-error", "drop"];
        let hostile = format!("{},do=trap,at=3", hostile.display());
        let outcome = flowgate.run(&[&arguments[..3], &["--plugin", &hostile], &arguments[3..]].concat());
        assert!(outcome.text().lines().count() < 40, "{}", outcome.text());
    });
}

#[test]
fn a_flood_of_log_lines_is_cut_off_counted_and_cleaned() {
    let hostile = plugins::built("hostile");
    Namespace::run(|namespace| {
        entries::load(namespace, &["-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1".to_owned()]);
        let flowgate = Program::new(env!("CARGO_BIN_EXE_flowgate"));
        let plugin = format!("{},do=log-flood", hostile.display());
        let granted = flowgate.run(&["-L", "--plugin", &plugin, "--grant", "log", "--plugin-stats"]);
        let errors = granted.errors();
        let lines = errors.lines().filter(|line| line.contains("hostile: line ")).count();
        assert!((100..1000).contains(&lines), "{lines} lines");
        assert!(!errors.contains('\x1b') && errors.contains("\\u{1b}[31m"), "{errors}");
        assert!(errors.contains(&format!("log: {lines} lines, {} dropped", 100_000 - lines)), "{errors}");
        let ungranted = flowgate.run(&["-L", "--plugin", &plugin, "--plugin-stats"]);
        assert!(ungranted.errors().contains("log: 0 lines, 100000 dropped"), "{}", ungranted.errors());
        assert!(!ungranted.errors().contains("hostile: line "), "{}", ungranted.errors());
    });
}

#[test]
fn a_crossing_changes_nothing() {
    let mut stage = started(&hostile(), &[]).unwrap();
    for rows in [1, 255, 4096] {
        let mut flows = batch(rows);
        stage.batch(&mut flows, &mut executor()).unwrap();
        assert_eq!(flows, batch(rows));
    }
}

/// Returns the error for a file that is not a plugin.
fn load_error(bytes: &[u8]) -> LoadError {
    let engine = PluginEngine::new(None).unwrap();
    PluginComponent::from_bytes(&engine, Path::new("some.wasm"), bytes).err().expect("this is no plugin")
}

#[test]
fn files_that_are_no_plugins_are_told_apart() {
    let engine = PluginEngine::new(None).unwrap();
    let missing = PluginComponent::open(&engine, Path::new("/nonexistent.wasm")).err().unwrap();
    assert!(matches!(missing, LoadError::Read { .. }));

    for (bytes, words) in [
        (&b""[..], "is empty"),
        (b"(component)", "WebAssembly text"),
        (b"\x7fELF\x02\x01\x01\0", "ELF"),
        (b"#!/bin/sh\n", "begins with `#!/bin/s`"),
    ] {
        let error = load_error(bytes);
        assert!(matches!(error, LoadError::NotWasm { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // (module (import "env" "f" (func))): a module for another host.
    let foreign = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x09\x01\x03env\x01f\0\0";
    assert!(matches!(load_error(foreign), LoadError::NotComponent { .. }));
    let empty_module = load_error(b"\0asm\x01\0\0\0");
    assert!(empty_module.to_string().contains("exports nothing"), "{empty_module}");
    assert!(matches!(load_error(b"\0asm\x0d\0\x01\0garbage"), LoadError::Compile { .. }));
    assert!(matches!(load_error(b"\0asm\xff\0\0\0"), LoadError::Compile { .. }));

    let empty_component = b"\0asm\x0d\0\x01\0";
    let error = load_error(empty_component);
    assert!(matches!(error, LoadError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("exports nothing"), "{error}");
}

/// At the command line each of these failures ends the command with status 1, a distinct message that names the plugin,
/// and no panic.
#[test]
fn at_the_command_line_each_failure_has_its_message() {
    let plugin = plugins::built("hostile");
    let plugin = plugin.display();
    let cases = [
        (format!("{plugin},do=trap"), "hostile.wasm: trapped: "),
        (format!("{plugin},do=loop"), "hostile.wasm: ran longer than 1000 ms and was stopped"),
        (format!("{plugin},do=recurse"), "hostile.wasm: used up its stack"),
        (format!("{plugin},do=memory"), "bytes of memory; the limit is 67108864"),
        (format!("{plugin},do=output"), "hostile.wasm: returned more than 33554432 bytes from one call"),
        (format!("{plugin},do=long-verdicts"), "hostile.wasm: returned 2 verdicts for a batch of 1 rows"),
        (format!("{plugin},do=strange-row"), "for row 1 of a batch of 1 rows"),
        (format!("{plugin},do=refuse"), "hostile.wasm: this plugin \\u{1b}[31mrefuses"),
        (format!("{plugin},what=trap"), "it has no option `what`; it has do=WHAT"),
        ("/etc/passwd".into(), "/etc/passwd is not a WebAssembly component: it begins with `"),
        ("/proc/none.wasm".into(), "cannot read plugin /proc/none.wasm: No such file"),
    ];
    Namespace::run(|namespace| {
        entries::load(namespace, &["-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1".to_owned()]);
        let flowgate = Program::new(env!("CARGO_BIN_EXE_flowgate"));
        for (spec, words) in &cases {
            let outcome = flowgate.run(&["-L", "--plugin", spec]);
            let errors = outcome.errors();
            assert_eq!(outcome.status, 1, "{spec}: {errors}");
            assert!(errors.contains(words), "{spec}: {errors}");
            assert!(!errors.contains("thread '") && errors.lines().count() == 1, "{spec}: {errors}");
        }
        // An action without a grant is refused, and the listing continues.
        let outcome = flowgate.run(&["-L", "--plugin", &format!("{plugin},do=ungranted")]);
        assert_eq!((outcome.status, outcome.text().lines().count()), (0, 1));
        assert!(
            outcome.errors().contains("asked to delete entries in a way that it was not granted"),
            "{}",
            outcome.errors()
        );
        assert_eq!(Program::new("conntrack").must(&["-C"]), "1\n", "the flow is still there");
    });
}
