//! Control groups (cgroup version 2) of started processes: a limit of memory that counts all kinds of it, a limit of
//! processes, a share of the processors, and a brake that stops a process wherever it is.
//!
//! Nothing depends on them. They are used where the group that the service is started in is its own: nothing else is in
//! it, and it may be written. What the kernel or the unit does not give is left out.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use flowgate_base::{io_error::error_text, text::path_text};

use super::sys;

/// The group of the service's own processes: in a group that distributes controllers there are no processes.
const KEEPER: &str = "keeper";
/// Share of the processors of the service itself, on which all others depend, from 1 to 10,000.
const KEEPER_WEIGHT: u64 = 10_000;
/// Names of groups of processes that are started begin with these.
const PREFIXES: [&str; 2] = ["worker-", "compiler-"];

/// Controllers that are in force for the groups of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controllers {
    /// Memory of all kinds is limited.
    pub memory: bool,
    /// Processes are limited.
    pub pids: bool,
    /// Processors are shared by weights.
    pub cpu: bool,
}

impl Controllers {
    /// The names of all that are used.
    pub const NAMES: [&'static str; 3] = ["memory", "pids", "cpu"];

    /// Returns those for which `has` returns true.
    fn which(has: impl Fn(&str) -> bool) -> Self {
        let [memory, pids, cpu] = Self::NAMES.map(has);
        Controllers { memory, pids, cpu }
    }

    /// Returns the names of those that are in force.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let has = [self.memory, self.pids, self.cpu];
        Self::NAMES.into_iter().zip(has).filter(|(_, has)| *has).map(|(name, _)| name)
    }
}

/// Why processes get no group of their own.
#[derive(Debug, thiserror::Error)]
pub enum NoGroups {
    /// There is no version 2.
    #[error("cgroup version 2 is not mounted")]
    NotMounted,
    /// The group is one of systemd, which does not leave it to the service.
    #[error("systemd has not delegated the group {} to the service", path_text(.0))]
    NotDelegated(PathBuf),
    /// Other processes are in the group.
    #[error("other processes are in the group {} as well", path_text(.0))]
    Shared(PathBuf),
    /// Groups cannot be made in it.
    #[error("no group can be made in {}: {}", path_text(.0), error_text(.1))]
    NotWritable(PathBuf, #[source] io::Error),
}

/// The group that the calling process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnGroup {
    /// Its directory.
    pub path: PathBuf,
    /// Controllers that it can pass on to groups in it.
    pub available: Controllers,
    /// Controllers that are those of version 1, which cannot be had here at the same time.
    pub old: Controllers,
}

impl OwnGroup {
    /// Finds the group of the calling process.
    ///
    /// # Errors
    /// [`NoGroups::NotMounted`], also where `/proc` does not say.
    pub fn find() -> Result<Self, NoGroups> {
        let read = |path: &str| fs::read(path).unwrap_or_default();
        let groups = read("/proc/self/cgroup");
        let path = directory(&groups, &read("/proc/self/mountinfo")).ok_or(NoGroups::NotMounted)?;
        let available = fs::read_to_string(path.join("cgroup.controllers")).map_err(|_| NoGroups::NotMounted)?;
        let available = Controllers::which(|name| available.split_whitespace().any(|word| word == name));
        Ok(OwnGroup { path, available, old: old(&groups) })
    }

    /// Checks that the group is the calling process's own, as far as can be seen without changing anything.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self) -> Result<(), NoGroups> {
        let unit =
            self.path.extension().is_some_and(|kind| ["service", "scope", "slice"].iter().any(|own| kind == *own));
        if unit && !self.is_delegated() {
            return Err(NoGroups::NotDelegated(self.path.clone()));
        }
        let processes = fs::read_to_string(self.path.join("cgroup.procs"));
        let processes = processes.map_err(|error| NoGroups::NotWritable(self.path.clone(), error))?;
        if processes.lines().any(|process| process != std::process::id().to_string()) {
            return Err(NoGroups::Shared(self.path.clone()));
        }
        sys::is_writable(&self.path).map_err(|error| NoGroups::NotWritable(self.path.clone(), error))
    }

    /// Returns true if systemd says that it leaves the group to the service (`Delegate=`).
    fn is_delegated(&self) -> bool {
        let Ok(path) = CString::new(self.path.as_os_str().as_bytes()) else { return false };
        [c"user.delegate", c"trusted.delegate"].iter().any(|name| sys::attribute_is_set(&path, name))
    }
}

