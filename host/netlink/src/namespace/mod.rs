//! Network namespaces: finding one, running code in it, and the ids by which namespaces refer to each other.
//!
//! A socket belongs, as long as it exists, to the network namespace that its thread was in when it was opened.
//! Therefore only the opening runs in another namespace, on a thread that ends afterwards (or, if no thread can be
//! started, on the calling thread, which returns to its namespace). The process and its plugins stay in their own.

mod error;
mod peers;

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, OpenOptionsExt as _},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nix::sched::{CloneFlags, setns};

pub use error::NamespaceError;
pub use peers::{PeerNamespace, peer_namespaces};

use super::sys;

/// Directory of named network namespaces, one file each (`ip-netns(8)`).
pub const DIRECTORY: &str = "/run/netns";
/// The network namespace of the calling thread.
pub const OWN: &str = "/proc/thread-self/ns/net";

/// `NETLINK_ROUTE` of `linux/netlink.h`.
const NETLINK_ROUTE: isize = 0;

/// Device and inode of a namespace's file, which identify the namespace.
pub type Identity = (u64, u64);

/// Returns the identity of the namespace with this name in [`DIRECTORY`], or of the calling thread's namespace for
/// `None`. Returns `None` if its file cannot be accessed.
#[must_use]
pub fn identity(name: Option<&str>) -> Option<Identity> {
    let path = name.map_or_else(|| PathBuf::from(OWN), |name| Path::new(DIRECTORY).join(name));
    fs::metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

/// A network namespace. The kernel keeps it at least as long as this value exists.
#[derive(Debug, Clone)]
pub struct Namespace {
    file: Arc<File>,
    name: Arc<str>,
    path: Arc<Path>,
    /// Two namespaces are equal if their identities are.
    identity: Identity,
    /// Opens sockets that are connected to something other than the kernel, for tests.
    opener: Option<Opener>,
}

/// Opens sockets whose peer is not the kernel.
#[derive(Clone)]
pub(super) struct Opener(Arc<dyn Fn() -> io::Result<OwnedFd> + Send + Sync>);

impl Opener {
    /// Returns a connected socket.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        (self.0)()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Opener")
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Namespace {}

impl Namespace {
    /// Returns the namespace that `word` names: a path if it has a slash, the number of a process if it has only
    /// digits, else a name in [`DIRECTORY`].
    ///
    /// # Errors
    /// [`NamespaceError`] if there is no such namespace, the file is not a namespace, or it may not be entered.
    pub fn find(word: &OsStr) -> Result<Self, NamespaceError> {
        let bytes = word.as_bytes();
        let text = word.to_string_lossy();
        // Joined to the directory of names, these would be the directory itself or its parent.
        if matches!(bytes, b"" | b"." | b"..") {
            return Err(NamespaceError::NoSuchName { name: text.to_string(), existing: names() });
        }
        let path = if bytes.contains(&b'/') {
            PathBuf::from(word)
        } else if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
            Path::new("/proc").join(word).join("ns/net")
        } else {
            Path::new(DIRECTORY).join(word)
        };
        let namespace = Self::open(&path, &text).map_err(|error| match error {
            NamespaceError::Open { source, .. }
                if source.kind() == io::ErrorKind::NotFound && bytes != path.as_os_str().as_bytes() =>
            {
                if path.starts_with("/proc") {
                    NamespaceError::NoSuchProcess(text.to_string())
                } else {
                    NamespaceError::NoSuchName { name: text.to_string(), existing: names() }
                }
            }
            error => error,
        })?;
        // An error is reported now rather than in the middle of an operation.
        namespace.run(|| ()).map_err(|error| match error {
            NamespaceError::Enter { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => {
                NamespaceError::NotANamespace(path.clone())
            }
            error => error,
        })?;
        Ok(namespace)
    }

    /// Opens the namespace of a file and calls it `name`.
    ///
    /// # Errors
    /// [`NamespaceError::Open`], [`NamespaceError::NotANamespace`] for a directory.
    fn open(path: &Path, name: &str) -> Result<Self, NamespaceError> {
        let failed = |source| NamespaceError::Open { path: path.to_path_buf(), source };
        // Does not block on a pipe without a writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { file: Arc::new(file), name: name.into(), path: path.into(), identity, opener: None })
    }

    /// Returns the namespace of the process under another name. Its sockets come from `open`, and their peer is not the
    /// kernel but a program in its place.
    ///
    /// # Errors
    /// [`NamespaceError::Open`]: there is no `/proc`.
    pub fn with_opener(
        name: &str,
        open: impl Fn() -> io::Result<OwnedFd> + Send + Sync + 'static,
    ) -> Result<Self, NamespaceError> {
        Ok(Self { opener: Some(Opener(Arc::new(open))), ..Self::open(Path::new(OWN), name)? })
    }

    /// Returns what opens sockets in the kernel's place, if anything does.
    pub(super) fn opener(&self) -> Option<&Opener> {
        self.opener.as_ref()
    }

    /// Returns the name, number or path that the namespace was requested by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of the file that the namespace was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns device and inode of the namespace, which do not depend on its name.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the inode of the namespace, as `ls -l /proc/PID/ns/net` shows it.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.identity.1
    }

    /// Runs `work` in the namespace: opens a socket, or reads files below `/proc/thread-self/net` and `/proc/sys/net`.
    /// It runs on a thread of its own or, if none can be started, on the calling thread, which then returns to its
    /// namespace.
    ///
    /// # Errors
    /// [`NamespaceError::Enter`] (EPERM without CAP_SYS_ADMIN, EINVAL for a file that is no network namespace),
    /// [`NamespaceError::Thread`].
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, NamespaceError> {
        // The thread that runs `work` takes it out.
        let work = Mutex::new(Some(work));
        let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = thread::scope(|scope| {
            let entered = || self.enter().map(|()| take().map(|work| work()));
            let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, entered)?;
            Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let done = match started {
            Ok(done) => done?,
            Err(error) => {
                let home = ThreadNamespace::open().map_err(|_| NamespaceError::Thread(error))?;
                self.enter()?;
                let done = take().map(|work| work());
                drop(home);
                done
            }
        };
        // `None`: no thread took the work, which cannot happen.
        done.ok_or_else(|| NamespaceError::Thread(io::ErrorKind::Other.into()))
    }

    /// Moves the calling thread into the namespace.
    fn enter(&self) -> Result<(), NamespaceError> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NamespaceError::Enter { name: self.name.to_string(), source: errno.into() })
    }
}

