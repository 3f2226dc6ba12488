//! Calls without a batch, formats and services: each is bounded in the same way as a call with a batch.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::Stdio,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use flowgate_base::clock::thread_time;
use flowgate_model::{Flows, field};
use flowgate_netlink::decode::FlowDecoder;
use flowgate_pipeline::{
    executor::{Executor, Shows},
    stage::{Reason, Stage},
};
use flowgate_runtime::{
    Capabilities, Failure, Instance, Limits, PluginComponent, PluginEngine, Services, services::state::State,
};
use flowgate_test_support::{Namespace, Program, entries, until};

use super::{
    batch, hostile,
    multiplied::{HOST, PLUGIN, Usage, watch},
    plugins, setup,
};

/// Time limit of a call.
const CALL: Duration = Duration::from_millis(400);

/// Returns a stage that misbehaves in the way `what` in the call `when`, with these grants.
fn stage(component: &PluginComponent, [what, when, grants]: [&str; 3], services: Services) -> Stage {
    let limits = Limits { call: CALL, ..Limits::default() };
    let mut instance = Instance::with_services(component, limits, services).unwrap();
    let options = [("do", what), ("when", when)];
    // Not every plugin has the option `when`.
    instance.configure(&setup(if when == "batch" { &options[..1] } else { &options })).unwrap();
    instance.end_start_up();
    let can = Capabilities { flow_tick: true, flow_look_back: true, ..Capabilities::default() };
    Stage::new(instance, field::ALL, format!("tick,look-back,{grants}").parse().unwrap()).called(can, 1)
}

/// Returns the result of such a call, and the time that it took.
fn call(stage: &mut Stage, when: &str, executor: &mut Executor<Flows>) -> Result<(), Failure> {
    let mut flows = batch(1000);
    let given = flows.clone();
    let before = thread_time();
    let result = match when {
        "tick" => {
            let ticks = |stage: &Stage| stage.stats().lock().ticks;
            let (before, mut result) = (ticks(stage), Ok(()));
            until("a tick is due", || {
                result = stage.tick(executor);
                ticks(stage) > before
            });
            result
        }
        "look-back-begin" => stage.begin_look_back(Reason::Start, executor),
        "look-back" => stage.look_back(&mut flows, executor),
        "look-back-end" => stage.end_look_back(executor),
        "finish" => stage.finish(executor),
        _ => stage.batch(&mut flows, executor),
    };
    let used = thread_time() - before;
    assert!(used < CALL * 3 / 2, "{when}: {used:?}");
    assert_eq!(flows, given, "{when}: it changes nothing");
    result.map_err(|error| error.failure)
}

fn detached() -> Executor<Flows> {
    let mut executor = Executor::new(Shows::Entries, FlowDecoder::new(field::ALL));
    executor.detach();
    executor
}

#[test]
fn calls_without_a_batch_are_bounded_as_those_with_one() {
    let component = hostile();
    for when in ["tick", "look-back-begin", "look-back", "look-back-end", "finish"] {
        let run = |what: &str, grants: &str| {
            let mut stage = stage(&component, [what, when, grants], Services::default());
            call(&mut stage, when, &mut detached())
        };
        assert_eq!(run("loop", ""), Err(Failure::Deadline(CALL)), "{when}");
        assert!(matches!(run("trap", ""), Err(Failure::Trap(_))), "{when}");
        assert!(matches!(run("memory", ""), Err(Failure::Memory { .. })), "{when}");
        if when == "look-back-begin" {
            // This call returns nothing.
            continue;
        }
        assert!(matches!(run("output", ""), Err(Failure::Output { .. })), "{when}");
        // Such a call has no rows that could be changed; it is rejected before anything is copied.
        for what in ["amplify-change", "slow-change", "amplify-notes", "empty-notes", "escaped-notes", "raw-attributes"]
        {
            let result = run(what, "");
            assert!(matches!(result, Err(Failure::BadValue(_) | Failure::Output { .. })), "{when} {what}: {result:?}");
        }
        let result = run("action-flood", "delete");
        if when == "finish" {
            // The plugin refers to a row, but there is none.
            assert!(matches!(result, Err(Failure::BadValue(_))), "{when}: {result:?}");
        } else {
            assert_eq!(result, Err(Failure::Actions { asked: 100_000, limit: 65_536 }), "{when}");
        }
        // The same row of values for 60,000 actions: with a text that is too long, and with one that could be sent.
        let result = run("amplify-actions", "update");
        assert!(matches!(result, Err(Failure::BadValue(_))), "{when}: {result:?}");
    }
}

