use super::super::environment::tests::FakeEnvironment;
use super::super::{CommandLine, ProgramName, parse};
use std::ffi::{OsStr, OsString};

/// Returns status and message of a command line, `-` if it is valid. `''` is an empty word.
fn outcome(program: &str, line: &str) -> String {
    let words: Vec<OsString> =
        line.split(' ').map(|word| if word == "''" { OsString::new() } else { word.into() }).collect();
    let files =
        FakeEnvironment::with(&[("all", "-D\n"), ("stray", "-D -p tcp x\n"), ("name", "conntrack -D -p tcp\n")]);
    match parse(&ProgramName::of(OsStr::new(program)), &words, &files).result {
        Ok(CommandLine::Run(_) | CommandLine::Load(_)) => "-".to_owned(),
        Err(error) => format!("{} {error}", error.status()),
    }
}

#[test]
fn what_changes_the_table_is_refused_under_both_names() {
    for (line, expected) in [
        (
            "-D -p tcp --dport 8000-8999",
            "unexpected value '8000-8999' with --dport option: it takes a decimal number from 0 to 65535; one value is taken, not a range",
        ),
        (
            "-D -p tcp --dport 80,443",
            "unexpected value '80,443' with --dport option: it takes a decimal number from 0 to 65535; one value is taken, not a list",
        ),
        (
            "-D -p tcp --dport http",
            "unexpected value 'http' with --dport option: it takes a decimal number from 0 to 65535; names are not looked up",
        ),
        (
            "-D -i wg0",
            "unexpected value 'wg0' with -i option: --id takes a number from 0 to 4294967295; the kernel keeps no interfaces for flows",
        ),
        (
            "-D -m mark",
            "unexpected value 'mark' with -m option: --mark takes VALUE or VALUE/MASK, numbers from 0 to 4294967295; names are not looked up",
        ),
        (
            "-m 5/ -D",
            "unexpected value '5/' with -m option: --mark takes VALUE or VALUE/MASK, numbers from 0 to 4294967295",
        ),
        (
            "--orig-zone x -w y -D",
            "unexpected value 'x' with --orig-zone option: it takes a number from 0 to 65535; names are not looked up",
        ),
        (
            "-D -p tcp 192.0.2.1",
            "192.0.2.1 does not belong to any option; for a source address: -s, for a destination address: -d",
        ),
        ("-D -m 1 mark", "mark does not belong to any option"),
        ("-L -z 64000", "64000 does not belong to any option; for a zone: -w 64000"),
        (
            "-D -p tcp expect",
            "expect does not belong to any option; a table directly follows its command, as in -L expect",
        ),
        ("-D -p tcp -- -s", "-s does not belong to any option; options end at `--'"),
        ("-D -p tcp ''", "an empty word does not belong to any option"),
        ("-F -- x", "x does not belong to any option"),
        ("--flush=expect", "--flush takes no attached value `expect'; it takes the next word: --flush expect"),
        ("--delete=x -p tcp", "--delete takes no attached value `x'; it takes the next word: --delete conntrack"),
        ("-D -n8.8.8.8", "--src-nat takes no attached value `8.8.8.8'; it takes the next word: --src-nat 8.8.8.8"),
        ("-F ''", "an empty word is not a table; leave it out, or name one: conntrack or expect"),
        (
            "-D -s 10.0.0.0/",
            "unexpected value '10.0.0.0/' with -s option: --src takes a prefix length after the slash; an empty one would stand for every address",
        ),
        (
            "-D -s 10/8",
            "unexpected value '10/8' with -s option: --src takes an IPv4 address with all of its four parts",
        ),
        ("-D -f ipv4x", "unexpected value 'ipv4x' with -f option: --family takes ipv4 or ipv6"),
        (
            "-D -s 10.0.0.0/8 -s 192.0.2.1",
            "--src is given twice, and the prefix of the first network would hold for the second address",
        ),
        (
            "-D -u ASSURED,SRC_NAT",
            "status `ASSURED,SRC_NAT' has a name that is ignored, so that more would be deleted than it says; use --src-nat or --dst-nat",
        ),
        ("-D -u UNREPLIEDX", "unexpected value 'UNREPLIEDX' with -u option: --status takes names such as UNREPLIED"),
        (
            "-D -n x[1.2.3.4]:5",
            "unexpected value 'x[1.2.3.4]:5' with -n option: --src-nat takes ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT",
        ),
        ("-R stray", "x does not belong to any option"),
    ] {
        for program in ["conntrack", "flowgate"] {
            assert_eq!(outcome(program, line), format!("2 {expected}"), "{program} {line}");
        }
    }
    for program in ["conntrack", "flowgate"] {
        let masked = outcome(program, "-D -s 10.0.0.1 --mask-src 0.0.0.0");
        assert!(masked.starts_with("2 unexpected value '0.0.0.0' with --mask-src option"), "{masked}");
        let zero = outcome(program, "-D -s 10.0.0.1/0");
        assert!(zero.starts_with("2 unexpected value '10.0.0.1/0' with -s option"), "{zero}");
        for right in
            ["-D -s 0.0.0.0/0", "-D -p tcp --dport 080", "-U -m 0x5/0xff", "-D -f ipv6", "-R name", "-F expect"]
        {
            assert_eq!(outcome(program, right), "-", "{program} {right}");
        }
    }
}

