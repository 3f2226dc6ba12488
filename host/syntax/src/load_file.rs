//! `-R FILE`: a file of command lines. All are read and checked before the first is carried out.

use std::io::{BufRead, Read};
use std::ops::Range;

use super::environment::Environment;
use super::error::{CliError, Word};
use super::settings::{Command, LoadFile, LoadedCommand, LostLines, Place, Settings, Table};
use flowgate_base::io_error::error_text;
use flowgate_model::{Flows, batch};

/// What one line holds at most; what is longer counts as several lines.
const LINE: u64 = 10239;
/// What one word holds at most.
const WORD: usize = 1023;
/// Most lines that are put together: a table of so many rows is handed on at once.
const TOGETHER: usize = 4096;
/// Lines that are read before they are made sense of.
const AT_ONCE: usize = 16_384;
/// Fewer lines are not worth a thread.
const WORTH_A_THREAD: usize = 1024;
/// How many words a line has at most, with the program's name that it is given.
const WORDS: usize = 254;

/// Makes something of the words of a line, of which the first is the program's name; adds warnings. The command before it is at
/// hand, for lines that can be put together with it ([`joins`]).
pub(crate) type ReadLine<'a> =
    &'a (dyn Fn(Vec<&[u8]>, &mut Vec<String>, Option<&mut LoadedCommand>) -> Result<Line, CliError> + Sync);

/// What a line came to.
pub(crate) enum Line {
    /// A command of its own.
    Command(Box<Settings>),
    /// Its row is now one of the command before it.
    Joined,
    /// It has neither command nor options.
    Nothing,
}

/// What is to be carried out, each with the number of its first line; none for a line without command.
type Commands = Vec<(usize, Option<LoadedCommand>)>;

/// How a file is read.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    /// The program's name, which is put before each line.
    pub program: &'a [u8],
    /// Whether that is a name of its own: then a line that is too long is wrong, where `conntrack` takes it for several.
    pub own: bool,
    /// Whether a line that makes no sense loses only itself.
    pub keep_going: bool,
}

/// Reads the file. What is wrong is at `place`, unless the file itself is.
pub(crate) fn load(
    manner: Manner<'_>,
    file: &[u8],
    environment: &dyn Environment,
    line: ReadLine<'_>,
    warnings: &mut Vec<String>,
    place: &mut Option<Place>,
) -> Result<LoadFile, CliError> {
    let (name, opened) = match file {
        b"-" => (Word::from("/dev/stdin"), environment.standard_input()),
        file => (Word::from(file), environment.open(file)),
    };
    let mut reader = opened.map_err(|_| CliError::CannotOpen(name.clone()))?;
    let mut commands = Commands::new();
    let at = |line| Some(Place { file: name.clone(), line });
    let mut first = 1;
    let (mut texts, mut next) = (Texts::default(), Texts::default());
    let mut end = texts.take(&mut *reader, manner);
    let mut lost = LostLines::default();
    loop {
        let last = texts.ends.len() < AT_ONCE;
        // The next lines are read while others are made sense of.
        let mut end_of_next = Ok(());
        let meanwhile = || end_of_next = if last { Ok(()) } else { next.take(&mut *reader, manner) };
        for part in read_parts(manner, &texts, first, line, meanwhile) {
            warnings.extend(part.warnings);
            lost.append(part.lost);
            for command in part.commands {
                join(&mut commands, command);
            }
            if let Some((number, error)) = part.wrong {
                *place = at(number);
                return Err(error);
            }
        }
        first += texts.ends.len();
        if let Err(error) = end {
            // Nothing could be read of a directory.
            *place = at(first - 1).filter(|place| place.line > 0);
            return Err(CliError::CannotRead { name, error: error_text(&error) });
        }
        if last {
            break;
        }
        std::mem::swap(&mut texts, &mut next);
        end = end_of_next;
    }
    let mut file = LoadFile { name: name.clone(), commands: Vec::new(), lost };
    for (number, command) in commands {
        *place = at(number);
        let mut command = command.ok_or(CliError::NotInLoadFile("unknown"))?;
        if let Some(command) = forbidden(command.settings.command, command.settings.table) {
            return Err(CliError::NotInLoadFile(command));
        }
        // All columns become as long as the table.
        batch::append(&mut command.settings.template, &Flows::default());
        file.commands.push(command);
    }
    Ok(file)
}