/// Returns the directory of the group of version 2 in `/proc/self/cgroup`, by the mounts in `/proc/self/mountinfo`.
fn directory(groups: &[u8], mounts: &[u8]) -> Option<PathBuf> {
    let own = groups.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    let own = PathBuf::from(std::ffi::OsString::from_vec(own.to_vec()));
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let (root, at) = (words.nth(3)?, words.next()?);
        // Optional fields end with a hyphen, behind which is the type.
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        let path = |word: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(unescaped(word)));
        let below = own.strip_prefix(path(root)).ok().filter(|_| words.next() == Some(b"cgroup2"))?;
        Some(path(at).join(below))
    })
}

/// Returns a path as it is, in which the kernel has written some bytes as three octal digits.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, others)) = rest.split_first() {
        let digits = (first == b'\\').then(|| others.get(..3)).flatten();
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(byte.unwrap_or(first));
        rest = if byte.is_some() { others.get(3..).unwrap_or_default() } else { others };
    }
    path
}

/// Returns the controllers of version 1 in `/proc/self/cgroup`.
fn old(groups: &[u8]) -> Controllers {
    let text = String::from_utf8_lossy(groups);
    let lists = || text.lines().filter_map(|line| line.split(':').nth(1));
    Controllers::which(|name| lists().any(|list| list.split(',').any(|word| word == name)))
}

/// Limits of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// Memory of all kinds, in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Share of the processors, from 1 to 10,000; others have 100 by default.
    pub weight: u64,
}

/// The group of the service, in which each process that is started gets one.
#[derive(Debug)]
pub struct Groups {
    path: PathBuf,
    controllers: Controllers,
    next: AtomicU64,
    /// Groups whose process may not have ended yet.
    left: Arc<Mutex<Vec<PathBuf>>>,
}

impl Groups {
    /// Moves the calling process, which must be single-threaded, from its group into one in it, and makes the other's
    /// controllers available to further ones.
    ///
    /// # Errors
    /// Why there are none.
    pub fn open() -> Result<Self, NoGroups> {
        let own = OwnGroup::find()?;
        own.check()?;
        Self::open_in(own)
    }

    fn open_in(OwnGroup { path, available, .. }: OwnGroup) -> Result<Self, NoGroups> {
        let cannot = |error| NoGroups::NotWritable(path.clone(), error);
        let keeper = path.join(KEEPER);
        match fs::create_dir(&keeper) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(cannot(error)),
            _ => {}
        }
        if let Err(error) = put(&keeper, "cgroup.procs", "0") {
            let _ = fs::remove_dir(&keeper);
            return Err(cannot(error));
        }
        let names: Vec<&str> = available.names().collect();
        let controllers = Controllers::which(|name| {
            names.contains(&name) && put(&path, "cgroup.subtree_control", &format!("+{name}")).is_ok()
        });
        if controllers.cpu {
            let _ = put(&keeper, "cpu.weight", &KEEPER_WEIGHT.to_string());
        }
        let this = Groups { path, controllers, next: AtomicU64::new(1), left: Arc::default() };
        // An earlier run may have left some.
        for entry in fs::read_dir(&this.path).into_iter().flatten().flatten() {
            if PREFIXES.iter().any(|prefix| entry.file_name().as_bytes().starts_with(prefix.as_bytes())) {
                let _ = fs::remove_dir(entry.path());
            }
        }
        Ok(this)
    }

    /// Returns the controllers that are in force.
    #[must_use]
    pub fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// Makes a group with these limits, as far as there are controllers for them. `name` is for people.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn create(&self, name: &str, limits: &GroupLimits) -> io::Result<Group> {
        self.tidy();
        let path = loop {
            let path = self.path.join(format!("{name}-{}", self.next.fetch_add(1, Ordering::Relaxed)));
            match fs::create_dir(&path) {
                Ok(()) => break path,
                // Another service has the same group.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        let group = Group { path, left: self.left.clone() };
        let Controllers { memory, pids, cpu } = self.controllers;
        if memory {
            put(&group.path, "memory.max", &limits.memory.to_string())?;
            // All of it ends, not one thread; and what is not in memory would not count. Both depend on the kernel.
            let _ = put(&group.path, "memory.oom.group", "1");
            let _ = put(&group.path, "memory.swap.max", "0");
        }
        if pids {
            put(&group.path, "pids.max", &limits.processes.to_string())?;
        }
        if cpu {
            put(&group.path, "cpu.weight", &limits.weight.clamp(1, 10_000).to_string())?;
        }
        Ok(group)
    }

    /// Removes groups whose processes have ended.
    pub fn tidy(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|path| !is_removed(path));
    }
}

/// The group of one process. It is removed when the process has ended.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    left: Arc<Mutex<Vec<PathBuf>>>,
}

