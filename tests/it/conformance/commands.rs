//! Commands that change the table: each script runs in two fresh namespaces, once by each program.
//!
//! Output, error text and status must agree after every line, and the whole table at the end.

use crate::conformance::compare::{Both, Report, Setting, words};
use flowgate_test_support::entries;
use flowgate_test_support::{Namespace, Outcome, Program};

/// Scripts: a name, then command lines.
///
/// None depends on a difference listed in `differences.rs`. Each update affects a single entry: of several, `conntrack`
/// 1.4.7 prints only one.
const SCRIPTS: &[(&str, &str)] = &[
    (
        "create, get and delete",
        "-I -t 600 -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80 --state ESTABLISHED -u ASSURED,SEEN_REPLY
         -I -t 600 -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80 --state ESTABLISHED
         -I -t 600 -p udp -r 10.1.0.1 -q 10.0.0.1 --reply-port-src 53 --reply-port-dst 2
         -I -t 600 -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 3 --dport 53 -m 7
         -I -t 600 -p sctp -s 10.0.0.1 -d 10.1.0.1 --sport 4 --dport 5 --state COOKIE_WAIT --orig-vtag 5 --reply-vtag 6
         -I -t 600 -p icmp -s 10.0.0.1 -d 10.1.0.1 --icmp-type 8 --icmp-code 0 --icmp-id 9
         -I -t 600 -p icmp -s 10.0.0.1 -d 10.1.0.1 --icmp-type 3 --icmp-code 0 --icmp-id 9
         -I -t 600 -p icmpv6 -s 2001:db8::1 -d 2001:db8::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 9
         -I -t 600 -p gre -s 10.0.0.1 -d 10.1.0.1 --srckey 1 --dstkey 2
         -I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 6 --dport 53 -w 5
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 7 --dport 53 --orig-zone 6
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 8 --dport 53 --orig-zone 6 --reply-zone 7
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 9 --dport 53 -n 203.0.113.7:7000 -g 10.3.0.9:54
         -C
         -I -t 0 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 10 --dport 53
         -L
         -L -o save
         -G -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80
         -G -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80 -o extended
         -G -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 2 --dport 80
         -G -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 3 --dport 53 -o save
         -D -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80
         -D -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80
         -D -f ipv6 -o save
         -D -m 7
         -D -n -o extended
         -D -w 5
         -D -s 10.0.0.0/8 -p 50
         -L
         -F
         -C
         -L",
    ),
    (
        "update",
        "-I -t 600 -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 80 --state SYN_SENT -m 12
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 2 --dport 53
         -I -t 600 -p udp -s 2001:db8::1 -d 2001:db8::2 --sport 3 --dport 53 -m 3
         -U -s 10.0.0.1 -p tcp -m 5
         -U -s 10.0.0.1 -p tcp -m 5
         -U -s 10.0.0.1 -p udp -m 2/3
         -U -f ipv6 -m 0x80000000
         -U -f ipv4 -p tcp -t 7200
         -U -s 10.0.0.1 -p tcp --state ESTABLISHED -u ASSURED,SEEN_REPLY -o save
         -U -s 10.9.9.9 -m 5
         -U -d 10.1.0.0/16 -p udp -m 9 -o extended
         -U -s 10.0.0.1 -p udp --sport 2 -u SEEN_REPLY
         -L
         -A -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 4 --dport 53 -m 4
         -L -m 4
         -D
         -D",
    ),
    (
        "labels",
        "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 53 --label-add beyond
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 2 --dport 53 --label-add first --label-add beyond
         -A -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 4 --dport 53 --label-add beyond
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 3 --dport 53 --label-add first --label-add hundred
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53
         -U -s 10.0.0.1 -p udp --sport 3 --label-del beyond
         -U -s 10.0.0.1 -p udp --sport 3 --label-del beyond --label-del first
         -U -s 10.0.0.1 -p udp --sport 5 --label-del beyond
         -U -s 10.0.0.1 -p udp --sport 5 --label-del
         -U -s 10.0.0.1 -p udp --sport 5 --label-del -m 5
         -U -s 10.0.0.1 -p udp --sport 5 --label-add first -o save
         -U -s 10.0.0.1 -p udp --sport 5 --label-add first -o extended
         -U -s 10.0.0.1 -p udp -l hundred --label-add five
         -U -s 10.0.0.1 -p udp -l last --label-del
         -U -s 10.0.0.1 -p udp --sport 3 --label-del five --label-del five -m 6
         -L -l beyond
         -L -l first -o labels
         -G -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 3 --dport 53 -l hundred
         -G -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 3 --dport 53 -l last
         -D -l first -o labels
         -L -o labels",
    ),
    (
        "tags, states and timeouts that are fixed",
        "-I -t 600 -p sctp -s 10.0.0.1 -d 10.1.0.1 --sport 3 --dport 53 --state ESTABLISHED --orig-vtag 5 --reply-vtag 6
         -U -s 10.0.0.1 -p sctp --orig-vtag 7 --reply-vtag 8
         -U -s 10.0.0.1 -p sctp --state ESTABLISHED --orig-vtag 7 --reply-vtag 8
         -U -s 10.0.0.1 -p sctp --state CLOSED --orig-vtag 7 --reply-vtag 8
         -L -o save
         -I -t 600 -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 3 --dport 53 --state ESTABLISHED -u FIXED_TIMEOUT
         -U -s 10.0.0.1 -p tcp -m 5
         -U -s 10.0.0.1 -p tcp -u SEEN_REPLY
         -U -s 10.0.0.1 -p tcp -u UNSET -m 5
         -U -s 10.0.0.1 -p tcp -u OFFLOAD
         -U -s 10.0.0.1 -p tcp -u HW_OFFLOAD -m 6
         -I -t 600 -p 50 -s ::1 -d ::2 -u FIXED_TIMEOUT
         -U -s ::1 -u ASSURED,FIXED_TIMEOUT
         -U -r ::2 -m 8
         -U -q ::1 -m 9 -o save
         -U -s ::/64 -m 10/6
         -U -s ::1 -n -m 11
         -I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 5 --dport 53
         -U -s 10.0.0.1 -p udp --sport 5 -t 0
         -I -t 5 -p udp -s ::1 -d ::2 --sport 3 --dport 4 -u EXPECTED
         -L",
    ),
    (
        "tuples that are given in part, or derived",
        "-I -t 600 -p icmp -s 10.0.0.1 -d 10.1.0.1 -r 10.1.0.1 -q 10.0.0.1 --icmp-type 8 --icmp-code 0 --icmp-id 1
         -I -t 600 -p icmpv6 -s ::1 -d ::2 --icmpv6-type 135 --icmpv6-code 0 --icmpv6-id 1
         -I -t 600 -p icmp -s ::1 -d ::2 --icmp-type 8 --icmp-code 0 --icmp-id 1
         -I -t 600 -p icmpv6 -s 1.1.1.1 -d 1.1.1.2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 1
         -I -t 600 -p udp -s 1.1.1.1 -d 1.1.1.2 -r 1.1.1.1 -q 1.1.1.3 --sport 3 --dport 4
         -I -t 600 -p udp -s 1.1.1.1 -d 1.1.1.2 -r 1.1.1.2 -q 1.1.1.3 --sport 3 --dport 4 --reply-port-src 5 --reply-port-dst 6
         -I -t 600 -p 50 -s 1.1.1.1 -d 1.1.1.2 -r 1.1.1.2 -q 1.1.1.3
         -I -t 600 -p gre -s 1.1.1.1 -d 1.1.1.2 -r 1.1.1.2 -q 1.1.1.3 --srckey 1 --dstkey 2
         -I -t 600 -p gre -s ::1 -d ::2 --reply-key-src 7 --reply-key-dst 8
         -I -t 600 -p sctp -r 1.1.1.1 -q 1.1.1.2 --reply-port-src 3 --reply-port-dst 4 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2
         -I -t 600 -p tcp -s ::1 -d ::2 --reply-port-src 3 --reply-port-dst 4 --state LISTEN
         -I -t 600 -p dccp -s ::1 -d ::2 --sport 3 --dport 4 --state OPEN --role server
         -I -t 600 -p udp -s ::1 -d ::2 --sport 3 --dport 4 --orig-zone 5 --reply-zone 6
         -I -t 600 -p udp -s ::1 -d ::2 --sport 3 --dport 4 -w 5 --reply-zone 6
         -I -t 600 -p udp -s ::1 -d ::2 --sport 3 --dport 4 -w 5 --orig-zone 5
         -I -t 600 -p udp -s ::3 -d ::2 --sport 3 --dport 4 -g -n ::5
         -I -t 600 -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 3 --dport 4 -g 0.0.0.0:5
         -I -t 600 -p udplite -s 1.1.1.1 -d 2.2.2.2 --sport 3 --dport 4 -g 3.3.3.3:5
         -I -t 600 -p gre -s 1.1.1.4 -d 2.2.2.2 --srckey 3 --dstkey 4 -n 3.3.3.3:5
         -I -t 600 -p icmp -s 1.1.1.1 -d 2.2.2.2 --icmp-type 13 --icmp-code 0 -n 3.3.3.3:5
         -A -t 600 -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 3 --dport 4 -m 5/3 -w 7
         -L -o extended
         -L -o save",
    ),
    (
        "expectations",
        "-L expect\n-F expect\n-C expect\n-D expect -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 --reply-port-src 1 --reply-port-dst 2",
    ),
];

