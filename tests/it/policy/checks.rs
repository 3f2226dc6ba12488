//! `policy check` and `policy explain`: no root, no kernel.

use super::{
    compiling::{below, status},
    *,
};

fn with_policy(text: &str, body: impl FnOnce(&str)) {
    let directory = tempfile::tempdir().unwrap();
    let (plugin, digest) = attacker();
    let plugin = format!("file = \"{}\"\nsha256 = \"{digest}\"", plugin.display());
    let path = directory.path().join("policy.toml");
    fs::write(&path, text.replace("PLUGIN", &plugin)).unwrap();
    body(path.to_str().unwrap());
}

const TWO: &str = "[[tenant]]\nname = \"blue\"\nmark-mask = \"0xff00\"\n[[tenant.scope]]\nzones = 7\nsource = \"10.1.0.0/16\"\n\
                   [[tenant.plugin]]\nPLUGIN\ngrants = [\"delete\", \"update.mark\", \"log\"]\n\
                   [[tenant]]\nname = \"red\"\n[[tenant.scope]]\nzones = 8\n[[tenant.plugin]]\nPLUGIN\n";

#[test]
fn a_sound_policy_has_no_mistakes() {
    with_policy(TWO, |path| {
        for words in [["policy", "check", path], ["run", "--check", path]] {
            let outcome = flowgate().run(&words);
            assert_eq!((outcome.status, outcome.text()), (0, format!("{path}: no mistakes\n")), "{}", outcome.errors());
        }
    });
}

#[test]
fn another_file_than_the_one_with_this_digest_is_not_loaded() {
    let (_, digest) = attacker();
    let other: String = digest.chars().rev().collect();
    with_policy(TWO, |path| {
        fs::write(path, fs::read_to_string(path).unwrap().replace(&digest, &other)).unwrap();
        let outcome = flowgate().run(&["policy", "check", path]);
        assert_eq!(outcome.status, 1);
        assert_eq!(outcome.errors().matches(&format!("is {digest}")).count(), 2, "{}", outcome.errors());
        assert!(outcome.errors().contains("policy.toml:9:10: the SHA-256 of"), "{}", outcome.errors());
    });
}

#[test]
fn what_a_plugin_would_like_is_a_note() {
    let plugin = plugins::built("active");
    let digest = plugins::digest(&plugin);
    let plugin = format!("file = \"{}\"\nsha256 = \"{digest}\"", plugin.display());
    let tenant = "[[tenant]]\nname = \"blue\"\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\n";
    with_policy(&format!("{tenant}{plugin}\ngrants = [\"state\", \"time\", \"tick\"]\n"), |path| {
        let outcome = flowgate().run(&["policy", "check", path]);
        assert_eq!(outcome.status, 0, "{}", outcome.errors());
        let note = "policy.toml:8:1: note: plugin blue:active would like grants = [";
        assert!(outcome.errors().contains(note), "{}", outcome.errors());
        assert!(outcome.errors().contains("\"log\", \"look-back\""), "{}", outcome.errors());
        assert!(!outcome.errors().contains("\"tick\""), "{}", outcome.errors());
    });
}

#[test]
fn options_of_plugins_are_checked() {
    with_policy(&(TWO.to_string() + "options = { fly = 1 }\n"), |path| {
        let outcome = flowgate().run(&["policy", "check", path]);
        assert!(outcome.errors().contains("it has no option `fly`"), "{}", outcome.errors());
        assert_eq!(outcome.status, 1);
    });
}

#[test]
fn who_sees_a_flow_and_why_can_be_asked() {
    with_policy(TWO, |path| {
        let flow = "udp 17 29 src=10.1.0.5 dst=192.0.2.1 sport=4000 dport=53 src=192.0.2.1 dst=10.1.0.5 sport=53 dport=4000 zone=7";
        let answer = flowgate().must(&["policy", "explain", path, flow]);
        for line in [
            "tenant blue: sees it, and may act on it",
            "policy.toml:4) holds",
            "plugin attacker may annotate, delete, update.mark=0xff00",
            "tenant red: does not see it",
            "does not hold: `zones`",
        ] {
            assert!(answer.contains(line), "{line}: {answer}");
        }
        let words = "-p udp -s 10.1.0.5 -d 192.0.2.1 --sport 4000 --dport 53 --zone 7 --dst-nat 10.2.0.9"
            .split(' ')
            .collect::<Vec<_>>();
        let answer = flowgate().must(&[&["policy", "explain", path, "-o", "json", "--"], words.as_slice()].concat());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["tenants"][0]["sees"], true, "{answer}");
        assert_eq!(answer["tenants"][0]["acts"], false, "{answer}");
        assert_eq!(answer["tenants"][0]["rules"][0]["translated"], "destination", "{answer}");
        let outcome = flowgate().run(&["policy", "explain", path, "what is this"]);
        assert!(outcome.status == 1 && outcome.errors().contains("that is no flow"), "{}", outcome.errors());
    });
}

