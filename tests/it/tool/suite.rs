//! `plugin test`: passing and failing cases, expected output that is written, and errors in test.toml.

use std::fs;

use super::{directory, flowgate, plugins, root, text, write};

const FLOWS: &str = "\
tcp 6 100 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 [ASSURED] mark=0 use=1
udp 17 30 src=10.0.0.1 dst=10.0.0.2 sport=3 dport=4 src=10.0.0.2 dst=10.0.0.1 sport=4 dport=3 mark=0 use=1
icmp 1 30 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=5 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=5 mark=0 use=1
";

#[test]
fn the_examples_pass() {
    let place = directory("examples");
    plugins::built("heavy-tcp");
    let outcome = flowgate(
        &place,
        &["plugin", "test", text(&root().join("examples/heavy-tcp")), "--plugin", text(&plugins::built("heavy-tcp"))],
    );
    assert!(outcome.stdout(0).ends_with("4 passed, 0 failed\n"), "{}", outcome.stdout);
}

#[test]
fn what_is_asked_of_the_kernel_is_written_down_and_not_done() {
    let place = directory("actions");
    write(&place, "flows.txt", FLOWS);
    let case = |name: &str, more: &str| {
        format!("[[case]]\nname = \"{name}\"\nflows = \"flows.txt\"\noptions = {{ do = \"ungranted\" }}\n{more}\n")
    };
    let toml = [
        case("granted", "grants = \"delete\""),
        case("not granted", ""),
        case("two at a time", "grants = \"delete\"\nbatch = 2"),
    ]
    .concat();
    write(&place, "test.toml", &toml);
    let plugin = plugins::built("hostile");
    let outcome = flowgate(&place, &["plugin", "test", "--bless", "--plugin", text(&plugin)]);
    assert!(outcome.stdout(0).ends_with("0 passed, 0 failed, 3 written\n"), "{}", outcome.stdout);
    let granted = fs::read_to_string(place.join("expected/granted.txt")).expect("it was written");
    assert_eq!(
        granted,
        "\
keep tcp      6 100 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 [ASSURED] mark=0 use=1
  -> conntrack -D -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -q 10.0.0.1 -p tcp --sport 1 --dport 2 --reply-port-src 2 --reply-port-dst 1
keep udp      17 30 src=10.0.0.1 dst=10.0.0.2 sport=3 dport=4 src=10.0.0.2 dst=10.0.0.1 sport=4 dport=3 mark=0 use=1
  -> conntrack -D -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -q 10.0.0.1 -p udp --sport 3 --dport 4 --reply-port-src 4 --reply-port-dst 3
keep icmp     1 30 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=5 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=5 mark=0 use=1
  -> conntrack -D -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -q 10.0.0.1 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 5
"
    );
    assert_eq!(fs::read_to_string(place.join("expected/two-at-a-time.txt")).expect("it was written"), granted);
    let refused = fs::read_to_string(place.join("expected/not-granted.txt")).expect("it was written");
    assert!(
        refused.contains(
            "\n  -x conntrack -D -s 10.0.0.1 -d 10.0.0.2 -r 10.0.0.2 -q 10.0.0.1 -p tcp --sport 1 --dport 2 --reply-port-src 2 --reply-port-dst 1  # not granted: delete\n"
        ),
        "{refused}"
    );
    let again = flowgate(&place, &["plugin", "test", "--plugin", text(&plugin)]);
    assert!(again.stdout(0).ends_with("3 passed, 0 failed\n"), "{}", again.stdout);
}

#[test]
fn what_is_otherwise_than_expected_is_shown() {
    let place = directory("difference");
    write(&place, "flows.txt", FLOWS);
    let row = |line: usize, word: &str| format!("{word} {}\n", ["tcp      6", "udp      17", "icmp     1"][line]);
    write(
        &place,
        "test.toml",
        &format!(
            "[[case]]\nname = \"wrong\"\nflows = \"flows.txt\"\nexpect = \"\"\"\n{}{}\"\"\"\n",
            row(0, "keep"),
            row(1, "drop")
        ),
    );
    let plugin = plugins::built("hostile");
    let outcome = flowgate(&place, &["plugin", "test", "--plugin", text(&plugin)]);
    outcome.stdout(1);
    outcome.says("  FAIL  wrong\n");
    outcome.says("        - drop udp      17\n");
    outcome.says("        + keep udp      17 30 src=10.0.0.1");
    outcome.says("0 passed, 1 failed\n");
    assert!(!outcome.stdout.contains('\x1b'), "no colour where there is no terminal");

    let inline = flowgate(&place, &["plugin", "test", "--bless", "--plugin", text(&plugin)]);
    inline.stdout(1);
    inline.says("--bless writes files only; change expect = in test.toml by hand");

    let outcome = flowgate(&place, &["plugin", "test", "-o", "json", "--plugin", text(&plugin)]);
    let lines: Vec<serde_json::Value> =
        outcome.stdout(1).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["result"], "failed");
    assert!(lines[0]["found"].as_str().expect("a text").starts_with("keep tcp      6 100"));
    assert_eq!(lines[1], serde_json::json!({"type": "summary", "passed": 0, "blessed": 0, "failed": 1}));
}

