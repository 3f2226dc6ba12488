//! Detects that the policy file has changed and that its writer has finished.
//!
//! The kernel reports changes in the directories that contain the file and the links to it (inotify(7)). Other changes,
//! such as those of a link further up or on a network file system, are found by checking at intervals. Only the
//! metadata of the file decide whether it has changed, so that a busy directory does not matter.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Time for which the file must have been unchanged.
const QUIET: Duration = Duration::from_millis(200);
/// Interval between checks without a report of the kernel.
const LOOK: Duration = Duration::from_secs(1);
/// Maximum number of links that are followed, that of the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// Watches a file.
pub(super) struct Watch {
    file: PathBuf,
    /// `None` if the system has no inotify instance left; the file is then only checked at intervals.
    inotify: Option<Inotify>,
    directories: Vec<(PathBuf, WatchDescriptor)>,
    /// Metadata of the file at the last check; `None` if it did not exist.
    seen: Option<Stamp>,
    looked: Instant,
    /// Time of the last change; `None` once the change has been returned by [`Watch::settled`].
    changed: Option<Instant>,
}

/// Metadata that change with a file: device, inode, size, modification time, status change time.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Watch {
    /// Watches a file from its current state on.
    pub(super) fn new(file: &Path) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        let mut watch = Watch {
            file: file.into(),
            inotify,
            directories: Vec::new(),
            seen: None,
            looked: Instant::now(),
            changed: None,
        };
        watch.follow();
        watch.seen = stamp(file);
        watch
    }

    /// Does the same as [`Watch::new`], for a file that had this content a moment ago: a different content counts as a
    /// change.
    pub(super) fn of(file: &Path, content: &[u8]) -> Self {
        let mut watch = Self::new(file);
        if fs::read(file).ok().as_deref() != Some(content) {
            watch.changed = Some(Instant::now());
        }
        watch
    }

    /// True if the file has changed since the last time this was true (or since the beginning) and is unchanged for a
    /// while.
    pub(super) fn settled(&mut self, now: Instant) -> bool {
        if self.is_notified() || self.changed.is_some() || now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            let stamp = stamp(&self.file);
            if stamp != self.seen {
                self.seen = stamp;
                self.changed = Some(now);
                self.follow();
            }
        }
        let settled = self.changed.is_some_and(|changed| now.saturating_duration_since(changed) >= QUIET);
        if settled {
            self.changed = None;
        }
        settled
    }

    /// True if the kernel reported a change.
    fn is_notified(&self) -> bool {
        let mut notified = false;
        // The loop ends with EAGAIN.
        while self.inotify.as_ref().is_some_and(|inotify| inotify.read_events().is_ok_and(|events| !events.is_empty()))
        {
            notified = true;
        }
        notified
    }

    /// Watches the directories on the current path of the file, and no others.
    fn follow(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ONLYDIR;
        let mut watched: Vec<(PathBuf, WatchDescriptor)> = Vec::new();
        for directory in directories(&self.file) {
            // A directory that cannot be watched is still checked at intervals.
            if let Ok(descriptor) = inotify.add_watch(&directory, flags) {
                watched.push((directory, descriptor));
            }
        }
        for (_, old) in std::mem::replace(&mut self.directories, watched) {
            if !self.directories.iter().any(|(_, descriptor)| *descriptor == old) {
                // A watch whose directory is gone has ended by itself.
                let _ = inotify.rm_watch(old);
            }
        }
    }
}

/// Returns the metadata that change with a file.
fn stamp(file: &Path) -> Option<Stamp> {
    let data = fs::metadata(file).ok()?;
    Some((data.dev(), data.ino(), data.size(), (data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec())))
}

/// Returns the directories that contain a file and the links on the way to it.
fn directories(file: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let mut found: Vec<PathBuf> = Vec::new();
    let mut path = file.to_path_buf();
    for _ in 0..LINKS {
        let directory = parent(&path);
        if !found.contains(&directory) {
            found.push(directory.clone());
        }
        match fs::read_link(&path) {
            Ok(target) => path = directory.join(target),
            Err(_) => break,
        }
    }
    if let Ok(directory) = fs::canonicalize(file).map(|real| parent(&real))
        && !found.contains(&directory)
    {
        found.push(directory);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// True if a change is detected, either at once or at the next check, and returned once the file is unchanged for a
    /// while.
    fn notices(watch: &mut Watch, now: &mut Instant) -> bool {
        *now += LOOK;
        let early = watch.settled(*now);
        *now += QUIET;
        !early && watch.settled(*now) && !watch.settled(*now + LOOK)
    }

    #[test]
    fn a_change_is_told_once_however_it_came_about() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("policy"), "1").unwrap();
        let (mut watch, mut now) = (Watch::new(&at("policy")), Instant::now());
        assert!(!watch.settled(now + LOOK) && !watch.settled(now + LOOK * 2));
        fs::write(at("policy"), "12").unwrap();
        assert!(notices(&mut watch, &mut now), "written");
        fs::write(at("other"), "34").unwrap();
        fs::rename(at("other"), at("policy")).unwrap();
        assert!(notices(&mut watch, &mut now), "renamed");
        fs::remove_file(at("policy")).unwrap();
        assert!(notices(&mut watch, &mut now), "removed");
        fs::write(at("other"), "5").unwrap();
        assert!(!notices(&mut watch, &mut now), "another file");
        fs::rename(at("other"), at("policy")).unwrap();
        assert!(notices(&mut watch, &mut now), "there again");
    }

    #[test]
    fn a_change_since_it_was_read_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy");
        fs::write(&path, "new").unwrap();
        let now = Instant::now();
        assert!(!Watch::of(&path, b"new").settled(now + QUIET * 2));
        assert!(Watch::of(&path, b"old").settled(now + QUIET * 2));
    }

    #[test]
    fn while_it_is_being_written_nothing_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy");
        fs::write(&path, "").unwrap();
        let (mut watch, start) = (Watch::new(&path), Instant::now());
        for step in 1..=20u32 {
            fs::write(&path, "x".repeat(step as usize)).unwrap();
            assert!(!watch.settled(start + LOOK + QUIET / 2 * step), "{step}");
        }
        assert!(watch.settled(start + LOOK + QUIET * 11));
    }

    #[test]
    fn links_are_followed_as_a_config_map_has_them() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (name, content) in [("one", "1"), ("two", "2")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("policy"), content).unwrap();
        }
        symlink("one", at("..data")).unwrap();
        symlink("..data/policy", at("policy")).unwrap();
        let expected = [directory.path().to_path_buf(), at("..data")];
        assert_eq!(directories(&at("policy"))[..2], expected);
        let (mut watch, mut now) = (Watch::new(&at("policy")), Instant::now());
        assert!(watch.directories.len() >= 2);
        symlink("two", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(watch.is_notified(), "the kernel reports it");
        assert!(notices(&mut watch, &mut now), "another directory behind the link");
        fs::write(at("two").join("policy"), "22").unwrap();
        assert!(notices(&mut watch, &mut now), "in place, behind the links");
        fs::write(at("one").join("policy"), "11").unwrap();
        assert!(!watch.is_notified() && !notices(&mut watch, &mut now), "that is not the file any more");
        // A cycle of links is not a file.
        symlink("circle", at("circle")).unwrap();
        assert!(stamp(&at("circle")).is_none() && !directories(&at("circle")).is_empty());
    }
}
