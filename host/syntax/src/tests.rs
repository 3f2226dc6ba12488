//! Tests of whole command lines: settings, errors and warnings.

use super::environment::tests::FakeEnvironment;
use super::*;
use flowgate_model::{Masked, field};
use std::ffi::OsStr;

/// Command lines and their results; the head of the file describes the format.
const LINES: &str = include_str!("testdata/command_lines.txt");

/// Splits a line at spaces; single quotes group.
fn words(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut word = String::new();
        let mut quoted = false;
        let end = rest.find(|byte| {
            quoted ^= byte == '\'';
            byte == ' ' && !quoted
        });
        let (first, more) = rest.split_at(end.unwrap_or(rest.len()));
        word.extend(first.chars().filter(|byte| *byte != '\''));
        words.push(word.into());
        rest = more.trim_start();
    }
    words
}

fn parse_as(program: &str, line: &str, environment: &FakeEnvironment) -> Parsed {
    parse(&ProgramName::of(OsStr::new(program)), &words(line), environment)
}

fn settings_in(line: &str, environment: &FakeEnvironment) -> Settings {
    match parse_as("conntrack", line, environment).result {
        Ok(CommandLine::Run(settings)) => *settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn settings(line: &str) -> Settings {
    settings_in(line, &FakeEnvironment::default())
}

fn error_as(program: &str, line: &str) -> String {
    match parse_as(program, line, &FakeEnvironment::default()).result {
        Err(error) => error.to_string(),
        Ok(invocation) => panic!("{line}: {invocation:?}"),
    }
}

/// Returns the status and the lines on stderr, in the format of the file; status `-` if the command is valid.
fn outcome(line: &str) -> String {
    let parsed = parse_as("conntrack", line, &FakeEnvironment::default());
    let mut parts = vec!["-".to_owned()];
    parts.extend(parsed.warnings);
    if let Err(error) = parsed.result {
        parts[0] = error.status().to_string();
        parts.push(error.to_string());
    }
    parts.join(" | ")
}

#[test]
fn every_command_line_of_the_file_comes_out_as_it_says() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut blessed = String::new();
    let mut wrong = Vec::new();
    for line in LINES.lines() {
        if line.is_empty() || line.starts_with('#') {
            blessed += &format!("{line}\n");
            continue;
        }
        let (left, expected) = line.split_once(" => ").unwrap_or((line, ""));
        let found = outcome(left.strip_prefix("~ ").unwrap_or(left));
        blessed += &format!("{left} => {found}\n");
        if found != expected {
            wrong.push(format!("{left}\n  expected {expected}\n  found    {found}"));
        }
    }
    if bless {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testdata/command_lines.txt");
        std::fs::write(path, blessed).expect("the file can be written");
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn nothing_at_all_asks_for_help() {
    let parsed = parse(&ProgramName::of(OsStr::new("/usr/sbin/conntrack")), &[], &FakeEnvironment::default());
    match parsed.result {
        Ok(CommandLine::Run(settings)) => assert_eq!(settings.command, Command::Help),
        other => panic!("{other:?}"),
    }
    let settings = settings("-h -p ipv6-icmp");
    let expected = HelpProtocol { number: 58, name: "ipv6-icmp".to_owned(), has_options: false };
    assert_eq!(settings.help_protocol, Some(expected));
    let unknown = self::settings("-h -p 200").help_protocol.expect("a protocol");
    assert_eq!((unknown.name.as_str(), unknown.has_options), ("unknown", false));
}

#[test]
fn commands_that_know_no_request_for_both_families_take_ipv4() {
    assert_eq!(settings("-L").family, None);
    assert_eq!(settings("-L dying").family, None);
    assert_eq!(settings("-F").family, None);
    assert_eq!(settings("-F -f ipv6").family, Some(10));
    assert_eq!(settings("-L expect").family, Some(2));
    assert_eq!(settings("-L expect -f ipv6").family, Some(10));
    assert_eq!(settings("-C").family, Some(2));
    assert_eq!(settings("-L -s ::1").family, Some(10));
    assert_eq!(settings("-L -n ::1").family, Some(10));
}

#[test]
fn addresses_and_ports_select() {
    let selection =
        settings("-L -s 10.1.2.3/8 -d 1.2.3.4 -q 9.9.9.9 -p tcp --dport 80 --reply-port-src 8080").selection;
    let source = selection.original.source.expect("a network");
    assert_eq!((source.value.hi, source.value.lo), (0, 0xffff_0a01_0203));
    assert_eq!((source.mask.hi, source.mask.lo), (u64::MAX, 0xffff_ffff_ff00_0000));
    let destination = selection.original.destination.expect("a network");
    assert_eq!((destination.mask.hi, destination.mask.lo), (u64::MAX, u64::MAX));
    assert_eq!(selection.original.source_l4, None);
    assert_eq!(selection.original.destination_l4, Some(Masked { value: 80, mask: 0xffff }));
    assert_eq!(selection.reply.source, None);
    assert_eq!(selection.reply.destination.expect("a network").value.lo, 0xffff_0909_0909);
    assert_eq!(selection.reply.source_l4, Some(Masked { value: 8080, mask: 0xffff }));
    assert_eq!((selection.protocol, selection.family), (Some(6), Some(2)));
}

#[test]
fn a_mask_of_an_earlier_prefix_stays() {
    let selection = settings("-L -s 10.0.0.0/8 -s 11.0.0.0").selection;
    let source = selection.original.source.expect("a network");
    assert_eq!((source.value.lo, source.mask.lo), (0xffff_0b00_0000, 0xffff_ffff_ff00_0000));
    let selection = settings("-E -s 10.0.0.1 --mask-src 255.0.255.0").selection;
    assert_eq!(selection.original.source.expect("a network").mask.lo, 0xffff_ffff_ff00_ff00);
}

#[test]
fn icmp_selects_by_halves_of_a_word() {
    let masked = |line| settings(line).selection.original.destination_l4;
    assert_eq!(masked("-L -p icmp --icmp-type 8"), Some(Masked { value: 0x800, mask: 0xff00 }));
    assert_eq!(masked("-L -p icmp --icmp-code 3"), Some(Masked { value: 3, mask: 0xff }));
    assert_eq!(masked("-L -p icmpv6 --icmpv6-type 128 --icmpv6-code 0"), Some(Masked { value: 0x8000, mask: 0xffff }));
    let selection = settings("-L -p icmp --icmp-id 7").selection;
    assert_eq!(selection.original.source_l4, Some(Masked { value: 7, mask: 0xffff }));
    assert_eq!(selection.original.destination_l4, None);
}

#[test]
fn status_selects_by_what_is_set_and_what_is_not() {
    let status = |line| settings(line).selection.status.map(|masked| (masked.value, masked.mask));
    assert_eq!(status("-L -u ASSURED,SEEN_REPLY"), Some((6, 6)));
    assert_eq!(status("-L -u UNREPLIED"), Some((0, 2)));
    assert_eq!(status("-L -u 'ASSURED,!SEEN_REPLY'"), Some((4, 6)));
    assert_eq!(status("-L -u ASSURED -u '!EXPECTED'"), Some((4, 5)));
    assert_eq!(status("-L -u UNSET"), Some((0, 0)));
    assert_eq!(status("-D -u UNREPLIED"), Some((0, 2)));
    assert_eq!(status("-D -u UNSET"), Some((0, 0x407)));
    assert_eq!(status("-U -u ASSURED"), None);
    let error = error_as("conntrack", "-D -u SRC_NAT -s 1.2.3.4");
    assert!(error.starts_with("status `SRC_NAT' names no bit to compare"), "{error}");
}

#[test]
fn numbers_select() {
    let settings =
        self::settings("-D -t 5 -m 0x10/0xf0 -i 7 -w 3 --orig-zone 4 --reply-zone 0 -p tcp --state ESTABLISHED");
    let selection = settings.selection;
    assert_eq!(error_as("conntrack", "-L -z -m 5"), "Can't use -z with filtering parameters");
    assert_eq!(selection.timeout, Some(5));
    assert_eq!(selection.mark, Some(Masked { value: 0x10, mask: 0xf0 }));
    assert_eq!((selection.id, selection.zone, selection.state), (Some(7), Some(3), Some(3)));
    assert_eq!((selection.original.zone, selection.reply.zone), (Some(4), Some(0)));
    let settings = self::settings("-L -c 9 -o xml,id");
    assert_eq!(settings.selection.secmark, Some(9));
    assert!(settings.output.contains(Output::XML) && settings.output.contains(Output::ID));
    assert!(!settings.output.contains(Output::EXTENDED));
    assert!(self::settings("-L -z -n 1.2.3.4").zero, "-n is not counted as a comparison");
}

#[test]
fn translations_select() {
    let selection = settings("-L -n [2001:db8::1]:80 -g").selection;
    let source = selection.source_nat.expect("a translation");
    assert_eq!(source.address.map(|address| (address.hi, address.lo)), Some((0x2001_0db8_0000_0000, 1)));
    assert_eq!(source.port, Some(80));
    assert_eq!(selection.destination_nat, Some(flowgate_model::Translation::default()));
    assert_eq!(selection.original, flowgate_model::Direction::default());
    let selection = settings("-L -j 1.2.3.4 -p tcp").selection;
    assert!(selection.any_nat.is_some());
    assert_eq!(selection.original.source, None);
}

#[test]
fn events_and_buffers() {
    assert_eq!(settings("-E").events, EventGroups::ALL);
    assert_eq!(settings("-E -e new,d -e UP").events, EventGroups { new: true, update: true, destroy: false });
    assert_eq!(settings("-E -e D").events, EventGroups::NONE);
    assert_eq!(settings("-E -b 100000").buffer_size, Some(100_000));
    assert_eq!(settings("-E -b abc").buffer_size, Some(0));
    assert_eq!(settings("-E").buffer_size, None);
    assert!(settings("-L -z").zero);
    assert!(!settings("-L dying -z -m 5").zero);
}

fn labelled() -> FakeEnvironment {
    FakeEnvironment::with(&[(DEFAULT_LABEL_MAP, "0 zero\n1 one\n100 high\n"), ("other", "5 five\n")])
}

#[test]
fn labels_select_and_change() {
    let all = settings_in("-L -l one,zero -l high", &labelled());
    let mut expected = vec![0; 16];
    expected[0] = 3;
    expected[12] = 16;
    assert_eq!(all.selection.labels, expected);
    assert!(all.label_map.is_some());
    let other = settings_in("-D -l five --labelmap other", &labelled());
    assert_eq!(other.selection.labels.first(), Some(&0x20));
    assert!(settings_in("-L --labelmap other", &labelled()).label_map.is_none());

    let template = |line: &str| settings_in(line, &labelled()).template;
    let labels = |template: &flowgate_model::Flows| {
        let rare = template.rare.clone().expect("rare fields");
        (rare.labels.texts.bytes, rare.labels_mask.texts.bytes)
    };
    let added = template("-U --label-add one,zero");
    assert_eq!(added.has, [field::LABELS | field::LABELS_MASK]);
    let (value, mask) = labels(&added);
    assert_eq!((value.clone(), value.len(), value.first()), (mask, 16, Some(&3)));
    let (value, mask) = labels(&template("-U --label-del high"));
    assert_eq!((value, mask.get(12)), (vec![0; 16], Some(&16)));
    let (value, mask) = labels(&template("-U --label-del"));
    assert_eq!((value, mask), (vec![0; 16], vec![0xff; 16]));
    let created = template("-I -s 1.1.1.1 -d 2.2.2.2 -p 99 -t 5 --label-add one");
    assert_eq!(labels(&created).0.first(), Some(&2));
    assert_eq!(created.has.first().map(|has| has & field::LABELS_MASK), Some(0));
}

#[test]
fn a_reply_is_derived_from_an_original_and_the_other_way_round() {
    let both = |line: &str| {
        let row = settings(line).template;
        let side = |tuples: &flowgate_model::Tuples| {
            (tuples.source.lo[0] as u32, tuples.destination.lo[0] as u32, tuples.source_l4[0], tuples.destination_l4[0])
        };
        (side(&row.original), side(&row.reply), row.has[0] & field::TUPLES == field::TUPLES)
    };
    let (a, b) = (0x0101_0101, 0x0202_0202);
    let udp = "-I -t 5 -p udp";
    let found = both(&format!("{udp} -s 1.1.1.1 -d 2.2.2.2 --sport 7 --dport 8"));
    assert_eq!(found, ((a, b, 7, 8), (b, a, 8, 7), true));
    let found = both(&format!("{udp} -r 2.2.2.2 -q 1.1.1.1 --reply-port-src 8 --reply-port-dst 7"));
    assert_eq!(found, ((a, b, 7, 8), (b, a, 8, 7), true));
    // Ports of the derived direction are ignored.
    let found = both(&format!("{udp} -s 1.1.1.1 -d 2.2.2.2 --reply-port-src 8 --reply-port-dst 7"));
    assert_eq!(found, ((a, b, 0, 0), (b, a, 0, 0), true));
    let all = "-s 1.1.1.1 -d 2.2.2.2 -r 3.3.3.3 -q 4.4.4.4 --sport 7 --dport 8";
    let found = both(&format!("{udp} {all} --reply-port-src 9 --reply-port-dst 10"));
    assert_eq!(found, ((a, b, 7, 8), (0x0303_0303, 0x0404_0404, 9, 10), true));
    // Nothing is derived here, and the kernel rejects a reply without a protocol.
    assert!(!both(&format!("{udp} {all}")).2);
    // The order of the options does not matter.
    let found = both("-I -t 5 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 6 -s 1.1.1.1 -d 2.2.2.2");
    assert_eq!(found, ((a, b, 6, 0x800), (b, a, 6, 0), true));
    let found = both("-I -t 5 -p icmp --icmp-type 8 --icmp-code 0 -r 2.2.2.2 -q 1.1.1.1");
    assert_eq!(found, ((a, b, 0, 0x800), (b, a, 0, 0), true));
    let found = both("-I -t 5 -p icmp --icmp-type 3 --icmp-code 1 -s 1.1.1.1 -d 2.2.2.2");
    assert_eq!(found.1, (b, a, 0, 0xff01));
    let row = settings("-I -t 5 -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 -s ::1 -d ::2").template;
    assert_eq!((row.family[0], row.reply.destination_l4[0]), (10, 0x8100));
    let row = settings("-I -t 5 -p 99 -s 1.1.1.1 -d 2.2.2.2").template;
    let expected = field::ORIGINAL_ADDRESSES | field::REPLY_ADDRESSES | field::PROTOCOL | field::REPLY_PROTOCOL;
    assert_eq!(row.has, [expected | field::TIMEOUT]);
}

#[test]
fn a_new_flow_has_its_values() {
    let row = settings(
        "-A -t 60 -s 1.1.1.1 -d 2.2.2.2 -p tcp --sport 1 --dport 2 --state TIME_WAIT -u ASSURED,SEEN_REPLY -m 5/1 \
         -w 3 -n 9.9.9.9:1000 -g",
    )
    .template;
    assert_eq!((row.length, row.timeout, row.status, row.mark), (1, vec![60], vec![0xe], vec![5]));
    assert_eq!(row.state, [7]);
    let tcp = row.tcp.expect("TCP");
    assert_eq!((tcp.original_flags, tcp.reply_flags), (vec![0x0e0e], vec![0x0e0e]));
    assert_eq!(row.zones.expect("zones").zone, [3]);
    let rare = row.rare.expect("rare fields");
    assert!(rare.mark_mask.is_empty());
    assert_eq!((rare.nat.rows, rare.nat.destination), (vec![0], vec![0]));
    assert_eq!(
        (rare.nat.first.lo, rare.nat.first_port, rare.nat.last_port),
        (vec![0xffff_0909_0909], vec![1000], vec![1000])
    );
    let has = row.has[0];
    assert_eq!(has & (field::SOURCE_NAT | field::DESTINATION_NAT), field::SOURCE_NAT);
    assert_eq!(has & (field::ZONES), field::ZONE);
    let row = settings(
        "-I -t 5 -s 1.1.1.1 -d 2.2.2.2 -p sctp --sport 1 --dport 2 --state NONE --orig-vtag 1 --reply-vtag 2 -n 9.9.9.9:5",
    );
    let row = row.template;
    assert_eq!(row.sctp.expect("SCTP").original_vtag, [u32::from_be_bytes(1u32.to_ne_bytes())]);
    assert_eq!(row.rare.expect("rare fields").nat.first_port, [0]);
    let row = settings("-I -t 5 -s 1.1.1.1 -d 2.2.2.2 -p dccp --sport 1 --dport 2 --state NONE --role s").template;
    assert_eq!(row.rare.expect("rare fields").dccp.role, [1]);
    assert_eq!(row.has[0] & field::DCCP, field::DCCP);
}

#[test]
fn an_update_has_only_what_is_to_be_set() {
    let settings = self::settings("-U -s 1.1.1.1 -p tcp --sport 5 --state CLOSE -t 9 -u ASSURED -m 5/0xff");
    let row = settings.template;
    assert_eq!((row.timeout, row.status, row.mark, row.state), (vec![9], vec![4], vec![5], vec![8]));
    assert_eq!(row.rare.expect("rare fields").mark_mask, [0xff]);
    assert_eq!(row.has[0] & field::TUPLES, 0);
    let selection = settings.selection;
    assert_eq!((selection.timeout, selection.state, selection.mark), (None, None, None));
    assert_eq!(selection.original.source_l4.expect("a port").value, 5);
    assert_eq!(settings.family, Some(2));
}

#[test]
fn a_lookup_has_the_original_tuple() {
    let settings = self::settings("-G -s 1.1.1.1 -d 2.2.2.2 -p udp --sport 1 --dport 2 -i 5");
    assert_eq!(settings.template.has, [field::ORIGINAL]);
    assert_eq!(settings.selection.id, Some(5));
    assert!(settings.selection.original.source.is_some());
    let reply = self::settings("-G -r 1.1.1.1 -q 2.2.2.2 -p udp --sport 1 --dport 2").template;
    assert_eq!((reply.length, reply.has), (1, vec![0]));
}

#[test]
fn expectations_have_three_tuples() {
    let line = "-I expect -s 1.1.1.1 -d 2.2.2.2 -p sctp -t 5 --tuple-src 3.3.3.3/8 --tuple-dst 4.4.4.4 --mask-dst 255.0.0.0 \
                --sport 1 --dport 2 --tuple-port-src 259 --tuple-port-dst 4 --mask-port-src 0 --mask-port-dst 65535 \
                --orig-vtag 1 --reply-vtag 2";
    let error = error_as("conntrack", &line.replace(" --reply-vtag 2", " --role x"));
    assert_eq!(error, "unknown option `--role'");
    let row = settings(&line.replace("sctp", "udp").replace(" --orig-vtag 1 --reply-vtag 2", "")).expectation;
    assert_eq!((row.length, row.protocol, row.mask_protocol, row.master_protocol), (1, vec![17], vec![17], vec![17]));
    assert_eq!(row.expected.source.lo, [0xffff_0303_0303]);
    assert_eq!(row.expected.source_l4, [259]);
    assert_eq!((row.mask.source.lo, row.mask.destination_l4), (vec![0xffff_ff00_0000], vec![65535]));
    assert_eq!((row.master.destination.lo, row.master.source_l4), (vec![0xffff_0202_0202], vec![1]));
    assert_eq!((row.timeout, row.has), (vec![5], vec![0x7f]));
    // The port is not interpreted as the protocol.
    assert_eq!(settings(line).expectation.protocol, [132]);
    let line = "-D expect -s 1.1.1.1 -d 2.2.2.2 -p udp --sport 1 --dport 2 --reply-port-src 0 --reply-port-dst 0";
    let row = settings(line).expectation;
    assert_eq!((row.expected.destination_l4, row.has), (vec![2], vec![9]));
    assert_eq!(settings("-L expect").expectation.length, 0);
}

fn load(text: &str) -> Parsed {
    let mut environment = labelled();
    environment.files.insert(b"file".to_vec(), text.as_bytes().to_vec());
    parse_as("conntrack", "-R file ignored", &environment)
}

fn loaded(text: &str) -> Vec<Settings> {
    match load(text).result {
        Ok(CommandLine::Load(file)) => file.commands.into_iter().map(|command| *command.settings).collect(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn load_files_are_read_whole() {
    let commands = loaded("# comment\n\n -D -s 1.2.3.4\n");
    assert_eq!(commands.len(), 1);
    assert!(loaded("").is_empty());
    assert_eq!(loaded("conntrack -F\n-F").len(), 2);
    let wrong = |text| match load(text).result {
        Err(error) => format!("{} {error}", error.status()),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(wrong("-F # x\n"), "2 unknown type `#'");
    assert_eq!(wrong("-xL\n"), "2 unknown option `conntrack'");
    assert_eq!(wrong("-L\n-D -m"), "2 option `-m' requires an argument");
    assert_eq!(wrong("-F\n-L\n"), "2 Cannot use command `-L' with --load-file");
    assert_eq!(wrong("-F \"\"\n"), "2 Cannot use command `-F expect' with --load-file");
    assert_eq!(wrong("-V expect\n"), "2 Cannot use command `-V' with --load-file");
    assert_eq!(wrong("foo\n"), "2 Cannot use command `unknown' with --load-file");
    assert_eq!(wrong("  "), "2 Cannot use command `unknown' with --load-file");
    assert_eq!(wrong("-D -o save,xml\n"), "1 cannot combine save output with any other output type, use -o save only");
    let missing = parse_as("conntrack", "--load-file missing", &labelled()).result;
    assert_eq!(missing.err(), Some(CliError::CannotOpen("missing".into())));
    assert_eq!(error_as("conntrack", "-R"), "unknown option `-R'");
    assert_eq!(error_as("conntrack", "-L -R file"), "unknown option `-R'");
    assert_eq!(error_as("conntrack", "--load-file=file"), "unknown option `--load-file=file'");
    let environment = FakeEnvironment { input: b"-F\n".to_vec(), ..FakeEnvironment::default() };
    assert!(
        matches!(parse_as("conntrack", "-R -", &environment).result, Ok(CommandLine::Load(file)) if file.commands.len() == 1)
    );
}

#[test]
fn lines_of_a_load_file_keep_to_themselves() {
    let commands = loaded(
        "-U -m 5 -o xml --label-add one\n-U -m 7 --label-add zero -p tcp\n-D -l five --labelmap other\n-D -l one\n",
    );
    let marks: Vec<_> = commands.iter().map(|settings| settings.template.mark.clone()).collect();
    assert_eq!(marks, [vec![5], vec![7], vec![], vec![]]);
    assert!(commands[0].output.contains(Output::XML) && commands[1].output.is_empty());
    assert_eq!(commands[2].selection.labels.first(), Some(&0x20));
    assert_eq!(commands[3].selection.labels.first(), Some(&2));
    assert_eq!(commands[3].selection.protocol, None);
}

#[test]
fn a_saved_flow_can_be_loaded() {
    let saved = "-A -t 598 -u SEEN_REPLY,ASSURED -s 1.1.1.1 -d 2.2.2.2 -g 2.2.2.3 -q 1.1.1.1 -p tcp --sport 1000 --dport 80 \
                 --reply-port-src 80 --reply-port-dst 1000 --state ESTABLISHED\n\
                 -A -t 599 -u UNSET -s fe80::1 -d 2001:db8::2 -r 2001:db8::2 -q fe80::1 -p icmpv6 --icmpv6-type 128 \
                 --icmpv6-code 0 --icmpv6-id 78\n\
                 -A -t 599 -u UNSET -s 1.1.1.1 -d 2.2.2.2 -r 2.2.2.2 -q 1.1.1.1 -p gre --srckey 16 --dstkey 32 \
                 --reply-key-src 32 --reply-key-dst 16\n\
                 -A -t 599 -u UNSET -s 1.1.1.1 -d 2.2.2.2 -r 2.2.2.2 -q 1.1.1.1 -p 50\n";
    // Lines that create flows become one command with a row for each.
    let together = loaded(saved);
    assert_eq!((together.len(), together[0].template.length), (1, 4));
    assert_eq!(together[0].template.family, [2, 10, 2, 2]);
    let commands: Vec<Settings> = saved.lines().flat_map(loaded).collect();
    let complete = |index: usize| commands[index].template.has[0] & field::TUPLES;
    assert_eq!((complete(1), complete(2)), (field::TUPLES, field::TUPLES));
    assert_eq!(complete(3), field::TUPLES & !(field::ORIGINAL_L4 | field::REPLY_L4));
    assert_eq!(commands[2].template.reply.source_l4, [32]);
    // The kernel computes the reply of a NAT.
    let translated = &commands[0].template;
    assert_eq!(complete(0), field::TUPLES);
    assert_eq!(
        (translated.reply.source.lo[0], translated.reply.destination.lo[0]),
        (0xffff_0000_0000, 0xffff_0101_0101)
    );
    assert_eq!(translated.has[0] & field::DESTINATION_NAT, field::DESTINATION_NAT);
}

#[test]
fn many_lines_are_read_in_order_and_the_first_mistake_is_reported() {
    let line = |port: usize| format!("-I -t 9 -p udp -s 1.1.1.1 -d 2.2.2.2 --sport {} --dport 53\n", port % 65536);
    let mut text: Vec<String> = (0..20_000).map(line).collect();
    let rows: Vec<Vec<u16>> =
        loaded(&text.concat()).iter().map(|settings| settings.template.original.source_l4.clone()).collect();
    assert_eq!(rows.concat(), (0..20_000).collect::<Vec<u16>>());
    text[12_345] = "-I -p nonsense\n".into();
    text[19_000] = "-I -p other\n".into();
    let parsed = load(&text.concat());
    assert!(parsed.result.unwrap_err().to_string().contains("nonsense"));
}

#[test]
fn a_dry_run_behind_a_file_holds_for_all_its_lines() {
    let mut environment = labelled();
    environment.files.insert(b"file".to_vec(), b"-F\n-D -s 1.2.3.4\n".to_vec());
    let wrong = |program: &str, line: &str| match parse_as(program, line, &environment).result {
        Err(error) => format!("{} {error}", error.status()),
        other => panic!("{program} {line}: {other:?}"),
    };
    assert!(wrong("flowgate", "-R file --dry-run").starts_with("2 --dry-run cannot print what -F would do"));
    environment.files.insert(b"file".to_vec(), b"-D\n-D -s 1.2.3.4\n".to_vec());
    match parse_as("flowgate", "-R file --dry-run", &environment).result {
        Ok(CommandLine::Load(file)) => assert!(file.commands.iter().all(|command| command.settings.dry_run)),
        other => panic!("{other:?}"),
    }
    let wrong = |program: &str, line: &str| match parse_as(program, line, &environment).result {
        Err(error) => format!("{} {error}", error.status()),
        other => panic!("{program} {line}: {other:?}"),
    };
    // Words after the file are errors under flowgate's own name, options are under any name.
    assert_eq!(wrong("flowgate", "-R file --dryrun"), "2 unknown option `--dryrun'");
    assert_eq!(wrong("flowgate", "-R file x"), "2 x does not belong to any option");
    assert_eq!(wrong("flowgate", "-R file -D"), "2 Invalid commands combination");
    assert_eq!(wrong("flowgate", "-R file -w 5"), "2 Illegal option `--zone' with this command");
    assert!(wrong("conntrack", "-R file --dry-run").starts_with("2 `--dry-run' after the file of -R would be ignored"));
    assert!(matches!(parse_as("conntrack", "-R file ignored", &environment).result, Ok(CommandLine::Load(_))));
}

#[test]
fn options_of_flowgate_are_not_classic() {
    let run = |line: &str| match parse_as("/opt/flowgate", line, &FakeEnvironment::default()).result {
        Ok(CommandLine::Run(settings)) => Ok(*settings),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    };
    let settings = run("-L -o json --plugin b.wasm,x=1 --plugin=a.wasm --batch 65536").expect("a command");
    let files: Vec<_> = settings.plugins.iter().map(|plugin| plugin.file.display().to_string()).collect();
    assert_eq!((files, settings.batch), (vec!["b.wasm".to_owned(), "a.wasm".to_owned()], 65536));
    assert!(settings.output.contains(Output::JSON));
    assert_eq!(run("-L").expect("a command").batch, DEFAULT_BATCH);
    for line in ["-D --plugin a", "-U --plugin a", "-E --plugin a", "-L dying --plugin a", "-E expect --plugin a"] {
        assert!(run(line).is_ok(), "{line}");
    }
    let wrong = |line: &str| run(line).expect_err("is wrong");
    assert_eq!(wrong("-F --plugin a"), "Illegal option `--plugin' with this command");
    // Where a command is expected, it is one.
    assert!(run("--count").is_ok() && run("-L --count").is_ok() && run("-C --count").is_err());
    assert_eq!(wrong("--count -L"), wrong("-C -L"));
    // After a subcommand that has a command of its own, it is the option, in any order.
    for line in ["--count --by src", "--by src --count", "--count"] {
        let words: Vec<std::ffi::OsString> = line.split_whitespace().map(Into::into).collect();
        let name = ProgramName::of(std::ffi::OsStr::new("flowgate"));
        let command = (Command::List, Table::Conntrack);
        let parsed = parse_classic(&name, &words, command, &FakeEnvironment::default(), &mut Vec::new());
        let settings = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(settings.command == Command::List && settings.aggregate.is_some(), "{line}");
    }
    assert_eq!(wrong("-C --batch 5"), "Illegal option `--batch' with this command");
    assert_eq!(
        wrong("-D expect -s 1.1.1.1 -d 1.1.1.1 -p 99 --plugin a"),
        "Illegal option `--plugin' with this command"
    );
    for rows in ["0", "65537", "x", "-1", "5x"] {
        let expected =
            format!("unexpected value '{rows}' with --batch option, it takes a number of rows from 1 to 65536");
        assert_eq!(wrong(&format!("-L --batch {rows}")), expected);
    }
    assert_eq!(wrong("-L --plug a"), "unknown option `--plug'");
    assert_eq!(wrong("-L -o js"), "Bad parameter `js'");
    assert_eq!(wrong("-L -o json,xml"), "cannot combine json output with xml output, use one of them only");
    assert_eq!(wrong("-L --plugin"), "option `--plugin' requires an argument");
    // `--p` and `--b` keep their meaning.
    assert!(run("-L --p tcp").is_ok());
    assert!(run("-E --b 5").is_ok());
    assert_eq!(error_as("/usr/sbin/conntrack", "-L --plugin a"), "unknown option `--plugin'");
    assert_eq!(error_as("conntrack", "-L --batch 5"), "unknown option `--batch'");
    assert_eq!(error_as("conntrack", "-L -o json"), "Bad parameter `json'");
}

#[test]
fn posix_ends_options_at_the_first_other_word() {
    let environment = FakeEnvironment { posixly_correct: true, ..FakeEnvironment::default() };
    assert_eq!(settings_in("foo -L", &environment).command, Command::Help);
}

#[test]
fn no_command_line_is_a_panic() {
    const PIECES: [&[u8]; 40] = [
        b"-",
        b"-",
        b"--",
        b"=",
        b"L",
        b"D",
        b"I",
        b"U",
        b"R",
        b"s",
        b"d",
        b"p",
        b"n",
        b"j",
        b"u",
        b"o",
        b"m",
        b"w",
        b"tcp",
        b"icmp",
        b"src",
        b"reply-",
        b"mask-",
        b"label-",
        b"plugin",
        b",",
        b"!",
        b"/",
        b":",
        b"[",
        b"]",
        b"1.2.3.4",
        b"::1",
        b"0x",
        b"99999999999999999999",
        b"\xff",
        b"\"",
        b"\\",
        b"expect",
        b" ",
    ];
    let mut seed: u64 = 42;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % below
    };
    let mut environment = labelled();
    for _ in 0..50_000 {
        let words: Vec<OsString> = (0..random(6))
            .map(|_| OsString::from_vec((0..random(5)).flat_map(|_| PIECES[random(PIECES.len())]).copied().collect()))
            .collect();
        let text: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b" "].concat()).collect();
        let _ = parse(&ProgramName::of(OsStr::new("flowgate")), &words, &environment);
        environment.files.insert(b"file".to_vec(), text);
        let _ = parse_as("flowgate", "-R file", &environment);
    }
}