/// Files for `-R`.
const FILES: &[(&str, &str)] = &[
    ("nothing", ""),
    ("comments", "# one\n   # two\n\n\t\n"),
    (
        "all commands",
        "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 53\nconntrack -A -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport 2 --dport 53\n-D -p udp --sport 1\n-D -p udp --sport 9\n-U -s 10.0.0.1 -m 5\n",
    ),
    ("a flush", "-F\n"),
    ("a word in quotes", "-I -t 600 -p \"udp\" -s 10.0.0.1 -d \"10.1.0.1\" --sport 1 --dport 53\n"),
    ("no last new line", "-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1"),
    ("a mistake in the last line", "-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1\n-x\n"),
    ("a command that is not allowed", "-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1\n-L\n"),
    ("expectations", "-F expect\n"),
    ("a comment after a command", "-F # all\n"),
    (
        "a refusal of the kernel",
        "-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1\n-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1\n-I -t 600 -p 51 -s 10.0.0.1 -d 10.1.0.1\n",
    ),
    ("lines that end as on Windows", "-D -p 50\r\n"),
    ("an empty word", "-F \"\"\n"),
    ("a quote that is not closed", "-D -p \"udp\n"),
    ("a quote in the middle of a word", "-D -p u\"dp\" -s 10.0.0.1\n"),
    ("a backslash between quotes", "-D -p \"ud\\p\"\n-D -p \"a \\\" b\"\n"),
    ("a backslash outside", "-D -p ud\\p\n"),
    ("single quotes", "-D -p 'udp'\n"),
    ("blanks of all kinds", "\t  -I\t-t   600 -p 50 \t-s 10.0.0.1 -d 10.1.0.1  \t\n"),
    ("a program's name before the command", "conntrack -I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1\nconntrack -D -p 50\n"),
    ("an end of options", "-D -p 99 --\n"),
    ("a table", "-D conntrack -p 99\n-I conn -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1\n"),
    ("an unknown table", "-D foo\n"),
    ("a table that cannot be changed", "-D dying\n"),
    ("two commands in a line", "-D -F\n"),
    ("no command in a line", "-p udp\n"),
    ("a file in a file", "-R /dev/null\n"),
    ("a list", "-L\n"),
    ("a list of expectations", "-L expect\n"),
    ("a lookup", "-G -p 50 -s 10.0.0.1 -d 10.1.0.1\n"),
    (
        "a lookup of an expectation",
        "-G expect -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 --reply-port-src 1 --reply-port-dst 2\n",
    ),
    (
        "a deletion of an expectation",
        "-D expect -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 --reply-port-src 1 --reply-port-dst 2\n",
    ),
    ("events", "-E\n"),
    ("events of expectations", "-E expect\n"),
    ("a count", "-C\n"),
    ("a count of expectations", "-C expect\n"),
    ("statistics", "-S\n"),
    ("statistics of expectations", "-S expect\n"),
    ("the version", "-V\n"),
    ("help", "-h\n"),
    (
        "a new expectation",
        "-I expect -t 9 -p udp -s 1.1.1.1 -d 2.2.2.2 --sport 1 --dport 2 --tuple-src 1.1.1.1 --tuple-dst 2.2.2.2 --tuple-port-src 1 --tuple-port-dst 2 --mask-src 255.255.255.255 --mask-dst 255.255.255.255 --mask-port-src 1 --mask-port-dst 2\n",
    ),
    ("an illegal option", "-F\n-I -t 600 -p 50 -s 10.0.0.1 -d 10.1.0.1 -z\n"),
    ("an option that lacks", "-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1\n"),
    ("an illegal option before a forbidden command", "-L\n-D -x\n"),
    ("an update of nothing", "-U -s 10.9.9.9 -m 5\n-D -p 99\n"),
    (
        "updates by status, timeout and state",
        "-I -t 600 -p tcp -s 10.0.0.1 -d 10.1.0.1 --sport 1 --dport 2 --state SYN_SENT\n-I -t 600 -p tcp -s 10.0.0.2 -d 10.1.0.1 --sport 1 --dport 2 --state SYN_SENT\n-U -s 10.0.0.1 -p tcp --state ESTABLISHED -t 900 -u ASSURED\n",
    ),
    (
        "all that can be made",
        "-I -t 600 -p tcp -s ::1 -d ::2 --sport 1 --dport 2 --state CLOSE -m 7\n-A -t 600 -p sctp -s ::1 -d ::2 --sport 1 --dport 2 --state CLOSED --orig-vtag 1 --reply-vtag 2 -w 7\n-I -t 600 -p dccp -s ::1 -d ::2 --sport 1 --dport 2 --state OPEN --role client\n-I -t 600 -p icmpv6 -s ::1 -d ::2 --icmpv6-type 128 --icmpv6-code 0\n-I -t 600 -p icmp -s 1.1.1.1 -d 2.2.2.2 --icmp-type 8 --icmp-code 0 --icmp-id 7\n-A -t 600 -p gre -s ::1 -d ::2 --srckey 1 --dstkey 2\n-A -t 600 -p udplite -s ::1 -d ::2 --sport 1 --dport 2 --orig-zone 9 -n ::9\n-D -p dccp -o extended\n",
    ),
    ("a refusal that ends it", "-I -t 600 -p icmp -s 1.1.1.1 -d 2.2.2.2 --icmp-type 3 --icmp-code 0\n-F\n"),
];