/// State has a capacity, and the time for reading it repeatedly counts towards the time limit of the call.
#[test]
fn state_is_bounded_and_reading_it_takes_the_plugins_time() {
    const CAPACITY: usize = 1 << 20;
    let component = PluginComponent::open(&PluginEngine::new(None).unwrap(), &plugins::built("active")).unwrap();
    for what in ["state-flood", "state-values", "state-keys", "state-reads"] {
        let state = Arc::new(Mutex::new(State::in_memory(CAPACITY)));
        let services = Services { state: Some(state.clone()), ..Services::default() };
        let result = call(&mut stage(&component, [what, "batch", "state"], services), "batch", &mut detached());
        let held = state.lock().unwrap().held();
        assert!(held > 0 && held <= CAPACITY, "{what}: {held} bytes");
        match what {
            "state-keys" | "state-reads" => assert_eq!(result, Err(Failure::Deadline(CALL)), "{what}"),
            // Depending on the machine's speed it completes or is stopped; either way it holds no more memory.
            _ => assert!(matches!(result, Ok(()) | Err(Failure::Deadline(_))), "{what}: {result:?}"),
        }
    }
}

#[test]
fn a_format_that_misbehaves_is_ended_by_name() {
    let component = hostile();
    let render = |what: &str, when: &str, bytes: &str| {
        let limits = Limits { call: CALL, ..Limits::default() };
        let mut instance = Instance::new(&component, limits).unwrap();
        instance.configure(&setup(&[("do", what), ("when", when), ("bytes", bytes)])).unwrap();
        instance.end_start_up();
        let before = thread_time();
        let result = match when {
            "begin" => instance.begin_flow_format(),
            "finish" => instance.finish_flow_format(),
            _ => instance.render_flows(&batch(1000)),
        };
        let used = thread_time() - before;
        assert!(used < CALL * 3 / 2, "{what} {when}: {used:?}");
        if result.is_err() {
            let again = instance.begin_flow_format().unwrap_err();
            assert_eq!(again.failure, Failure::Host("it has failed before".into()), "{what} {when}");
        }
        result.map_err(|error| error.failure)
    };
    for when in ["begin", "batch", "finish"] {
        assert_eq!(render("loop", when, "0"), Err(Failure::Deadline(CALL)), "{when}");
        assert!(matches!(render("trap", when, "0"), Err(Failure::Trap(_))), "{when}");
        assert!(matches!(render("memory", when, "0"), Err(Failure::Memory { .. })), "{when}");
        assert_eq!(render("recurse", when, "0"), Err(Failure::Stack), "{when}");
        // At most 32 MiB may cross.
        assert_eq!(render("long-text", when, "40000000"), Err(Failure::Output { limit: 32 << 20 }), "{when}");
        assert_eq!(render("long-text", when, "1000000").map(|text| text.len()), Ok(1_000_000), "{when}");
    }
}

