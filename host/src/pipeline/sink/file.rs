//! A file as a sink, with rotation: `flows.log` becomes `flows.log.1`, that `flows.log.2`, and so on.
//!
//! A file is put aside between two lines, so that no line is lost, split, or written twice. All of its files are opened, renamed and
//! removed relative to their directory, in which nobody else can replace them ([`Trust::Exclusive`]).

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};

use super::{Sink, SinkError, first_line, whole_lines};
use crate::{
    cli::error_text,
    files::{self, BlockingFile, Directory, Trust},
    pipeline::tell::Tell,
};

/// What a file sink is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// The file.
    pub path: PathBuf,
    /// Whether what is there already is kept; otherwise the file begins empty.
    pub append: bool,
    /// When files are put aside; none if never.
    pub rotation: Option<Rotation>,
    /// Mode of the file if it is made, whatever the umask; none for what the umask leaves of 0666. One that is there already keeps
    /// its mode, and so do those that are put aside or follow it.
    pub mode: Option<u32>,
}

impl FileOptions {
    /// What would keep [`FileSink::open`] from opening the file, without opening or making it.
    ///
    /// # Errors
    /// As [`FileSink::open`].
    pub fn check(&self) -> Result<(), SinkError> {
        let failed = |source| SinkError::Open { path: self.path.clone(), source };
        let (directory, name) = Directory::of(&self.path, Trust::Exclusive).map_err(failed)?;
        directory.check(&name).map_err(failed)?;
        if self.rotation.is_some() && !directory.is_regular(&name).map_err(failed)? {
            return Err(SinkError::NotRegular { path: self.path.clone() });
        }
        Ok(())
    }
}

/// When files are put aside, and what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Before it is longer than this many bytes. A single line that is longer has a file of its own.
    pub size: Option<u64>,
    /// At the first line after a multiple of this time, counted from 1970 in UTC: with a day, the first after midnight.
    pub interval: Option<Duration>,
    /// How many files that were put aside are kept; older ones are removed. At least 1.
    pub keep: u32,
    /// Whether they are compressed with gzip, on a thread of its own.
    pub compress: bool,
}

/// A file that bytes are appended to.
pub struct FileSink {
    options: FileOptions,
    directory: Arc<Directory>,
    name: OsString,
    file: BlockingFile,
    regular: bool,
    /// Bytes in the file.
    length: u64,
    /// In which interval the file was last written.
    period: u64,
    packing: Option<JoinHandle<Result<(), (PathBuf, io::Error)>>>,
    /// Whether the file is put aside only once the one before it is compressed.
    patient: bool,
    tell: Tell,
}

impl FileSink {
    /// Opens the file, and makes it if it is not there. `tell` gets warnings.
    ///
    /// # Errors
    /// [`SinkError::Open`], and [`SinkError::NotRegular`] if something is to be rotated that cannot.
    pub fn open(options: FileOptions, tell: impl Fn(&str) + Send + Sync + 'static) -> Result<Self, SinkError> {
        let failed = |source| SinkError::Open { path: options.path.clone(), source };
        let (directory, name) = Directory::of(&options.path, Trust::Exclusive).map_err(failed)?;
        let file = directory.append(&name, options.mode).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let regular = metadata.is_file();
        if options.rotation.is_some() && !regular {
            return Err(SinkError::NotRegular { path: options.path });
        }
        let mut length = if regular { metadata.len() } else { 0 };
        if regular && !options.append {
            file.set_len(0).map_err(failed)?;
            length = 0;
        }
        let last = metadata.modified().unwrap_or_else(|_| SystemTime::now());
        let (directory, file) = (Arc::new(directory), file.into());
        let mut sink = FileSink {
            options,
            directory,
            name,
            file,
            regular,
            length,
            period: 0,
            packing: None,
            patient: false,
            tell: Tell::new(tell),
        };
        sink.period = sink.period_of(last);
        Ok(sink)
    }

