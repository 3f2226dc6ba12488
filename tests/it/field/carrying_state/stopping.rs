//! Invoked as `conntrack`, `-R` stops at the line that the kernel refuses, and executes nothing after it.

use super::{conntrack, count, load, udp};
use flowgate_test_support::{Namespace, Program};

#[test]
fn nothing_behind_a_refused_line_is_carried_out() {
    // In the first chunk of encoded requests, at the borders of chunks and tables, and at the end.
    for refused in [1, 2, 63, 64, 65, 576, 577, 4_095, 4_096, 4_097, 4_160, 9_000] {
        let mut lines: Vec<String> = (0..9_000).map(udp).collect();
        // The flow exists already.
        lines.insert(refused, udp(refused as u16 - 1));
        let text = lines.concat();
        let ours = Namespace::run(|namespace| {
            let outcome = load(&conntrack(), &text, &[]);
            assert_eq!(outcome.status, 1, "{}", outcome.errors());
            count(namespace)
        });
        assert_eq!(ours, refused, "line {}", refused + 1);
    }
}

#[test]
fn every_kind_of_refusal_stops_where_conntrack_stops() {
    let refused = [
        udp(1),
        // A missing master, an ICMP type without inverse, a zone of both kinds, and `-A` with a missing master.
        "-I -t 3000 -u EXPECTED -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 9 --dport 53\n".to_owned(),
        "-I -t 3000 -s 192.0.2.1 -d 198.51.100.1 -p icmp --icmp-type 3 --icmp-code 0\n".to_owned(),
        "-I -t 3000 -w 5 --orig-zone 6 -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 9 --dport 53\n".to_owned(),
        "-A -t 3000 -u EXPECTED -s 192.0.2.1 -d 198.51.100.1 -p udp --sport 9 --dport 53\n".to_owned(),
    ];
    for refused in refused {
        let text = format!("{}{}{refused}{}{}", udp(1), udp(2), udp(3), udp(4));
        let [theirs, ours] = [Program::new("conntrack"), conntrack()].map(|program| {
            Namespace::run(|namespace| {
                let outcome = load(&program, &text, &[]);
                let message = outcome.errors().split_once("): ").map(|(_, text)| text.to_owned());
                (outcome.status, message, outcome.text(), count(namespace))
            })
        });
        assert_eq!(ours, theirs, "{refused}");
        assert_eq!(ours.3, 2, "{refused}");
    }
}