/// The same from the command line, with the plugin as the format of a pipeline: memory and time are bounded, and the
/// failure is named.
#[test]
fn a_pipeline_with_a_hostile_format_ends_within_its_limits() {
    let plugin = plugins::built("hostile");
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(70_000));
        let file = namespace.directory().join("pipeline.toml");
        for (what, words) in [
            ("do = \"loop\"", "ran longer than 1000 ms and was stopped"),
            ("do = \"trap\"", "trapped: "),
            ("do = \"memory\"", "bytes of memory; the limit is 67108864"),
            ("do = \"long-text\", bytes = \"40000000\"", "returned more than 33554432 bytes from one call"),
            ("do = \"long-text\", bytes = \"20000000\"", ""),
            ("do = \"strange-text\"", ""),
        ] {
            for rows in [1, 1024, 65_536] {
                let text = format!(
                    "[source]\nkind = \"dump\"\n\n[format]\nplugin = \"{}\"\nbatch = {rows}\noptions = {{ {what} }}\n",
                    plugin.display()
                );
                std::fs::write(&file, text).unwrap();
                // Output of 20 MB for each of 70,000 rows is legitimate here, but would take too long.
                if words.is_empty() && what.contains("long-text") && rows < 65_536 {
                    continue;
                }
                let words_of = ["run", file.to_str().unwrap()];
                let command = Program::new(env!("CARGO_BIN_EXE_flowgate"));
                let mut child = command
                    .command(&words_of)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let seen = watch(&mut child, HOST + PLUGIN, Duration::from_secs(20));
                assert!(!seen.stopped, "{what} {rows}: {seen:?}");
                let output = child.wait_with_output().unwrap();
                let errors = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.success(), words.is_empty(), "{what} {rows}: {errors}");
                assert!(errors.contains(words) && !errors.contains("thread '"), "{what} {rows}: {errors}");
            }
        }
    });
}

/// Returns what has been read of a stream so far, line by line, and the thread that reads it.
fn reading(stream: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let lines: Arc<Mutex<String>> = Arc::default();
    let (to, mut stream) = (lines.clone(), BufReader::new(stream));
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 0 {
            to.lock().unwrap().push_str(&std::mem::take(&mut line));
        }
    });
    (lines, reader)
}

/// An endless stream with a plugin that misbehaves in every tick or look-back still delivers its events.
#[test]
fn ticks_and_look_backs_take_no_more_than_was_handed_over() {
    let plugin = plugins::built("hostile");
    Namespace::run(|namespace| {
        entries::load(namespace, &entries::busy(20_000));
        let mut port = 1;
        for (when, what, rows) in ["tick", "look-back"].iter().flat_map(|when| {
            let all = [
                "amplify-change",
                "amplify-notes",
                "amplify-actions",
                "amplify-actions,bytes=4096,column=security-context",
                "action-flood",
                "raw-attributes",
                "output",
                "loop",
            ];
            all.into_iter().flat_map(move |what| ["1", "1024", "65536"].map(|rows| (when, what, rows)))
        }) {
            let plugin = format!("{},do={what},when={when}", plugin.display());
            let words = ["-E", "-e", "NEW", "--batch", rows, "--plugin", &plugin];
            let grants = ["--grant", "tick,look-back,update.mark", "--on-error", "skip"];
            let mut child = Program::new(env!("CARGO_BIN_EXE_flowgate"))
                .command(&[&words[..], &grants].concat())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let (lines, reader) = reading(child.stdout.take().unwrap());
            let (messages, errors) = reading(child.stderr.take().unwrap());
            // A tick occurs between two flows. Flows created before the listener has joined are not reported. All of
            // these actions are refused and reported, which shows that they were attempted.
            let (first, mut out, mut refused) = (port, 0, false);
            while out < 5 || !refused {
                port += 1;
                entries::insert(namespace, &format!("-t 5 -p udp -s 10.9.9.9 -d 10.9.9.8 --sport {port} --dport 53"));
                std::thread::sleep(Duration::from_millis(110));
                out = lines.lock().unwrap().lines().count();
                let messages = messages.lock().unwrap();
                refused = messages.contains("WARNING: plugin ");
                assert!(port < first + 1000, "{when} {what} {rows}: {out} events came out: {messages}");
            }
            let usage = Usage::of(&child);
            child.kill().unwrap();
            child.wait().unwrap();
            reader.join().unwrap();
            errors.join().unwrap();
            assert!(usage.memory < HOST + PLUGIN, "{when} {what} {rows}: {} MiB", usage.memory >> 20);
        }
    });
}
