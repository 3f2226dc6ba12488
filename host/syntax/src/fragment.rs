//! Fragments of a command line elsewhere, such as in a pipeline file: options that select entries, and options that set
//! values of entries. Rules and messages are those of the command line, but words that do not belong to an option,
//! which `conntrack` ignores, are errors.

use flowgate_base::text::clean;

use super::{
    CliError, Parser,
    aggregation::AggregationOptions,
    environment::Environment,
    load_file, option_reader,
    options::{OPTIONS, OptionKey, OptionSpec},
    parsed_options::ParsedOptions,
    settings::{Command, Output, Settings, Table},
    strict,
};

/// An error in a fragment of a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// An error that the command line has too.
    #[error("{0}")]
    Cli(CliError),
    /// An option that is not accepted here.
    #[error("--{option} does not belong here; this takes {takes}")]
    Misplaced {
        /// Its long name.
        option: &'static str,
        /// Description of what is accepted.
        takes: &'static str,
    },
    /// A word that is not an option.
    #[error("`{}` is not an option; options begin with a hyphen", clean(.0))]
    NoOption(String),
    /// An unclosed quotation mark.
    #[error("a quotation mark is not closed: {}", clean(.0))]
    Quote(String),
    /// A command.
    #[error("a command, such as -L, does not belong here; this takes {0}")]
    Command(&'static str),
    /// The fragment sets nothing.
    #[error("nothing is to be set; this takes {0}")]
    Nothing(&'static str),
}

impl From<CliError> for FragmentError {
    fn from(error: CliError) -> Self {
        FragmentError::Cli(error)
    }
}

/// Description of the accepted selecting options.
const SELECTORS: &str = "the options that select flows, such as -p tcp --dport 443";
const FAMILY: &str = "-f ipv4 or -f ipv6; expectations cannot be selected otherwise";
/// The options that set values of flows. The protocol is needed for `--state`.
const SETTING: [OptionKey; 6] = [
    OptionKey::Protocol,
    OptionKey::Timeout,
    OptionKey::Status,
    OptionKey::Mark,
    OptionKey::LabelAdd,
    OptionKey::LabelDelete,
];
const SETTERS: &str = "the options that say what flows are given: --mark, --timeout, --status, --label-add, --label-del, \
                       and -p with --state";

/// What is selected, as written.
#[derive(Clone, Debug, Default)]
pub struct SelectorText<'a> {
    /// Selecting options.
    pub options: &'a str,
    /// A condition as for `--where`.
    pub condition: Option<&'a str>,
    /// The groups that are shown in place of what is selected.
    pub aggregation: Option<AggregationOptions>,
}

/// Returns the settings of a listing, or of events, of a table with this selection and this output.
///
/// # Errors
/// See [`FragmentError`].
pub fn parse_selector(
    command: Command,
    table: Table,
    selector: SelectorText<'_>,
    output: Output,
    environment: &dyn Environment,
) -> Result<Settings, FragmentError> {
    let SelectorText { options: text, condition, aggregation } = selector;
    let mut parsed = match table {
        Table::Expect => read(text, |spec| spec.key == OptionKey::Family, FAMILY, environment)?,
        _ => read(text, OptionSpec::selects, SELECTORS, environment)?,
    };
    parsed.output = output;
    if let Some(aggregation) = aggregation {
        parsed.aggregation = aggregation;
        // All of them are options of the same commands.
        parsed.given.insert(OptionKey::By);
    }
    if let Some(query) = condition {
        if parsed.query.replace(query.to_owned()).is_some() {
            return Err(CliError::WhereTwice.into());
        }
        parsed.given.insert(OptionKey::Where);
    }
    settings(parsed, (command, table), environment)
}

/// Returns the settings of `-U` with these options.
///
/// # Errors
/// See [`FragmentError`].
pub fn parse_update(text: &str, environment: &dyn Environment) -> Result<Settings, FragmentError> {
    let parsed = read(text, |spec| SETTING.contains(&spec.key), SETTERS, environment)?;
    let sets = parsed.given.contains_any(&[
        OptionKey::Timeout,
        OptionKey::Status,
        OptionKey::Mark,
        OptionKey::LabelAdd,
        OptionKey::LabelDelete,
    ]);
    if !sets && !parsed.given.contains(OptionKey::Protocol) {
        return Err(FragmentError::Nothing(SETTERS));
    }
    settings(parsed, (Command::Update, Table::Conntrack), environment)
}

