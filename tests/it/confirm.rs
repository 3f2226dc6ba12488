//! `--confirm-above`: nothing is done to more entries than were agreed to.
//!
//! Needs root and `tmux`.

use flowgate_test_support::{Namespace, entries, flowgate};
use nix::sys::signal::Signal;

use crate::top::terminal::Terminal;

fn five(namespace: &Namespace) {
    namespace.keep_entries();
    let lines = (1..=5).map(|port| format!("-I -t 3600 -p udp -s 192.0.2.1 -d 198.51.100.1 --sport {port} --dport 53"));
    entries::load(namespace, &lines.collect::<Vec<_>>());
}

#[test]
fn without_a_terminal_more_is_an_error() {
    Namespace::run(|namespace| {
        five(namespace);
        let run = |line: &str| flowgate().run(&flowgate_test_support::words(line));
        for line in
            ["-D -p udp --confirm-above 4", "-U -p udp -m 7 --confirm-above 4", "-D --all --quiet --confirm-above 0"]
        {
            let outcome = run(line);
            assert!(outcome.status == 1 && outcome.stdout.is_empty(), "{line}: {}", outcome.text());
            assert!(outcome.errors().contains("there are 5 flows, more than --confirm-above"), "{}", outcome.errors());
            assert_eq!(entries::count(namespace), 5);
        }
        assert!(!run("-L").text().contains("mark=7"));
        // A condition counts as any other selector, and --dry-run needs no answer.
        let asked = ["-D", "--where", "sport in {2..4}", "--confirm-above"];
        assert_eq!(flowgate().run(&[&asked[..], &["2"]].concat()).status, 1);
        let dry = flowgate().run(&[&asked[..], &["2", "--dry-run"]].concat());
        assert_eq!((dry.status, dry.text().lines().count()), (0, 3), "{}", dry.text());
        assert!(dry.text().lines().all(|line| line.starts_with("-D ")), "{}", dry.text());
        assert_eq!(entries::count(namespace), 5);
        let few = flowgate().run(&[&asked[..], &["3"]].concat());
        assert!(few.status == 0 && few.errors().contains("3 flow entries have been deleted."), "{}", few.errors());
        assert_eq!(entries::count(namespace), 2);
        let wrong = run("-D --all --confirm-above many");
        assert!(wrong.status == 2 && wrong.errors().contains("it takes a number of flows"), "{}", wrong.errors());
        assert_eq!(run("-L --confirm-above 1").status, 2);
        assert!(flowgate().called("conntrack").run(&["-D", "-p", "udp", "--confirm-above", "1"]).status != 0);
        assert_eq!(entries::count(namespace), 2);
    });
}

#[test]
fn on_a_terminal_it_asks() {
    Namespace::run(|namespace| {
        five(namespace);
        let line = |rest: &str| format!("{} {rest}", flowgate().path.display());
        for (answer, delete) in [(&["n", "Enter"][..], false), (&["Enter"], false), (&["y", "Enter"], true)] {
            let terminal = Terminal::start(namespace, &line("delete -p udp --confirm-above 4"));
            terminal.shows(&["delete 5 flows? [y/N]"]);
            assert_eq!(entries::count(namespace), 5);
            terminal.press(answer);
            let status = if delete { "status=0" } else { "status=1" };
            let picture = terminal.shows(&[status]);
            assert_eq!(picture.contains("nothing was done"), !delete, "{picture}");
            assert_eq!(entries::count(namespace), if delete { 0 } else { 5 });
        }
        // No more than allowed: no question.
        five(namespace);
        let terminal = Terminal::start(namespace, &line("update -p udp -m 7 --confirm-above 5"));
        let picture = terminal.shows(&["status=0", "5 flow entries have been updated"]);
        assert!(!picture.contains("[y/N]"), "{picture}");
        // A signal ends the question.
        let terminal = Terminal::start(namespace, &line("delete -p udp --confirm-above 0"));
        terminal.shows(&["delete 5 flows? [y/N]"]);
        terminal.signal(Signal::SIGINT);
        terminal.shows(&["status=130"]);
        assert_eq!(entries::count(namespace), 5);
    });
}
