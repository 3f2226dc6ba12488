//! Tenants that do not start, or not in time.

use std::{thread, time::Instant};

use super::{
    revoking::threads_of,
    service::{flow, output, tenant},
    *,
};

/// Returns a plugin whose start never ends.
pub(super) fn stuck(namespace: &Namespace, time: &str) -> String {
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
        let reported = serving.ask(&["status"]).text();
        assert!(reported.contains("tenant blue: running") && reported.contains("tenant red: ended"), "{reported}");
        assert!(reported.contains("cannot read plugin"), "{reported}");
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
            let reported = serving.ask(&["status"]).text();
            assert!(reported.contains("tenant blue: running") && reported.contains("tenant red: ended"), "{reported}");
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
        let reported = serving.ask(&["status", "red"]).text();
        assert!(reported.contains("tenant red: ended") && reported.contains("left it out"), "{reported}");
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
        let reported = serving.ask(&["status"]).text();
        assert!(reported.contains("generation 2") && reported.contains("tenant blue: ended"), "{reported}");
        assert!(reported.contains("cannot read plugin"), "{reported}");
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
                let reported = serving.ask(&["status"]);
                assert_eq!(reported.status, 0, "{}", reported.errors());
                answered += usize::from(!reload.is_finished() && reported.text().contains("generation 1"));
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
        let reported = serving.ask(&["status"]).text();
        assert!(reported.contains("generation 2") && reported.contains("tenant blue: quarantined"), "{reported}");
        serving.end();
    });
}

/// While one does not start, the others go on; those of the new generation take over within its time to start. If it is
/// required, those of the old one stay.
#[test]
fn one_that_does_not_start_holds_up_nobody() {
    Namespace::run(|namespace| {
        let serving = Serving::start(namespace, &tenant("blue", 7, "", ""));
        let mut port = 1;
        let mut shown = || {
            entries::insert(namespace, &flow(7, port));
            serving.until("it is shown", || output(&serving, "blue").contains(&format!("sport={port} ")));
            port += 1;
        };
        for required in [false, true] {
            let stuck = stuck(namespace, "3s");
            let red = if required { stuck.replace("name = \"red\"", "name = \"red\"\nrequired = true") } else { stuck };
            policy(namespace, &(tenant("blue", 7, "", "") + &red));
            thread::scope(|scope| {
                let reload = scope.spawn(|| serving.ask(&["reload"]));
                serving.until("it is being loaded", || threads_of(&serving, "tenant red") > 0);
                let mut meanwhile = 0;
                while !reload.is_finished() {
                    shown();
                    meanwhile += usize::from(!reload.is_finished());
                }
                assert!(meanwhile > 0, "nothing was shown while it was loaded");
                let outcome = reload.join().unwrap();
                assert_eq!(outcome.status, i32::from(required), "{}", outcome.errors());
                assert!(outcome.errors().contains("ran longer than"), "{}", outcome.errors());
            });
            shown();
            let reported: Value = serde_json::from_str(&serving.ask(&["status", "-o", "json"]).text()).unwrap();
            let blue = &reported["tenants"][0];
            assert_eq!(
                (&blue["state"], &blue["lost"], &blue["generation"]),
                (&"running".into(), &0.into(), &2.into()),
                "{reported}"
            );
        }
        serving.end();
    });
}
