//! What tenants can do once a reload has replaced them.

use std::{
    io::{ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
};

use super::{recording::attacking, service::flow, *};

/// Starts the service on the existing file.
fn launch(namespace: &Namespace) -> Serving {
    let serving = Serving::launch(namespace, &flowgate(), &[]);
    serving.until("it runs", || serving.errors().contains("generation 1 runs"));
    serving
}

/// Starts a tenant with the attacker whose output is a pipe that is not read, so that events wait for it. Then replaces
/// the policy by one without the grant and the output.
pub(super) fn held_up(namespace: &Namespace, drain: &str, launch: fn(&Namespace) -> Serving) -> (Serving, fs::File) {
    let text = attacking("blue", "delete shown again", "\"delete\"", "");
    held_up_with(namespace, drain, &text, launch)
}

/// The same with this tenant `blue` of zone 7.
fn held_up_with(
    namespace: &Namespace,
    drain: &str,
    text: &str,
    launch: fn(&Namespace) -> Serving,
) -> (Serving, fs::File) {
    let pipe = namespace.directory().join("blue.pipe");
    Program::new("mkfifo").must(&[pipe.to_str().unwrap()]);
    let reader = fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).unwrap();
    let head = format!("[service]\ndrain = \"{drain}\"\n");
    let text = format!("{text}[[tenant.sink]]\nkind = \"file\"\npath = \"{}\"\n", pipe.display());
    let path = policy(namespace, &text);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[service]\n", &head)).unwrap();
    let serving = launch(namespace);
    let mut ports = 1..;
    serving.until("it is held up", || {
        // A pipe holds some 500 lines.
        let flows: Vec<String> = ports.by_ref().take(100).map(|port| format!("-I {}", flow(7, port))).collect();
        entries::load(namespace, &flows);
        let reported: Value = serde_json::from_str(&serving.ask(&["status", "-o", "json"]).text()).unwrap();
        reported["tenants"][0]["waiting"].as_u64().unwrap() > 100_000
    });
    let new = fs::read_to_string(&path).unwrap().replace("grants = [\"delete\"]", "grants = []");
    let (new, _) = new.split_once("[[tenant.sink]]").unwrap();
    fs::write(&path, new).unwrap();
    (serving, reader)
}

/// Returns the number of threads of the service with this name.
pub(super) fn threads_of(serving: &Serving, name: &str) -> usize {
    let tasks = fs::read_dir(serving.proc().join("task")).unwrap();
    let comm = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().map(comm).filter(|comm| comm.trim_end() == name).count()
}

/// Reads the content of a pipe.
pub(super) fn drained(mut pipe: &fs::File) {
    let mut part = [0; 4096];
    loop {
        match pipe.read(&mut part) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A reload revokes authority at once: the old plugin still gets queued events, and can no longer act on
/// them.
#[test]
fn a_reload_takes_authority_away_from_what_still_runs() {
    Namespace::run(|namespace| {
        let (serving, pipe) = held_up(namespace, "60s", launch);
        assert_eq!(serving.ask(&["reload"]).status, 0);
        let of_old =
            |key: &str, value: &str| serving.audited(key, value).iter().filter(|line| line["generation"] == 1).count();
        let (intents, flows) = (of_old("stage", "intent"), table().len());
        assert!(flows > 0, "flows are left that it has not deleted");
        serving.until("it asks for more", || {
            drained(&pipe);
            of_old("code", "superseded") > 0
        });
        serving.until("it has finished", || {
            drained(&pipe);
            threads_of(&serving, "tenant blue") == 1
        });
        assert_eq!((of_old("stage", "intent"), table().len()), (intents, flows));
        serving.end();
    });
}

/// It gets them for at most the time of `drain`.
#[test]
fn what_waits_for_one_that_a_reload_has_replaced_is_dropped_in_time() {
    Namespace::run(|namespace| {
        let (serving, pipe) = held_up(namespace, "300ms", launch);
        assert_eq!(serving.ask(&["reload"]).status, 0);
        serving.until("its time is over", || {
            serving.errors().contains("tenant blue (generation 1): it did not finish within `drain`; ")
        });
        let lines = || serving.audit().iter().filter(|line| line["stage"] != "service").count();
        let asked = lines();
        serving.until("it has ended", || {
            drained(&pipe);
            threads_of(&serving, "tenant blue") == 1
        });
        // Except for the batch in progress.
        assert!(lines() <= asked + 1, "{:#?}", serving.audit());
        // Its worker has either finished with that batch, or been killed.
        let killed = serving.audited("action", "worker-killed");
        assert!(killed.iter().all(|line| line["code"] == "order" && line["generation"] == 1), "{killed:#?}");
        serving.end();
    });
}

/// A new generation begins with the state that the old one has left, and what the old one does to it while it processes
/// what is left goes nowhere.
#[test]
fn state_survives_and_is_not_written_by_the_old_one() {
    Namespace::run(|namespace| {
        let plugin = plugins::built("active");
        let state = namespace.directory().join("state");
        let text = format!(
            "[[tenant]]\nname = \"blue\"\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\nfile = \"{}\"\n\
             sha256 = \"{}\"\nstate = \"{}\"\ngrants = [\"state\", \"time\", \"log\"]\noptions = {{ do = \"count\" }}\n",
            plugin.display(),
            plugins::digest(&plugin),
            state.display()
        );
        let (serving, pipe) = held_up_with(namespace, "60s", &text, launch);
        assert_eq!(serving.ask(&["reload"]).status, 0);
        let rows = || {
            let reported: Value = serde_json::from_str(&serving.ask(&["status", "-o", "json"]).text()).unwrap();
            reported["tenants"][0]["plugins"][0]["rows_in"].as_u64().unwrap()
        };
        let all = table().len() as u64;
        serving.until("the new one has seen the table", || rows() >= all);
        // Only now does the old one go on.
        serving.until("it has finished", || {
            drained(&pipe);
            threads_of(&serving, "tenant blue") == 1
        });
        let shown = rows();
        let errors = serving.end();
        let count = |generation: u64| -> u64 {
            let is = |line: &&str| line.contains(&format!("(generation {generation}): finish "));
            let line = errors.lines().find(is).unwrap_or_else(|| panic!("{errors}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let (old, new) = (count(1), count(2));
        assert!(
            new > shown && old >= all,
            "the old one has counted {old} of {all}, the new one {new}, {shown} by itself"
        );
        assert_ne!(old, new);
        let kept = fs::read(&state).unwrap();
        assert!(kept.ends_with(&new.to_be_bytes()), "{new}, and {old} of the old one: {kept:x?}");
    });
}
