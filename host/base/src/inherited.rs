//! What the process inherited from its parent, recorded before the runtime of the standard library changes it.
//!
//! That runtime ignores SIGPIPE and opens `/dev/null` in the place of a closed standard descriptor, both before `main`. Afterwards a
//! program cannot tell whether its parent ignores SIGPIPE, as systemd does with `IgnoreSIGPIPE=yes` and a shell with
//! `trap '' PIPE`, and output to a closed descriptor vanishes without an error. So [`record`] runs earlier, as an entry of the
//! program's `.init_array`; see `main.rs`.
#![allow(unsafe_code)]

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether SIGPIPE was ignored when the program was executed.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Whether the parent had SIGPIPE ignored. Output that nobody reads is then an error like any other; otherwise it ends the
/// process as the signal does. `false` where [`record`] was not called, as in a program that embeds the library.
#[must_use]
pub fn ignores_sigpipe() -> bool {
    SIGPIPE_IGNORED.load(Ordering::Relaxed)
}

/// Records the disposition of SIGPIPE, and occupies those of the descriptors 0 to 2 that are closed.
///
/// A closed standard input becomes the writing end of a pipe, a closed standard output or error the reading end: to use them as what
/// they are for fails with EBADF, as it does for a closed descriptor, and no socket or file that is opened later gets their numbers.
/// Neither takes a file system, so that a chroot without `/dev` works, in which the standard library gives up.
///
/// Meant for `.init_array`: uses nothing of the standard library that its runtime prepares.
pub extern "C" fn record() {
    // SAFETY: all-zero bytes are a valid `struct sigaction`, and the call only writes to it.
    let ignored = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_IGNORED.store(ignored, Ordering::Relaxed);
    for descriptor in 0..=2 {
        if is_closed(descriptor) {
            occupy(descriptor);
        }
    }
}

fn is_closed(descriptor: i32) -> bool {
    // SAFETY: F_GETFD takes no argument and changes nothing.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    flags == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EBADF)
}

/// Puts the wrong end of a pipe into the place of a closed descriptor. Where no pipe can be had it stays closed.
fn occupy(descriptor: i32) {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two numbers into the array. All descriptors that are touched are new, or were closed before.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return;
        }
        let [reading, writing] = ends;
        let kept = if descriptor == libc::STDIN_FILENO { writing } else { reading };
        if kept != descriptor {
            libc::dup3(kept, descriptor, libc::O_CLOEXEC);
        }
        for end in ends {
            if end != descriptor {
                libc::close(end);
            }
        }
    }
}
