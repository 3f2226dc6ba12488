//! Rejects what `conntrack` interprets leniently.
//!
//! `conntrack` takes the leading digits of a number or else 0, ignores words that do not belong to an option and values
//! that are attached to an option without one, and takes an empty prefix length for every address. For a command that
//! changes something, such a line would have an effect that nobody asked for; it is an error under every name. Under
//! flowgate's own name it is an error for all commands; under the name `conntrack`, commands that only list behave as
//! in `conntrack`.

use super::error::{CliError, RawArg};
use super::options::{self, KeySet, OPTIONS, OptionKey, OptionSpec};
use super::parsed_options::ParsedOptions;
use super::settings::{Command, Table};
use super::values::{self, AddressFlaw, NumberFormat};
use super::wrong_value::WrongValue;
use flowgate_base::units;
use flowgate_model::Masked;

/// Where a command line appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineContext {
    /// On its own.
    CommandLine,
    /// In a load file.
    LoadFile,
    /// After a subcommand, which does not execute it as a command.
    Subcommand,
    /// In another file, where it may select what is changed.
    Fragment,
}

/// Returns true if a command modifies the table: deletes, changes, creates or zeroes counters.
pub(crate) fn modifies_table(command: Option<(Command, Table)>, given: KeySet) -> bool {
    match command {
        Some((Command::Delete | Command::Update | Command::Create | Command::Add | Command::Flush, _)) => true,
        Some((Command::List, Table::Conntrack)) => given.contains(OptionKey::Zero),
        _ => false,
    }
}

/// Checks what `conntrack` would accept. `own_name` is true under flowgate's own name.
///
/// # Errors
/// Returns the first flaw, if the command must not have any.
pub(crate) fn check(parsed: &ParsedOptions, own_name: bool, context: LineContext) -> Result<(), CliError> {
    let changes = matches!(context, LineContext::LoadFile | LineContext::Fragment)
        || modifies_table(parsed.command, parsed.given);
    if own_name || changes {
        if let Some(flaw) = &parsed.flaw {
            return Err(flaw.clone());
        }
        if let Some(word) = parsed.stray_words.first() {
            return Err(stray_word(word, parsed));
        }
        check_masks(parsed)?;
        check_status(parsed)?;
    }
    if changes {
        let status = parsed.status;
        // A new flow lacks every status that is not named.
        if matches!(parsed.command, Some((Command::Update, _))) && status.clear != 0 {
            let takes = "names of what is set; what is set already cannot be taken away".to_owned();
            return Err(WrongValue::new(Some(b'u'), "status", parsed.status_text.as_ref(), takes).into());
        }
        if let Some(option) = parsed.stale_mask {
            return Err(CliError::StaleMask(option));
        }
        let selects =
            context == LineContext::Fragment && matches!(parsed.command, Some((Command::List | Command::Events, _)));
        if parsed.status_ignored && (selects || matches!(parsed.command, Some((Command::Delete, _)))) {
            return Err(CliError::StatusIgnored(parsed.status_text.clone()));
        }
        if selects && parsed.given.contains(OptionKey::Status) && status.set | status.clear == 0 && !status.unset {
            return Err(CliError::StatusSelectsAll(parsed.status_text.clone()));
        }
        if selects && parsed.mark.value & !parsed.mark.mask != 0 {
            let takes = "a mark whose bits are in the mask; no flow can match another";
            let Masked { value, mask } = parsed.mark;
            let text = format!("{value:#x}/{mask:#x}");
            return Err(WrongValue::new(Some(b'm'), "mark", text.as_bytes(), takes.to_owned()).into());
        }
    }
    if own_name && matches!(context, LineContext::CommandLine | LineContext::LoadFile) {
        check_all(parsed)?;
    }
    Ok(())
}

/// Returns a warning about a condition that no flow can meet.
pub(crate) fn unmatchable_mark_warning(parsed: &ParsedOptions) -> Option<String> {
    let compared = matches!(parsed.command, Some((Command::List | Command::Delete | Command::Events, _)));
    let mark = parsed.mark;
    let told = compared && parsed.given.contains(OptionKey::Mark) && !parsed.given.contains(OptionKey::Quiet);
    (told && mark.value & !mark.mask != 0).then(|| {
        format!(
            "WARNING: the mark {:#x} has bits outside of its mask {:#x}, so that no flow can match.",
            mark.value, mark.mask
        )
    })
}