/// Some lines of the file, in one place that is used again for the next ones.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
    /// The places of those that are too long, in ascending order; what is behind the longest line is left out of them.
    too_long: Vec<usize>,
}

impl Texts {
    /// Reads the next lines, not too many; none at the end. What could be read is kept where no more can.
    fn take(&mut self, mut reader: &mut dyn BufRead, manner: Manner<'_>) -> std::io::Result<()> {
        self.bytes.clear();
        self.ends.clear();
        self.too_long.clear();
        while self.ends.len() < AT_ONCE {
            let line = Read::by_ref(&mut reader).take(LINE).read_until(b'\n', &mut self.bytes);
            let start = self.ends.last().copied().unwrap_or_default();
            match line {
                Ok(0) => break,
                Ok(length) => {
                    if manner.own && length as u64 == LINE && self.bytes.last() != Some(&b'\n') {
                        let mut rest = Vec::new();
                        Read::by_ref(&mut reader).take(1).read_to_end(&mut rest)?;
                        if !rest.is_empty() && rest != b"\n" {
                            self.too_long.push(self.ends.len());
                            reader.skip_until(b'\n')?;
                        }
                    }
                    self.ends.push(self.bytes.len());
                }
                Err(error) => {
                    self.bytes.truncate(start);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The lines of these numbers.
    fn lines(&self, numbers: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let end = |number: usize| self.ends.get(number).copied().unwrap_or_default();
        numbers.map(move |number| {
            let start = number.checked_sub(1).map_or(0, end);
            self.bytes.get(start..end(number)).unwrap_or_default()
        })
    }
}

/// What some lines came to.
#[derive(Default)]
struct Part {
    commands: Commands,
    warnings: Vec<String>,
    /// The line that ended it, and what is wrong with it.
    wrong: Option<(usize, CliError)>,
    /// Lines that are passed over.
    lost: LostLines,
}

/// Reads lines, many of them on several threads, and does something else `meanwhile`; the parts are in order, and what is wrong in
/// one is told before what is in later ones.
fn read_parts(
    manner: Manner<'_>,
    texts: &Texts,
    first: usize,
    line: ReadLine<'_>,
    meanwhile: impl FnOnce(),
) -> Vec<Part> {
    let lines = texts.ends.len();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let size = lines.div_ceil(threads).max(WORTH_A_THREAD);
    let read = |start: usize| read_part(manner, texts, start..lines.min(start + size), first, line);
    if lines <= size {
        meanwhile();
        return vec![read(0)];
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..lines)
            .step_by(size)
            .map(|start| (std::thread::Builder::new().spawn_scoped(scope, move || read(start)), start))
            .collect();
        meanwhile();
        // Without another thread, or when one was lost, this one does the work.
        running
            .into_iter()
            .map(|(thread, start)| thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| read(start)))
            .collect()
    })
}

fn read_part(manner: Manner<'_>, texts: &Texts, lines: Range<usize>, first: usize, line: ReadLine<'_>) -> Part {
    let mut part = Part::default();
    let mut words = Words::default();
    for (number, text) in (first + lines.start..).zip(texts.lines(lines)) {
        let last = part.commands.last_mut().and_then(|(_, command)| command.as_mut());
        let too_long = texts.too_long.binary_search(&(number - first)).is_ok();
        let any = if too_long { Err(CliError::LineTooLong) } else { words.split(manner.program, text) };
        let read = any.and_then(|any| any.then(|| line(words.words().collect(), &mut part.warnings, last)).transpose());
        let read = match read {
            Ok(Some(Line::Command(settings))) if manner.keep_going => {
                match forbidden(settings.command, settings.table) {
                    Some(command) => Err(CliError::NotInLoadFile(command)),
                    None => Ok(Some(Line::Command(settings))),
                }
            }
            Ok(Some(Line::Nothing)) if manner.keep_going => Err(CliError::NotInLoadFile("unknown")),
            read => read,
        };
        match read {
            Ok(None) => {}
            Ok(Some(Line::Command(settings))) => {
                part.commands.push((number, Some(LoadedCommand { settings, lines: vec![number] })));
            }
            Ok(Some(Line::Joined)) => {
                if let Some((_, Some(last))) = part.commands.last_mut() {
                    last.lines.push(number);
                }
            }
            Ok(Some(Line::Nothing)) => part.commands.push((number, None)),
            Err(error) if manner.keep_going => part.lost.push(number, error),
            Err(error) => {
                part.wrong = Some((number, error));
                break;
            }
        }
    }
    part
}

/// Adds a command of the next part, to the one before it if the two can be one.
fn join(commands: &mut Commands, (number, command): (usize, Option<LoadedCommand>)) {
    let last = commands.last_mut().and_then(|(_, command)| command.as_mut());
    match (command, last) {
        (Some(command), Some(last)) if joins(last, Kind::of(&command.settings), command.lines.len()) => {
            batch::append(&mut last.settings.template, &command.settings.template);
            last.lines.extend(command.lines);
        }
        (command, _) => commands.push((number, command)),
    }
}

/// Whether a line that makes a flow can be put together with those before it: then a file of a million lines is a few tables
/// and not a million settings.
pub(crate) fn joins(last: &LoadedCommand, next: Kind, lines: usize) -> bool {
    matches!((next.command, next.table), (Command::Create | Command::Add, Table::Conntrack))
        && Kind::of(&last.settings) == next
        && last.lines.len() + lines <= TOGETHER
}

/// What must be the same in lines that are put together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub command: Command,
    pub table: Table,
    pub dry_run: bool,
}

