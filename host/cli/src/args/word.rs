//! Words for the classic commands: `flowgate list -p tcp` is `flowgate -L -p tcp`.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
};

use flowgate_syntax::{
    Command, Table,
    options::{self, HelpSection, OPTIONS, OptionSpec},
};

/// A word for a command.
#[derive(Debug)]
pub struct Word {
    /// The word.
    pub name: &'static str,
    /// The option of the command.
    pub letter: &'static str,
    /// The command; `None` for `-R`.
    pub command: Option<Command>,
    /// What may follow it.
    pub synopsis: &'static str,
    /// Help in one line.
    pub help: &'static str,
    /// True if it prints tables on a terminal.
    pub tables: bool,
    /// Examples: what follows `flowgate`, and what it does.
    pub examples: &'static [(&'static str, &'static str)],
}

const WORD: Word =
    Word { name: "", letter: "", command: None, synopsis: "[table] [options]", help: "", tables: false, examples: &[] };

/// All words.
pub const WORDS: [Word; 11] = [
    Word {
        name: "list",
        letter: "-L",
        command: Some(Command::List),
        help: "List the entries of a table: a table on a terminal, lines of text in a pipe",
        tables: true,
        examples: &[
            ("list", "all flows"),
            ("list -p tcp --dport 443", "TCP flows to port 443"),
            ("list -s 10.0.0.0/8 -o json", "the flows of a network, one JSON object a line"),
            ("list --columns src,dst,bytes -o csv", "three columns for a spreadsheet"),
            ("list expect", "the flows that helpers expect"),
        ],
        ..WORD
    },
    Word {
        name: "watch",
        letter: "-E",
        command: Some(Command::Events),
        help: "Show events as they happen: a table on a terminal, lines of text in a pipe",
        tables: true,
        examples: &[
            ("watch", "all events"),
            ("watch -e NEW,DESTROY -p udp", "beginnings and ends of UDP flows"),
            ("watch -o timestamp", "as text, with the time of each event"),
            ("watch --resync -o json", "make up for lost events"),
        ],
        ..WORD
    },
    Word {
        name: "get",
        letter: "-G",
        command: Some(Command::Get),
        synopsis: "[table] parameters",
        help: "Look up one entry and show it",
        examples: &[("get -p tcp -s 10.0.0.1 -d 192.0.2.1 --sport 40000 --dport 443", "one flow")],
        ..WORD
    },
    Word {
        name: "delete",
        letter: "-D",
        command: Some(Command::Delete),
        synopsis: "[table] parameters",
        help: "Delete the entries that match",
        examples: &[
            ("delete -s 192.0.2.0/24 --dry-run", "show what would be deleted"),
            ("delete -s 192.0.2.0/24", "delete the flows of a network"),
            ("delete --all", "delete every flow"),
        ],
        ..WORD
    },
    Word {
        name: "update",
        letter: "-U",
        command: Some(Command::Update),
        synopsis: "parameters",
        help: "Change the flows that match",
        examples: &[
            ("update -s 192.0.2.1 -m 0x10/0xf0", "set some bits of the mark of a host's flows"),
            ("update -p udp -s 192.0.2.1 -t 10", "let the UDP flows of a host end in ten seconds"),
        ],
        ..WORD
    },
    Word {
        name: "create",
        letter: "-I",
        command: Some(Command::Create),
        synopsis: "[table] parameters",
        help: "Create an entry; fail if it exists",
        examples: &[(
            "create -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 53 -t 60",
            "a UDP flow that lasts a minute",
        )],
        ..WORD
    },
    Word {
        name: "add",
        letter: "-A",
        command: Some(Command::Add),
        synopsis: "parameters",
        help: "Create a flow, or change it if it exists",
        examples: &[(
            "add -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 53 -t 60",
            "a UDP flow that lasts a minute",
        )],
        ..WORD
    },
    Word {
        name: "flush",
        letter: "-F",
        command: Some(Command::Flush),
        help: "Empty a table",
        examples: &[("flush", "delete every flow at once"), ("flush expect", "delete every expectation")],
        ..WORD
    },
    Word {
        name: "count",
        letter: "-C",
        command: Some(Command::Count),
        help: "Show the number of entries of a table, or of the flows that match",
        examples: &[
            ("count", "the number of flows"),
            ("count --where 'state == SYN_SENT'", "the number of flows that satisfy a condition"),
            ("count expect", "the number of expectations"),
        ],
        ..WORD
    },
    Word {
        name: "stats",
        letter: "-S",
        command: Some(Command::Statistics),
        help: "Show the kernel's counters for each CPU",
        examples: &[("stats", "as conntrack prints them"), ("stats -o table", "with the sum of all CPUs")],
        ..WORD
    },
    Word {
        name: "load",
        letter: "-R",
        synopsis: "file [options]",
        help: "Execute the -I, -A, -U, -D and -F lines of a file, - for standard input",
        examples: &[
            ("list -o save > flows", "save the flows"),
            ("load flows", "create them again"),
            ("load flows --dry-run", "show what would be done"),
        ],
        ..WORD
    },
];

