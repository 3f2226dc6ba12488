//! The service: delivery to tenants, reloads, pauses, the end, and the effect of a hostile tenant on others.

use std::{io::Read as _, os::unix::fs::PermissionsExt as _};

use super::*;

/// Returns a tenant of a zone, with an output.
pub(super) fn tenant(name: &str, zone: u16, act: &str, more: &str) -> String {
    format!(
        "[[tenant]]\nname = \"{name}\"\nformat = {{ kind = \"text\", show = [\"id\"] }}\n[[tenant.scope]]\nzones = {zone}\n\
         [[tenant.plugin]]\nPLUGIN\ngrants = [\"delete\", \"log\"]\noptions = {{ act = \"{act}\" }}\n{more}\n\
         [[tenant.sink]]\nkind = \"file\"\npath = \"DIR/{name}.log\"\n"
    )
}

pub(super) fn output(serving: &Serving, name: &str) -> String {
    fs::read_to_string(serving.directory.join(format!("{name}.log"))).unwrap_or_default()
}

pub(super) fn flow(zone: u16, port: u16) -> String {
    format!("-t 3000 -w {zone} -p udp -s 10.1.0.1 -d 192.0.2.1 --sport {port} --dport 53")
}

#[test]
fn each_tenant_is_shown_its_own_flows_the_table_first_and_then_events() {
    Namespace::run(|namespace| {
        entries::insert(namespace, &flow(7, 70));
        entries::insert(namespace, &flow(8, 80));
        let serving = Serving::start(namespace, &(tenant("blue", 7, "", "") + &tenant("red", 8, "", "")));
        serving.until("blue sees the table", || output(&serving, "blue").contains("sport=70 "));
        serving.until("red sees the table", || output(&serving, "red").contains("sport=80 "));
        for port in 1..=20 {
            entries::insert(namespace, &flow(7 + port % 2, 100 + port));
        }
        serving.until("blue sees events", || output(&serving, "blue").contains("sport=120 "));
        serving.until("red sees events", || output(&serving, "red").contains("sport=119 "));
        assert!(!output(&serving, "blue").contains("zone=8") && !output(&serving, "red").contains("zone=7"));
        let errors = serving.end();
        // The plugin saw the rows that its tenant was shown.
        let rows = |name: &str| errors.lines().filter(|line| line.contains(name) && line.contains("rows ")).count();
        assert!(rows("blue:attacker") > 0 && rows("red:attacker") > 0, "{errors}");
    });
}

#[test]
fn a_reload_takes_over_when_all_is_well_and_the_old_one_goes_on_when_not() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant("blue", 7, "", ""));
        policy(namespace, &(tenant("blue", 7, "", "colour = 1") + &tenant("red", 8, "", "")));
        let outcome = serving.ask(&["reload"]);
        assert!(
            outcome.status == 1 && outcome.errors().contains("there is no key of `plugin` `colour`"),
            "{outcome:?}"
        );
        let path = policy(namespace, &tenant("blue", 7, "", ""));
        let digest = attacker().1;
        let other: String = digest.chars().rev().collect();
        let required =
            fs::read_to_string(&path).unwrap().replace("name = \"blue\"", "name = \"blue\"\nrequired = true");
        fs::write(&path, required.replace(&digest, &other)).unwrap();
        assert_eq!(serving.ask(&["reload"]).status, 1, "the digest is that of another file");
        entries::insert(namespace, &flow(7, 70));
        serving.until("the old one goes on", || output(&serving, "blue").contains("sport=70 "));
        policy(namespace, &(tenant("blue", 9, "", "") + &tenant("red", 8, "", "")));
        let outcome = serving.ask(&["reload"]);
        assert_eq!((outcome.status, outcome.text().as_str()), (0, "generation 2\n"), "{}", outcome.errors());
        entries::insert(namespace, &flow(8, 80));
        entries::insert(namespace, &flow(9, 90));
        serving.until("red runs", || output(&serving, "red").contains("sport=80 "));
        serving.until("blue has another scope", || output(&serving, "blue").contains("sport=90 "));
        policy(namespace, &tenant("red", 8, "", ""));
        serving.signal(Signal::SIGHUP);
        serving.until("SIGHUP reloads", || serving.errors().contains("generation 3 runs"));
        let answer = serving.ask(&["status"]).text();
        assert!(answer.contains("tenant red: running") && !answer.contains("blue"), "{answer}");
        serving.end();
    });
}

