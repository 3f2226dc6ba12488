//! Hostile plugins: each way to misbehave has a clear error of its own, ends within its limits, and leaves the host alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on is a failed test")]

#[path = "../plugins/mod.rs"]
mod plugins;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use flowgate_test_support::{Namespace, Program, entries};

use flowgate::{
    model::{Flows, OptionValue, Setup, field},
    netlink::decode::FlowDecoder,
    pipeline::{
        executor::{Executor, Shows},
        grants::Grants,
        stage::Stage,
    },
    wasm::{Failure, Instance, Limits, LoadError, PluginComponent, PluginEngine, PluginError},
};

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

/// A batch of rows with a mark, which tells them apart.
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
    Setup {
        options: options
            .iter()
            .map(|(name, value)| OptionValue { name: (*name).into(), value: (*value).into() })
            .collect(),
        ..Setup::default()
    }
}

fn started(component: &PluginComponent, options: &[(&str, &str)]) -> Result<Stage, PluginError> {
    let mut instance = Instance::new(component, LIMITS)?;
    let reads = instance.describe()?.reads;
    instance.configure(&setup(options))?;
    instance.started();
    Ok(Stage::new(instance, reads, Grants::NONE))
}

/// An executor that no stage here has anything for.
fn executor() -> Executor<Flows> {
    Executor::new(Shows::Entries, FlowDecoder::new(0), |warning| panic!("{warning}"))
}

/// What a batch of ten rows comes to when the plugin does this to it.
fn failure(component: &PluginComponent, what: &str) -> Failure {
    let mut stage = started(component, &[("do", what)]).unwrap();
    let mut rows = batch(10);
    let error = stage.flows(&mut rows, &mut executor()).unwrap_err();
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
        instance.started();
        let mut stage = Stage::new(instance, field::ALL, Grants::NONE);
        let error = stage.flows(&mut batch(10), &mut executor()).unwrap_err();
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
    let error = stage.finish_flows(&mut executor()).unwrap_err();
    assert!(matches!(error.failure, Failure::BadValue(_)), "{error}");
}

#[test]
fn a_failed_instance_is_never_entered_again() {
    let mut instance = Instance::new(&hostile(), LIMITS).unwrap();
    instance.configure(&setup(&[("do", "trap")])).unwrap();
    instance.started();
    assert!(instance.process_flows(&batch(1)).is_err());
    assert!(instance.is_dead());
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
    stage.flows(&mut rows, &mut executor()).unwrap();
    let annotations = rows.rare.unwrap().annotations;
    assert_eq!(annotations.rows, [0]);
    for text in [annotations.keys.bytes, annotations.values.bytes] {
        let text = String::from_utf8(text).expect("what is shown is UTF-8");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

#[test]
fn what_was_not_granted_is_refused_and_told_once() {
    static TOLD: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let mut executor = Executor::new(Shows::Entries, FlowDecoder::new(0), |warning| {
        TOLD.lock().unwrap().push(warning.to_string());
    });
    let mut stage = started(&hostile(), &[("do", "ungranted")]).unwrap();
    for _ in 0..2 {
        let mut rows = batch(10);
        stage.flows(&mut rows, &mut executor).unwrap();
        assert_eq!(rows, batch(10), "the flows themselves go on");
    }
    assert_eq!((executor.refused(), executor.done()), (20, 0));
    let told = TOLD.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("hostile.wasm asked to delete")
            && told[0].contains("not granted; refused. To allow it: --grant delete"),
        "{told:?}"
    );
}

#[test]
fn a_crossing_changes_nothing() {
    let mut stage = started(&hostile(), &[]).unwrap();
    for rows in [1, 255, 4096] {
        let mut flows = batch(rows);
        stage.flows(&mut flows, &mut executor()).unwrap();
        assert_eq!(flows, batch(rows));
    }
}

/// What a file that is no plugin is called.
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

/// At the command line each of them ends the command with status 1, a message of its own that names the plugin, and no panic.
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
        ("/nonexistent".into(), "cannot read plugin /nonexistent: No such file"),
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
        // What is not granted is refused, and the listing goes on.
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
