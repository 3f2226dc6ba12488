//! Signals: SIGINT and SIGTERM ask the process to end, SIGALRM ends it if it does not, SIGUSR1 makes it print the
//! statistics of plugins.
//!
//! All handlers are installed by `signal-hook`, also that of SIGHUP in the service for tenants. No thread waits for
//! SIGINT and SIGTERM: the first of them gives the stop signal and arms a timer, and the work in progress is completed.
//! If that takes longer than the grace period, SIGALRM ends the process as the signal would have without a handler. A
//! signal that was ignored when the program was executed stays ignored, as for background jobs of a shell and under
//! `nohup`.
#![allow(unsafe_code)]

use std::{
    io::{self, Read as _},
    mem, ptr,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    thread,
    time::Duration,
};

use libc::c_int;
use signal_hook::low_level;

use crate::command::report;
use flowgate_netlink::Stop;
use flowgate_pipeline::stats::Board;

/// Grace period after a signal: an output that nobody reads would hold up the process for ever.
const GRACE: Duration = Duration::from_millis(500);

/// The signal that asked the process to end; 0 if none did.
static CAUGHT: AtomicI32 = AtomicI32::new(0);
/// True if the kernel gave no timer for the grace period.
static UNTIMED: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT and SIGTERM give the stop signal from now on. The process then has the grace period to end: half a
/// second, or the patience of the `board` if that is longer.
pub(super) fn catch(stop: &Stop, board: &Board) {
    handle(libc::SIGALRM, || {
        end_by(caught().unwrap_or(libc::SIGALRM));
    });
    for signal in [libc::SIGINT, libc::SIGTERM] {
        if is_ignored(signal) {
            continue;
        }
        let (stop, board) = (stop.clone(), board.clone());
        handle(signal, move || {
            if CAUGHT.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                // Without a timer the next signal ends the process.
                UNTIMED.store(!send_alarm_after(GRACE.max(board.patience())), Ordering::SeqCst);
                stop.stop();
            } else if UNTIMED.load(Ordering::SeqCst) {
                end_by(signal);
            }
        });
    }
}

/// Returns the signal that asked the process to end, if one did.
pub(super) fn caught() -> Option<c_int> {
    Some(CAUGHT.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
}

/// Ends the process by the default action of a signal.
pub(super) fn end_by(signal: c_int) {
    // It fails only for numbers that are not signals.
    let _ = low_level::emulate_default_handler(signal);
}

/// Makes writing to a pipe that nobody reads an error (EPIPE) from now on, instead of the end of the process.
pub(super) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition, and no handler of this program is replaced.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Starts the thread that prints the statistics of the plugins on the `board` at each SIGUSR1. If no thread or pipe is
/// available, the signal keeps its default action.
pub(super) fn print_statistics_on_request(board: &Board) {
    if is_ignored(libc::SIGUSR1) {
        return;
    }
    let Ok((mut requests, writer)) = io::pipe() else { return };
    let board = board.clone();
    let print = move || {
        // Signals that arrive during a printout are answered by a single one.
        let mut bytes = [0; 512];
        while requests.read(&mut bytes).is_ok_and(|count| count > 0) {
            report::text(board.text().as_bytes());
        }
    };
    if thread::Builder::new().name("statistics".into()).spawn(print).is_ok() {
        // Without a handler the thread ends at once: the pipe has no writer then.
        let _ = low_level::pipe::register(libc::SIGUSR1, writer);
    }
}

/// Returns true if a signal is ignored.
fn is_ignored(signal: c_int) -> bool {
    // SAFETY: all-zero bytes are a valid `struct sigaction`, and the call only writes to it.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Calls `action` at each of these signals, in the signal handler. Interrupted system calls are restarted, except for
/// waits by `poll`. Where the kernel refuses the handler, the signal keeps its default action.
fn handle(signal: c_int, action: impl Fn() + Send + Sync + 'static) {
    // SAFETY: the actions in this file use atomics, and make system calls that signal-safety(7) allows.
    let _ = unsafe { low_level::register(signal, action) };
}

/// Sets a timer that sends SIGALRM after this time. Returns false if the kernel refuses it.
fn send_alarm_after(time: Duration) -> bool {
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(time.subsec_micros()),
    };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: the kernel reads the structure, which outlives the call.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) == 0 }
}