#[test]
fn a_paused_tenant_gets_nothing_and_what_it_missed_is_made_up_for() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &(tenant("blue", 7, "", "") + &tenant("red", 8, "", "")));
        let socket = fs::metadata(serving.directory.join("socket")).unwrap();
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
        assert_eq!(serving.ask(&["pause", "blue", "--reason", "too loud\x1b[2J"]).status, 0);
        for zone in [7, 8] {
            entries::insert(namespace, &flow(zone, 70 + zone));
        }
        serving.until("red goes on", || output(&serving, "red").contains("sport=78 "));
        assert!(!output(&serving, "blue").contains("sport=77 "));
        assert!(serving.ask(&["status", "blue"]).text().contains("tenant blue: paused"));
        assert_eq!(serving.ask(&["resume", "blue"]).status, 0);
        serving.until("blue receives it", || output(&serving, "blue").contains("sport=77 "));
        assert_eq!(serving.ask(&["quarantine", "blue"]).status, 0);
        assert_eq!(serving.ask(&["resume", "blue"]).status, 1);
        assert_eq!(serving.ask(&["pause", "green"]).status, 1);
        let answer = serving.ask(&["status", "-o", "json"]).text();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["tenants"][0]["state"], "quarantined", "{answer}");
        assert_eq!(serving.audited("action", "pause")[0]["reason"], "too loud\\u{1b}[2J");
        serving.end();
    });
}

#[test]
fn one_that_loops_costs_the_others_nothing() {
    Namespace::run(|namespace| {
        let limits = "limits = { call = \"100ms\", restarts = 1000 }";
        let serving = Serving::start(namespace, &(tenant("blue", 7, "", "") + &tenant("red", 8, "loop", limits)));
        for port in 1..=50 {
            entries::insert(namespace, &flow(7, 1000 + port));
            entries::insert(namespace, &flow(8, 1000 + port));
        }
        serving.until("blue sees every event", || {
            let seen = output(&serving, "blue");
            (1..=50).all(|port| seen.contains(&format!("sport={} ", 1000 + port)))
        });
        serving.until("red has failed", || serving.errors().contains("red:attacker"));
        let answer: Value = serde_json::from_str(&serving.ask(&["status", "-o", "json"]).text()).unwrap();
        assert_eq!(
            (&answer["tenants"][0]["lost"], &answer["tenants"][0]["gaps"]),
            (&Value::from(0), &Value::from(0)),
            "{answer}"
        );
        serving.end();
    });
}

#[test]
fn what_was_under_way_when_it_was_killed_can_be_found() {
    Namespace::run(|namespace| {
        entries::insert(namespace, &flow(7, 70));
        let mut serving = Serving::start(namespace, &tenant("blue", 7, "delete shown", ""));
        serving.until("it has acted", || !serving.audited("stage", "result").is_empty());
        serving.background.end_by(Signal::SIGKILL);
        let audit = serving.directory.join("audit.jsonl").display().to_string();
        let outcome = flowgate().run(&["audit", "--tenant", "blue", &audit]);
        let text = outcome.text();
        assert!(outcome.status == 0 && text.contains("blue:attacker delete done"), "{text}");
        assert!(text.contains("udp 10.1.0.1 70 -> 192.0.2.1 53 zone=7"), "{text}");
        assert_eq!(flowgate().run(&["audit", "--open", &audit]).status, 1, "nothing was under way");
        // Simulates that the service was killed between intents and results.
        let intents: String = serving.audited("stage", "intent").iter().map(|line| format!("{line}\n")).collect();
        fs::write(&audit, intents + "{\"time\":1,\"sta").unwrap();
        let outcome = flowgate().run(&["audit", "--open", "-o", "json", &audit]);
        assert!(outcome.status == 0 && outcome.text().lines().count() == 1, "{}", outcome.text());
        assert!(outcome.errors().contains("1 lines are broken"), "{}", outcome.errors());
    });
}

