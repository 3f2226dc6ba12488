//! Third-party scripts that call `conntrack` and parse its output, each run unchanged with a link of that name.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use flowgate_test_support::{Namespace, Outcome, Program, entries, program::shell_status};

use crate::field::flowgate;

/// Creates a directory with the program under the name `conntrack`, and returns a PATH that starts with it.
fn path(namespace: &Namespace) -> String {
    let directory = namespace.directory().join("bin");
    if !directory.exists() {
        std::fs::create_dir(&directory).expect("a directory");
        std::os::unix::fs::symlink(flowgate().path, directory.join("conntrack")).expect("a link");
    }
    let others = std::env::var("PATH").unwrap_or_default();
    format!("{}:{others}", directory.display())
}

/// Returns the command for a script and its interpreter.
fn command(namespace: &Namespace, words: &[&str]) -> Command {
    let mut command = Program::new(words[0]).command(&words[1..]);
    command.env("PATH", path(namespace)).stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> Outcome {
    let output = command.output().expect("the interpreter of the script");
    Outcome { stdout: output.stdout, stderr: output.stderr, status: shell_status(output.status) }
}

fn sh(namespace: &Namespace, script: &str) -> Outcome {
    output(&mut command(namespace, &["sh", "-c", script]))
}

fn python(namespace: &Namespace, script: &str) -> Outcome {
    output(&mut command(namespace, &["python3", "-c", script]))
}

fn insert(namespace: &Namespace, words: &str) {
    entries::insert(namespace, words);
}

/// libreswan's tests: the flows with NAT, with ids normalized.
#[test]
fn libreswan() {
    Namespace::run(|namespace| {
        insert(namespace, "-p udp -s 192.0.2.1 -d 198.51.100.1 --sport 1 --dport 4500 -t 100 -n 203.0.113.9");
        insert(namespace, "-p udp -s 192.0.2.2 -d 198.51.100.1 --sport 1 --dport 4500 -t 100");
        let outcome = sh(namespace, "conntrack -L -n -o id | sed -e 's/id=[0-9]*/id=XXXX/' -e 's/ [0-9]* src/ T src/'");
        assert_eq!(
            outcome.text(),
            "udp      17 T src=192.0.2.1 dst=198.51.100.1 sport=1 dport=4500 [UNREPLIED] src=198.51.100.1 \
             dst=203.0.113.9 sport=4500 dport=1 mark=0 use=1 id=XXXX\n"
        );
        let plain = sh(namespace, "conntrack -L -n | sed s/id=[0-9]*/id=XXXX/");
        assert!(!plain.text().contains("id="), "without -o id there is none");
        assert!(plain.errors().ends_with("1 flow entries have been shown.\n"), "{}", plain.errors());
    });
}

/// VyOS: XML parsed into a list of dictionaries. Without flows there is no XML.
const VYOS: &str = r#"
import subprocess, xml.etree.ElementTree as xml
text = subprocess.run(["conntrack", "--dump", "--family", "ipv4", "--output", "xml"], capture_output=True, text=True,
                      check=True).stdout
if not text:
    print("none")
    raise SystemExit
def of(node):
    value = {"@" + name: text for name, text in node.attrib.items()}
    for child in node:
        value.setdefault(child.tag, []).append(of(child) if len(child) or child.attrib else child.text)
    return value
flows = of(xml.fromstring(text))["flow"]
for flow in flows:
    metas = {meta["@direction"]: meta for meta in flow["meta"]}
    original, independent = metas["original"], metas["independent"]
    print(independent["id"][0].isdigit(), original["layer3"][0]["src"][0], original["layer4"][0]["@protoname"],
          original["layer4"][0]["dport"][0], independent["timeout"][0].isdigit(), independent.get("state", ["-"])[0])
"#;

#[test]
fn vyos() {
    Namespace::run(|namespace| {
        let outcome = python(namespace, VYOS);
        assert_eq!((outcome.status, outcome.text().as_str()), (0, "none\n"), "{}", outcome.errors());
        // Only flows of the other family.
        insert(namespace, "-p udp -s 2001:db8::1 -d 2001:db8::2 --sport 1 --dport 53 -t 100");
        let outcome = python(namespace, VYOS);
        assert_eq!((outcome.status, outcome.text().as_str()), (0, "none\n"), "{}", outcome.errors());
        insert(namespace, "-p udp -s 192.0.2.1 -d 198.51.100.1 --sport 1 --dport 53 -t 100");
        insert(namespace, "-p tcp -s 192.0.2.2 -d 198.51.100.1 --sport 1 --dport 22 -t 100 --state ESTABLISHED");
        let outcome = python(namespace, VYOS);
        let mut lines: Vec<String> = outcome.text().lines().map(str::to_owned).collect();
        lines.sort();
        let expected = ["True 192.0.2.1 udp 53 True -", "True 192.0.2.2 tcp 22 True ESTABLISHED"];
        assert_eq!(lines, expected, "{}", outcome.errors());
    });
}

/// A watchdog for NFS mounts: state, seconds and ports by column.
#[test]
fn nfs_watchdog() {
    Namespace::run(|namespace| {
        insert(namespace, "-p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 700 --dport 2048 -t 431999 --state ESTABLISHED");
        insert(namespace, "-p tcp -s 192.0.2.1 -d 198.51.100.1 --sport 701 --dport 2048 -t 120 --state SYN_SENT");
        insert(namespace, "-p tcp -s 192.0.2.1 -d 198.51.100.9 --sport 702 --dport 2048 -t 120 --state TIME_WAIT");
        let script = "conntrack -L -p tcp -d 198.51.100.1 --dport 2048 2>/dev/null | while read -r line; do\n\
                      set -- $line\n\
                      sport=${7#sport=}; dport=${8#dport=}\n\
                      [ \"$3\" -gt 0 ] && echo \"$4 $sport $dport\"\n\
                      done | sort";
        assert_eq!(sh(namespace, script).text(), "ESTABLISHED 700 2048\nSYN_SENT 701 2048\n");
        let script = "conntrack -L -p tcp --state ESTABLISHED 2>&1 >/dev/null | awk '{print $(NF-5)}'";
        assert_eq!(sh(namespace, script).text(), "1\n", "the number in the last line");
    });
}

/// Agents of OpenStack: status 1 means "no such flow", any other a failure.
#[test]
fn openstack_agents() {
    Namespace::run(|namespace| {
        insert(namespace, "-p udp -s 10.0.0.5 -d 10.0.0.6 --sport 1 --dport 53 -t 100 -w 7");
        let script = "for words in '-f ipv4 -s 10.0.0.5 -w 7' '-f ipv4 -s 10.0.0.5 -w 7' '-f ipv6 -d 2001:db8::1 -w 7' \
                      '-f ipv4 -p tcp -s 10.0.0.5 -d 10.0.0.6 -w 7'; do\n\
                      conntrack -D $words >/dev/null 2>&1; echo $?; done";
        assert_eq!(sh(namespace, script).text(), "0\n1\n1\n1\n");
    });
}

/// kube-proxy: finding no flow is not a failure, and is recognized by a part of the message.
#[test]
fn kube_proxy() {
    Namespace::run(|namespace| {
        let script = "out=$(conntrack -D --orig-dst 10.96.0.10 --dst-nat 10.0.0.9 -p udp 2>&1); status=$?\n\
                      case \"$out\" in *' 0 flow entries have been deleted'*) echo nothing $status;; *) echo \"$out\";; esac";
        assert_eq!(sh(namespace, script).text(), "nothing 1\n");
        insert(namespace, "-p udp -s 10.0.0.1 -d 10.96.0.10 --sport 1 --dport 53 -t 100 -g 10.0.0.9");
        let script = "conntrack -D --orig-dst 10.96.0.10 --dst-nat 10.0.0.9 -p udp 2>&1 >/dev/null; \
                      conntrack -D -p udp --orig-port-dst 53 2>&1";
        let outcome = sh(namespace, script);
        let lines: Vec<String> = outcome.text().lines().map(str::to_owned).collect();
        assert!(lines[0].ends_with(": 1 flow entries have been deleted."), "{lines:?}");
        assert!(lines[1].ends_with(": 0 flow entries have been deleted."), "{lines:?}");
    });
}

/// An orchestrator and a release tool that recognize success only by conntrack's exact line, including the banner.
#[test]
fn matchers_of_the_banner() {
    Namespace::run(|namespace| {
        let script = "conntrack -D -p udp -s 192.0.2.1 2>&1 >/dev/null | \
                      grep -cE '^conntrack v[0-9.]+ \\(conntrack-tools\\): 0 flow entries have been deleted\\.$'";
        assert_eq!(sh(namespace, script).text(), "1\n");
    });
}

/// Exporters of metrics: fields by name, one line per processor, and a plain number.
#[test]
fn exporters() {
    Namespace::run(|namespace| {
        insert(namespace, "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 53 -t 100");
        assert_eq!(sh(namespace, "conntrack -C").text(), "1\n");
        let script = r#"
import re, subprocess
lines = subprocess.run(["conntrack", "-S"], capture_output=True, text=True, check=True).stdout.splitlines()
line = re.compile(r"^cpu=(\d+)\s+found=(\d+) invalid=(\d+) insert=(\d+) insert_failed=(\d+) drop=(\d+) "
                  r"early_drop=(\d+) error=(\d+) search_restart=(\d+)( clash_resolve=(\d+))?( chaintoolong=(\d+))? ?$")
found = [line.match(text) for text in lines]
assert all(found), lines
assert [int(match.group(1)) for match in found] == list(range(len(found))), lines
print(len(found) > 0)
"#;
        let outcome = python(namespace, script);
        assert_eq!((outcome.status, outcome.text().as_str()), (0, "True\n"), "{}", outcome.errors());
    });
}

/// A flow log by awk: the event is the second field, after the time.
#[test]
fn flow_log() {
    Namespace::run(|namespace| {
        let script = "mkfifo pipe; conntrack -E -e NEW,DESTROY -o timestamp > pipe & listener=$!\n\
                      awk '{ split($1, time, /[].[]/); print $2, (time[2] > 1600000000), $3; if (++n == 2) exit }' pipe > log &\n\
                      reader=$!\n\
                      for try in $(seq 600); do\n\
                      conntrack -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport $try --dport 53 -t 100 2>/dev/null\n\
                      conntrack -D -p udp --sport $try >/dev/null 2>&1\n\
                      [ \"$(wc -l < log)\" = 2 ] && break; sleep 0.1\n\
                      done\n\
                      wait $reader; kill $listener 2>/dev/null; wait $listener 2>/dev/null; cat log";
        let mut command = command(namespace, &["sh", "-c", script]);
        let outcome = output(command.current_dir(namespace.directory()));
        let text = outcome.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}{}", outcome.errors());
        for line in lines {
            assert!(["[NEW] 1 udp", "[DESTROY] 1 udp"].contains(&line), "{text}");
        }
    });
}

