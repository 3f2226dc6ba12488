//! Events: actions on them, ticks, look-backs, results, and statistics on request.

use flowgate_test_support::{Namespace, entries};
use nix::sys::signal::Signal;

use crate::capabilities::{Listening, active, conntrack, table};

const FLOW: &str = "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53";

/// Returns load-file lines for this number of flows.
fn many(flows: u32) -> Vec<String> {
    let line = |number| format!("-I -t 600 -p 50 -s 10.0.{}.{} -d 10.1.0.1", number / 250, number % 250);
    (0..flows).map(line).collect()
}

/// Creates this number of flows, too many for the receive buffer, while a listener is stopped; then waits until the
/// table has been offered to its plugin again.
fn lose_events(namespace: &Namespace, listening: &mut Listening, flows: u32) {
    listening.wait("offered 0");
    listening.signal(Signal::SIGSTOP);
    entries::load(namespace, &many(flows));
    listening.signal(Signal::SIGCONT);
    listening.wait("We have hit ENOBUFS");
    assert!(listening.wait("look-back").contains("look-back 2"));
    listening.wait(&format!("offered {flows}"));
}

#[test]
fn events_are_annotated_and_acted_on() {
    Namespace::run(|namespace| {
        let mut listening = Listening::start("-E -e NEW", "do=annotate+mark+log", "update.mark=0xff00,look-back", &[]);
        listening.wait("offered 0");
        entries::load(namespace, &[FLOW.to_owned()]);
        listening.wait("flow 17");
        entries::load(namespace, &[FLOW.replace("10.0.0.1", "10.0.0.2")]);
        // The result of the first one is reported with the second.
        listening.wait("results 2:0:0");
        listening.wait("flow 17");
        let (text, errors) = listening.stop();
        assert_eq!(text.lines().filter(|line| line.contains("[NEW]") && line.contains(" seen=")).count(), 2, "{text}");
        assert!(errors.iter().any(|line| line.contains("2 flow events have been shown")), "{errors:#?}");
        assert!(table().iter().all(|line| line.contains("mark=256 ")), "{:?}", table());
    });
}

#[test]
fn ticks_come_without_events_and_can_act() {
    Namespace::run(|_| {
        let mut listening = Listening::start("-E", "tick=create", "tick,create", &[]);
        listening.wait("tick true");
        listening.wait("results 3:0:0");
        assert!(conntrack().must(&["-L"]).contains("src=10.77.0.1 dst=10.77.0.2"));
        // Ticks repeat.
        listening.wait("tick true");
        listening.wait("results 3:3:17");
        let (text, _) = listening.stop();
        assert!(text.contains("[NEW]") && text.contains("10.77.0.1"), "{text}");

        // The plugin has no ticks without the grant, while a second plugin with the grant does.
        let second = active("do=nothing");
        let more = ["--plugin", second.as_str(), "--grant", "state,time,log,tick", "--plugin-stats"];
        let mut listening = Listening::start("-E", "tick=create,do=log", "create,look-back", &more);
        listening.wait("offered ");
        conntrack().run(&["-D"]);
        for _ in 0..3 {
            listening.wait("tick true");
        }
        let (_, errors) = listening.stop();
        assert!(!errors.iter().any(|line| line.contains("results ")), "{errors:#?}");
        assert!(!conntrack().must(&["-L"]).contains("src=10.77.0.1"), "the first one was not called");
    });
}

#[test]
fn the_table_is_offered_before_live_events() {
    Namespace::run(|namespace| {
        entries::load(namespace, &many(3000));
        entries::load(namespace, &[FLOW.to_owned()]);
        let mut listening = Listening::start("-E", "do=mark-table", "look-back,update.mark", &[]);
        assert!(listening.wait("look-back").contains("look-back 1"));
        listening.wait("offered 3001");
        assert!(table().iter().all(|line| line.contains("mark=9 ")), "its actions on the table are done");
        listening.stop();

        // Only the flows that the selector matches are offered.
        let mut listening = Listening::start("-E -p udp", "do=nothing", "look-back", &[]);
        listening.wait("offered 1");
        listening.stop();
        // Without the grant there is no look-back.
        let mut listening = Listening::start("-E", "do=nothing", "tick", &[]);
        listening.wait("tick true");
        let (_, errors) = listening.stop();
        assert!(!errors.iter().any(|line| line.contains("look-back")), "{errors:#?}");
    });
}

#[test]
fn after_a_gap_the_table_is_offered_again() {
    Namespace::run(|namespace| {
        let mut listening = Listening::start("-E -b 4096", "do=nothing", "look-back", &[]);
        lose_events(namespace, &mut listening, 2000);
        listening.stop();
    });
}

#[test]
fn what_was_lost_is_made_up_for_before_the_table_is_offered_again() {
    Namespace::run(|namespace| {
        let mut listening = Listening::start("-E -b 4096 --resync", "do=nothing", "look-back", &[]);
        // Few enough for the lines about them to fit into the pipe, which is only read at the end.
        lose_events(namespace, &mut listening, 400);
        let (text, _) = listening.stop();
        let new = text.lines().filter(|line| line.contains("[NEW]"));
        assert_eq!(new.clone().count(), 400, "each is reported once");
        assert!(new.filter(|line| line.ends_with("[SYNTHETIC]")).count() > 300, "{text}");
    });
}

#[test]
fn sigusr1_tells_what_each_plugin_did() {
    Namespace::run(|namespace| {
        let mut listening = Listening::start("-E", "do=log", "look-back", &["--plugin-stats"]);
        listening.wait("offered 0");
        entries::load(namespace, &[FLOW.to_owned()]);
        listening.wait("flow 17");
        listening.signal(Signal::SIGUSR1);
        let line = listening.wait("active.wasm: running");
        assert!(line.contains("1 rows in, "), "{line}");
        // The stream continues, and the statistics are printed at the end as well.
        entries::load(namespace, &[FLOW.replace("10.0.0.1", "10.0.0.2")]);
        listening.wait("flow 17");
        let (_, errors) = listening.stop();
        let reported = errors.iter().filter(|line| line.contains("active.wasm: running")).count();
        assert_eq!(reported, 2, "{errors:#?}");
    });
}

#[test]
fn a_replaced_instance_finds_its_state_and_is_offered_the_table() {
    Namespace::run(|namespace| {
        let mut listening =
            Listening::start("-E -e NEW", "do=count+trap+log+annotate", "look-back", &["--on-error", "skip"]);
        listening.wait("offered 0");
        for host in 1..=4 {
            entries::load(namespace, &[FLOW.replace("10.0.0.1", &format!("10.0.0.{host}"))]);
            match host {
                3 => {
                    listening.wait("trapped: ");
                }
                4 => {
                    // The new instance starts with the stored state of the old one.
                    listening.wait("flow 17");
                    listening.wait("look-back 3");
                    listening.wait("offered 4");
                }
                _ => {
                    listening.wait("flow 17");
                }
            }
        }
        let (text, _) = listening.stop();
        let seen: Vec<&str> = text.lines().filter_map(|line| line.split(" seen=").nth(1)).collect();
        assert_eq!(seen, ["1", "2", "4"], "the third went by without a note: {text}");
        assert_eq!(text.lines().count(), 4, "{text}");
    });
}