/// Returns the word with which a command line begins.
pub fn find(arguments: &[OsString]) -> Option<&'static Word> {
    let first = arguments.first()?;
    WORDS.iter().find(|word| first == OsStr::new(word.name))
}

/// Returns the word for a command.
pub fn of_command(command: Command) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.command == Some(command))
}

impl Word {
    /// Returns the classic command line for one that begins with this word.
    pub fn classic(&self, arguments: &[OsString]) -> Vec<OsString> {
        let rest = arguments.get(1..).unwrap_or_default();
        let with = |letter: &str, more: &[&str]| {
            let rest = rest.iter().cloned().chain(more.iter().map(OsString::from));
            std::iter::once(OsString::from(letter)).chain(rest).collect()
        };
        // The kernel knows how many there are, but not how many match.
        if self.command == Some(Command::Count) && rest.iter().any(|word| self.lacks(word)) {
            return with("-L", &["--count", "-o", "tsv", "--no-header"]);
        }
        with(self.letter, &[])
    }

    /// Returns true if a word is an option, and none of this command.
    fn lacks(&self, word: &OsStr) -> bool {
        let word = word.to_string_lossy();
        let is = |spec: &OptionSpec| match word.strip_prefix("--") {
            Some(long) => spec.long.contains(&long.split('=').next().unwrap_or_default()),
            None => spec.short.is_some_and(|short| word.as_bytes().get(1) == Some(&short)),
        };
        word.len() > 1 && word.starts_with('-') && !self.options().any(is)
    }

    /// Returns true if the command line asks for help.
    pub fn is_help(&self, arguments: &[OsString]) -> bool {
        arguments.get(1).is_some_and(|next| next == "-h" || next == "--help")
    }

    /// Returns the name and what may follow it.
    pub fn usage(&self) -> String {
        format!("{} {}", self.name, self.synopsis)
    }

    /// Returns the options that the command accepts for any table.
    pub fn options(&self) -> impl Iterator<Item = &'static OptionSpec> + use<> {
        let command = self.command;
        OPTIONS.iter().filter(move |spec| {
            let legal = |table| command.is_some_and(|command| options::legality(spec, Some((command, table))) != b'.');
            spec.section != HelpSection::Hidden && (legal(Table::Conntrack) || legal(Table::Expect))
        })
    }

    /// Returns the help: examples first.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{}\n\nExamples:", self.help);
        let width = self.examples.iter().map(|(example, _)| example.len()).max().unwrap_or_default().min(50);
        for (example, help) in self.examples {
            let _ = writeln!(text, "  flowgate {example:width$}  {help}");
        }
        let letter = self.letter;
        let _ = writeln!(text, "\nUsage: flowgate {}   (the same as flowgate {letter})", self.usage());
        if self.command == Some(Command::List) {
            text.push_str("Tables: conntrack (the default), expect, dying, unconfirmed\n");
        }
        let options: Vec<(String, &str)> =
            self.options().map(|spec| (super::usage::synopsis(spec), spec.help)).collect();
        if self.command.is_none() {
            text.push_str("Options: --dry-run, --explain, --keep-going, --netns, --set-zone\n");
        } else if !options.is_empty() {
            text.push_str("\nOptions:\n");
        }
        for (left, help) in options {
            let _ = writeln!(text, "  {left:<34}  {help}");
        }
        text.push_str("\n`flowgate help all` has the options of protocols, `flowgate man | man -l -` everything.\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_syntax::options::COMMANDS;

    #[test]
    fn every_command_has_one_word() {
        for spec in COMMANDS.iter().filter(|spec| !matches!(spec.command, Command::Version | Command::Help)) {
            let word = of_command(spec.command).unwrap_or_else(|| panic!("{:?}", spec.command));
            assert_eq!(word.letter, format!("-{}", char::from(spec.short)));
        }
        let names: Vec<&str> = WORDS.iter().map(|word| word.name).collect();
        for (index, name) in names.iter().enumerate() {
            assert!(!names[index + 1..].contains(name), "{name}");
        }
    }

    #[test]
    fn what_matches_is_counted_by_a_listing() {
        let count = of_command(Command::Count).unwrap();
        let classic = |line: &str| {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            let classic = count.classic(&words).into_iter().map(|word| word.into_string().unwrap());
            classic.collect::<Vec<_>>().join(" ")
        };
        for (line, expected) in [
            ("count", "-C"),
            ("count expect", "-C expect"),
            ("count --netns=blue", "-C --netns=blue"),
            ("count --netns blue", "-C --netns blue"),
            ("count --where a==1", "-L --where a==1 --count -o tsv --no-header"),
            ("count -p tcp", "-L -p tcp --count -o tsv --no-header"),
        ] {
            assert_eq!(classic(line), expected, "{line}");
        }
    }

    #[test]
    fn examples_come_first_and_are_short() {
        for word in &WORDS {
            let text = word.text();
            assert!(text.find("Examples:") < text.find("Usage:"), "{text}");
            assert!(!word.examples.is_empty());
        }
    }
}
