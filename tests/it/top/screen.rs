//! The screen: its content, the effect of keys, what is deleted, and how the terminal is restored.

use crate::top::{conntrack, exactly, flowgate, ports, terminal::Terminal, three_flows};
use flowgate_test_support::Namespace;
use nix::sys::signal::Signal;

/// Returns the command with these words.
fn top(words: &str) -> String {
    format!("{} top --interval 300ms {words}", flowgate().path.display())
}

/// Returns the source ports of the flows on the screen, from top to bottom.
fn shown(picture: &str) -> Vec<u32> {
    let port = |line: &str| line.split_whitespace().nth(2)?.rsplit_once(':')?.1.parse().ok();
    picture.lines().filter(|line| line.starts_with("udp ")).filter_map(port).collect()
}

#[test]
fn flows_are_shown_sorted_and_filtered() {
    Namespace::run(|namespace| {
        let mut traffic = three_flows(namespace, true);
        let terminal = Terminal::start(namespace, &top("--sort bytes"));
        let picture = terminal.until("three flows are shown", |picture| shown(picture) == [7001, 7003, 7005]);
        assert!(picture.contains("3 flows") && picture.contains("BYTES▼"), "{picture}");
        assert!(picture.contains("udp 3") && picture.contains("3 of 3 flows"), "{picture}");
        terminal.press(&["i"]);
        terminal.until("the smallest comes first", |picture| shown(picture) == [7005, 7003, 7001]);
        terminal.press(&["i", "Left"]);
        terminal.shows(&["PKT/S▼"]);
        terminal.press(&["b", "/"]);
        terminal.press(&["-l", "udp :7003"]);
        let picture = terminal.until("the filter holds", |picture| shown(picture) == [7003]);
        assert!(picture.contains("filter: udp :7003_"), "{picture}");
        terminal.press(&["Enter"]);
        terminal.shows(&["1 of 3 flows"]);
        terminal.press(&["Escape"]);
        terminal.until("the filter is gone", |picture| shown(picture) == [7001, 7003, 7005]);
        terminal.press(&["?"]);
        terminal.shows(&["any key goes back", "Ctrl-Z"]);
        terminal.press(&["q"]);
        terminal.until("the help is gone", |picture| !picture.contains("any key goes back"));
        // The rate of current traffic, and a new flow.
        exactly(&mut traffic, 7009, 3);
        terminal.until("a new flow is shown", |picture| shown(picture).contains(&7009));
        terminal.press(&["q"]);
        terminal.is_given_back(0);
    });
}

#[test]
fn what_is_paused_stands_still() {
    Namespace::run(|namespace| {
        let mut traffic = three_flows(namespace, true);
        let terminal = Terminal::start(namespace, &top("--sort bytes"));
        terminal.until("three flows are shown", |picture| shown(picture) == [7001, 7003, 7005]);
        terminal.press(&["Space"]);
        terminal.shows(&["[paused]"]);
        exactly(&mut traffic, 7007, 40);
        // Two more pictures, both drawn after the kernel has created the flow.
        assert!(conntrack().must(&["-L", "-p", "udp"]).contains("sport=7007 "));
        terminal.press(&["?"]);
        terminal.shows(&["any key goes back"]);
        terminal.press(&["?"]);
        let picture = terminal.until("the help is gone", |picture| !picture.contains("any key goes back"));
        assert_eq!(shown(&picture), [7001, 7003, 7005], "{picture}");
        terminal.press(&["Space"]);
        terminal.until("it goes on", |picture| shown(picture) == [7001, 7007, 7003, 7005]);
    });
}

#[test]
fn exactly_the_flow_that_was_confirmed_is_deleted() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let terminal = Terminal::start(namespace, &top("--sort bytes"));
        terminal.until("three flows are shown", |picture| shown(picture) == [7001, 7003, 7005]);
        terminal.press(&["d"]);
        terminal.shows(&["select a flow first"]);
        terminal.press(&["Down", "Down", "d"]);
        terminal.shows(&["Delete this flow?", "10.9.0.1:7003 -> 10.9.0.1:7004"]);
        terminal.press(&["n"]);
        terminal.shows(&["nothing was deleted"]);
        assert_eq!(ports(), [7001, 7003, 7005]);
        terminal.press(&["d"]);
        terminal.shows(&["Delete this flow?"]);
        terminal.press(&["Enter"]);
        terminal.shows(&["nothing was deleted"]);
        assert_eq!(ports(), [7001, 7003, 7005]);
        terminal.press(&["d"]);
        terminal.shows(&["Delete this flow?", ":7003"]);
        terminal.press(&["y"]);
        terminal.shows(&["deleted: udp 10.9.0.1:7003"]);
        assert_eq!(ports(), [7001, 7005]);
        terminal.until("it is no longer shown", |picture| shown(picture) == [7001, 7005]);
        // A flow that is removed before the answer.
        terminal.press(&["Space", "Home", "d"]);
        terminal.shows(&["Delete this flow?", ":7001"]);
        conntrack().must(&["-D", "-p", "udp", "--sport", "7001"]);
        terminal.press(&["y"]);
        terminal.shows(&["it had gone already"]);
        assert_eq!(ports(), [7005]);
    });
}

