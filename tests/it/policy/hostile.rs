//! Tenants that try to corrupt the audit, to displace its records, to fill the table, or to prevent others from
//! starting.

use std::{
    io::{ErrorKind, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{fs::OpenOptionsExt as _, net::UnixListener},
    },
    path::Path,
    thread,
    time::Instant,
};

use flowgate_test_support::until;
use nix::{
    errno::Errno,
    sys::socket::{self, AddressFamily, SockFlag, SockType},
};

use super::{
    service::{flow, output, tenant},
    *,
};

/// Returns another tenant with the attacker, in zone 7.
fn attacking(name: &str, act: &str, grants: &str, keys: &str) -> String {
    format!(
        "[[tenant]]\nname = \"{name}\"\n{keys}\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\nPLUGIN\n\
         grants = [{grants}]\noptions = {{ act = \"{act}\" }}\n"
    )
}

const CREATE: &str = "create src=10.1.0.20 dst=192.0.2.1 sport=1000 dport=53 rsrc=192.0.2.1 rdst=10.1.0.20 rsport=53 rdport=1000 zone=7 timeout=3000";

/// Returns the peak memory of the service in MiB.
fn peak(serving: &Serving) -> u64 {
    let status = fs::read_to_string(serving.proc().join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// A plugin writes a text into its row that cannot be formatted; the actions of the next plugin are recorded
/// completely.
#[test]
fn the_audit_is_not_blinded_by_what_a_plugin_writes_into_its_row() {
    for (bulk, times) in [("big=15000000", 1), ("bulk=20000000", 100), ("big=20000000", 100)] {
        Namespace::run(|namespace| {
            entries::insert(namespace, &flow(7, 70));
            let strange = format!("delete src=10.1.9.9 dst=192.0.2.1 sport=1 dport=53 zone=7 {bulk} times={times}");
            let text = format!(
                "[[tenant]]\nname = \"blue\"\nlimits = {{ actions-per-second = 1000 }}\n[[tenant.scope]]\nzones = 7\n\
                 [[tenant.plugin]]\nPLUGIN\nname = \"one\"\ngrants = [\"delete\"]\non-error = \"skip\"\n\
                 options = {{ act = \"{strange}\" }}\n\
                 [[tenant.plugin]]\nPLUGIN\nname = \"two\"\ngrants = [\"delete\"]\noptions = {{ act = \"delete shown\" }}\n"
            );
            let serving = Serving::start(namespace, &text);
            serving.until("it has acted", || !serving.audited("stage", "result").is_empty());
            let intents = serving.audited("stage", "intent");
            assert_eq!(intents.len(), 1, "{intents:#?}");
            assert_eq!((&intents[0]["plugin"], &intents[0]["before"]["zone"]), (&"blue:two".into(), &7.into()));
            assert_eq!(intents[0]["before"]["original"]["source_port"], 70, "{intents:#?}");
            let length = fs::metadata(serving.directory.join("audit.jsonl")).unwrap().len();
            assert!(length < 150_000, "the audit has {length} bytes");
            assert!(peak(&serving) < 256, "{} MiB", peak(&serving));
            serving.end();
        });
    }
}

/// A flood of refusals of a tenant does not displace the records of another.
#[test]
fn a_flood_does_not_push_out_what_others_did() {
    Namespace::run(|namespace| {
        let flood = "update shown mark=0x1 mask=0x1 times=60 again";
        let red = "[[tenant]]\nname = \"red\"\n[[tenant.scope]]\nzones = 8\n[[tenant.plugin]]\nPLUGIN\n\
                   grants = [\"delete\"]\noptions = { act = \"delete shown again\" }\n";
        let keys = "limits = { actions-per-second = 100000 }";
        let text = format!(
            "rotate-size = \"64KiB\"\nkeep = 1\n{}{red}",
            attacking("blue", flood, "\"delete\", \"log\"", keys)
        );
        let serving = Serving::start(namespace, &text);
        entries::insert(namespace, &flow(8, 80));
        serving.until("red has acted", || !serving.audited("stage", "result").is_empty());
        for port in 1..=100 {
            entries::insert(namespace, &flow(7, port));
        }
        serving.until("blue has flooded", || {
            serving
                .ask(&["status", "blue"])
                .text()
                .contains("tenant blue: running, 100 events, 0 lost in 0 gaps, 0 bytes waiting")
        });
        let everything = || {
            let read = |name: &str| fs::read_to_string(serving.directory.join(name)).unwrap_or_default();
            read("audit.jsonl.1") + &read("audit.jsonl")
        };
        let of = |name: &str, stage: &str| {
            let named = format!("\"tenant\":\"{name}\"");
            let is = |line: &&str| line.contains(&named) && line.contains(&format!("\"stage\":\"{stage}\""));
            everything().lines().filter(is).count()
        };
        assert_eq!((of("red", "intent"), of("red", "result")), (1, 1), "pushed out");
        assert!(everything().len() < 100_000, "{} bytes", everything().len());
        // The other tenant still acts, and its actions are recorded.
        entries::insert(namespace, &flow(8, 81));
        serving.until("red acts", || of("red", "result") == 2);
        serving.end();
    });
}

/// A tenant that has used up its share of the audit performs no more actions and learns why; others continue.
#[test]
fn without_a_share_of_the_audit_left_nothing_is_done() {
    Namespace::run(|namespace| {
        let keys = "timeouts = \"1..3600\"\nlimits = { actions-per-second = 100000 }";
        let blue = attacking("blue", "update shown timeout=600 times=40 again", "\"update.timeout\", \"log\"", keys);
        let red = tenant("red", 8, "delete shown again", "");
        let serving = Serving::start(namespace, &format!("rotate-size = \"64KiB\"\nkeep = 1\n{blue}{red}"));
        let mut port = 0;
        serving.until("the share is used up", || {
            port += 1;
            entries::insert(namespace, &flow(7, port));
            serving.errors().contains("tenant blue (generation 1): it has used up its share of the audit")
        });
        serving.until("it is told", || {
            port += 1;
            entries::insert(namespace, &flow(7, port));
            serving.errors().contains("times: (Some(7), Some(0))")
        });
        assert_eq!(serving.audited("action", "audit-share").len(), 1);
        entries::insert(namespace, &flow(8, 80));
        serving.until("red acts", || serving.audited("tenant", "red").iter().any(|line| line["stage"] == "result"));
        // A summary has the number once there is room, at the latest at the end.
        let directory = serving.directory.clone();
        serving.end();
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        let all = read("audit.jsonl.1") + &read("audit.jsonl");
        let summed = |line: &str| line.contains(r#""code":"audit-share""#) && line.contains(r#""count":"#);
        assert!(all.lines().any(summed), "{all}");
    });
}

/// A file of a tenant on the file system of the audit leaves a reserve.
#[test]
fn the_output_of_tenants_leaves_room_for_the_audit() {
    Namespace::run(|namespace| {
        let text = "reserve = \"1000000GiB\"\n".to_string() + &tenant("blue", 7, "delete shown", "");
        let serving = Serving::start(namespace, &text);
        entries::insert(namespace, &flow(7, 70));
        serving.until("it has acted", || !serving.audited("stage", "result").is_empty());
        serving.until("lines are dropped", || !serving.ask(&["status"]).text().contains(" 0 lines of output dropped"));
        assert_eq!(output(&serving, "blue"), "");
        assert_eq!(serving.errors().matches("(`reserve`)").count(), 1, "{}", serving.errors());
        serving.end();
    });
}

/// Returns the number of entries of zone 7 in the table.
fn made() -> usize {
    table().iter().filter(|line| line.contains("src=10.1.0.20 ")).count()
}

/// Living entries that a tenant has created count until they are gone, also after reloads.
#[test]
fn a_tenant_has_no_more_living_entries_than_it_may() {
    Namespace::run(|namespace| {
        let act = format!("{CREATE} count=20 again");
        let text = attacking("blue", &act, "\"create\", \"log\"", "limits = { entries = 8 }");
        let serving = Serving::start(namespace, &text);
        entries::insert(namespace, &flow(7, 70));
        serving.until("they are made", || made() == 8);
        serving.until("the others are refused", || {
            serving.audited("code", "entries").len() >= 12 && serving.audited("result", "done").len() == 8
        });
        // A reload does not reset the count.
        assert_eq!(serving.ask(&["reload"]).status, 0);
        entries::insert(namespace, &flow(7, 71));
        serving.until("it is refused again", || {
            serving.audit().iter().any(|line| line["generation"] == 2 && line["code"] == "entries")
        });
        assert_eq!(made(), 8);
        // Entries that are gone do not count: deleted by others, or expired.
        Program::new("conntrack").must(&["-D", "-p", "udp", "-s", "10.1.0.20", "--sport", "1000"]);
        Program::new("conntrack").must(&["-D", "-p", "udp", "-s", "10.1.0.20", "--sport", "1003"]);
        let mut port = 72;
        serving.until("two more are made", || {
            entries::insert(namespace, &flow(7, port));
            port += 1;
            serving.audited("result", "done").len() == 10
        });
        assert_eq!(made(), 8);
        serving.end();
    });
}

/// All tenants together leave most of the table free.
#[test]
fn all_tenants_together_have_a_share_of_the_table() {
    Namespace::run(|namespace| {
        let keys = "limits = { entries = 100000, actions-per-second = 100000, actions-in-flight = 100000 }";
        let most: usize =
            fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap().trim().parse().unwrap();
        let share = most / 100;
        assert!(
            (100..60_000).contains(&share),
            "the test is made for tables of 10,000 to 6,000,000 entries, not {most}"
        );
        let two = |percent: u64| {
            let blue = attacking("blue", &format!("{CREATE} count={}", share - 20), "\"create\"", keys);
            let red = CREATE.replace("10.1.0.20", "10.1.0.21");
            let red = attacking("red", &format!("{red} count=50"), "\"create\"", keys);
            let path = policy(namespace, &(blue + &red));
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("[service]\n", &format!("[service]\ntable-share = {percent}\n"))).unwrap();
        };
        two(1);
        let serving = Serving::launch(namespace, &flowgate(), &[]);
        serving.until("it runs", || serving.errors().contains("generation 1 runs"));
        entries::insert(namespace, &flow(7, 70));
        serving.until("30 are refused", || {
            let refused = serving.audited("code", "table-share");
            refused.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum::<u64>() == 30
        });
        let count = || table().iter().filter(|line| line.contains("src=10.1.0.2")).count();
        serving.until("what was allowed is there", || count() == share);
        serving.end();
        // Nothing at all.
        two(0);
        Program::new("conntrack").must(&["-F"]);
        entries::insert(namespace, &flow(7, 70));
        fs::remove_file(namespace.directory().join("audit.jsonl")).unwrap();
        let serving = Serving::launch(namespace, &flowgate(), &[]);
        serving.until("it is refused", || !serving.audited("code", "table-share").is_empty());
        assert_eq!(count(), 0);
        serving.end();
    });
}

/// Returns a plugin whose start never ends.
fn stuck(namespace: &Namespace, time: &str) -> String {
    let plugin = namespace.directory().join("hostile.wasm");
    fs::copy(plugins::built("hostile"), &plugin).unwrap();
    let digest = plugins::digest(&plugin);
    format!(
        "[[tenant]]\nname = \"red\"\n[[tenant.scope]]\nzones = 8\n[[tenant.plugin]]\nfile = \"{}\"\nsha256 = \"{digest}\"\n\
         options = {{ do = \"loop\", when = \"configure\" }}\nlimits = {{ start-up = \"{time}\" }}\n",
        plugin.display()
    )
}

/// A tenant whose plugin does not start ends alone, at the start and at a reload, whatever the reason.
#[test]
fn a_tenant_that_does_not_start_ends_alone() {
    Namespace::run(|namespace| {
        let blue = |zone: u16| tenant("blue", zone, "", "");
        let digest = attacker().1;
        let missing =
            tenant("red", 8, "", "").replace("PLUGIN", &format!("file = \"DIR/none.wasm\"\nsha256 = \"{digest}\""));
        let other: String = digest.chars().rev().collect();
        let named = format!("file = \"{}\"\nsha256 = \"{other}\"", attacker().0.display());
        let strange = tenant("red", 8, "", "").replace("PLUGIN", &named);
        let serving = Serving::start(namespace, &(blue(7) + &missing));
        let told = serving.ask(&["status"]).text();
        assert!(told.contains("tenant blue: running") && told.contains("tenant red: ended"), "{told}");
        assert!(told.contains("cannot read plugin"), "{told}");
        let ended = serving.audited("action", "ended");
        assert!(ended.len() == 1 && ended[0]["tenant"] == "red", "{ended:#?}");
        entries::insert(namespace, &flow(7, 70));
        serving.until("blue runs", || output(&serving, "blue").contains("sport=70 "));
        for (generation, (why, red)) in
            [("the SHA-256 of", strange), ("ran longer than", stuck(namespace, "200ms"))].into_iter().enumerate()
        {
            let zone = 20 + generation as u16;
            policy(namespace, &(blue(zone) + &red));
            let outcome = serving.ask(&["reload"]);
            assert_eq!(outcome.status, 0, "{}", outcome.errors());
            assert!(outcome.errors().contains(why), "{}", outcome.errors());
            let told = serving.ask(&["status"]).text();
            assert!(told.contains("tenant blue: running") && told.contains("tenant red: ended"), "{told}");
            entries::insert(namespace, &flow(zone, 80));
            serving.until("blue has its new scope", || output(&serving, "blue").contains(&format!("zone={zone}")));
        }
        // It can be resumed once the reason is gone.
        let path = policy(namespace, &(blue(7) + &tenant("red", 8, "", "")));
        let good = fs::read_to_string(&path).unwrap();
        fs::write(&path, good.replacen(&digest, &other, 2).replacen(&other, &digest, 1)).unwrap();
        assert_eq!(serving.ask(&["reload"]).status, 0);
        assert!(serving.ask(&["status"]).text().contains("tenant red: ended"));
        // `required` makes it all or nothing.
        policy(namespace, &(blue(9) + &missing.replace("name = \"red\"", "name = \"red\"\nrequired = true")));
        assert_eq!(serving.ask(&["reload"]).status, 1);
        serving.until("the old one stays", || serving.errors().contains("generation 4 stays in force"));
        entries::insert(namespace, &flow(7, 90));
        serving.until("the old one goes on", || output(&serving, "blue").contains("sport=90 "));
        // A tenant can be left out by the operator, even if it is required.
        let outcome = serving.ask(&["reload", "--without", "red"]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let told = serving.ask(&["status", "red"]).text();
        assert!(told.contains("tenant red: ended") && told.contains("left it out"), "{told}");
        let outcome = serving.ask(&["reload", "--without", "green"]);
        assert!(outcome.status == 1 && outcome.errors().contains("there is no tenant `green`"), "{}", outcome.errors());
        serving.end();
    });
}

/// The only tenant of a policy ends as well if it does not start: its former grants are revoked. Unless it is required.
#[test]
fn the_only_tenant_that_does_not_start_ends_alone_too() {
    Namespace::run(|namespace| {
        let digest = attacker().1;
        let missing = format!("file = \"DIR/none.wasm\"\nsha256 = \"{digest}\"");
        let missing = tenant("blue", 7, "delete shown again", "").replace("PLUGIN", &missing);
        let serving = Serving::start(namespace, &tenant("blue", 7, "delete shown again", ""));
        // If it is required, the old generation continues.
        policy(namespace, &missing.replace("name = \"blue\"", "name = \"blue\"\nrequired = true"));
        let outcome = serving.ask(&["reload"]);
        assert!(outcome.status == 1 && outcome.errors().contains("cannot read plugin"), "{outcome:?}");
        entries::insert(namespace, &flow(7, 70));
        serving.until("the old generation acts", || serving.audited("result", "done").len() == 1);
        let path = policy(namespace, &missing);
        let outcome = serving.ask(&["reload"]);
        assert!(outcome.status == 0 && outcome.errors().contains("cannot read plugin"), "{outcome:?}");
        let words = "generation 2 runs, without tenants that have not started";
        serving.until("it is reported", || serving.errors().contains(words));
        let told = serving.ask(&["status"]).text();
        assert!(told.contains("generation 2") && told.contains("tenant blue: ended"), "{told}");
        assert!(told.contains("cannot read plugin"), "{told}");
        let ended = serving.audited("action", "ended");
        assert!(ended.len() == 1 && ended[0]["tenant"] == "blue" && ended[0]["generation"] == 2, "{ended:#?}");
        // Nobody acts on new flows, until the tenant has been resumed.
        entries::insert(namespace, &flow(7, 71));
        assert_eq!(serving.ask(&["resume", "blue"]).status, 1);
        assert_eq!(serving.audited("result", "done").len(), 1);
        assert_eq!(table().len(), 1);
        fs::copy(attacker().0, serving.directory.join("none.wasm")).unwrap();
        assert_eq!(serving.ask(&["resume", "blue"]).status, 0);
        serving.until("it acts again", || table().is_empty());
        // The service does not start without any tenant.
        fs::remove_file(serving.directory.join("none.wasm")).unwrap();
        serving.end();
        let outcome = flowgate().run(&["run", path.to_str().unwrap()]);
        assert!(outcome.status == 1 && outcome.errors().contains("cannot read plugin"), "{outcome:?}");
    });
}

/// Starts a tenant with the attacker whose output is a pipe that is not read, so that events wait for it. Then replaces
/// the policy by one without the grant and the output.
fn held_up(namespace: &Namespace, drain: &str) -> (Serving, fs::File) {
    let pipe = namespace.directory().join("blue.pipe");
    Program::new("mkfifo").must(&[pipe.to_str().unwrap()]);
    let reader = fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).unwrap();
    let head = format!("[service]\ndrain = \"{drain}\"\n");
    let text = attacking("blue", "delete shown again", "\"delete\"", "")
        + &format!("[[tenant.sink]]\nkind = \"file\"\npath = \"{}\"\n", pipe.display());
    let path = policy(namespace, &text);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[service]\n", &head)).unwrap();
    let serving = Serving::launch(namespace, &flowgate(), &[]);
    serving.until("it runs", || serving.errors().contains("generation 1 runs"));
    let mut ports = 1..;
    serving.until("it is held up", || {
        // A pipe holds some 500 lines.
        let flows: Vec<String> = ports.by_ref().take(100).map(|port| format!("-I {}", flow(7, port))).collect();
        entries::load(namespace, &flows);
        let told: Value = serde_json::from_str(&serving.ask(&["status", "-o", "json"]).text()).unwrap();
        told["tenants"][0]["waiting"].as_u64().unwrap() > 100_000
    });
    let new = fs::read_to_string(&path).unwrap().replace("grants = [\"delete\"]", "grants = []");
    let (new, _) = new.split_once("[[tenant.sink]]").unwrap();
    fs::write(&path, new).unwrap();
    (serving, reader)
}

/// Returns the number of threads of the service with this name.
fn threads_of(serving: &Serving, name: &str) -> usize {
    let tasks = fs::read_dir(serving.proc().join("task")).unwrap();
    let comm = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().map(comm).filter(|comm| comm.trim_end() == name).count()
}

/// Reads the content of a pipe.
fn drained(mut pipe: &fs::File) {
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
        let (serving, pipe) = held_up(namespace, "60s");
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
        let (serving, pipe) = held_up(namespace, "300ms");
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

/// While tenants start, the service answers, and orders of the operator also hold for the tenants that take over.
#[test]
fn the_service_answers_while_a_policy_is_being_loaded() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant("blue", 7, "", ""));
        policy(namespace, &(tenant("blue", 7, "", "") + &stuck(namespace, "8s")));
        thread::scope(|scope| {
            let reload = scope.spawn(|| serving.ask(&["reload"]));
            serving.until("it is being loaded", || threads_of(&serving, "tenant red") > 0);
            let start = Instant::now();
            let mut answered = 0;
            while !reload.is_finished() {
                let told = serving.ask(&["status"]);
                assert_eq!(told.status, 0, "{}", told.errors());
                answered += usize::from(!reload.is_finished() && told.text().contains("generation 1"));
                let again = serving.ask(&["reload"]);
                if !reload.is_finished() {
                    assert!(again.errors().contains("being started"), "{}", again.errors());
                    assert_eq!(serving.ask(&["quarantine", "blue"]).status, 0);
                    break;
                }
            }
            let outcome = reload.join().unwrap();
            assert!(answered > 0, "not answered within {:?}", start.elapsed());
            assert_eq!(outcome.status, 0, "{}", outcome.errors());
        });
        let told = serving.ask(&["status"]).text();
        assert!(told.contains("generation 2") && told.contains("tenant blue: quarantined"), "{told}");
        serving.end();
    });
}

