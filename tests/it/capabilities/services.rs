//! Services of the host: log, state and time; and the effect of missing grants.

use flowgate_test_support::{Namespace, entries};

use crate::capabilities::{active, flowgate, run};

const FLOW: &str = "-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1";

#[test]
fn lines_reach_the_log() {
    Namespace::run(|namespace| {
        entries::load(namespace, &[FLOW.to_owned()]);
        let outcome = run("-L", "do=log+time", "log");
        let errors = outcome.errors();
        assert!(errors.contains("WARN active: flow 50") && errors.contains("INFO active: time 1"), "{errors}");
        assert!(!errors.contains('\x1b'), "no colours where there is no terminal: {errors}");
        let off = run("-L", "do=log", "");
        assert!(!off.errors().contains("flow 50"), "{}", off.errors());
    });
}

#[test]
fn a_state_file_outlives_the_host() {
    Namespace::run(|namespace| {
        entries::load(namespace, &[FLOW.to_owned()]);
        let file = namespace.directory().join("state");
        let grant = format!("log,state={}", file.display());
        for seen in 1..=3 {
            let outcome = run("-L", "do=count+annotate", &grant);
            assert!(outcome.text().contains(&format!(" seen={seen}")), "{}{}", outcome.text(), outcome.errors());
        }
        // State in memory is empty at each start.
        for _ in 0..2 {
            assert!(run("-L", "do=count+annotate", "log").text().contains(" seen=1"));
        }
        std::fs::write(&file, "something else").unwrap();
        let outcome = run("-L", "do=count", &grant);
        assert_eq!(outcome.status, 1);
        assert!(outcome.errors().contains("is no state file of flowgate"), "{}", outcome.errors());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "something else");
        let outcome = run("-L", "do=count", "state=/proc/none/x");
        assert!(outcome.errors().contains("cannot write the state file /proc/none/x"), "{}", outcome.errors());
    });
}

#[test]
fn without_its_services_a_plugin_does_not_start() {
    Namespace::run(|namespace| {
        entries::load(namespace, &[FLOW.to_owned()]);
        let plugin = active("do=nothing");
        for (grants, words) in [
            ("time", "it needs flowgate:conntrack/key-value, which it was not granted; to allow it: --grant state"),
            ("state", "it needs flowgate:conntrack/clock, which it was not granted; to allow it: --grant time"),
        ] {
            let outcome = flowgate().run(&["-L", "--plugin", &plugin, "--grant", grants]);
            assert_eq!((outcome.status, outcome.text()), (1, String::new()));
            assert!(outcome.errors().contains(words), "{}", outcome.errors());
        }
    });
}

#[test]
fn options_come_from_files() {
    Namespace::run(|namespace| {
        entries::load(namespace, &[FLOW.to_owned()]);
        let file = namespace.directory().join("what");
        std::fs::write(&file, "annotate").unwrap();
        let outcome = run("-L", &format!("do=@{}", file.display()), "");
        assert!(outcome.text().contains(" seen=1"), "{}{}", outcome.text(), outcome.errors());
    });
}

#[test]
fn mistakes_with_grants_are_named() {
    for (words, said) in [
        (&["-L", "--grant", "delete"][..], "--grant applies to the --plugin before it"),
        (&["-L", "--plugin", "x", "--grant", "destroy"], "there is no grant `destroy`; there are delete, create,"),
        (&["-L", "--plugin", "x", "--grant", "update.mark=red"], "`red` is no value of the grant `update.mark`"),
        (
            &["-L", "--plugin", "x", "--on-error", "cry"],
            "'cry' with --on-error option is not one of skip, drop and stop",
        ),
        (&["-F", "--dry-run"], "Illegal option"),
    ] {
        let outcome = flowgate().run(words);
        assert_eq!(outcome.status, 2, "{words:?}");
        assert!(outcome.errors().contains(said), "{words:?}: {}", outcome.errors());
    }
}