/// Prefix of a script line that stands for a file loaded by `-R -`; the lines of the file follow, separated by `; `.
pub(super) const LOAD: &str = "-R - << ";

/// Returns the outcome of each line, and of a final listing by `conntrack`. `labels`: whether flows can have labels.
pub(super) fn play(program: &Program, script: &[&str], labels: bool) -> Vec<Outcome> {
    Namespace::run(|namespace| {
        namespace.label_map(entries::LABEL_MAP);
        if labels {
            entries::allow_labels(namespace);
        }
        let mut outcomes: Vec<_> = script
            .iter()
            .map(|line| match line.strip_prefix(LOAD) {
                Some(file) => program.run_with(&["-R", "-"], file.replace("; ", "\n").as_bytes()),
                None => program.run(&words(line)),
            })
            .collect();
        outcomes.push(Program::new("conntrack").run(&["-L", "-o", "extended,labels"]));
        // Its standard error is discarded: the banner names conntrack for both programs.
        outcomes.last_mut().expect("one at least").stderr.clear();
        outcomes
    })
}

#[test]
fn scripts() {
    let both = Both::new();
    let mut report = Report::new("scripts");
    for (name, text) in SCRIPTS {
        let script: Vec<&str> = text.lines().map(str::trim).collect();
        let (theirs, ours) = (play(&both.theirs, &script, true), play(&both.ours, &script, true));
        for (at, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            let line = script.get(at).copied().unwrap_or("the table at the end");
            report.outcomes(&format!("{line}   ({name}, line {})", at + 1), theirs, ours);
        }
    }
    report.finish();
}