/// Two names of one network namespace are one namespace.
#[test]
fn neighbours_are_found_under_another_name_of_their_namespace() {
    Namespace::run(|namespace| {
        // A private /run, so that the names of the host are neither visible nor changed.
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("netns add one");
        namespace.ip("netns add three");
        fs::write("/run/netns/two", "").unwrap();
        Program::new("mount").must(&["--bind", "/run/netns/one", "/run/netns/two"]);
        fs::write("/run/netns/own", "").unwrap();
        Program::new("mount").must(&["--bind", "/proc/self/ns/net", "/run/netns/own"]);
        let within = |name: &str, namespace: &str| {
            let keys = format!("mark-mask = \"0x100\"{namespace}");
            attacking(name, "", "\"update.mark\"", &keys)
        };
        for (one, two, same) in [
            ("\nnamespace = \"one\"", "\nnamespace = \"two\"", true),
            ("", "\nnamespace = \"own\"", true),
            ("\nnamespace = \"one\"", "\nnamespace = \"three\"", false),
            ("", "\nnamespace = \"three\"", false),
            ("\nnamespace = \"none\"", "\nnamespace = \"nothing\"", false),
        ] {
            let path = policy(namespace, &(within("blue", one) + &within("red", two)));
            let path = path.to_str().unwrap();
            let outcome = flowgate().run(&["policy", "check", path]);
            let what = "own the mark bits 0x100 both, and a flow may be in both their scopes (the network namespaces";
            assert_eq!(outcome.status, i32::from(same), "{one} {two}: {}", outcome.errors());
            assert_eq!(outcome.errors().contains(what), same, "{one} {two}: {}", outcome.errors());
            if same {
                let outcome = flowgate().run(&["run", path]);
                assert!(outcome.status == 1 && outcome.errors().contains(what), "{}", outcome.errors());
            }
        }
        // Tenants of both names without a conflict share the event listener.
        let zone = |name: &str, zone: u16, namespace: &str| {
            tenant(name, zone, "", "")
                .replace("[[tenant.scope]]", &format!("namespace = \"{namespace}\"\n[[tenant.scope]]"))
        };
        let serving = Serving::start(namespace, &(zone("blue", 7, "one") + &zone("red", 8, "two")));
        let inside = |words: &str| namespace.ip(&format!("netns exec one conntrack -I {words}"));
        inside(&flow(7, 70));
        inside(&flow(8, 80));
        serving.until("blue sees its own", || output(&serving, "blue").contains("sport=70 "));
        serving.until("red sees its own", || output(&serving, "red").contains("sport=80 "));
        let path = namespace.directory().join("policy.toml").display().to_string();
        let words = ["policy", "explain", "--namespace", "two", &path, "--"];
        let line = "-s 10.1.0.1 -d 192.0.2.1 -p udp --sport 1 --dport 2 -w 7".split(' ');
        let told = flowgate().must(&words.into_iter().chain(line).collect::<Vec<_>>());
        assert!(told.contains("tenant blue: sees it"), "{told}");
        serving.end();
        for name in ["one", "two", "three", "own"] {
            // The rest is unmounted with the mount namespace of the test.
            let _ = nix::mount::umount(format!("/run/netns/{name}").as_str());
        }
    });
}

