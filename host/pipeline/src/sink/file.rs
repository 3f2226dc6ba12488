//! A file as a sink, with rotation: `flows.log` is renamed to `flows.log.1`, that to `flows.log.2`, and so on.
//!
//! Files are rotated between two lines, so that no line is lost, split, or written twice. All files are opened, renamed
//! and removed relative to their directory, in which no other user can replace them ([`FileOptions::trust`]).

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};

use super::{Sink, SinkError, first_line, whole_lines};
use flowgate_base::Warnings;
use flowgate_base::{
    files::{self, BlockingFile, Directory, Trust},
    io_error::error_text,
};

/// The options of a file sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// The file.
    pub path: PathBuf,
    /// True if existing content is kept; otherwise the file is truncated.
    pub append: bool,
    /// The rotation; `None` if files are never rotated.
    pub rotation: Option<Rotation>,
    /// Mode of the file if it is created, regardless of the umask; `None` for 0666 less the umask. An existing file
    /// keeps its mode, which rotated files and their successors have too.
    pub mode: Option<u32>,
    /// The trust that is required of its directory: [`Trust::Exclusive`] for services, [`Trust::Sticky`] for programs
    /// that somebody starts.
    pub trust: Trust,
}

impl FileOptions {
    /// Checks for conditions that would make [`FileSink::open`] fail, without opening or creating the file.
    ///
    /// # Errors
    /// As [`FileSink::open`].
    pub fn check(&self) -> Result<(), SinkError> {
        let failed = |source| SinkError::Open { path: self.path.clone(), source };
        let (directory, name) = Directory::of(&self.path, self.trust).map_err(failed)?;
        directory.check(&name).map_err(failed)?;
        if self.rotation.is_some() && !directory.is_regular(&name).map_err(failed)? {
            return Err(SinkError::NotRegular { path: self.path.clone() });
        }
        Ok(())
    }
}

/// The conditions of rotation, and the handling of rotated files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Maximum size in bytes, at which the file is rotated. A single longer line gets a file of its own.
    pub size: Option<u64>,
    /// Interval of rotation: the file is rotated at the first line after a multiple of it, counted from 1970 in UTC;
    /// with a day, at the first line after midnight.
    pub interval: Option<Duration>,
    /// Number of rotated files that are kept, at least 1; older ones are removed.
    pub keep: u32,
    /// Maximum age of the last line of a rotated file; older files are removed.
    pub keep_time: Option<Duration>,
    /// True if rotated files are compressed with gzip, on a separate thread.
    pub compress: bool,
}

/// Interval of checks for files that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// A file to which bytes are appended.
pub struct FileSink {
    options: FileOptions,
    directory: Arc<Directory>,
    name: OsString,
    file: BlockingFile,
    regular: bool,
    /// Size of the file in bytes.
    length: u64,
    /// The interval in which the file was last written.
    period: u64,
    compression: Option<JoinHandle<Result<(), (PathBuf, io::Error)>>>,
    /// True if a rotation is postponed while the previous file is being compressed.
    postpones_rotation: bool,
    /// Time of the last check for files that are too old.
    last_expiry: Option<SystemTime>,
    /// True if a warning has been given of a file that cannot be removed.
    warned: bool,
    warnings: Warnings,
}

impl FileSink {
    /// Opens the file, and creates it if it does not exist. A last line without an end, which a process left that was
    /// killed while it was writing, is ended first. `warnings` receives warnings.
    ///
    /// # Errors
    /// [`SinkError::Open`], [`SinkError::Write`], and [`SinkError::NotRegular`] if rotation is wanted of a file that is
    /// not regular.
    pub fn open(options: FileOptions, warnings: Warnings) -> Result<Self, SinkError> {
        let failed = |source| SinkError::Open { path: options.path.clone(), source };
        let (directory, name) = Directory::of(&options.path, options.trust).map_err(failed)?;
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
        let is_cut_off = length > 0 && ends_within_a_line(&directory, &name, length);
        let (directory, file) = (Arc::new(directory), file.into());
        let mut sink = FileSink {
            options,
            directory,
            name,
            file,
            regular,
            length,
            period: 0,
            compression: None,
            postpones_rotation: false,
            last_expiry: None,
            warned: false,
            warnings,
        };
        sink.period = sink.period_of(last);
        sink.expire(SystemTime::now());
        if is_cut_off {
            // Only the line that was cut off is lost, and not the first one of this run with it.
            sink.put(b"\n")?;
        }
        Ok(sink)
    }

    /// Never waits for a compression: while the previous file is being compressed, the current one may exceed its
    /// maximum size.
    #[must_use]
    pub fn postponing_rotation(mut self) -> Self {
        self.postpones_rotation = true;
        self
    }

    /// Returns the number of the interval that contains a time.
    fn period_of(&self, time: SystemTime) -> u64 {
        let interval = self.options.rotation.and_then(|rotation| rotation.interval).map_or(0, |time| time.as_secs());
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        seconds.checked_div(interval).unwrap_or(0)
    }