#[test]
fn files() {
    // Invoked as `conntrack`: under its own name flowgate also names the line of the file.
    let both = Both::under(&Setting { called: Some("conntrack"), ..Setting::default() });
    let mut report = Report::new("files for -R");
    for (name, text) in FILES {
        let [theirs, ours] = [&both.theirs, &both.ours].map(|program| {
            Namespace::run(|namespace| {
                let path = namespace.directory().join("lines");
                std::fs::write(&path, text).expect("a file of this namespace");
                [
                    program.run(&["-R", &path.display().to_string()]),
                    program.run_with(&["--load-file", "-", "ignored"], text.as_bytes()),
                    Program::new("conntrack").run(&["-L", "-o", "extended"]),
                ]
            })
        });
        for (what, (theirs, ours)) in ["-R FILE", "--load-file -"].iter().zip(theirs.iter().zip(&ours)) {
            report.outcomes(&format!("{what}: {name}"), theirs, ours);
        }
        assert!(theirs[2].status == 0 && ours[2].status == 0);
        let tables = [theirs[2].clone(), ours[2].clone()].map(|table| Outcome { stderr: Vec::new(), ..table });
        report.outcomes(&format!("the table after -R: {name}"), &tables[0], &tables[1]);
    }
    report.finish();
}

/// Limits on the length of a line and a word, and on the number of words: at the limit and beyond it.
#[test]
fn lines_have_limits() {
    let both = Both::under(&Setting { called: Some("conntrack"), ..Setting::default() });
    let mut report = Report::new("limits of -R");
    for (what, file) in [
        ("a word at the limit", format!("-I -p udp -s {}\n", "x".repeat(1023))),
        ("a word beyond the limit", format!("-D -p 99 {}\n", "x".repeat(1024))),
        ("as many words as can be", format!("-D -p 99{}\n", " -p 99".repeat(125))),
        ("a word too many", format!("-D -p 99{} -n\n", " -p 99".repeat(125))),
        ("a line at the limit", format!("-D -p 99{}\n", " ".repeat(10230))),
        ("a line beyond the limit", format!("-D -p 99 {}-D -p 98\n", " ".repeat(10230))),
        ("a comment beyond the limit", format!("#{}-x\n", " ".repeat(10238))),
        ("a word with a zero byte", "-D -p 99\0b\n-D -p 98\n".into()),
    ] {
        let [theirs, ours] = [&both.theirs, &both.ours]
            .map(|program| Namespace::run(|_| program.run_with(&["-R", "-"], file.as_bytes())));
        report.outcomes(what, &theirs, &ours);
    }
    report.finish();
}