/// Returns a socket with a full backlog: another client blocks until the descriptors are closed.
fn busy(path: &Path) -> Vec<OwnedFd> {
    let address = socket::UnixAddr::new(path).unwrap();
    let open = |flags| socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    let listener = open(SockFlag::SOCK_CLOEXEC);
    socket::bind(listener.as_raw_fd(), &address).unwrap();
    socket::listen(&listener, socket::Backlog::new(0).unwrap()).unwrap();
    let mut all = vec![listener];
    loop {
        let client = open(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK);
        let connected = socket::connect(client.as_raw_fd(), &address);
        all.push(client);
        match connected {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A name that refers to a neighbour's network namespace only after the file has been read is detected at the start.
#[test]
fn neighbours_are_compared_once_more_when_they_start() {
    Namespace::run(|namespace| {
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        ["one", "two"].iter().for_each(|name| namespace.ip(&format!("netns add {name}")));
        let within = |name: &str, more: &str| attacking(name, "", "\"update.mark\"", more);
        let mut text = within("blue", "mark-mask = \"0x100\"\nnamespace = \"one\"")
            + &within("red", "mark-mask = \"0x100\"\nnamespace = \"two\"");
        // These are noted when the file is read.
        text += &(within("green", "mark-mask = \"0x1\"") + &within("grey", "mark-mask = \"0x2\""));
        policy(namespace, &text);
        // The service checks whether another one runs after it has read the file, and before it starts anything.
        let held = busy(&namespace.directory().join("socket"));
        let mut serving = Serving::launch(namespace, &flowgate(), &[]);
        serving.until("it has read the file", || serving.errors().contains("a flow may be in the scopes of both"));
        nix::mount::umount("/run/netns/two").unwrap();
        Program::new("mount").must(&["--bind", "/run/netns/one", "/run/netns/two"]);
        drop(held);
        until("it starts or ends", || {
            !serving.background.runs() || serving.background.errors().contains("generation 1")
        });
        let runs = serving.background.runs();
        let outcome = if runs { serving.background.end_by(Signal::SIGTERM) } else { serving.background.end() };
        let what = "own the mark bits 0x100 both, and a flow may be in both their scopes (the network namespaces";
        assert_eq!(outcome.status, 1, "{}", outcome.errors());
        assert_eq!(outcome.errors().matches(what).count(), 1, "{}", outcome.errors());
        for name in ["one", "two"] {
            // The rest is unmounted with the mount namespace of the test.
            let _ = nix::mount::umount(format!("/run/netns/{name}").as_str());
        }
    });
}

/// The same for a tenant that is started later than the others.
#[test]
fn neighbours_are_compared_when_one_is_started_by_hand() {
    Namespace::run(|namespace| {
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        namespace.ip("netns add one");
        namespace.ip("netns add three");
        let within = |name: &str, namespace: &str| {
            attacking(name, "", "\"update.mark\"", &format!("mark-mask = \"0x100\"\nnamespace = \"{namespace}\""))
        };
        let serving = Serving::start(namespace, &(within("blue", "one") + &within("red", "two")));
        assert!(serving.ask(&["status", "red"]).text().contains("tenant red: ended"));
        fs::write("/run/netns/two", "").unwrap();
        Program::new("mount").must(&["--bind", "/run/netns/one", "/run/netns/two"]);
        let outcome = serving.ask(&["resume", "red"]);
        let what = "own the mark bits 0x100 both, and a flow may be in both their scopes (the network namespaces";
        assert!(outcome.status == 1 && outcome.errors().contains(what), "{}", outcome.errors());
        assert!(serving.ask(&["status", "red"]).text().contains("tenant red: ended"));
        nix::mount::umount("/run/netns/two").unwrap();
        Program::new("mount").must(&["--bind", "/run/netns/three", "/run/netns/two"]);
        let outcome = serving.ask(&["resume", "red"]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        assert!(serving.ask(&["status", "red"]).text().contains("tenant red: running"));
        serving.end();
        for name in ["one", "two", "three"] {
            // The rest is unmounted with the mount namespace of the test.
            let _ = nix::mount::umount(format!("/run/netns/{name}").as_str());
        }
    });
}

/// A client reads no more than the maximum length of an answer.
#[test]
fn an_answer_without_an_end_is_not_read_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write as _;
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
        });
        let outcome = flowgate().run(&["policy", "status", "--socket", path.to_str().unwrap()]);
        assert_eq!(outcome.status, 1, "{}", outcome.errors());
        assert!(outcome.errors().contains("its answer is longer than 16 MiB"), "{}", outcome.errors());
    });
}