/// Zones, IPv6 and ICMP: an entry is identified by more than addresses and ports.
#[test]
fn flows_of_every_kind_are_deleted() {
    Namespace::run(|namespace| {
        namespace.account(true);
        for words in [
            "-t 600 -p icmp -s 10.0.0.1 -d 10.1.0.1 --icmp-type 8 --icmp-code 0 --icmp-id 9",
            "-t 600 -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 3 --dport 53 -m 7",
            "-t 600 -p udp -s 10.0.0.2 -d 10.1.0.1 --sport 2 --dport 53 -w 5",
            "-t 600 -p udp -s 10.0.0.2 -d 10.1.0.1 --sport 2 --dport 53",
            "-t 600 -p 77 -s 10.0.0.7 -d 10.1.0.1",
        ] {
            flowgate_test_support::entries::insert(namespace, words);
        }
        let terminal = Terminal::start(namespace, &top(""));
        // Keys pressed before the terminal is in raw mode would not be read by top.
        terminal.shows(&["5 of 5 flows"]);
        let left = || conntrack().must(&["-C"]).trim().parse::<usize>().expect("a number");
        for (filter, expected) in [("icmp", 4), ("2001:db8::1 mark=7", 3), ("zone=5", 2), ("77 10.0.0.7", 1)] {
            terminal.press(&["/"]);
            terminal.press(&["-l", filter]);
            terminal.press(&["Enter"]);
            terminal.shows(&["1 of "]);
            terminal.press(&["Home", "d"]);
            terminal.shows(&["Delete this flow?"]);
            terminal.press(&["y"]);
            terminal.shows(&["deleted: "]);
            assert_eq!(left(), expected, "{filter}");
            // The first Escape clears the selection if the flow is still shown.
            terminal.press(&["Escape"]);
            terminal.until("the note is gone", |picture| !picture.contains("deleted: "));
            terminal.press(&["Escape"]);
            terminal.shows(&[&format!("{expected} of {expected} flows")]);
        }
        assert!(!conntrack().must(&["-L", "-p", "udp"]).contains("zone=5"), "the one in the default zone is left");
    });
}

#[test]
fn any_size_will_do() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let terminal = Terminal::start(namespace, &top("--sort bytes"));
        terminal.until("three flows are shown", |picture| shown(picture) == [7001, 7003, 7005]);
        for (width, height) in [(40, 8), (5, 2), (1, 1), (2, 30), (200, 1), (130, 30)] {
            terminal.resize(width, height);
            terminal.press(&["Down", "?"]);
            terminal.press(&["Space"]);
        }
        terminal.press(&["Escape"]);
        terminal.until("all is back", |picture| shown(picture) == [7001, 7003, 7005]);
        terminal.press(&["C-c"]);
        terminal.is_given_back(0);
    });
}

#[test]
fn signals_give_the_terminal_back() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        Namespace::run(|namespace| {
            let _traffic = three_flows(namespace, false);
            let terminal = Terminal::start(namespace, &top(""));
            // Also without accounting.
            terminal.shows(&["7001", "no accounting", "nf_conntrack_acct=1"]);
            terminal.signal(signal);
            terminal.is_given_back(0);
        });
    }
}

#[test]
fn a_failure_gives_the_terminal_back_and_is_reported() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let plugin = flowgate_test_support::plugins::built("hostile");
        let terminal = Terminal::start(namespace, &top(&format!("-- --plugin {},do=trap", plugin.display())));
        let picture = terminal.shows(&["before", "status=1", "icanon", "hostile"]);
        assert!(!picture.contains("-icanon"), "{picture}");
    });
}

#[test]
fn plugins_have_a_line_of_their_own() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let plugin = flowgate_test_support::plugins::built("heavy-tcp");
        let terminal = Terminal::start(namespace, &top(&format!("-- -p udp --plugin {},bytes=1", plugin.display())));
        // The plugin keeps TCP only.
        terminal.shows(&["heavy_tcp.wasm running: ", " 0 out", "0 of 0 flows"]);
        terminal.press(&["q"]);
        terminal.is_given_back(0);
    });
}

#[test]
fn a_recording_is_shown_until_the_end_and_after_it() {
    Namespace::run(|namespace| {
        let _traffic = three_flows(namespace, true);
        let file = namespace.directory().join("trace.pcap");
        flowgate().must(&["record", &file.display().to_string(), "--", "-L"]);
        let terminal = Terminal::start(namespace, &top(&format!("{} --sort bytes", file.display())));
        terminal.until("three flows are shown", |picture| shown(picture) == [7001, 7003, 7005]);
        terminal.press(&["Down", "d"]);
        terminal.shows(&["a recording has nothing that could be deleted"]);
        terminal.press(&["q"]);
        terminal.is_given_back(0);
    });
}