/// Checks that no mask erases its address. The masks of expectations apply to the expected flow and may do so.
fn check_masks(parsed: &ParsedOptions) -> Result<(), CliError> {
    if matches!(parsed.command, Some((_, Table::Expect))) {
        return Ok(());
    }
    for (address, mask, name) in
        [(parsed.source, parsed.mask_source, "mask-src"), (parsed.destination, parsed.mask_destination, "mask-dst")]
    {
        if let (Some(address), Some(mask)) = (address, mask)
            && values::erases(&address, Some(&mask))
        {
            let value = mask.to_string();
            let takes = format!("a mask that leaves something of {address}; to select every address leave both out");
            return Err(WrongValue::new(None, name, value.as_bytes(), takes).into());
        }
    }
    Ok(())
}

/// Checks that a flow can have the statuses together. Where a status is set, UNSET beside others has no effect.
fn check_status(parsed: &ParsedOptions) -> Result<(), CliError> {
    let status = parsed.status;
    let compared = matches!(parsed.command, Some((Command::List | Command::Delete | Command::Events, _)));
    if status.set & status.clear == 0 && !(compared && status.unset && status.set | status.clear != 0) {
        return Ok(());
    }
    let takes = "names that a flow can have together, and UNSET alone".to_owned();
    Err(WrongValue::new(Some(b'u'), "status", parsed.status_text.as_ref(), takes).into())
}

/// Checks that deleting all flows is explicit.
fn check_all(parsed: &ParsedOptions) -> Result<(), CliError> {
    let given = parsed.given;
    if parsed.command != Some((Command::Delete, Table::Conntrack)) {
        return Ok(());
    }
    // A plugin may select flows too.
    let selects = options::any_given(given, OptionSpec::selects) || given.contains(OptionKey::Plugin);
    match (given.contains(OptionKey::All), selects) {
        (true, true) => Err(CliError::AllWithSelector),
        (false, false) if !given.contains_any(&[OptionKey::DryRun, OptionKey::Explain]) => {
            Err(CliError::NothingSelected)
        }
        _ => Ok(()),
    }
}

/// Returns the error for a word that does not belong to an option.
pub(crate) fn stray_word(word: &[u8], parsed: &ParsedOptions) -> CliError {
    let number = NumberFormat::id('w').read(word).exact;
    let hint = if number && parsed.given.contains(OptionKey::Zero) {
        Some(format!("for a zone: -w {}", String::from_utf8_lossy(word)))
    } else if let Some(name) = Table::NAMES.iter().find(|name| name.as_bytes() == word) {
        Some(format!("a table directly follows its command, as in -L {name}"))
    } else if word.starts_with(b"#") {
        Some("a comment takes a line of its own".to_owned())
    } else if word.starts_with(b"-") {
        Some("options end at `--'".to_owned())
    } else if values::network(word).is_ok() && !number {
        Some("for a source address: -s, for a destination address: -d".to_owned())
    } else {
        None
    };
    CliError::StrayWord { word: word.into(), hint }
}

/// Returns the error for a word with an unknown option.
pub(crate) fn unknown_option(word: &[u8]) -> CliError {
    let error = CliError::UnknownOption(word.into());
    if word.starts_with(b"-R") || word.starts_with(b"--load-f") {
        let hint = "a file is loaded by -R FILE or --load-file FILE, in two words that stand before all others";
        return CliError::WithHint(Box::new(error), hint.to_owned());
    }
    error
}

/// Returns the error for a value attached to an option that takes it from the next word only.
pub(crate) fn attached_value(name: &'static str, value: &[u8], is_command: bool) -> CliError {
    let lookup = Table::NAMES.into_iter().find(|table| table.as_bytes() == value);
    let example = match (is_command, lookup) {
        (true, table) => table.unwrap_or("conntrack").to_owned(),
        (false, _) => String::from_utf8_lossy(value).into_owned(),
    };
    CliError::Attached { option: name, value: value.into(), example }
}

/// Returns the error for an option that takes a number.
pub(crate) fn wrong_number(letter: Option<u8>, name: &'static str, value: &[u8], kind: NumberFormat) -> WrongValue {
    let decimal = if kind.is_decimal() { "decimal " } else { "" };
    let takes = format!("a {decimal}number from 0 to {}", kind.maximum());
    WrongValue::new(letter, name, value, takes).hint(number_hint(name, value))
}

