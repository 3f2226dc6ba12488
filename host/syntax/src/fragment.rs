//! Parts of a command line in another place, such as a pipeline file: the options that select entries, and those that say
//! what entries are to have. Their rules and messages are those of the command line; but words that are no options, which the
//! classic program passes over, are mistakes here.

use super::{
    CliError, Parser,
    environment::Environment,
    load_file,
    options::{Key, OPTIONS, OptionSpec},
    request::{self, Request},
    settings::{Command, Output, Settings, Table},
    strict,
};

/// What is wrong with a part of a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// As the command line has it.
    #[error("{0}")]
    Cli(CliError),
    /// An option that does something else.
    #[error("--{option} does not belong here; this takes {takes}")]
    Misplaced {
        /// Its long name.
        option: &'static str,
        /// What is taken.
        takes: &'static str,
    },
    /// A word that is no option.
    #[error("`{0}` is no option; options begin with a hyphen")]
    NoOption(String),
    /// Quotation marks that do not come in pairs.
    #[error("a quotation mark is not closed: {0}")]
    Quote(String),
    /// A command.
    #[error("a command, such as -L, does not belong here; this takes {0}")]
    Command(&'static str),
    /// Nothing is to be set.
    #[error("nothing is to be set; this takes {0}")]
    Nothing(&'static str),
}

impl From<CliError> for FragmentError {
    fn from(error: CliError) -> Self {
        FragmentError::Cli(error)
    }
}

/// What is taken to select.
const SELECTORS: &str = "the options that select flows, such as -p tcp --dport 443";
const FAMILY: &str = "-f ipv4 or -f ipv6; expectations cannot be selected otherwise";
/// What can be set in flows. The protocol is needed for its state.
const SETTING: [Key; 6] = [Key::Protocol, Key::Timeout, Key::Status, Key::Mark, Key::LabelAdd, Key::LabelDelete];
const SETTERS: &str = "the options that say what flows are given: --mark, --timeout, --status, --label-add, --label-del, \
                       and -p with --state";

/// What a listing, or events, of a table would be told with these selectors and this output.
///
/// # Errors
/// [`FragmentError`].
pub fn selector(
    command: Command,
    table: Table,
    text: &str,
    output: Output,
    environment: &dyn Environment,
) -> Result<Settings, FragmentError> {
    let mut request = match table {
        Table::Expect => read(text, |spec| spec.key == Key::Family, FAMILY, environment)?,
        _ => read(text, OptionSpec::selects, SELECTORS, environment)?,
    };
    request.output = output;
    settings(request, (command, table), environment)
}

/// What `-U` would be told to set.
///
/// # Errors
/// [`FragmentError`].
pub fn values(text: &str, environment: &dyn Environment) -> Result<Settings, FragmentError> {
    let request = read(text, |spec| SETTING.contains(&spec.key), SETTERS, environment)?;
    let sets = request.given.contains_any(&[Key::Timeout, Key::Status, Key::Mark, Key::LabelAdd, Key::LabelDelete]);
    if !sets && !request.given.contains(Key::Protocol) {
        return Err(FragmentError::Nothing(SETTERS));
    }
    settings(request, (Command::Update, Table::Conntrack), environment)
}

fn read(
    text: &str,
    belongs: impl Fn(&OptionSpec) -> bool,
    takes: &'static str,
    environment: &dyn Environment,
) -> Result<Request, FragmentError> {
    if has_open_quote(text) {
        return Err(FragmentError::Quote(flowgate_base::text::clean(text)));
    }
    let words = load_file::words(text.as_bytes())?;
    let mut warnings = Vec::new();
    let request = request::read(words.iter().map(Vec::as_slice).collect(), true, environment, &mut warnings)?;
    if request.command.is_some() {
        return Err(FragmentError::Command(takes));
    }
    if let Some(word) = request.passed_over.first() {
        return Err(FragmentError::NoOption(flowgate_base::text::clean(&String::from_utf8_lossy(word))));
    }
    let always = [Key::LabelMap];
    let misplaced =
        |spec: &&OptionSpec| request.given.contains(spec.key) && !belongs(spec) && !always.contains(&spec.key);
    match OPTIONS.iter().find(misplaced) {
        Some(spec) => Err(FragmentError::Misplaced { option: spec.name(), takes }),
        None => Ok(request),
    }
}

/// Whether a quotation mark is not closed, by the rules of [`load_file::words`].
fn has_open_quote(text: &str) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

fn settings(
    mut request: Request,
    command: (Command, Table),
    environment: &dyn Environment,
) -> Result<Settings, FragmentError> {
    request.command = Some(command);
    let mut warnings = Vec::new();
    let parser = &mut Parser { own: true, environment, warnings: &mut warnings };
    let (map, labels) = parser.labels(&request)?;
    super::legality::check(&request)?;
    strict::check(&request, true, strict::Position::Fragment)?;
    Ok(*parser.settings(&request, command, map, labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::FakeEnvironment;

    fn select(table: Table, text: &str) -> Result<Settings, String> {
        selector(Command::List, table, text, Output::default(), &FakeEnvironment::default())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn selectors_are_those_of_the_command_line() {
        let settings = select(Table::Conntrack, "-p tcp --dport 443 -s 10.0.0.0/8 --state ESTABLISHED").unwrap();
        assert_eq!((settings.selection.protocol, settings.selection.state), (Some(6), Some(3)));
        assert!(settings.selection.original.source.is_some() && settings.compares);
        assert_eq!(select(Table::Conntrack, "").unwrap().selection, flowgate_model::Selection::default());
        assert_eq!(select(Table::Expect, "-f ipv6").unwrap().family, Some(10));
    }

    #[test]
    fn what_does_not_select_is_refused() {
        let wrong = |text: &str| select(Table::Conntrack, text).unwrap_err();
        assert!(wrong("-o xml").starts_with("--output does not belong here"), "{}", wrong("-o xml"));
        assert!(wrong("--plugin x.wasm").starts_with("--plugin does not belong here"));
        assert!(wrong("-D").starts_with("a command, such as -L, does not belong here"));
        assert_eq!(wrong("-p tcp 10.0.0.1"), "`10.0.0.1` is no option; options begin with a hyphen");
        assert_eq!(wrong("tcp -p udp"), "`tcp` is no option; options begin with a hyphen");
        assert!(wrong("-s 10.0.0.300").contains("10.0.0.300"));
        // What a listing makes the best of may select what a stage deletes.
        for (text, tells) in [
            ("-u SRC_NAT", "has a name that is ignored"),
            ("-u ASSURED,SRC_NAT", "has a name that is ignored"),
            ("-u !UNSET", "names no bit"),
            ("-u UN", "UNSET or UNREPLIED"),
            ("-u ASSURED,!ASSURED", "can have together"),
            ("-s 10.0.0.0/8 -s 192.0.2.1", "--src is given twice"),
            ("-s 10.0.0.1 --mask-src 24", "four parts"),
            ("-d 192.168.001.010", "leading zeros"),
            ("-m 2/0xf0", "no flow can match"),
        ] {
            assert!(wrong(text).contains(tells), "{text}: {}", wrong(text));
        }
        assert!(select(Table::Expect, "-p tcp").unwrap_err().contains("expectations cannot be selected"));
    }

    #[test]
    fn quotation_marks_come_in_pairs() {
        for text in ["-p \"tcp", "\"", "-p \"tcp\" \"", "-l \"a \\\""] {
            let error = select(Table::Conntrack, text).unwrap_err();
            assert!(error.starts_with("a quotation mark is not closed: "), "{text}: {error}");
        }
        assert!(select(Table::Conntrack, "-p \"tcp\" --dport \"\\443\"").is_ok());
    }

    #[test]
    fn values_are_set_and_nothing_is_selected() {
        let settings = values("-m 0x5/0xff -t 60", &FakeEnvironment::default()).unwrap();
        assert_eq!((settings.template.mark.as_slice(), settings.template.timeout.as_slice()), (&[5][..], &[60][..]));
        let wrong = |text: &str| values(text, &FakeEnvironment::default()).unwrap_err().to_string();
        assert!(wrong("-s 10.0.0.1 -m 1").starts_with("--src does not belong here"), "{}", wrong("-s 10.0.0.1 -m 1"));
        assert!(wrong("").starts_with("nothing is to be set"));
    }
}