    /// Does the work of `Sink::write`, as of this time.
    fn write_at(&mut self, bytes: &[u8], time: SystemTime) -> Result<(), SinkError> {
        if self.postpones_rotation && self.is_compressing() {
            return self.put(bytes);
        }
        self.expire(time);
        if bytes.is_empty() {
            return Ok(());
        }
        if self.regular {
            // Another program may have truncated it, as logrotate does with `copytruncate`.
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

    /// Appends lines. If that fails half-way, the part that was written is removed from a regular file.
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

    /// Removes the last bytes. The size is taken from the kernel, which is less than the counted one if another program
    /// has truncated the file meanwhile: `set_len` must not extend the file, which would fill it with NULs.
    fn take_off(&mut self, bytes: u64) {
        let file = self.file.file();
        if let Ok(length) = file.metadata().map(|metadata| metadata.len()) {
            // The failure to write is the error that is reported.
            let _ = file.set_len(length.saturating_sub(bytes));
        }
    }

    /// Rotates the file, and begins a new one.
    fn rotate(&mut self) -> Result<(), SinkError> {
        let Some(rotation) = self.options.rotation else { return Ok(()) };
        self.finish_compression();
        let mode = self.file.file().metadata().map(|data| data.permissions().mode() & 0o7777).ok();
        let keep = rotation.keep.max(1);
        let numbered = |number: u32, end: &str| numbered(&self.name, number, end);
        // Checks both endings, since compression may have been switched on or off in between. Files after a free number
        // are not renamed.
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
                Ok(job) => self.compression = Some(job),
                Err(error) => {
                    let reason = error_text(&error);
                    self.warnings.line(&format!("WARNING: sink file: cannot start a thread to compress: {reason}."))
                }
            }
        }
        Ok(())
    }

    /// Returns true if a rotated file is being compressed.
    fn is_compressing(&self) -> bool {
        self.compression.as_ref().is_some_and(|job| !job.is_finished())
    }

    /// Removes rotated files that are too old, unless that was checked within the last minute.
    fn expire(&mut self, now: SystemTime) {
        let Some(most) = self.options.rotation.and_then(|rotation| rotation.keep_time) else { return };
        let recently = |last: SystemTime| now.duration_since(last).is_ok_and(|since| since < EXPIRY_INTERVAL);
        // The file that is being compressed has two names.
        if self.last_expiry.is_some_and(recently) || self.is_compressing() {
            return;
        }
        self.last_expiry = Some(now);
        // Also removes files from runs that kept a larger number.
        for number in 1..=u32::MAX {
            let mut exists = false;
            for name in ["", ".gz"].map(|end| numbered(&self.name, number, end)) {
                let Some(modified) = self.directory.modified(&name) else { continue };
                exists = true;
                if now.duration_since(modified).is_ok_and(|age| age > most)
                    && let Err(error) = self.remove(&name)
                    && !std::mem::replace(&mut self.warned, true)
                {
                    self.warnings.line(&format!("WARNING: an expired file is not removed: {error}."));
                }
            }
            if !exists {
                break;
            }
        }
    }

    /// Waits until the last rotated file is compressed. If compression fails, the file stays uncompressed.
    fn finish_compression(&mut self) {
        if let Some(job) = self.compression.take()
            && let Ok(Err((path, error))) = job.join()
        {
            let reason = error_text(&error);
            self.warnings.line(&format!("WARNING: cannot compress {}: {reason}; left as it is.", path.display()));
        }
    }

    /// Returns the path of a file in the same directory.
    fn beside(&self, name: &OsStr) -> PathBuf {
        self.options.path.parent().unwrap_or(Path::new("")).join(name)
    }

    /// Renames a file if it exists.
    fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), SinkError> {
        match self.directory.rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|source| SinkError::Rotate { from: self.beside(from), to: self.beside(to), source }),
        }
    }

    /// Removes a file if it exists.
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
        self.finish_compression();
        Ok(())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        self.finish_compression();
    }
}

/// Returns true if the last line of a file has no end, as when a process was killed while it was writing. A file that
/// cannot be read is taken for complete.
fn ends_within_a_line(directory: &Directory, name: &OsStr, length: u64) -> bool {
    let mut last = [b'\n'];
    let read = directory.read(name).and_then(|file| file.read_exact_at(&mut last, length - 1));
    read.is_ok() && last != *b"\n"
}

/// Returns the name of a rotated file: `flows.log.3`, `flows.log.3.gz`.
fn numbered(name: &OsStr, number: u32, end: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".{number}{end}"));
    name
}

/// Compresses a file, which keeps its mode. The compressed file gets its name only when it is complete.
fn compress(directory: &Directory, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let mut part = to.to_owned();
    part.push(".part");
    // A file left by an earlier run that was killed, or created by somebody else, is removed and never written to.
    match directory.remove(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let packed = (|| {
        let mut plain = directory.read(from)?;
        let about = plain.metadata()?;
        let mut packer = GzEncoder::new(directory.create_new(&part, 0o600)?, Compression::default());
        io::copy(&mut plain, &mut packer)?;
        let file = packer.finish()?;
        file.set_permissions(about.permissions())?;
        // The compressed file has the age of its last line.
        file.set_modified(about.modified()?)?;
        file.sync_all()?;
        directory.rename(&part, to)
    })();
    if packed.is_err() {
        // The remains of a failed attempt are useless.
        let _ = directory.remove(&part);
    }
    packed?;
    directory.remove(from)
}

#[cfg(test)]
mod tests;