    /// Never waits for a compression: while the file that was put aside last is being compressed, the next one may become longer than
    /// it should.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// The number of the interval that a time falls into.
    fn period_of(&self, time: SystemTime) -> u64 {
        let interval = self.options.rotation.and_then(|rotation| rotation.interval).map_or(0, |time| time.as_secs());
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        seconds.checked_div(interval).unwrap_or(0)
    }

    /// As `Sink::write`, at this time.
    fn write_at(&mut self, bytes: &[u8], time: SystemTime) -> Result<(), SinkError> {
        if self.patient && self.packing.as_ref().is_some_and(|job| !job.is_finished()) {
            return self.put(bytes);
        }
        if self.regular {
            // Somebody else may have cut it, as logrotate does with `copytruncate`.
            self.length = self.file.file().metadata().map_or(self.length, |metadata| metadata.len());
        }
        let period = self.period_of(time);
        if period != self.period && self.length > 0 {
            self.rotate()?;
        }
        self.period = period;
        let size = self.options.rotation.and_then(|rotation| rotation.size).unwrap_or(u64::MAX);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(size.saturating_sub(self.length)).unwrap_or(usize::MAX);
            let part = match whole_lines(rest, room) {
                0 if self.length > 0 => {
                    self.rotate()?;
                    continue;
                }
                0 => first_line(rest),
                part => part,
            };
            let (now, later) = rest.split_at_checked(part).unwrap_or((rest, &[]));
            self.put(now)?;
            rest = later;
        }
        Ok(())
    }

    /// Appends lines. If that fails half-way, what was written of them is taken off a regular file again.
    fn put(&mut self, lines: &[u8]) -> Result<(), SinkError> {
        if let Err((written, source)) = files::write_all(&mut self.file, lines) {
            if self.regular && written > 0 {
                self.take_off(written as u64);
            }
            return Err(SinkError::Write { path: self.options.path.clone(), source });
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Takes the last bytes off. The file is as long as the kernel says, which is less than what was counted if somebody has cut it
    /// meanwhile: it must not be made longer, which would fill it with NULs.
    fn take_off(&mut self, bytes: u64) {
        let file = self.file.file();
        if let Ok(length) = file.metadata().map(|metadata| metadata.len()) {
            // The failure to write is the one that matters.
            let _ = file.set_len(length.saturating_sub(bytes));
        }
    }

    /// Puts the file aside and begins another one.
    fn rotate(&mut self) -> Result<(), SinkError> {
        let Some(rotation) = self.options.rotation else { return Ok(()) };
        self.packed();
        let mode = self.file.file().metadata().map(|data| data.permissions().mode() & 0o7777).ok();
        let keep = rotation.keep.max(1);
        let numbered = |number: u32, end: &str| numbered(&self.name, number, end);
        // Both endings, in case compression was switched on or off in between. Behind a gap nothing moves.
        let taken = |number: u32| ["", ".gz"].iter().any(|end| self.directory.has(&numbered(number, end)));
        let free = (1..keep).find(|&number| !taken(number)).unwrap_or(keep);
        for end in ["", ".gz"] {
            self.remove(&numbered(free, end))?;
            for number in (1..free).rev() {
                self.rename(&numbered(number, end), &numbered(number + 1, end))?;
            }
        }
        let aside = numbered(1, "");
        self.rename(&self.name, &aside)?;
        let file = self.directory.append(&self.name, mode.or(self.options.mode));
        self.file = file.map_err(|source| SinkError::Open { path: self.options.path.clone(), source })?.into();
        self.length = 0;
        if rotation.compress {
            let (directory, packed) = (self.directory.clone(), numbered(1, ".gz"));
            let job = thread::Builder::new().name("gzip".into()).spawn(move || {
                compress(&directory, &aside, &packed).map_err(|error| (directory.path().join(&aside), error))
            });
            match job {
                Ok(job) => self.packing = Some(job),
                Err(error) => {
                    self.tell.line(&format!("WARNING: sink file: cannot start a thread to compress: {error}."))
                }
            }
        }
        Ok(())
    }

    /// Waits until the file that was put aside last is compressed. One that cannot be stays as it is.
    fn packed(&mut self) {
        if let Some(job) = self.packing.take()
            && let Ok(Err((path, error))) = job.join()
        {
            let reason = error_text(&error);
            self.tell.line(&format!("WARNING: cannot compress {}: {reason}; left as it is.", path.display()));
        }
    }

    /// The path of a file beside this one.
    fn beside(&self, name: &OsStr) -> PathBuf {
        self.options.path.parent().unwrap_or(Path::new("")).join(name)
    }

    /// Renames a file, if it is there.
    fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), SinkError> {
        match self.directory.rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|source| SinkError::Rotate { from: self.beside(from), to: self.beside(to), source }),
        }
    }

    /// Removes a file, if it is there.
    fn remove(&self, name: &OsStr) -> Result<(), SinkError> {
        match self.directory.remove(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|source| SinkError::Write { path: self.beside(name), source }),
        }
    }
}

