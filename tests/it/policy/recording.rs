//! Tenants that try to corrupt the audit, to displace its records, or to leave it no room.

use super::{
    service::{flow, output, tenant},
    *,
};

/// Returns another tenant with the attacker, in zone 7.
pub(super) fn attacking(name: &str, act: &str, grants: &str, keys: &str) -> String {
    format!(
        "[[tenant]]\nname = \"{name}\"\n{keys}\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\nPLUGIN\n\
         grants = [{grants}]\noptions = {{ act = \"{act}\" }}\n"
    )
}

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
            serving.errors().contains("results: (Some(7), Some(0))")
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
