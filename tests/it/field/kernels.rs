//! Kernels without newer features. They are simulated in unit tests (`host/cli/src/command/kernels.rs`); this tests how
//! the running kernel handles the same requests.

use flowgate_test_support::{Namespace, entries};

use crate::field::flowgate;

fn fill(namespace: &Namespace) {
    entries::load(namespace, &entries::every_protocol());
    entries::load(namespace, &entries::zones());
}

/// Returns the number of flows of each family.
fn families() -> [usize; 2] {
    ["ipv4", "ipv6"].map(|family| flowgate().must(&["-L", "-f", family]).lines().count())
}

#[test]
fn a_family_is_emptied_and_the_other_is_left() {
    Namespace::run(|namespace| {
        for (number, family) in ["ipv4", "ipv6"].iter().enumerate() {
            fill(namespace);
            let before = families();
            assert!(before.iter().all(|count| *count > 10), "{before:?}");
            flowgate().must(&["-F", "-f", family]);
            let mut expected = before;
            expected[number] = 0;
            assert_eq!(families(), expected, "-F -f {family}");
            flowgate().must(&["-F"]);
            assert_eq!(families(), [0, 0]);
        }
    });
}

/// The tuple and the id that prevent an older kernel from emptying the table have no effect on this one.
#[test]
fn deletion_by_filter_deletes_what_is_meant() {
    Namespace::run(|namespace| {
        for selector in ["-p udp", "-p tcp -f ipv6", "-f ipv4 -p udp -s 192.0.2.1", "-p udp --dport 53", "-u ASSURED"] {
            fill(namespace);
            let words: Vec<&str> = selector.split(' ').collect();
            let all = entries::count(namespace);
            let meant = flowgate().must(&[&["-L"], &words[..]].concat()).lines().count();
            assert!(meant > 0 && meant < all, "{selector}: {meant} of {all}");
            flowgate().must(&[&["-D", "--quiet"], &words[..]].concat());
            assert_eq!(entries::count(namespace), all - meant, "{selector}");
            flowgate().must(&["-F"]);
        }
    });
}