/// A driver of virtual machines, and others: marks selected by `grep`, ports by `awk -F`.
#[test]
fn fields_by_separator() {
    Namespace::run(|namespace| {
        insert(namespace, "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 4711 --dport 53 -t 100 -m 5");
        insert(namespace, "-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 4712 --dport 53 -t 100");
        let script = "conntrack -L 2>/dev/null | grep 'mark=5 ' | awk -F'sport=' '{print $2}' | cut -d' ' -f1";
        assert_eq!(sh(namespace, script).text(), "4711\n");
        let script = "conntrack -L -o extended 2>/dev/null | awk '{print $1, $2, $3, $4}' | sort -u";
        assert_eq!(sh(namespace, script).text(), "ipv4 2 udp 17\n");
        let script = "conntrack -L 2>/dev/null | wc -l; conntrack -L 2>&1 >/dev/null | grep -o '[0-9]* flow entries'";
        assert_eq!(sh(namespace, script).text(), "2\n2 flow entries\n");
    });
}

/// Sixteen listings at the same time while flows come and go, as in the kernel's own tests. Flows that stay are in each
/// listing exactly once. (The hash table is not resized meanwhile: it belongs to the whole host, and a kernel dump
/// repeats and skips entries during a resize.)
#[test]
fn sixteen_listings_at_once() {
    Namespace::run(|namespace| {
        let steady = 3000;
        let line = |number: u32| {
            let (high, low) = (number >> 8, number & 0xff);
            format!("-I -t 600 -s 10.1.{high}.{low} -d 198.51.100.1 -p udp --sport 4000 --dport 53")
        };
        entries::load(namespace, &(0..steady).map(line).collect::<Vec<_>>());
        let churn: String = (0..2000)
            .map(|number| line(number).replace("10.1.", "10.2.") + "\n")
            .chain((0..2000).map(|number| line(number).replace("10.1.", "10.2.").replace("-I -t 600", "-D") + "\n"))
            .collect();
        let file = namespace.directory().join("churn");
        std::fs::write(&file, churn).expect("a file");
        let script = format!(
            "while [ ! -e stop ]; do conntrack -R {} >/dev/null 2>&1; done & churn=$!\n\
             for number in $(seq 16); do conntrack -L -s 10.1.0.0/16 > list.$number 2> errors.$number & all=\"$all $!\"; done\n\
             for one in $all; do wait $one || echo failed; done; touch stop; wait $churn\n\
             for number in $(seq 16); do\n\
             echo $(sort list.$number | uniq | wc -l) $(grep -o 'src=10.1[0-9.]* dst=198' list.$number | sort -u | wc -l) \
             $(grep -o 'src=10.1[0-9.]* dst=198' list.$number | wc -l)\n\
             done | sort -u",
            file.display()
        );
        let mut command = command(namespace, &["sh", "-c", &script]);
        let outcome = output(command.current_dir(namespace.directory()));
        assert_eq!(outcome.text(), format!("{steady} {steady} {steady}\n"), "{}", outcome.errors());
    });
}

/// Scripts find the link, and no other program of that name.
#[test]
fn case_13_scripts_find_the_link() {
    Namespace::run(|namespace| {
        let found = PathBuf::from(sh(namespace, "command -v conntrack").text().trim());
        assert_eq!(found, namespace.directory().join("bin/conntrack"));
        assert!(sh(namespace, "conntrack -V").text().starts_with("conntrack v1.4.9"));
    });
}
