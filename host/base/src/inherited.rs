//! State inherited from the parent process, recorded before the program changes it.
//!
//! Before `main`, the runtime of the standard library ignores SIGPIPE and opens `/dev/null` in place of closed standard
//! descriptors. Afterwards a program cannot find out whether its parent ignores SIGPIPE, as systemd does with
//! `IgnoreSIGPIPE=yes` and a shell with `trap '' PIPE`, and output to a closed descriptor vanishes without an error.
//! The program is therefore entered without that runtime (`main.rs`), and [`record`] is the first that it does.
#![allow(unsafe_code)]

use std::{
    io, mem, ptr,
    sync::atomic::{AtomicBool, Ordering},
};

/// True if SIGPIPE was ignored when the program was executed.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Returns true if the parent ignored SIGPIPE. A broken pipe is then an error like any other; otherwise it ends the
/// process like the signal. False if [`record`] was not called, for example in a program that embeds the library.
#[must_use]
pub fn ignores_sigpipe() -> bool {
    SIGPIPE_IGNORED.load(Ordering::Relaxed)
}

/// Records the disposition of SIGPIPE, and occupies those of the descriptors 0 to 2 that are closed.
///
/// A closed standard input becomes the write end of a pipe, a closed standard output or error the read end: using them
/// fails with EBADF as with a closed descriptor, and no socket or file that is opened later gets their numbers. This
/// needs no file system, so that it works in a chroot without `/dev`, where the standard library aborts.
///
/// Must be called before SIGPIPE is ignored and before anything is opened.
pub fn record() {
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

/// Replaces a closed descriptor by the wrong end of a pipe. It stays closed if no pipe can be opened.
fn occupy(descriptor: i32) {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two numbers into the array. All descriptors that are touched are new, or were closed
    // before.
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
