//! Dropping privileges before a process does anything else: capabilities, the right to gain new ones, and system calls.
//!
//! Capabilities and filters apply to a thread and to the threads it starts, so they are dropped by the first thread
//! while it is the only one. A command line [declares](PrivilegeProfile::apply) what it needs, and components from
//! files are loaded only in a process that has dropped what [foreign code](may_run_foreign_code) must not have.
//!
//! A process that only computes drops nearly everything: see [`sandbox`].
//!
//! If there is nothing to drop, no system call is made that a hardened unit forbids: `SystemCallFilter=~@privileged
//! ~@resources` kills a process that makes one.

mod capabilities;
pub mod sandbox;
mod syscalls;
pub mod users;

use std::{io, sync::OnceLock};

use capabilities::CapabilitySets;
use caps::Capability;
use flowgate_base::io_error::error_text;
use nix::{errno::Errno, sys::prctl};

/// The privileges that a process needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivilegeProfile {
    /// Inspects the machine and its own privileges: nothing is dropped.
    Inspect,
    /// Runs a command of the user on the user's files.
    Command {
        /// True if the command may enter network namespaces.
        namespaces: bool,
        /// True if the command runs the user's plugins.
        plugins: bool,
    },
    /// The service for tenants.
    Service {
        /// True if the service enters network namespaces.
        namespaces: bool,
    },
}

