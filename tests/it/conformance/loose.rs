//! Values that `conntrack` parses leniently: `-L`, `-G` and `-C` interpret them as `conntrack` does.

use crate::conformance::compare::{Report, Setting};
use crate::conformance::differences::fill;
use flowgate_test_support::Namespace;

/// Options of `-L` whose values `conntrack` does not check: what precedes the value.
const NUMBERS: &[&str] = &[
    "-p tcp --sport",
    "-p tcp --dport",
    "-p udp --orig-port-src",
    "-p udp --orig-port-dst",
    "-p udp --reply-port-src",
    "-p sctp --reply-port-dst",
    "-p udplite --sport",
    "-p dccp --dport",
    "-p icmp --icmp-type",
    "-p icmp --icmp-code",
    "-p icmp --icmp-id",
    "-p icmpv6 --icmpv6-type",
    "-p icmpv6 --icmpv6-code",
    "-p icmpv6 --icmpv6-id",
];

const VALUES: &[&str] = &[
    "5x",
    "''",
    "-1",
    "70000",
    "65536",
    "99999999999999999999",
    "abc",
    "1-5",
    "1:5",
    "53,80",
    "0x50",
    "010",
    "+1",
    "1.0",
];

/// Addresses, translations, families, tables, and words that belong to no option.
const LINES: &[&str] = &[
    "-L -s 10.0.0.1/",
    "-L -d 10.1.0.1/",
    "-L -s 2001:db8::1/",
    "-L -s 10.0.0.1/0",
    "-L -s 10/8",
    "-L -s 10.1",
    "-L -s ''",
    "-L -s /",
    "-L -s /8",
    "-L -s 10.0.0.1 --mask-src 0.0.0.0",
    "-L -s 10.0.0.1 --mask-src ''",
    "-L -s 10.0.0.1 --mask-src 24",
    "-L -s 10.0.0.1 --mask-src 255",
    "-L -s 10",
    "-L -s 012.0.0.1",
    "-L -d 10.01.0.01",
    "-L -d 10.1.0.012",
    "-L -u UN",
    "-L -u U",
    "-L -u UNSET,ASSURED",
    "-L -u S",
    "-L -r 10.1.0.1/",
    "-L -f ipv4x",
    "-L -f ipv6,ipv4",
    "-L -u UNREPLIEDX",
    "-L -u UNREPLIED-",
    "-L -n x[203.0.113.7]:5",
    "-L -n203.0.113.7",
    "-L --src-nat=203.0.113.7",
    "-L -p tcp --dport 80 --dport 443",
    "-L -p tcp -p udp",
    "-L -p tcp x y",
    "-L -o extended x",
    "-L -- x",
    "-L -p tcp -- -s 10.0.0.1",
    "x -L",
    "expect -L",
    "conntrack -L",
    "--dump=expect",
    "--dump=nonsense",
    "--get=expect",
    "-C -- expect",
    "-C conntrack x",
    "--counter=expect",
    "-Cexpect",
    "-L ''",
    "-C ''",
    "-S -- x",
    "-G -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 1x --dport 53-80",
    "-G -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 65537 --dport 53 x",
    "-L -m 5/",
    "-L -m 5/-1",
    "-L -m 5/0x100000001",
];

#[test]
fn listings_answer_as_conntrack_does() {
    Namespace::run(|namespace| {
        fill(namespace);
        let mut report = Report::new("loose values in listings");
        for option in NUMBERS {
            for value in VALUES {
                report.words(namespace, &Setting::default(), &format!("-L {option} {value}"));
            }
        }
        for line in LINES {
            report.words(namespace, &Setting::default(), line);
        }
        report.finish();
    });
}
