//! A fresh network namespace for a closure, with its own table and rules, which is removed when the closure ends.

use crate::program::Program;
use nix::sched::{CloneFlags, unshare};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Proof that the calling thread is in a network namespace of its own.
///
/// It cannot leave that thread. Programs started and threads spawned from it are in the namespace too.
#[derive(Debug)]
pub struct Namespace {
    /// The directory for files of this namespace, which is removed with it.
    directory: PathBuf,
    /// Namespaces belong to threads, so this must not be sent to another.
    stays: PhantomData<*const ()>,
}

impl Namespace {
    /// Runs `body` in a fresh network namespace with loopback up; a panic of `body` is passed on.
    ///
    /// Mounts are private too, so that [`Namespace::label_map`] changes no file of the host. Needs root.
    pub fn run<R: Send>(body: impl FnOnce(&Namespace) -> R + Send) -> R {
        let outcome = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
                if let Err(error) = unshare(flags) {
                    panic!("cannot make a private network namespace: {error}; run the tests as root");
                }
                Program::new("mount").must(&["--make-rprivate", "/"]);
                let namespace = Namespace { directory: temporary_directory(), stays: PhantomData };
                namespace.ip("link set lo up");
                body(&namespace)
            });
            thread.join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Returns the directory for files of this namespace, which is removed with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sets a sysctl of this namespace, for example `netfilter/nf_conntrack_acct`.
    pub fn set(&self, name: &str, value: impl ToString) {
        let path = Path::new("/proc/sys/net").join(name);
        std::fs::write(&path, value.to_string()).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
    }

    /// Switches accounting of packets and bytes, and timestamps, for entries created from now on.
    pub fn account(&self, on: bool) {
        self.set("netfilter/nf_conntrack_acct", u8::from(on));
        self.set("netfilter/nf_conntrack_timestamp", u8::from(on));
    }

    /// Sets the timeouts of real traffic to an hour, so that no entry ends between two listings.
    pub fn keep_entries(&self) {
        let directory = Path::new("/proc/sys/net/netfilter");
        let listing = std::fs::read_dir(directory).expect("the kernel has connection tracking");
        let mut changed = 0;
        for name in listing.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            // Except for the timeout of fragments, which does not apply to entries.
            if name.contains("timeout") && !name.contains("frag6") {
                self.set(&format!("netfilter/{name}"), 3600);
                changed += 1;
            }
        }
        assert!(changed > 10, "expected the timeouts of connection tracking in {}", directory.display());
    }

    /// Loads nft rules.
    pub fn nft(&self, rules: &str) {
        Program::new("nft").must_with(&["-f", "-"], rules.as_bytes());
    }

    /// Runs `ip` with words separated by spaces.
    pub fn ip(&self, words: &str) {
        Program::new("ip").must(&words.split_whitespace().collect::<Vec<_>>());
    }

    /// Replaces connlabel.conf by `text`, for this namespace only.
    pub fn label_map(&self, text: &str) {
        let layers = self.directory.join("etc");
        std::fs::create_dir(&layers).expect("a directory of this namespace");
        let mount = Program::new("mount");
        // The upper layer must not itself be on an overlay, as /tmp is in a container.
        mount.must(&["-t", "tmpfs", "tmpfs", &layers.display().to_string()]);
        for name in ["upper", "work"] {
            std::fs::create_dir(layers.join(name)).expect("a directory in a fresh tmpfs");
        }
        let at = layers.display();
        mount.must(&[
            "-t",
            "overlay",
            "overlay",
            "-o",
            &format!("lowerdir=/etc,upperdir={at}/upper,workdir={at}/work"),
            "/etc",
        ]);
        std::fs::create_dir_all("/etc/xtables").expect("a directory in the overlay");
        std::fs::write("/etc/xtables/connlabel.conf", text).expect("a file in the overlay");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Only this thread sees the mount, which ends with the thread; but a mount point cannot be removed.
        let _ = nix::mount::umount2(&self.directory.join("etc"), nix::mount::MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Creates a directory that nothing else uses.
pub(crate) fn temporary_directory() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("flowgate-test-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("creating {}: {error}", path.display()));
    path
}