/// An intended difference: upstream applies the mark of the file's last line to all updating lines; flowgate applies to
/// each line its own. Both are checked, so that this test fails when the difference disappears.
#[test]
fn lines_of_a_file_keep_their_own_mark() {
    let create = |port| format!("-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport {port} --dport 53\n");
    let update = |port, mark| format!("-U -s 10.0.0.1 -p udp --sport {port} -m {mark}\n");
    let file = [create(1), create(2), update(1, 5), update(2, 7)].concat();
    let both = Both::new();
    let marks = [(&both.theirs, 3), (&both.ours, 1)].map(|(program, attempts)| {
        // Upstream's program fails here about once in a thousand times. This test is about what it does when it
        // succeeds.
        let attempt = |number| {
            Namespace::run(|_| {
                let outcome = program.run_with(&["-R", "-"], file.as_bytes());
                if outcome.status != 0 && number < attempts {
                    eprintln!("attempt {number}: status {}: {}", outcome.status, outcome.errors());
                    return None;
                }
                assert_eq!(outcome.status, 0, "{}: {}", program.path.display(), outcome.errors());
                let count = |mark| Program::new("conntrack").must(&["-L", "-m", mark]).lines().count();
                Some(["5", "7"].map(count))
            })
        };
        (1..=attempts).find_map(attempt).expect("the last attempt has a result or fails")
    });
    assert_eq!(marks, [[0, 2], [1, 1]], "flows with mark 5 and with mark 7: conntrack's, then flowgate's");
}

/// An intended difference: upstream prints the results of all lines in the output format of any line, and rejects a
/// file in which one line asks for `save` and another one for XML. In flowgate each line has its own output format.
#[test]
fn lines_of_a_file_keep_their_own_output() {
    let create = |port| format!("-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport {port} --dport 53\n");
    let delete = |port, output| format!("-D -p udp --sport {port} {output}\n");
    let both = Both::new();
    for (outputs, theirs, ours) in [
        (["", "-o xml"], ["<flow>", "<flow>"], ["udp ", "<flow>"]),
        (["-o save", ""], ["-D ", "-D "], ["-D ", "udp "]),
        (["-o extended", "-o id"], ["ipv4 ", "ipv4 "], ["ipv4 ", "udp "]),
    ] {
        let file = [create(1), create(2), delete(1, outputs[0]), delete(2, outputs[1])].concat();
        for (program, starts) in [(&both.theirs, theirs), (&both.ours, ours)] {
            let text = Namespace::run(|_| program.must_with(&["-R", "-"], file.as_bytes()));
            let as_wanted = text.lines().zip(starts).all(|(line, start)| line.starts_with(start));
            assert!(as_wanted && text.lines().count() == 2, "{}: {starts:?}\n{text}", program.path.display());
        }
    }
}