fn read(
    text: &str,
    belongs: impl Fn(&OptionSpec) -> bool,
    takes: &'static str,
    environment: &dyn Environment,
) -> Result<ParsedOptions, FragmentError> {
    if has_open_quote(text) {
        return Err(FragmentError::Quote(flowgate_base::text::clean(text)));
    }
    let words = load_file::split_fragment(text.as_bytes())?;
    let mut warnings = Vec::new();
    let parsed =
        option_reader::read(words.iter().map(Vec::as_slice).collect(), true, false, environment, &mut warnings)?;
    if parsed.command.is_some() {
        return Err(FragmentError::Command(takes));
    }
    if let Some(word) = parsed.stray_words.first() {
        return Err(FragmentError::NoOption(flowgate_base::text::clean(&String::from_utf8_lossy(word))));
    }
    let always = [OptionKey::LabelMap];
    let misplaced =
        |spec: &&OptionSpec| parsed.given.contains(spec.key) && !belongs(spec) && !always.contains(&spec.key);
    match OPTIONS.iter().find(misplaced) {
        Some(spec) => Err(FragmentError::Misplaced { option: spec.name(), takes }),
        None => Ok(parsed),
    }
}

/// Returns true if a quotation mark is unclosed by the rules of [`load_file::split_fragment`].
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
    mut parsed: ParsedOptions,
    command: (Command, Table),
    environment: &dyn Environment,
) -> Result<Settings, FragmentError> {
    parsed.command = Some(command);
    let mut warnings = Vec::new();
    let parser = &mut Parser { own_name: true, environment, warnings: &mut warnings };
    let names = parser.names(&parsed)?;
    super::validate::check(&parsed)?;
    strict::check(&parsed, true, strict::LineContext::Fragment)?;
    Ok(*parser.settings(&parsed, command, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::FakeEnvironment;

    fn select(table: Table, text: &str) -> Result<Settings, String> {
        let selector = SelectorText { options: text, ..SelectorText::default() };
        parse_selector(Command::List, table, selector, Output::default(), &FakeEnvironment::default())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn selectors_are_those_of_the_command_line() {
        let settings = select(Table::Conntrack, "-p tcp --dport 443 -s 10.0.0.0/8 --state ESTABLISHED").unwrap();
        assert_eq!((settings.selection.protocol, settings.selection.state), (Some(6), Some(3)));
        assert!(settings.selection.original.source.is_some());
        assert_eq!(select(Table::Conntrack, "").unwrap().selection, flowgate_model::Selection::default());
        assert_eq!(select(Table::Expect, "-f ipv6").unwrap().family, Some(10));
    }

    #[test]
    fn what_does_not_select_is_refused() {
        let wrong = |text: &str| select(Table::Conntrack, text).unwrap_err();
        assert!(wrong("-o xml").starts_with("--output does not belong here"), "{}", wrong("-o xml"));
        assert!(wrong("--plugin x.wasm").starts_with("--plugin does not belong here"));
        assert!(wrong("-D").starts_with("a command, such as -L, does not belong here"));
        assert_eq!(wrong("-p tcp 10.0.0.1"), "`10.0.0.1` is not an option; options begin with a hyphen");
        assert_eq!(wrong("tcp -p udp"), "`tcp` is not an option; options begin with a hyphen");
        assert!(wrong("-s 10.0.0.300").contains("10.0.0.300"));
        // Values that a listing interprets leniently could select what a stage deletes.
        for (text, expected) in [
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
            assert!(wrong(text).contains(expected), "{text}: {}", wrong(text));
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
        let settings = parse_update("-m 0x5/0xff -t 60", &FakeEnvironment::default()).unwrap();
        assert_eq!((settings.template.mark.as_slice(), settings.template.timeout.as_slice()), (&[5][..], &[60][..]));
        let wrong = |text: &str| parse_update(text, &FakeEnvironment::default()).unwrap_err().to_string();
        assert!(wrong("-s 10.0.0.1 -m 1").starts_with("--src does not belong here"), "{}", wrong("-s 10.0.0.1 -m 1"));
        assert!(wrong("").starts_with("nothing is to be set"));
    }
}
