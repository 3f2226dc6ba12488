//! Tenants that try to fill the kernel's table.

use super::{recording::attacking, service::flow, *};

const CREATE: &str = "create src=10.1.0.20 dst=192.0.2.1 sport=1000 dport=53 rsrc=192.0.2.1 rdst=10.1.0.20 rsport=53 rdport=1000 zone=7 timeout=3000";

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