impl Group {
    /// Opens the file by which a process enters.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Stops all processes of the group, or lets them go on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn freeze(&self, frozen: bool) -> io::Result<()> {
        put(&self.path, "cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Returns true if the kernel has killed a process of the group because the group had too much memory.
    pub(super) fn was_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.and_then(|count| count.parse().ok()).is_some_and(|count: u64| count > 0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !is_removed(&self.path) {
            self.left.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.path));
        }
    }
}

/// Removes a group, and returns true if it does not exist any more.
fn is_removed(path: &Path) -> bool {
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Writes a value into an existing file of a group.
fn put(group: &Path, name: &str, value: &str) -> io::Result<()> {
    use io::Write as _;
    OpenOptions::new().write(true).open(group.join(name))?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_wherever_it_is_mounted() {
        let unified = "0::/system.slice/flowgate-policy.service\n";
        let hybrid = "9:name=systemd:/\n8:pids:/a\n4:cpu,cpuacct:/x\n0::/a b\n";
        for (groups, mounts, path) in [
            (
                unified,
                "25 1 0:2 / /proc rw - proc proc rw\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw\n",
                Some("/sys/fs/cgroup/system.slice/flowgate-policy.service"),
            ),
            (
                hybrid,
                "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
                Some("/sys/fs/cgroup/unified/a b"),
            ),
            // A mount that shows a part of the hierarchy, at a path with a space.
            (unified, "9 1 0:2 /system.slice /c\\040g rw - cgroup2 c rw\n", Some("/c g/flowgate-policy.service")),
            (unified, "9 1 0:2 /user.slice /cg rw - cgroup2 c rw\n", None),
            (unified, "9 1 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", None),
            ("4:memory:/\n", "9 1 0:2 / /cg rw - cgroup2 c rw\n", None),
            (unified, "\n9\n9 1 0:2 / /cg rw -\n", None),
        ] {
            assert_eq!(directory(groups.as_bytes(), mounts.as_bytes()).as_deref(), path.map(Path::new), "{mounts}");
        }
        assert_eq!(old(hybrid.as_bytes()), Controllers { memory: false, pids: true, cpu: true });
        assert_eq!(old(unified.as_bytes()), Controllers::default());
    }

    #[test]
    fn bytes_that_the_kernel_escapes_are_read() {
        for (word, path) in [("/a", "/a"), ("\\040\\134", " \\"), ("\\04", "\\04"), ("\\999", "\\999"), ("\\", "\\")] {
            assert_eq!(unescaped(word.as_bytes()), path.as_bytes());
        }
    }

    /// Returns a directory with files as a group has them.
    fn group(directory: &Path, files: &[&str]) -> PathBuf {
        fs::create_dir_all(directory).unwrap();
        for name in files {
            fs::write(directory.join(name), "").unwrap();
        }
        directory.to_path_buf()
    }

    #[test]
    fn what_is_written_is_what_the_kernel_takes() {
        let directory = std::env::temp_dir().join(format!("flowgate-groups-{}", std::process::id()));
        let path = group(&directory, &["cgroup.subtree_control"]);
        group(&path.join(KEEPER), &["cgroup.procs", "cpu.weight"]);
        let available = Controllers { memory: true, pids: false, cpu: true };
        let groups = Groups::open_in(OwnGroup { path: path.clone(), available, old: Controllers::default() }).unwrap();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
        assert_eq!(groups.controllers(), available);
        assert_eq!((read("keeper/cgroup.procs"), read("keeper/cpu.weight")), ("0".into(), "10000".into()));
        // Files of a real group come with it; here they are missing, and that is an error of this group only.
        let limits = GroupLimits { memory: 5 << 20, processes: 8, weight: 0 };
        assert!(groups.create("worker", &limits).is_err());
        assert!(!path.join("worker-1").exists(), "it has been removed");
        let group = Group {
            path: group(&path.join("worker-9"), &["memory.events", "cgroup.freeze"]),
            left: groups.left.clone(),
        };
        group.freeze(true).unwrap();
        assert_eq!(read("worker-9/cgroup.freeze"), "1");
        for (events, was) in
            [("low 0\noom_kill 0\n", false), ("oom 3\noom_kill 1\noom_group_kill 1\n", true), ("", false)]
        {
            fs::write(path.join("worker-9/memory.events"), events).unwrap();
            assert_eq!(group.was_out_of_memory(), was, "{events}");
        }
        // It cannot be removed as long as something is in it.
        drop(group);
        groups.tidy();
        assert!(path.join("worker-9").exists());
        for name in ["memory.events", "cgroup.freeze"] {
            fs::remove_file(path.join("worker-9").join(name)).unwrap();
        }
        groups.tidy();
        assert!(!path.join("worker-9").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