/// Why a privilege could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// The kernel refuses to drop capabilities.
    #[error(
        "capabilities cannot be dropped: {}; start the program without them (CapabilityBoundingSet=CAP_NET_ADMIN), \
         or let it call capset(2)",
        error_text(.0)
    )]
    Capabilities(#[source] io::Error),
    /// The kernel does not support `PR_SET_NO_NEW_PRIVS`.
    #[error("the right to gain privileges cannot be dropped: {}", error_text(&io::Error::from(*.0)))]
    NewPrivileges(#[source] Errno),
    /// System-call filters are not available for this architecture.
    #[error("there is no filter of system calls for this machine: {0}")]
    Filter(#[from] seccompiler::Error),
    /// The kernel refuses the system-call filter.
    #[error("system calls cannot be limited (seccomp): {}", error_text(.0))]
    Calls(#[source] io::Error),
    /// A resource limit could not be lowered.
    #[error("resources cannot be limited: {}", .0.desc())]
    Resources(#[source] Errno),
    /// Other processes of the user can read its memory.
    #[error("the process cannot be hidden from others of its user: {}", .0.desc())]
    Visible(#[source] Errno),
    /// More privileges are left than the profile needs.
    #[error("the process has {0} more than it needs")]
    Excess(&'static str),
}

/// The result of [`PrivilegeProfile::apply`]; unset in a program that embeds the library.
static APPLIED: OnceLock<Result<PrivilegeProfile, String>> = OnceLock::new();

/// Checks that components from files may be loaded: unreviewed code runs only behind a system-call filter. A program
/// that embeds the library makes its own decision.
///
/// # Errors
/// A description of what the process has not dropped, and why.
pub fn may_run_foreign_code() -> Result<(), String> {
    match APPLIED.get() {
        None => Ok(()),
        Some(Ok(profile)) if profile.is_confined() => Ok(()),
        Some(Ok(_)) => Err("its command line named none when privileges were dropped".into()),
        Some(Err(reason)) => Err(reason.clone()),
    }
}

impl PrivilegeProfile {
    /// Returns true if failure to drop anything is fatal, because unreviewed code runs on behalf of users other than
    /// the one who started it.
    #[must_use]
    pub fn is_strict(self) -> bool {
        matches!(self, PrivilegeProfile::Service { .. })
    }

    /// Returns the capabilities needed (`capabilities(7)`) as bits, or `None` for all.
    fn capabilities(self) -> Option<u64> {
        // Netlink checks this for every dump and every request, not only when the socket is opened.
        let mut kept = vec![Capability::CAP_NET_ADMIN];
        let namespaces = match self {
            PrivilegeProfile::Inspect => return None,
            PrivilegeProfile::Command { namespaces, .. } => {
                // For files named by the user, the names of other users' processes, and the address of the metrics.
                kept.extend([
                    Capability::CAP_DAC_OVERRIDE,
                    Capability::CAP_DAC_READ_SEARCH,
                    Capability::CAP_SYS_PTRACE,
                    Capability::CAP_NET_BIND_SERVICE,
                ]);
                namespaces
            }
            PrivilegeProfile::Service { namespaces } => namespaces,
        };
        if namespaces {
            // For entering a namespace, and for receiving the events of all namespaces.
            kept.extend([Capability::CAP_SYS_ADMIN, Capability::CAP_NET_BROADCAST]);
        }
        Some(kept.iter().fold(0, |bits, capability| bits | capability.bitmask()))
    }

    /// Returns true if system calls are filtered because foreign code may run.
    #[must_use]
    pub fn is_confined(self) -> bool {
        matches!(self, PrivilegeProfile::Service { .. } | PrivilegeProfile::Command { plugins: true, .. })
    }

    /// Drops what the process does not need for its command line, and stores the result.
    ///
    /// # Errors
    /// The errors of [`PrivilegeProfile::drop_privileges`].
    pub fn apply(self) -> Result<(), PrivilegesError> {
        let result = self.drop_privileges();
        // A process has only one command line.
        let _ = APPLIED.set(result.as_ref().map(|()| self).map_err(ToString::to_string));
        result
    }

    /// Drops what the calling thread, and every thread that it starts from now on, does not need.
    ///
    /// # Errors
    /// The first failure; the remaining steps are not attempted.
    pub fn drop_privileges(self) -> Result<(), PrivilegesError> {
        let Some(kept) = self.capabilities() else { return Ok(()) };
        self.reduce_capabilities(kept)?;
        prctl::set_no_new_privs().map_err(PrivilegesError::NewPrivileges)?;
        if self.is_confined() {
            syscalls::confine()?;
        }
        Ok(())
    }

    /// Reduces the thread's capabilities to `kept`.
    fn reduce_capabilities(self, kept: u64) -> Result<(), PrivilegesError> {
        let has = CapabilitySets::read().map_err(PrivilegesError::Capabilities)?;
        let left = has.only(kept);
        // A system-call filter of the environment may kill the process for capset, which cannot be determined in
        // advance. The capabilities are then those that the unit or container permits; without foreign code they are
        // left as they are.
        if left == has || !self.is_confined() && syscalls::are_filtered() {
            return Ok(());
        }
        // Effective capabilities must also be permitted, and the kernel drops the ambient ones with the permitted ones.
        left.apply().map_err(PrivilegesError::Capabilities)
    }

    /// Checks that the calling thread has no more privileges than this profile needs.
    ///
    /// # Errors
    /// [`PrivilegesError::Excess`], which names the excess privilege.
    pub fn verify(self) -> Result<(), PrivilegesError> {
        let Some(kept) = self.capabilities() else { return Ok(()) };
        let has = CapabilitySets::read().map_err(PrivilegesError::Capabilities)?;
        if has != has.only(kept) {
            return Err(PrivilegesError::Excess("capabilities"));
        }
        if !prctl::get_no_new_privs().map_err(PrivilegesError::NewPrivileges)? {
            return Err(PrivilegesError::Excess("the right to gain privileges"));
        }
        if self.is_confined() && !syscalls::are_filtered() {
            return Err(PrivilegesError::Excess("system calls"));
        }
        Ok(())
    }
}

/// Returns true if a system-call filter is in force for the calling thread: its own, or that of a unit or container.
#[must_use]
pub fn system_calls_are_filtered() -> bool {
    syscalls::are_filtered()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    use std::{
        fs,
        net::UdpSocket,
        process::Command,
        thread::{self, JoinHandle},
    };

    /// Runs `work` on a new thread with this profile, because dropped privileges cannot be regained.
    fn with<R: Send + 'static>(profile: PrivilegeProfile, work: impl FnOnce() -> R + Send + 'static) -> R {
        let thread: JoinHandle<R> = thread::spawn(move || {
            profile.drop_privileges().unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// Returns the error with which opening a socket fails, if it does.
    fn refused(family: AddressFamily, protocol: impl Into<Option<SockProtocol>>) -> Option<Errno> {
        socket(family, SockType::Raw, SockFlag::empty(), protocol).err()
    }

    fn status(field: &str) -> String {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().to_string()
    }

    #[test]
    fn a_service_keeps_one_capability_and_no_other_program() {
        let before = status("CapPrm");
        let [permitted, effective, new, calls] = with(PrivilegeProfile::Service { namespaces: false }, || {
            // A thread started afterwards has no more privileges than its parent.
            thread::spawn(|| ["CapPrm", "CapEff", "NoNewPrivs", "Seccomp"].map(status)).join().unwrap()
        });
        let admin = 1u64 << Capability::CAP_NET_ADMIN.index();
        let had = u64::from_str_radix(&before, 16).unwrap();
        assert_eq!(u64::from_str_radix(&permitted, 16).unwrap(), had & admin, "{before} before");
        assert_eq!(effective, permitted);
        assert_eq!((new.as_str(), calls.as_str()), ("1", "2"));
    }

    #[test]
    fn what_a_service_never_does_the_kernel_refuses() {
        with(PrivilegeProfile::Service { namespaces: true }, || {
            assert!(Command::new("/bin/true").status().is_err(), "another program");
            for family in [AddressFamily::Packet, AddressFamily::Alg, AddressFamily::Vsock] {
                assert_eq!(refused(family, None), Some(Errno::ENOSYS), "{family:?}");
            }
            let inspection = SockProtocol::NetlinkSockDiag;
            assert_eq!(refused(AddressFamily::Netlink, inspection), Some(Errno::ENOSYS), "another netlink protocol");
            assert_eq!(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER), Err(Errno::ENOSYS));
            let none: Option<&str> = None;
            let mounted = nix::mount::mount(none, "/tmp", Some("tmpfs"), nix::mount::MsFlags::empty(), none);
            assert_eq!(mounted, Err(Errno::ENOSYS));
            assert_eq!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(1), None), Err(Errno::ENOSYS));
        });
    }

    #[test]
    fn what_a_service_does_goes_on() {
        with(PrivilegeProfile::Service { namespaces: false }, || {
            assert_eq!(thread::spawn(|| 5).join().unwrap(), 5);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"word", socket.local_addr().unwrap()).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(socket.recv(&mut buffer).unwrap(), 4);
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("file");
            fs::write(&file, "text").unwrap();
            fs::rename(&file, directory.path().join("other")).unwrap();
            assert_eq!(refused(AddressFamily::Netlink, SockProtocol::NetlinkNetFilter), None);
            // Sends a signal to the process itself, which is how a program ends after a stop request.
            assert_eq!(nix::sys::signal::kill(nix::unistd::Pid::this(), None), Ok(()));
        });
    }

    /// Each privilege that was not dropped is detected.
    #[test]
    fn a_profile_is_verified_only_once_everything_has_been_dropped() {
        let profile = PrivilegeProfile::Service { namespaces: false };
        let left = |profile: PrivilegeProfile| profile.verify().err().map(|error| error.to_string());
        let steps = thread::spawn(move || {
            let mut steps = vec![left(profile)];
            profile.reduce_capabilities(profile.capabilities().unwrap()).unwrap();
            steps.push(left(profile));
            prctl::set_no_new_privs().unwrap();
            // A filter installed by the environment counts too: it may be in force for this thread before anything is
            // dropped.
            let filtered = syscalls::are_filtered();
            steps.push(if filtered { Some("system calls".into()) } else { left(profile) });
            syscalls::confine().unwrap();
            steps.push(left(profile));
            steps
        });
        let steps = steps.join().unwrap();
        for (step, words) in steps.iter().zip(["capabilities", "the right to gain privileges", "system calls"]) {
            assert!(step.as_ref().is_some_and(|step| step.contains(words)), "{words}: {step:?}");
        }
        assert_eq!(steps.last(), Some(&None));
    }

    #[test]
    fn code_of_others_does_not_run_where_no_plugin_was_named() {
        thread::spawn(|| {
            assert_eq!(may_run_foreign_code(), Ok(()), "an embedding program decides");
            // The profile is recorded for the whole process, but only the thread drops privileges.
            PrivilegeProfile::Command { namespaces: false, plugins: false }.apply().unwrap();
            assert!(may_run_foreign_code().unwrap_err().contains("its command line named none"));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_command_without_plugins_has_all_system_calls() {
        let [calls, new] = with(PrivilegeProfile::Command { namespaces: false, plugins: false }, || {
            ["Seccomp", "NoNewPrivs"].map(status)
        });
        assert_eq!((calls.as_str(), new.as_str()), ("0", "1"));
        let before = status("CapEff");
        assert_eq!(with(PrivilegeProfile::Inspect, || status("CapEff")), before);
    }
}