#[test]
fn tenants_of_other_namespaces_see_and_act_on_the_flows_of_these() {
    Namespace::run(|namespace| {
        // A private /run, so that the names of the host are neither visible nor changed.
        Program::new("mount").must(&["-t", "tmpfs", "tmpfs", "/run"]);
        for name in ["inner", "other"] {
            namespace.ip(&format!("netns add {name}"));
        }
        let within = |name: &str, words: &str| {
            let line = format!("netns exec {name} conntrack {words}");
            Program::new("ip").must(&line.split_whitespace().collect::<Vec<_>>())
        };
        entries::insert(namespace, &flow(7, 70));
        for name in ["inner", "other"] {
            within(name, &format!("-I {}", flow(7, 71)));
        }
        let inner =
            tenant("blue", 7, "delete shown", "").replace("name = \"blue\"", "name = \"blue\"\nnamespace = \"inner\"");
        let serving = Serving::start(namespace, &(inner + &tenant("red", 7, "", "")));
        serving.until("blue has acted", || !serving.audited("stage", "result").is_empty());
        assert_eq!(serving.audited("stage", "result")[0]["result"], "done");
        serving.until("red sees its own", || output(&serving, "red").contains("sport=70 "));
        assert!(!output(&serving, "red").contains("sport=71 ") && !output(&serving, "blue").contains("sport=70 "));
        let left = |name: &str| within(name, "-L").lines().count();
        assert_eq!((left("inner"), left("other"), table().len()), (0, 1, 1));
        within("inner", &format!("-I {}", flow(7, 72)));
        serving.until("events of the other namespace", || output(&serving, "blue").contains("sport=72 "));
        let errors = serving.end();
        assert!(!errors.contains("WARNING"), "{errors}");
        let path = policy(
            namespace,
            &tenant("blue", 7, "", "").replace("name = \"blue\"", "name = \"blue\"\nnamespace = \"none\""),
        );
        let outcome = flowgate().run(&["run", path.to_str().unwrap()]);
        assert!(outcome.status == 1 && outcome.errors().contains("cannot open the network namespace"), "{outcome:?}");
    });
}

#[test]
fn a_paused_tenant_can_do_nothing() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant("blue", 7, "delete shown", ""));
        assert_eq!(serving.ask(&["pause", "blue"]).status, 0);
        entries::insert(namespace, &flow(7, 70));
        // Events before the pause have been handled when another tenant is shown later ones.
        assert_eq!(serving.ask(&["quarantine", "blue"]).status, 0);
        policy(namespace, &tenant("red", 7, "", ""));
        assert_eq!(serving.ask(&["reload"]).status, 0);
        serving.until("red receives it", || output(&serving, "red").contains("sport=70 "));
        assert_eq!(table().len(), 1);
        assert!(serving.audited("stage", "intent").is_empty());
        serving.end();
    });
}

#[test]
fn what_a_plugin_keeps_outlives_a_reload() {
    Namespace::run(|namespace| {
        let path = plugins::built("active");
        let digest = plugins::digest(&path);
        let tenant = format!(
            "[[tenant]]\nname = \"blue\"\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\nfile = \"{}\"\nsha256 = \"{digest}\"\n\
             grants = [\"state\", \"time\", \"log\"]\noptions = {{ do = \"count\" }}\n\
             [[tenant.sink]]\nkind = \"file\"\npath = \"DIR/blue.log\"\n",
            path.display()
        );
        entries::insert(namespace, &flow(7, 70));
        let serving = Serving::start(namespace, &tenant);
        serving.until("the first is counted", || output(&serving, "blue").lines().count() == 1);
        assert_eq!(serving.ask(&["reload"]).status, 0);
        serving.until("the first receives events again", || output(&serving, "blue").lines().count() == 2);
        entries::insert(namespace, &flow(7, 71));
        serving.until("the second is counted", || output(&serving, "blue").lines().count() == 3);
        let errors = serving.end();
        assert!(errors.contains("finish 1") && errors.contains("finish 3"), "{errors}");
    });
}