/// Parses a size or a time in the grammar of flowgate's own options.
///
/// # Errors
///
/// Returns an error with what the option accepts.
pub(crate) fn parse_quantity(key: OptionKey, value: &[u8], kind: NumberFormat, least: u32) -> Result<u32, WrongValue> {
    let text = String::from_utf8_lossy(value);
    let (read, grammar, unit) = match kind {
        NumberFormat::BUFFER => (units::size(&text), units::SIZE, "bytes"),
        _ => (
            units::time(&text).map(|_| units::seconds(&text).map_or(u64::MAX, u64::from)),
            units::TIME,
            "whole seconds",
        ),
    };
    let most = kind.maximum();
    let fits = read.and_then(|read| u32::try_from(read).ok()).filter(|read| (least..=most).contains(read));
    fits.ok_or_else(|| {
        let (letter, name) = option_names(key);
        let takes = match read {
            Some(_) => format!("{unit} from {least} to {most}"),
            None => grammar.to_owned(),
        };
        WrongValue::new(letter, name, value, takes).hint(number_hint(name, value))
    })
}

/// Returns the error for the value of `--mark`.
pub(crate) fn wrong_mark(value: &[u8]) -> WrongValue {
    let takes = "VALUE or VALUE/MASK, numbers from 0 to 4294967295".to_owned();
    WrongValue::new(Some(b'm'), "mark", value, takes).hint(number_hint("mark", value))
}

/// Returns a hint on what a value that is not a number may have meant.
fn number_hint(name: &str, value: &[u8]) -> Option<&'static str> {
    let digits = |part: &[u8]| part.first().is_some_and(u8::is_ascii_digit);
    let range = value.split(|byte| matches!(byte, b'-' | b':')).collect::<Vec<_>>();
    if value.contains(&b',') {
        Some("one value is taken, not a list")
    } else if range.len() == 2 && range.iter().all(|part| digits(part)) {
        Some("one value is taken, not a range")
    } else if value.first().is_some_and(u8::is_ascii_alphabetic) {
        Some(if name == "id" { "the kernel keeps no interfaces for flows" } else { "names are not looked up" })
    } else {
        None
    }
}

/// Returns the error for an address that `conntrack` would interpret as a different one.
pub(crate) fn wrong_address(key: OptionKey, value: &[u8], flaw: AddressFlaw) -> WrongValue {
    let (letter, name) = option_names(key);
    let takes = match flaw {
        AddressFlaw::Trailing => "an address and nothing after it",
        AddressFlaw::Abbreviated if matches!(key, OptionKey::MaskSource | OptionKey::MaskDestination) => {
            "a mask with all of its four parts, such as 255.255.255.0"
        }
        AddressFlaw::Abbreviated => "an IPv4 address with all of its four parts",
        AddressFlaw::TwoMasks => "a prefix length or a mask of the address, not two that differ",
        AddressFlaw::Octal => "parts without leading zeros, which make a number octal",
        AddressFlaw::EmptyPrefix => "a prefix length after the slash; an empty one would stand for every address",
        AddressFlaw::NothingCompared => {
            "a prefix length that leaves something of the address; 0 stands for every address, which is written 0.0.0.0/0 or ::/0"
        }
    };
    WrongValue::new(letter, name, value, takes.to_owned())
}

/// Returns the letter and the name of an option for messages. Punctuation is left out.
pub(crate) fn option_names(key: OptionKey) -> (Option<u8>, &'static str) {
    let spec = OPTIONS.get(key as usize);
    let letter = spec.and_then(|spec| spec.short).filter(u8::is_ascii_lowercase);
    (letter, spec.map_or("", |spec| spec.name()))
}

/// Adds an explanation to an error for which `conntrack` has a short message, under flowgate's own name.
pub(crate) fn with_hint(error: CliError, name: &'static str, value: &[u8], is_ipv4: bool) -> CliError {
    let hint = match &error {
        CliError::InvalidNetmask => {
            let prefix: RawArg = value.splitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default().into();
            let longest = if is_ipv4 { 32 } else { 128 };
            format!("`{prefix}' with --{name} option: a prefix length is a number from 0 to {longest}")
        }
        CliError::InvalidAddress(_) if value.contains(&b',') => format!("--{name} takes one address, not a list"),
        CliError::InvalidAddress(_) if value.contains(&b'-') => {
            format!("--{name} takes one address or network, not a range")
        }
        _ => return error,
    };
    CliError::WithHint(Box::new(error), hint)
}

#[cfg(test)]
mod tests {
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
            (
                "-D -u UNREPLIEDX",
                "unexpected value 'UNREPLIEDX' with -u option: --status takes names such as UNREPLIED",
            ),
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
        for right in ["-D --all", "-D --dry-run", "-D --explain", "-R all --dry-run", "-R all --explain", "-D -f ipv4"]
        {
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
}