/// `-i` selects a single entry, as a filter for a lookup, an update and a deletion.
#[test]
fn entries_by_their_id() {
    let both = Both::new();
    let mut report = Report::new("ids");
    Namespace::run(|namespace| {
        let lines =
            ["1", "2"].map(|port| format!("-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport {port} --dport 53"));
        let id = |port: &str| {
            let listed = Program::new("conntrack").must(&["-L", "-p", "udp", "--sport", port, "-o", "id"]);
            listed.trim_end().split_once(" id=").expect("an id").1.to_owned()
        };
        entries::load(namespace, &lines);
        let first = id("1");
        let lookup = "-G -p udp -s 10.0.0.1 -d 10.1.0.1 --sport";
        for line in [
            format!("{lookup} 1 --dport 53 -i {first}"),
            format!("{lookup} 1 --dport 53 --id={first}"),
            format!("{lookup} 2 --dport 53 -i {first}"),
            format!("{lookup} 1 --dport 53 -i 5 -o xml"),
            "-D -i 5".into(),
            "-U -f ipv4 -i 5 -m 7".into(),
            format!("-D -i {first} -p tcp"),
            format!("-U -s 10.0.0.1 -p udp --sport 2 -i {first} -m 7"),
        ] {
            report.words(namespace, &Setting::default(), &line);
        }
        // Commands that change the entry are run by each program on an entry of its own with the same description.
        for act in ["-U -f ipv4 -m 7 -i ", "-D -i "] {
            let [theirs, ours] = [&both.theirs, &both.ours].map(|program| {
                Program::new("conntrack").must(&["-F"]);
                entries::load(namespace, &lines);
                program.run(&words(&format!("{act}{}", id("1"))))
            });
            assert_eq!(ours.text().lines().count(), 1, "{act}");
            report.outcomes(act, &theirs, &ours);
        }
    });
    report.finish();
}

/// Under its own name flowgate reports the line of a file that failed, both for syntax errors and for failed requests.
#[test]
fn mistakes_in_files_are_located() {
    let create = |port| format!("-I -t 600 -p udp -s 10.0.0.1 -d 10.1.0.1 --sport {port} --dport 53\n");
    Namespace::run(|_| {
        let ours = Both::own();
        for (file, last) in [
            (format!("# first\n{}-x\n", create(1)), "in /dev/stdin, line 3\n"),
            (format!("{}\n-L\n", create(1)), "in /dev/stdin, line 3\n"),
            (
                [create(1), "#\n".into(), create(2), create(2), create(3)].concat(),
                "in /dev/stdin, line 4\nflowgate: 3 created, 1 refused\n",
            ),
        ] {
            let outcome = ours.run_with(&["-R", "-"], file.as_bytes());
            assert_ne!(outcome.status, 0);
            assert!(outcome.errors().ends_with(last), "{file}\n{}", outcome.errors());
        }
        assert_eq!(Program::new("conntrack").must(&["-C"]), "3\n", "the line that was refused lost only itself");
    });
    // Invoked as `conntrack`, it executes nothing after the failed line.
    Namespace::run(|_| {
        let both = Both::under(&Setting { called: Some("conntrack"), ..Setting::default() });
        let file = [create(1), create(2), create(2), create(3)].concat();
        let outcome = both.ours.run_with(&["-R", "-"], file.as_bytes());
        assert_eq!(outcome.status, 1);
        assert!(!outcome.errors().contains("line "), "{}", outcome.errors());
        assert_eq!(Program::new("conntrack").must(&["-C"]), "2\n");
    });
}

/// Counters as JSON, one object per line.
#[test]
fn counters_as_json() {
    Namespace::run(|_| {
        let ours = Both::own();
        for words in [&["-S", "-o", "json"][..], &["-C", "-o", "json"], &["-S", "expect", "-o", "json"]] {
            let text = ours.must(words);
            assert!(
                text.lines().count() > 0 && text.lines().all(|line| line.starts_with("{\"type\":\"statistics\"")),
                "{text}"
            );
        }
        assert_eq!(ours.run(&["-S", "-o", "xml"]).status, 2);
    });
}
