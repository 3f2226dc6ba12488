//! `-R FILE`: a file of command lines. All lines are parsed and checked before the first is executed.

use std::io::{BufRead, Read};
use std::ops::Range;

use super::environment::Environment;
use super::error::{CliError, RawArg};
use super::settings::{Command, FileLine, LoadFile, LoadedCommand, Settings, SkippedLines, Table};
use flowgate_base::io_error::error_text;
use flowgate_model::{Flows, batch};

/// Maximum length of a line in bytes; a longer line counts as several lines.
const MAX_LINE: u64 = 10239;
/// Maximum length of a word in bytes.
const MAX_WORD: usize = 1023;
/// Maximum number of lines that are merged: a table of as many rows is passed on at once.
const MAX_MERGED: usize = 4096;
/// Number of lines that are read before they are parsed.
const LINES_PER_READ: usize = 16_384;
/// Minimum number of lines for which a thread is started.
const MIN_LINES_PER_THREAD: usize = 1024;
/// Maximum number of words in a line, with the program's name that is put before it.
const MAX_WORDS: usize = 254;

/// Parses the words of a line, the first of which is the program's name, and adds warnings. The command before it is
/// passed along, for lines that can be merged with it ([`is_mergeable`]).
pub(crate) type ReadLine<'a> =
    &'a (dyn Fn(Vec<&[u8]>, &mut Vec<String>, Option<&mut LoadedCommand>) -> Result<LineResult, CliError> + Sync);

/// The result of parsing a line.
pub(crate) enum LineResult {
    /// A separate command.
    Command(Box<Settings>),
    /// A row was added to the command before it.
    Merged,
    /// The line has neither a command nor options.
    Empty,
}

/// The commands to execute, each with the number of its first line; `None` for a line without a command.
type Commands = Vec<(usize, Option<LoadedCommand>)>;

/// How a file is read.
#[derive(Clone, Copy)]
pub(crate) struct LoadOptions<'a> {
    /// The program's name, which is put before each line.
    pub program: &'a [u8],
    /// True under flowgate's own name: a line that is too long is then an error, where `conntrack` counts it as several
    /// lines.
    pub own_name: bool,
    /// True if an invalid line is skipped.
    pub keep_going: bool,
}

/// Loads the file. `place` is the line of an error, unless the error concerns the file itself.
pub(crate) fn load(
    options: LoadOptions<'_>,
    file: &[u8],
    environment: &dyn Environment,
    line: ReadLine<'_>,
    warnings: &mut Vec<String>,
    place: &mut Option<FileLine>,
) -> Result<LoadFile, CliError> {
    let (name, opened) = match file {
        b"-" => (RawArg::from("/dev/stdin"), environment.standard_input()),
        file => (RawArg::from(file), environment.open(file)),
    };
    let mut reader = opened.map_err(|_| CliError::CannotOpen(name.clone()))?;
    let mut commands = Commands::new();
    let at = |line| Some(FileLine { file: name.clone(), line });
    let mut first = 1;
    let (mut lines_read, mut next) = (LineBuffer::default(), LineBuffer::default());
    let mut end = lines_read.take(&mut *reader, options);
    let mut skipped = SkippedLines::default();
    loop {
        let last = lines_read.ends.len() < LINES_PER_READ;
        // The next lines are read while these are parsed.
        let mut end_of_next = Ok(());
        let meanwhile = || end_of_next = if last { Ok(()) } else { next.take(&mut *reader, options) };
        for chunk in parse_chunks(options, &lines_read, first, line, meanwhile) {
            warnings.extend(chunk.warnings);
            skipped.append(chunk.skipped);
            for command in chunk.commands {
                push_or_merge(&mut commands, command);
            }
            if let Some((number, error)) = chunk.error {
                *place = at(number);
                return Err(error);
            }
        }
        first += lines_read.ends.len();
        if let Err(error) = end {
            // Nothing can be read from a directory.
            *place = at(first - 1).filter(|place| place.line > 0);
            return Err(CliError::CannotRead { name, error: error_text(&error) });
        }
        if last {
            break;
        }
        std::mem::swap(&mut lines_read, &mut next);
        end = end_of_next;
    }
    let mut file = LoadFile { name: name.clone(), commands: Vec::new(), skipped };
    for (number, command) in commands {
        *place = at(number);
        let mut command = command.ok_or(CliError::NotInLoadFile("unknown"))?;
        if let Some(command) = disallowed_name(command.settings.command, command.settings.table) {
            return Err(CliError::NotInLoadFile(command));
        }
        // Extends all columns to the length of the table.
        batch::append(&mut command.settings.template, &Flows::default());
        file.commands.push(command);
    }
    Ok(file)
}