#[test]
fn the_audit_is_appended_to_and_not_everybody_can_read_it() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant("blue", 7, "", ""));
        let audit = serving.directory.join("audit.jsonl");
        assert_eq!(fs::metadata(&audit).unwrap().permissions().mode() & 0o7777, 0o640);
        let process = serving.proc();
        let open: Vec<_> = fs::read_dir(process.join("fd")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let number = open.iter().find(|fd| fs::read_link(fd).is_ok_and(|target| target == audit)).unwrap();
        let about = fs::read_to_string(process.join("fdinfo").join(number.file_name().unwrap())).unwrap();
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert!(i32::from_str_radix(flags, 8).unwrap() & nix::libc::O_APPEND != 0, "{about}");
        serving.end();
    });
}

#[test]
fn nonsense_on_the_control_socket_harms_nobody() {
    use std::{io::Write as _, os::unix::net::UnixStream};
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant("blue", 7, "", ""));
        let mut long = vec![b'['; 1 << 20];
        long.push(b'\n');
        for request in [
            &b"\n"[..],
            b"status\n",
            b"{}\n",
            b"{\"command\":\"fly\",\"tenant\":\"blue\"}\n",
            b"{\"command\":\"pause\"}\n",
            b"{\"command\":\"status\",\"and\":1}\n",
            b"\xff\xfe\n",
            &long,
        ] {
            let mut stream = UnixStream::connect(serving.directory.join("socket")).unwrap();
            // The service may close the connection before it has read everything.
            let _ = stream.write_all(request);
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(!answer.contains("\"ok\":true"), "{answer}");
        }
        // One client sends nothing, and one only the beginning of a request.
        let mut hanging = [(); 2].map(|()| UnixStream::connect(serving.directory.join("socket")).unwrap());
        hanging[1].write_all(b"{\"comm").unwrap();
        assert!(serving.ask(&["status"]).text().contains("tenant blue: running"));
        drop(hanging);
        // A second service does not take the first one's place.
        let path = serving.directory.join("policy.toml").display().to_string();
        let outcome = flowgate().run(&["run", &path]);
        assert!(outcome.status == 1 && outcome.errors().contains("a service runs already"), "{}", outcome.errors());
        serving.end();
    });
}

