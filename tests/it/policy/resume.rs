//! `policy resume` restarts tenants that have ended, and plugins that have failed too often.

use super::{
    service::{flow, output},
    *,
};

/// Returns a tenant whose plugin fails at the third flow, counting those before a restart.
fn failing(namespace: &Namespace, keys: &str) -> (String, PathBuf) {
    let plugin = namespace.directory().join("failing.wasm");
    fs::copy(plugins::built("active"), &plugin).unwrap();
    let digest = plugins::digest(&plugin);
    let text = format!(
        "[[tenant]]\nname = \"blue\"\n[[tenant.scope]]\nzones = 7\n[[tenant.plugin]]\nfile = \"{}\"\nsha256 = \"{digest}\"\n\
         grants = [\"state\", \"time\"]\noptions = {{ do = \"count+trap\" }}\n{keys}\n\
         [[tenant.sink]]\nkind = \"file\"\npath = \"DIR/blue.log\"\n",
        plugin.display()
    );
    (text, plugin)
}

/// Creates flows until the plugin has failed, then one more, which the tenant is not shown.
fn until_it_fails(namespace: &Namespace, serving: &Serving, state: &str) {
    for port in [71, 72] {
        entries::insert(namespace, &flow(7, port));
        serving.until("it is shown", || output(serving, "blue").contains(&format!("sport={port} ")));
    }
    entries::insert(namespace, &flow(7, 73));
    serving.until("it has failed", || serving.ask(&["status"]).text().contains(state));
    entries::insert(namespace, &flow(7, 74));
}

/// After a resume the tenant is shown the flow at which the plugin failed, the later ones, and new ones.
fn goes_on(namespace: &Namespace, serving: &Serving) {
    for port in [73, 74] {
        serving.until("it receives the flow", || output(serving, "blue").contains(&format!("sport={port} ")));
    }
    entries::insert(namespace, &flow(7, 75));
    serving.until("it goes on", || output(serving, "blue").contains("sport=75 "));
    let answer = serving.ask(&["status"]).text();
    assert!(answer.contains("generation 1\ntenant blue: running") && answer.contains(": running, "), "{answer}");
    assert!(!answer.contains("ended") && !answer.contains("quarantined"), "{answer}");
}

#[test]
fn a_tenant_that_has_ended_is_started_anew() {
    Namespace::run(|namespace| {
        let (text, plugin) = failing(namespace, "on-error = \"stop\"");
        let serving = Serving::start(namespace, &text);
        until_it_fails(namespace, &serving, "tenant blue: ended");
        assert_eq!(serving.audited("action", "ended").len(), 1);
        // The plugin must still have the digest in the policy.
        let component = fs::read(&plugin).unwrap();
        fs::write(&plugin, "something else").unwrap();
        let outcome = serving.ask(&["resume", "blue"]);
        assert!(outcome.status == 1 && outcome.errors().contains("the SHA-256 of"), "{outcome:?}");
        assert!(serving.ask(&["status"]).text().contains("tenant blue: ended"));
        fs::write(&plugin, component).unwrap();
        assert_eq!(serving.ask(&["resume", "blue", "--reason", "repaired"]).status, 0);
        goes_on(namespace, &serving);
        assert_eq!(serving.audited("action", "resume")[0]["reason"], "repaired");
        let errors = serving.end();
        assert!(errors.contains("tenant blue (generation 1): it has been restarted"), "{errors}");
    });
}

#[test]
fn a_plugin_that_was_given_up_is_started_anew() {
    Namespace::run(|namespace| {
        let (text, _) = failing(namespace, "on-error = \"drop\"\nlimits = { restarts = 1 }");
        let serving = Serving::start(namespace, &text);
        until_it_fails(namespace, &serving, "plugin blue:failing: quarantined");
        assert_eq!(serving.ask(&["resume", "blue"]).status, 0);
        goes_on(namespace, &serving);
        // A quarantine by the operator stays.
        assert_eq!(serving.ask(&["quarantine", "blue"]).status, 0);
        assert_eq!(serving.ask(&["resume", "blue"]).status, 1);
        serving.end();
    });
}