impl Kind {
    fn of(settings: &Settings) -> Self {
        Kind { command: settings.command, table: settings.table, dry_run: settings.dry_run }
    }
}

/// What a command is called that a load file cannot contain; none for one that it can.
pub(crate) fn forbidden(command: Command, table: Table) -> Option<&'static str> {
    let expect = table == Table::Expect;
    match command {
        Command::Create | Command::Add | Command::Update | Command::Delete | Command::Flush if !expect => None,
        Command::List => Some(if expect { "-L expect" } else { "-L" }),
        Command::Get => Some(if expect { "-G expect" } else { "-G" }),
        Command::Events => Some(if expect { "-E expect" } else { "-E" }),
        Command::Statistics => Some(if expect { "-S expect" } else { "-S" }),
        Command::Count if !expect => Some("-C"),
        // The classic program has the same name for both.
        Command::Count | Command::Create => Some("-C expect"),
        Command::Delete => Some("-D expect"),
        Command::Flush => Some("-F expect"),
        Command::Version => Some("-V"),
        Command::Help => Some("-h"),
        Command::Add | Command::Update => Some("unknown"),
    }
}

/// Leaves out what `-E -o save` writes behind a line about the process that caused the event: its name may be any text.
pub(crate) fn without_suffix(words: &mut Vec<&[u8]>) {
    let suffix =
        words.windows(2).position(|pair| matches!(pair, [b"[USERSPACE]", next] if next.starts_with(b"portid=")));
    if let Some(suffix) = suffix {
        words.truncate(suffix);
    }
}

/// The words of a text as those of a line, behind a program's name.
pub(crate) fn words(text: &[u8]) -> Result<Vec<Vec<u8>>, CliError> {
    let program = b"flowgate";
    let line: Vec<u8> = text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
    Ok(split(program, &line)?.unwrap_or_else(|| vec![program.to_vec()]))
}