/// Some lines of the file, in a buffer that is reused for the next ones.
#[derive(Default)]
struct LineBuffer {
    bytes: Vec<u8>,
    /// End of each line.
    ends: Vec<usize>,
    /// Numbers of the lines that are too long, in ascending order; their bytes beyond the maximum are dropped.
    too_long: Vec<usize>,
}

impl LineBuffer {
    /// Reads the next lines, up to the limit; none at the end of the file. On an error, the complete lines before it
    /// are kept.
    fn take(&mut self, mut reader: &mut dyn BufRead, options: LoadOptions<'_>) -> std::io::Result<()> {
        self.bytes.clear();
        self.ends.clear();
        self.too_long.clear();
        while self.ends.len() < LINES_PER_READ {
            let line = Read::by_ref(&mut reader).take(MAX_LINE).read_until(b'\n', &mut self.bytes);
            let start = self.ends.last().copied().unwrap_or_default();
            match line {
                Ok(0) => break,
                Ok(length) => {
                    if options.own_name && length as u64 == MAX_LINE && self.bytes.last() != Some(&b'\n') {
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

    /// Returns the lines with these numbers.
    fn lines(&self, numbers: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let end = |number: usize| self.ends.get(number).copied().unwrap_or_default();
        numbers.map(move |number| {
            let start = number.checked_sub(1).map_or(0, end);
            self.bytes.get(start..end(number)).unwrap_or_default()
        })
    }
}

/// The result of parsing some lines.
#[derive(Default)]
struct Chunk {
    commands: Commands,
    warnings: Vec<String>,
    /// The first invalid line, which ended the chunk, and its error.
    error: Option<(usize, CliError)>,
    /// Skipped lines.
    skipped: SkippedLines,
}

/// Parses the lines, many of them on several threads, and calls `meanwhile` at the same time. Chunks are in order, so
/// that the first error is reported.
fn parse_chunks(
    options: LoadOptions<'_>,
    lines_read: &LineBuffer,
    first: usize,
    line: ReadLine<'_>,
    meanwhile: impl FnOnce(),
) -> Vec<Chunk> {
    let lines = lines_read.ends.len();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let size = lines.div_ceil(threads).max(MIN_LINES_PER_THREAD);
    let read = |start: usize| parse_chunk(options, lines_read, start..lines.min(start + size), first, line);
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
        // If a thread could not be started or has panicked, this thread does its work.
        running
            .into_iter()
            .map(|(thread, start)| thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(|| read(start)))
            .collect()
    })
}

fn parse_chunk(
    options: LoadOptions<'_>,
    lines_read: &LineBuffer,
    lines: Range<usize>,
    first: usize,
    line: ReadLine<'_>,
) -> Chunk {
    let mut chunk = Chunk::default();
    let mut words = WordSplitter::default();
    for (number, text) in (first + lines.start..).zip(lines_read.lines(lines)) {
        let last = chunk.commands.last_mut().and_then(|(_, command)| command.as_mut());
        let too_long = lines_read.too_long.binary_search(&(number - first)).is_ok();
        let any = if too_long { Err(CliError::LineTooLong) } else { words.split(options.program, text) };
        let read =
            any.and_then(|any| any.then(|| line(words.words().collect(), &mut chunk.warnings, last)).transpose());
        let read = match read {
            Ok(Some(LineResult::Command(settings))) if options.keep_going => {
                match disallowed_name(settings.command, settings.table) {
                    Some(command) => Err(CliError::NotInLoadFile(command)),
                    None => Ok(Some(LineResult::Command(settings))),
                }
            }
            Ok(Some(LineResult::Empty)) if options.keep_going => Err(CliError::NotInLoadFile("unknown")),
            read => read,
        };
        match read {
            Ok(None) => {}
            Ok(Some(LineResult::Command(settings))) => {
                chunk.commands.push((number, Some(LoadedCommand { settings, lines: vec![number] })));
            }
            Ok(Some(LineResult::Merged)) => {
                if let Some((_, Some(last))) = chunk.commands.last_mut() {
                    last.lines.push(number);
                }
            }
            Ok(Some(LineResult::Empty)) => chunk.commands.push((number, None)),
            Err(error) if options.keep_going => chunk.skipped.push(number, error),
            Err(error) => {
                chunk.error = Some((number, error));
                break;
            }
        }
    }
    chunk
}

/// Adds a command of the next chunk; merges it with the command before it if possible.
fn push_or_merge(commands: &mut Commands, (number, command): (usize, Option<LoadedCommand>)) {
    let last = commands.last_mut().and_then(|(_, command)| command.as_mut());
    match (command, last) {
        (Some(command), Some(last)) if is_mergeable(last, MergeKey::of(&command.settings), command.lines.len()) => {
            batch::append(&mut last.settings.template, &command.settings.template);
            last.lines.extend(command.lines);
        }
        (command, _) => commands.push((number, command)),
    }
}

/// Returns true if a line that creates a flow can be merged with those before it, so that a file of a million lines
/// becomes a few tables and not a million settings.
pub(crate) fn is_mergeable(last: &LoadedCommand, next: MergeKey, lines: usize) -> bool {
    matches!((next.command, next.table), (Command::Create | Command::Add, Table::Conntrack))
        && MergeKey::of(&last.settings) == next
        && last.lines.len() + lines <= MAX_MERGED
}

/// The properties that must be equal in merged lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct MergeKey {
    pub command: Command,
    pub table: Table,
    pub dry_run: bool,
}

impl MergeKey {
    fn of(settings: &Settings) -> Self {
        MergeKey { command: settings.command, table: settings.table, dry_run: settings.dry_run }
    }
}

/// Returns the name of a command that load files cannot contain, `None` for an allowed command.
pub(crate) fn disallowed_name(command: Command, table: Table) -> Option<&'static str> {
    let expect = table == Table::Expect;
    match command {
        Command::Create | Command::Add | Command::Update | Command::Delete | Command::Flush if !expect => None,
        Command::List => Some(if expect { "-L expect" } else { "-L" }),
        Command::Get => Some(if expect { "-G expect" } else { "-G" }),
        Command::Events => Some(if expect { "-E expect" } else { "-E" }),
        Command::Statistics => Some(if expect { "-S expect" } else { "-S" }),
        Command::Count if !expect => Some("-C"),
        // `conntrack` has the same name for both.
        Command::Count | Command::Create => Some("-C expect"),
        Command::Delete => Some("-D expect"),
        Command::Flush => Some("-F expect"),
        Command::Version => Some("-V"),
        Command::Help => Some("-h"),
        Command::Add | Command::Update => Some("unknown"),
    }
}

/// Removes the suffix that `-E -o save` writes after a line about the process that caused the event; the process's name
/// may be any text.
pub(crate) fn strip_process_suffix(words: &mut Vec<&[u8]>) {
    let suffix =
        words.windows(2).position(|pair| matches!(pair, [b"[USERSPACE]", next] if next.starts_with(b"portid=")));
    if let Some(suffix) = suffix {
        words.truncate(suffix);
    }
}

/// Splits a text as a line, after a program's name.
pub(crate) fn split_fragment(text: &[u8]) -> Result<Vec<Vec<u8>>, CliError> {
    let program = b"flowgate";
    let line: Vec<u8> = text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
    Ok(split(program, &line)?.unwrap_or_else(|| vec![program.to_vec()]))
}

/// Returns the words of a line after the program's name; `None` for an empty line or a comment.
pub(crate) fn split(program: &[u8], text: &[u8]) -> Result<Option<Vec<Vec<u8>>>, CliError> {
    let mut words = WordSplitter::default();
    Ok(words.split(program, text)?.then(|| words.words().map(<[u8]>::to_vec).collect()))
}

/// Splits lines into words, in a buffer that is reused: a file may have a million lines.
#[derive(Default)]
struct WordSplitter {
    bytes: Vec<u8>,
    /// End of each word.
    ends: Vec<usize>,
}

impl WordSplitter {
    /// Returns the words of the last line.
    fn words(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }

    /// Splits a line, after the program's name. Returns false for an empty line or a comment.
    ///
    /// Words are separated by spaces and tabs. Double quotes group; a closing quote ends the word; between quotes a
    /// backslash makes the next character ordinary. An unclosed quote extends to the end of the line and includes the
    /// newline.
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

    /// Returns the length of the current word.
    fn length(&self) -> usize {
        self.bytes.len() - self.ends.last().copied().unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        if self.length() + bytes.len() > MAX_WORD {
            return Err(CliError::WordTooLong);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), CliError> {
        if self.ends.len() == MAX_WORDS {
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