impl Sink for FileSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.write_at(bytes, SystemTime::now())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.packed();
        Ok(())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.packed();
    }
}

/// `flows.log.3`, `flows.log.3.gz`.
fn numbered(name: &OsStr, number: u32, end: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".{number}{end}"));
    name
}

/// Compresses a file, which keeps its mode. Under its name there is never half of one.
fn compress(directory: &Directory, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let mut part = to.to_owned();
    part.push(".part");
    // Left over from an earlier run that was killed, or put there by somebody: never written to.
    match directory.remove(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let packed = (|| {
        let mut plain = directory.read(from)?;
        let mode = plain.metadata()?.permissions();
        let mut packer = GzEncoder::new(directory.create_new(&part, 0o600)?, Compression::default());
        io::copy(&mut plain, &mut packer)?;
        let file = packer.finish()?;
        file.set_permissions(mode)?;
        file.sync_all()?;
        directory.rename(&part, to)
    })();
    if packed.is_err() {
        // What is left of a failed attempt is of no use to anybody.
        let _ = directory.remove(&part);
    }
    packed?;
    directory.remove(from)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, Permissions},
        io::Read,
        os::unix::fs::symlink,
    };

    use flate2::read::GzDecoder;

    use super::*;

    /// The path of a file that was put aside.
    fn numbered(path: &Path, number: u32, end: &str) -> PathBuf {
        path.with_file_name(super::numbered(path.file_name().unwrap(), number, end))
    }

    fn sink(path: &Path, append: bool, rotation: Option<Rotation>) -> FileSink {
        let options = FileOptions { path: path.into(), append, rotation, mode: None };
        FileSink::open(options, |warning| panic!("{warning}")).unwrap()
    }

    fn by_size(size: u64, keep: u32, compress: bool) -> Option<Rotation> {
        Some(Rotation { size: Some(size), interval: None, keep, compress })
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn files_are_put_aside_between_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let mut sink = sink(&path, true, by_size(10, 3, false));
        sink.write(b"1111\n2222\n3333\n").unwrap();
        sink.write(b"4444\na line that is longer than a file may be\n55\n").unwrap();
        sink.finish().unwrap();
        assert_eq!(read(&path), "55\n");
        assert_eq!(read(&numbered(&path, 1, "")), "a line that is longer than a file may be\n");
        assert_eq!(read(&numbered(&path, 2, "")), "3333\n4444\n");
        assert_eq!(read(&numbered(&path, 3, "")), "1111\n2222\n");
        sink.write(b"666666666\n7\n").unwrap();
        assert_eq!(read(&numbered(&path, 3, "")), "a line that is longer than a file may be\n");
        assert!(!numbered(&path, 4, "").exists(), "no more are kept than there may be");
    }

    #[test]
    fn no_line_is_lost_or_split_whatever_the_size() {
        let directory = tempfile::tempdir().unwrap();
        for size in 1..60 {
            let path = directory.path().join(size.to_string());
            let mut sink = sink(&path, true, by_size(size, 1000, false));
            let lines: Vec<String> = (0..100).map(|number| format!("{}\n", "x".repeat(number % 17))).collect();
            for batch in lines.chunks(7) {
                sink.write(batch.concat().as_bytes()).unwrap();
            }
            let mut all = String::new();
            for number in (1..1000).rev().filter(|&number| numbered(&path, number, "").exists()) {
                let part = read(&numbered(&path, number, ""));
                assert!(part.ends_with('\n'));
                assert!(part.len() as u64 <= size || part.lines().count() == 1, "{size}: {part}");
                all += &part;
            }
            assert_eq!(all + &read(&path), lines.concat());
        }
    }

    #[test]
    fn files_that_were_put_aside_are_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let mut sink = sink(&path, true, by_size(4, 2, true));
        for line in ["111\n", "222\n", "333\n", "444\n"] {
            sink.write(line.as_bytes()).unwrap();
        }
        sink.finish().unwrap();
        for (number, content) in [(1, "333\n"), (2, "222\n")] {
            let mut text = String::new();
            let packed = File::open(numbered(&path, number, ".gz")).unwrap();
            GzDecoder::new(packed).read_to_string(&mut text).unwrap();
            assert_eq!(text, content);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "and nothing else is left");
    }

    #[test]
    fn one_who_does_not_wait_puts_the_file_aside_once_the_one_before_is_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let mut sink = sink(&path, true, by_size(4, 3, true)).patient();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        sink.packing = Some(thread::spawn(move || {
            wait.recv().unwrap();
            Ok(())
        }));
        for line in ["111\n", "222\n", "333\n"] {
            sink.write(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "111\n222\n333\n", "nothing is put aside meanwhile");
        done.send(()).unwrap();
        while sink.packing.as_ref().is_some_and(|job| !job.is_finished()) {
            thread::yield_now();
        }
        sink.write(b"444\n").unwrap();
        sink.finish().unwrap();
        assert_eq!(read(&path), "444\n");
        let mut text = String::new();
        GzDecoder::new(File::open(numbered(&path, 1, ".gz")).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "111\n222\n333\n");
    }

    #[test]
    fn a_file_has_its_mode_and_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let options =
            FileOptions { path: path.clone(), append: true, rotation: by_size(4, 3, true), mode: Some(0o640) };
        let mut sink = FileSink::open(options.clone(), |warning| panic!("{warning}")).unwrap();
        for line in ["111\n", "222\n", "333\n"] {
            sink.write(line.as_bytes()).unwrap();
        }
        sink.finish().unwrap();
        for path in [path.clone(), numbered(&path, 1, ".gz"), numbered(&path, 2, ".gz")] {
            assert_eq!(mode(&path), 0o640, "{}", path.display());
        }
        // What somebody has decided since holds, also for those that follow.
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        drop(sink);
        let mut sink = FileSink::open(options, |warning| panic!("{warning}")).unwrap();
        sink.write(b"444\n").unwrap();
        sink.finish().unwrap();
        assert_eq!((mode(&path), mode(&numbered(&path, 1, ".gz"))), (0o604, 0o604));
        assert_eq!(read(&path), "444\n");
    }

    #[test]
    fn files_are_put_aside_when_their_time_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let hour = Duration::from_secs(3600);
        let rotation = Some(Rotation { size: None, interval: Some(hour), keep: 2, compress: false });
        let noon = UNIX_EPOCH + hour * 1_000_000;
        let mut sink = sink(&path, true, rotation);
        sink.write_at(b"1\n", noon).unwrap();
        sink.write_at(b"2\n", noon + hour - Duration::from_secs(1)).unwrap();
        sink.write_at(b"3\n", noon + hour).unwrap();
        assert_eq!((read(&numbered(&path, 1, "")), read(&path)), ("1\n2\n".into(), "3\n".into()));
        sink.write_at(b"", noon + hour * 3).unwrap();
        sink.write_at(b"4\n", noon + hour * 3).unwrap();
        assert_eq!((read(&numbered(&path, 2, "")), read(&path)), ("1\n2\n".into(), "4\n".into()));
    }

    #[test]
    fn what_is_there_is_kept_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        fs::write(&path, "old\n").unwrap();
        sink(&path, true, None).write(b"new\n").unwrap();
        assert_eq!(read(&path), "old\nnew\n");
        sink(&path, true, by_size(8, 1, false)).write(b"more\n").unwrap();
        assert_eq!((read(&numbered(&path, 1, "")), read(&path)), ("old\nnew\n".into(), "more\n".into()));
        sink(&path, false, None).write(b"new\n").unwrap();
        assert_eq!(read(&path), "new\n");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let open = |path: &str, rotation| {
            FileSink::open(FileOptions { path: path.into(), append: true, rotation, mode: None }, |_| ())
        };
        let missing = open("/nowhere/flows", None).err().unwrap().to_string();
        assert!(missing.starts_with("cannot open /nowhere/flows for writing: No such file"), "{missing}");
        let device = open("/dev/null", by_size(1, 1, false)).err().unwrap().to_string();
        assert!(device.contains("/dev/null is no regular file"), "{device}");
        let full = open("/dev/full", None).unwrap().write(b"x\n").unwrap_err().to_string();
        assert!(full.starts_with("cannot write /dev/full: No space left"), "{full}");
    }

    #[test]
    fn a_file_that_somebody_else_cuts_is_not_filled_with_nuls() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let mut sink = sink(&path, true, by_size(12, 3, false));
        sink.write(b"1111\n2222\n").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        // What is in it counts, not what was written.
        sink.write(b"3333\n4444\n").unwrap();
        assert_eq!(read(&path), "3333\n4444\n");
        assert!(!numbered(&path, 1, "").exists());
        // And what cannot be written as a whole is taken off what is there.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        sink.take_off(7);
        assert_eq!(read(&path), "");
        sink.write(b"5555\n").unwrap();
        sink.take_off(3);
        assert_eq!(read(&path), "55");
    }

    #[test]
    fn links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("flows"), directory.path().join("victim"));
        let open = |path: &Path| {
            let options = FileOptions { path: path.into(), append: true, rotation: None, mode: Some(0o640) };
            let checked = options.check().map_err(|error| error.to_string());
            let opened = FileSink::open(options, |_| ()).map(|_| ()).map_err(|error| error.to_string());
            assert_eq!(checked, opened, "the check finds what opening finds");
            opened
        };
        fs::write(&victim, "untouched\n").unwrap();
        symlink(&victim, &path).unwrap();
        assert!(open(&path).unwrap_err().contains("is a symbolic link"));
        // One that leads nowhere makes no file either.
        fs::remove_file(&path).unwrap();
        symlink(directory.path().join("nowhere"), &path).unwrap();
        assert!(open(&path).unwrap_err().contains("is a symbolic link"));
        assert!(!directory.path().join("nowhere").exists());
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(open(&path).unwrap_err().contains("has 2 names"));
        fs::remove_file(&path).unwrap();
        assert!(open(directory.path()).unwrap_err().contains("Is a directory"));
        assert_eq!(read(&victim), "untouched\n");
        // The file that is compressed into is made, whatever stands there.
        symlink(&victim, numbered(&path, 1, ".gz.part")).unwrap();
        let mut sink = sink(&path, true, by_size(4, 2, true));
        sink.write(b"111\n").unwrap();
        sink.write(b"222\n").unwrap();
        sink.finish().unwrap();
        assert_eq!(read(&victim), "untouched\n");
        assert!(fs::symlink_metadata(numbered(&path, 1, ".gz")).unwrap().is_file());
    }

    #[test]
    fn directories_that_others_can_write_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let open = |mode: u32| {
            fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            let options = FileOptions { path: path.clone(), append: true, rotation: None, mode: None };
            FileSink::open(options, |_| ()).map(|_| ()).map_err(|error| error.to_string())
        };
        assert!(
            open(0o777).unwrap_err().contains("can be written by everybody, so that others can replace files in it")
        );
        assert!(open(0o2775).unwrap_err().contains("can be written by group"));
        assert!(!path.exists());
        // As /tmp is.
        open(0o1777).unwrap();
        open(0o755).unwrap();
    }
}