#[test]
fn timeouts_have_units_under_the_own_name() {
    let wrong = |program: &str| outcome(program, "-U -p tcp --timeout established 100000");
    let begins = "2 unexpected value 'established' with -t option: --timeout takes";
    let ends = "names are not looked up";
    let classic = format!("{begins} a decimal number from 0 to 4294967295; {ends}");
    assert_eq!(wrong("conntrack"), classic);
    assert_eq!(
        wrong("flowgate"),
        format!("{begins} a time such as \"10s\" (seconds without a unit; ms, s, m, h, d); {ends}")
    );
    assert_eq!(outcome("flowgate", "-U -p tcp -t 10m"), "-");
    assert_eq!(
        outcome("flowgate", "-U -p tcp -t 0.5"),
        "2 unexpected value '0.5' with -t option: --timeout takes whole seconds from 0 to 4294967295"
    );
}

#[test]
fn listings_are_strict_under_the_own_name_only() {
    for line in [
        "-L foo x",
        "-L -p tcp x",
        "-L -p tcp --dport 80-90",
        "-E -b abc",
        "-E -b -1",
        "-L -s 10.0.0.0/",
        "-L --src-nat=1.2.3.4",
        "-L -f ipv4x",
        "-C -- x",
        "--dump=expect",
        "-Cexpect",
        "-L ''",
    ] {
        let own_name = outcome("flowgate", line);
        assert!(own_name.starts_with("2 "), "{line}: {own_name}");
        let classic = outcome("conntrack", line);
        assert!(classic == "-" || line == "-L foo x", "{line}: {classic}");
    }
    assert_eq!(outcome("conntrack", "-L -w abc"), "1 unexpected value 'abc' with -w option");
    assert!(outcome("flowgate", "-L -w abc").starts_with("2 unexpected value 'abc' with -w option: --zone takes"));
    assert_eq!(outcome("conntrack", "-L -w abc -x"), "1 unexpected value 'abc' with -w option");
    let netmask = "2 Invalid netmask; `33' with --src option: a prefix length is a number from 0 to 32";
    assert_eq!(outcome("flowgate", "-L -s 1.2.3.4/33"), netmask);
    assert_eq!(outcome("conntrack", "-L -s 1.2.3.4/33"), "2 Invalid netmask");
    let range = outcome("flowgate", "-D -d 10.0.0.1-10.0.0.9");
    assert_eq!(range, "2 Invalid IP address `10.0.0.1-10.0.0.9'; --dst takes one address or network, not a range");
}

#[test]
fn deleting_everything_takes_a_word_that_says_so() {
    assert!(outcome("flowgate", "-D").starts_with("2 nothing selects the flows"));
    assert!(outcome("flowgate", "-D -o ext").starts_with("2 nothing selects the flows"));
    assert!(outcome("flowgate", "-R all").starts_with("2 nothing selects the flows"));
    assert!(outcome("flowgate", "-D --all -p tcp").starts_with("2 --all deletes every flow"));
    for right in ["-D --all", "-D --dry-run", "-D --explain", "-R all --dry-run", "-R all --explain", "-D -f ipv4"] {
        assert_eq!(outcome("flowgate", right), "-", "{right}");
    }
    for right in ["-D", "-D -o ext", "-R all"] {
        assert_eq!(outcome("conntrack", right), "-", "{right}");
    }
}

#[test]
fn a_mark_that_no_flow_can_have_is_a_warning() {
    let warnings = |program: &str, line: &str| {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(&ProgramName::of(OsStr::new(program)), &words, &FakeEnvironment::default()).warnings
    };
    let expected = "WARNING: the mark 0x2 has bits outside of its mask 0xff0000, so that no flow can match.";
    for command in ["-L", "-D", "-E"] {
        assert_eq!(warnings("flowgate", &format!("{command} -m 0x000002/0x0ff0000")), [expected]);
        assert!(warnings("conntrack", &format!("{command} -m 0x000002/0x0ff0000")).is_empty());
    }
    assert!(warnings("flowgate", "-U -m 0x2/0xff0000").is_empty(), "there it is XORed");
    assert!(warnings("flowgate", "-L -m 0x2/0x2").is_empty());
    assert!(warnings("flowgate", "-D -m 0x2/0xff0000 --quiet").is_empty());
    assert!(warnings("conntrack", "-L -w abc -a 1.2.3.4").is_empty(), "conntrack ends at the first");
}