/// The words of a line behind the program's name; none for an empty line or a comment.
pub(crate) fn split(program: &[u8], text: &[u8]) -> Result<Option<Vec<Vec<u8>>>, CliError> {
    let mut words = Words::default();
    Ok(words.split(program, text)?.then(|| words.words().map(<[u8]>::to_vec).collect()))
}

/// The words of one line after the other, in one place: a file may have a million lines.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
    /// Where each word ends.
    ends: Vec<usize>,
}

impl Words {
    /// The words that were last split.
    fn words(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    /// Splits a line behind the program's name; `false` for an empty line or a comment.
    ///
    /// Words are separated by spaces and tabs. Double quotes group; a closing one ends the word; between them a backslash
    /// makes the next character ordinary. A quote that is not closed runs to the end of the line and keeps the newline.
    fn split(&mut self, program: &[u8], text: &[u8]) -> Result<bool, CliError> {
        self.bytes.clear();
        self.ends.clear();
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let start = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let text = text.get(start..).unwrap_or_default();
        if matches!(text.first(), Some(b'\n' | b'#')) {
            return Ok(false);
        }
        self.bytes.extend_from_slice(program);
        self.ends.push(program.len());
        let mut quoted = false;
        let mut rest = text;
        loop {
            let ordinary = |byte: &u8| match byte {
                b'"' => false,
                b'\\' => !quoted,
                b' ' | b'\t' | b'\n' => quoted,
                _ => true,
            };
            let (run, special) = rest.split_at(rest.iter().take_while(|byte| ordinary(byte)).count());
            self.push(run)?;
            let Some((byte, after)) = special.split_first() else { break };
            rest = after;
            match byte {
                b'\\' => {
                    if let Some((byte, after)) = rest.split_first() {
                        self.push(std::slice::from_ref(byte))?;
                        rest = after;
                    }
                }
                b'"' => {
                    if quoted {
                        self.end()?;
                    }
                    quoted = !quoted;
                }
                _ => {
                    if self.length() > 0 {
                        self.end()?;
                    }
                }
            }
        }
        if self.length() > 0 {
            self.end()?;
        }
        Ok(true)
    }

    /// How long the word is that has not ended yet.
    fn length(&self) -> usize {
        self.bytes.len() - self.ends.last().copied().unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        if self.length() + bytes.len() > WORD {
            return Err(CliError::WordTooLong);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), CliError> {
        if self.ends.len() == WORDS {
            return Err(CliError::TooManyWords);
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        let words = split(b"prog", text.as_bytes()).expect("a line")?;
        Some(words.iter().skip(1).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn words_are_split_and_quoted() {
        let some = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(words("-D  -s\t1.2.3.4\n"), some(&["-D", "-s", "1.2.3.4"]));
        assert_eq!(words("a\"b\"c\n"), some(&["ab", "c"]));
        assert_eq!(words("-F \"\"\n"), some(&["-F", ""]));
        assert_eq!(words("\"a \\\" b\" c\\d 'e f'\n"), some(&["a \" b", "c\\d", "'e", "f'"]));
        assert_eq!(words("-m \"a\n"), some(&["-m", "a\n"]));
        assert_eq!(words("-F # x\n"), some(&["-F", "#", "x"]));
        assert_eq!(words("-F\r\n"), some(&["-F\r"]));
        assert_eq!(words("  \t\n"), None);
        assert_eq!(words(" # -F\n"), None);
        assert_eq!(words("  "), some(&[]));
    }

    #[test]
    fn lines_and_words_have_limits() {
        assert_eq!(split(b"", "x".repeat(1024).as_bytes()), Err(CliError::WordTooLong));
        assert!(split(b"", "x".repeat(1023).as_bytes()).is_ok());
        assert_eq!(split(b"", "x ".repeat(254).as_bytes()), Err(CliError::TooManyWords));
        assert!(split(b"", "x ".repeat(253).as_bytes()).is_ok());
    }
}