#[test]
fn the_pipelines_of_a_policy_are_explained() {
    with_policy(TWO, |path| {
        let text = flowgate().must(&["run", path, "--explain"]);
        for part in [
            &format!("tenant     blue of {path}\n"),
            "\nscope      ",
            "\nshare      100 actions a second, 256 at once, 1000 living entries; ",
            "\nsource     events of flows, ",
            "those in the scope reach the plugins",
            "1. blue:attacker (",
            "behind the guard and the audit",
            &format!("\n\ntenant     red of {path}\n"),
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        let json = flowgate().must(&["run", path, "--explain", "-o", "json"]);
        let tenants: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&tenants[0]["tenant"], &tenants[1]["tenant"]), (&"blue".into(), &"red".into()), "{json}");
        assert_eq!(tenants[0]["stages"][0]["grants"], "delete,update.mark=0xff00,log", "{json}");
        let outcome = flowgate().run(&["run", path, "--dry-run"]);
        assert_eq!(outcome.status, 1, "{}", outcome.errors());
    });
}

/// `policy check` and `plugin test` start plugins in processes that have nothing, and their own has no code of them.
#[test]
fn what_is_checked_or_tested_runs_in_a_worker() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = plugins::built("hostile");
    let (path, digest) = (plugin.display().to_string(), plugins::digest(&plugin));
    let policy = format!(
        "[audit]\npath = \"/nowhere/audit\"\n[[tenant]]\nname = \"blue\"\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\n\
         file = \"{path}\"\nsha256 = \"{digest}\"\noptions = {{ do = \"loop\", when = \"configure\" }}\n\
         limits = {{ start-up = \"3s\" }}\n"
    );
    let suite = "[[case]]\nname = \"endless\"\nflows = \"flows.txt\"\nerror = \"ran longer than\"\n\
                 options = { do = \"loop\", when = \"configure\" }\n";
    let at = |name: &str| directory.path().join(name).display().to_string();
    fs::write(at("policy.toml"), policy).unwrap();
    fs::write(at("test.toml"), suite).unwrap();
    fs::write(
        at("flows.txt"),
        "udp 17 29 src=10.1.0.5 dst=192.0.2.1 sport=4000 dport=53 src=192.0.2.1 dst=10.1.0.5 sport=53 dport=4000\n",
    )
    .unwrap();
    let (file, place) = (at("policy.toml"), directory.path().display().to_string());
    let lines = [vec!["policy", "check", &file], vec!["plugin", "test", "--plugin", &path, &place]];
    let said = ["policy.toml:8:8: plugin blue:hostile: ran longer than", "1 passed, 0 failed"];
    for (words, said) in lines.iter().zip(said) {
        let mut running = Background::start(&flowgate(), words);
        let own = running.process().as_raw();
        let mut worker = None;
        until_or_explain(
            "a worker runs the plugin",
            || {
                let below = below(own);
                let named =
                    below.into_iter().filter(|(_, (_, name))| name == "flowgate-worker").map(|(number, _)| number);
                // Both filters: that for loading code, and that for running it.
                let filters = status(own, "Seccomp_filters").parse::<u32>().unwrap_or_default();
                worker = named.into_iter().find(|number| {
                    // The service's own filter is not inherited: the spawner was forked before.
                    status(*number, "Seccomp_filters").parse::<u32>().is_ok_and(|count| count > filters)
                });
                worker.is_some() || !running.runs()
            },
            || format!("{words:?}"),
        );
        let worker = worker.unwrap_or_else(|| panic!("{words:?}: no worker was seen"));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(worker, set), "0000000000000000", "{set}");
        }
        let maps = fs::read_to_string(format!("/proc/{own}/maps")).unwrap();
        let executable = maps.lines().filter(|line| line.split(' ').nth(1).unwrap().contains('x'));
        let foreign: Vec<&str> = executable.filter(|line| !line.contains('/') && !line.contains('[')).collect();
        assert!(foreign.is_empty(), "{words:?}: {foreign:#?}");
        until_or_explain("it ends", || !running.runs(), || format!("{words:?}"));
        let (output, errors) = (running.output(), running.errors());
        assert!(format!("{output}{errors}").contains(said), "{words:?}: {output}{errors}");
    }
}