/// The original network namespace of a thread; the thread returns to it on drop.
struct ThreadNamespace(OwnedFd);

impl ThreadNamespace {
    /// Opens the namespace of the calling thread.
    fn open() -> io::Result<Self> {
        let file = File::open(OWN).map(OwnedFd::from);
        // Without /proc a socket provides the descriptor.
        file.or_else(|_| sys::namespace_of(sys::borrow(&netlink_sys::Socket::new(NETLINK_ROUTE)?))).map(Self)
    }
}

impl Drop for ThreadNamespace {
    fn drop(&mut self) {
        if setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
            // Any further operation would apply to the wrong table.
            std::process::abort();
        }
    }
}

/// Runs `work` in a namespace, or in that of the calling thread for `None`.
///
/// # Errors
/// The same as [`Namespace::run`].
pub fn run_in<R: Send>(namespace: Option<&Namespace>, work: impl FnOnce() -> R + Send) -> Result<R, NamespaceError> {
    match namespace {
        Some(namespace) => namespace.run(work),
        None => Ok(work()),
    }
}

/// Returns the names in [`DIRECTORY`], sorted; empty if it cannot be read.
#[must_use]
pub fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_told_apart() {
        let find = |word: &str| Namespace::find(OsStr::new(word)).unwrap_err();
        assert!(matches!(find("/dev/null"), NamespaceError::NotANamespace(_)));
        assert!(matches!(find("/proc/self/ns/uts"), NamespaceError::NotANamespace(_)));
        assert!(matches!(find("/"), NamespaceError::NotANamespace(_)));
        assert!(matches!(find("/nowhere/to/be/found"), NamespaceError::Open { .. }));
        assert!(matches!(find("4294967295"), NamespaceError::NoSuchProcess(_)));
        let error = find("no such name");
        assert!(error.to_string().starts_with("there is no network namespace `no such name`; there "), "{error}");
        for directory in ["", ".", ".."] {
            assert!(matches!(find(directory), NamespaceError::NoSuchName { .. }), "{directory}");
        }
        assert_eq!(find("no such name").errno(), libc::ENOENT);
    }

    #[test]
    fn a_thread_comes_back() {
        let inode = || fs::metadata(OWN).unwrap().ino();
        let before = inode();
        thread::spawn(move || {
            let home = ThreadNamespace::open().unwrap();
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            assert_ne!(inode(), before);
            drop(home);
            assert_eq!(inode(), before);
            // The same without /proc.
            let socket = netlink_sys::Socket::new(NETLINK_ROUTE).unwrap();
            let own = File::from(sys::namespace_of(sys::borrow(&socket)).unwrap());
            assert_eq!(own.metadata().unwrap().ino(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn one_namespace_has_several_paths() {
        let by_path = Namespace::find(OsStr::new("/proc/self/ns/net")).unwrap();
        let by_number = Namespace::find(OsStr::new(&std::process::id().to_string())).unwrap();
        assert_eq!(by_path, by_number);
        assert_eq!(by_path.run(|| 5).unwrap(), 5);
        assert_eq!(run_in(None, || 6).unwrap(), 6);
    }
}