/// Returns true if the peer has closed the connection; what it sent is ignored.
fn is_over(stream: &mut std::os::unix::net::UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    !stream.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn who_says_or_reads_nothing_on_the_control_socket_keeps_nobody_waiting() {
    use std::{io::Write as _, os::unix::net::UnixStream};
    Namespace::run(|namespace| {
        let text = tenant("t1", 1, "", "") + &tenant("t2", 2, "", "");
        let serving = Serving::start(namespace, &text);
        let connect = || UnixStream::connect(serving.directory.join("socket")).unwrap();
        // They send nothing, the beginning of a request, or do not read the answer.
        let ways: [&[u8]; 3] = [b"", b"{\"comm", b"{\"command\":\"status\"}\n"];
        let mut hanging: Vec<UnixStream> = (0..10).map(|_| connect()).collect();
        for (number, stream) in hanging.iter_mut().enumerate() {
            stream.write_all(ways[number % 3]).unwrap();
        }
        // Other clients are answered meanwhile.
        let mut last = connect();
        assert!(serving.ask(&["status", "t1"]).text().contains("tenant t1: running"));
        assert_eq!(serving.ask(&["pause", "t2"]).status, 0);
        assert!(!is_over(&mut last), "it was heard before its time was over");
        // Beyond the maximum number of clients the oldest are closed.
        hanging.extend((0..60).map(|_| connect()));
        assert!(serving.ask(&["status", "t2"]).text().contains("tenant t2: paused"));
        let open: Vec<usize> = (0..hanging.len()).filter(|&at| !is_over(&mut hanging[at])).collect();
        assert!(open.len() <= 16 && open.iter().all(|&at| at >= 50), "{open:?} of {} are open", hanging.len());
        // A request without an end is refused.
        let mut endless = connect();
        while endless.write_all(&[b' '; 4096]).is_ok() {}
        entries::insert(namespace, &flow(1, 70));
        serving.until("t1 sees it", || output(&serving, "t1").contains("sport=70 "));
        serving.end();
    });
}

#[test]
fn nineteen_of_twenty_tenants_do_not_notice_a_hostile_one() {
    Namespace::run(|namespace| {
        let limits = "limits = { call = \"50ms\", restarts = 1000 }";
        let text: String = (1..=20)
            .map(|zone| {
                let (act, more) = if zone == 13 { ("loop", limits) } else { ("", "") };
                tenant(&format!("t{zone}"), zone, act, more)
            })
            .collect();
        let serving = Serving::start(namespace, &text);
        let lines: Vec<String> =
            (1..=20).flat_map(|zone| (1..=25).map(move |port| format!("-I {}", flow(zone, port)))).collect();
        entries::load(namespace, &lines);
        for zone in (1..=20).filter(|zone| *zone != 13) {
            let name = format!("t{zone}");
            serving.until(&name, || {
                let seen = output(&serving, &name);
                (1..=25).all(|port| seen.contains(&format!("sport={port} ")))
            });
            let foreign = output(&serving, &name).lines().any(|line| !line.contains(&format!("zone={zone} ")));
            assert!(!foreign, "{name} is shown flows of others");
        }
        let answer: Value = serde_json::from_str(&serving.ask(&["status", "-o", "json"]).text()).unwrap();
        for tenant in answer["tenants"].as_array().unwrap().iter().filter(|tenant| tenant["tenant"] != "t13") {
            assert_eq!((&tenant["events"], &tenant["lost"]), (&Value::from(25), &Value::from(0)), "{tenant}");
        }
        serving.end();
    });
}

#[test]
fn killed_in_the_middle_nothing_is_done_without_a_trace() {
    Namespace::run(|namespace| {
        let path = plugins::built("active");
        let digest = plugins::digest(&path);
        let tenant = format!(
            "[[tenant]]\nname = \"blue\"\nformat = {{ batch = 10 }}\nlimits = {{ actions-per-second = 100000 }}\n\
             [[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\nfile = \"{}\"\nsha256 = \"{digest}\"\n\
             grants = [\"delete\", \"state\", \"time\"]\noptions = {{ do = \"delete\" }}\n",
            path.display()
        );
        let lines: Vec<String> = (1..=2000).map(|port| format!("-I {}", flow(7, port))).collect();
        entries::load(namespace, &lines);
        let mut serving = Serving::start(namespace, &tenant);
        serving.until("it is at work", || {
            fs::read_to_string(serving.directory.join("audit.jsonl")).unwrap_or_default().contains("\"result\"")
        });
        serving.background.end_by(Signal::SIGKILL);
        let left: Vec<u64> = table()
            .iter()
            .filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("sport="))?.parse().ok())
            .collect();
        let port = |line: &Value| line["before"]["original"]["source_port"].as_u64().unwrap();
        // The last line of the run that was killed may be cut off; all others are complete.
        let found = |words: &[&str]| -> Vec<Value> {
            let file = serving.directory.join("audit.jsonl").display().to_string();
            let outcome = flowgate().run(&[&["audit", file.as_str(), "-o", "json"], words].concat());
            outcome.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let intents = found(&["--stage", "intent"]);
        let intended: Vec<u64> = intents.iter().map(port).collect();
        for gone in (1..=2000).filter(|port| !left.contains(port)) {
            assert!(intended.contains(&gone), "{gone} is gone and nobody wanted it");
        }
        for result in found(&["--stage", "result"]).iter().filter(|line| line["result"] == "done") {
            let intent = intents.iter().find(|intent| intent["id"] == result["id"]).unwrap();
            assert!(!left.contains(&port(intent)), "it is said to be done: {intent}");
        }
        // The next run handles the remaining flows, each once.
        let serving = Serving::start(namespace, &tenant);
        serving.until("the rest is done", || table().is_empty());
        let started = found(&["--action", "worker-started"]);
        let done = found(&["--result", "done"]);
        serving.end();
        assert_eq!(started.len(), 2, "the line that was cut off took the next one with it");
        assert!(done.len() <= 2000);
    });
}