#[test]
fn failures_of_plugins_can_be_expected() {
    let place = directory("failures");
    let case = |name: &str, what: &str, error: &str| {
        format!(
            "[[case]]\nname = \"{name}\"\nflows = '''\n{FLOWS}'''\noptions = {{ do = \"{what}\" }}\nerror = \"{error}\"\n"
        )
    };
    let toml = [
        case("a trap", "trap", "trapped: panicked"),
        case("nonsense", "strange-verdict", "returned the verdict 7 for row 0"),
        case("options", "refuse", "refuses"),
        case("none", "nothing", "trapped"),
        case("another", "trap", "deadline"),
    ]
    .concat();
    write(&place, "test.toml", &toml);
    let outcome = flowgate(&place, &["plugin", "test", "--plugin", text(&plugins::built("hostile"))]);
    assert!(outcome.stdout(1).ends_with("3 passed, 2 failed\n"), "{}", outcome.stdout);
    outcome.says("it was expected to fail, and did not; expected was: trapped");
    outcome.says("it failed otherwise than expected: plugin ");
    let some =
        flowgate(&place, &["plugin", "test", "--case", "nonsense", "--plugin", text(&plugins::built("hostile"))]);
    assert!(some.stdout(0).ends_with("1 passed, 0 failed\n"), "{}", some.stdout);
    let none = flowgate(&place, &["plugin", "test", "--case", "xyzzy", "--plugin", text(&plugins::built("hostile"))]);
    assert!(none.stdout(1).ends_with("0 passed, 0 failed\n"), "nothing tested is nothing passed: {}", none.stdout);
}

#[test]
fn mistakes_in_test_toml_are_told_with_their_place() {
    let place = directory("mistakes");
    write(&place, "flows.txt", FLOWS);
    let plugin = plugins::built("hostile");
    let case = "[[case]]\nname = \"x\"\nflows = \"flows.txt\"\n";
    for (toml, expected) in [
        (format!("{case}bach = 2\n"), "line 4, column 1"),
        (format!("{case}bach = 2\n"), "unknown field `bach`, expected one of `name`, `flows`"),
        ("plugn = 1\n".into(), "unknown field `plugn`"),
        (format!("{case}batch = \"two\"\n"), "invalid type: string \"two\""),
        (format!("{case}batch = 0\n"), "case `x`: batch = 0 is not a number from 1 to 65536"),
        (format!("{case}grants = \"delet\"\n"), "there is no grant `delet`; there are delete, create, update"),
        (format!("{case}output = \"jsn\"\n"), "output `jsn` is not known; the words are text, xml"),
        (format!("{case}expectations = \"flows.txt\"\n"), "it needs one of flows = and expectations ="),
        ("[[case]]\nname = \"x\"\n".into(), "it needs one of flows = and expectations ="),
        (format!("{case}expect = \"a\"\nerror = \"b\"\n"), "it has both expect = and error ="),
        (format!("{case}options = {{ do = [1] }}\n"), "option `do` is neither text nor a number"),
        (format!("{case}{case}"), "another case has the same name"),
        (String::new(), "test.toml has no [[case]]"),
        ("[[case]]\nname = \"x\"\nflows = \"missing.txt\"\n".into(), "cannot read ./missing.txt: No such file"),
        (format!("labels = {{ web = 128 }}\n{case}"), "label `web` is 128; labels are numbers from 0 to 127"),
        (format!("{case}options = {{ nonsense = 1 }}\n"), "it has no option `nonsense`; it has do=WHAT"),
        (
            "[[case]]\nname = \"x\"\nflows = \"\"\"\nudp 6\n\"\"\"\n".into(),
            "test.toml (flows of `x`):1:5: `6` is not its number; udp is 17",
        ),
    ] {
        write(&place, "test.toml", &toml);
        let outcome = flowgate(&place, &["plugin", "test", "--plugin", text(&plugin)]);
        outcome.stdout(1);
        outcome.says(expected);
        outcome.says("0 passed, 1 failed");
    }
    write(&place, "test.toml", case);
    let outcome = flowgate(&place, &["plugin", "test"]);
    outcome.stdout(1);
    outcome.says("no plugin was found for .: build it, or name it in test.toml");
    let outcome = flowgate(&place, &["plugin", "test", "nowhere"]);
    outcome.stdout(1);
    outcome.says("cannot read nowhere/test.toml");
}
