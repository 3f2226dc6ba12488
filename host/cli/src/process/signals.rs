//! Signals: what asks the process to end, what ends it if it does not get there, and SIGUSR1.
//!
//! No thread waits for them. The handler of SIGINT and SIGTERM gives the stop signal and arms a timer; what is under way comes to its
//! end, and if it does not within its patience, SIGALRM ends the process as the signal would have without a handler. A signal
//! that was ignored when the program was executed stays ignored, as for the jobs of a shell in the background and under `nohup`.
#![allow(unsafe_code)]

use std::{
    io::{self, PipeWriter, Read as _, Write as _},
    mem, ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::Duration,
};

use libc::c_int;
use nix::errno::Errno;
use signal_hook::low_level::emulate_default_handler;

use crate::command::report;
use flowgate_netlink::Stop;
use flowgate_pipeline::stats::Board;

/// How long what is under way may take to end after a signal: a reader that does not read holds up the writing for ever.
const PATIENCE: Duration = Duration::from_millis(500);

/// The signal that asked the process to end; 0 if none did.
static CAUGHT: AtomicI32 = AtomicI32::new(0);
/// What the handlers use.
static SHARED: OnceLock<(Stop, Board)> = OnceLock::new();
/// Wakes the thread that tells what plugins did.
static REQUESTS: OnceLock<PipeWriter> = OnceLock::new();
/// Whether it has been woken and has not begun to tell yet.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM give the stop signal. The process has half a second to end, or what the `board` says.
pub(super) fn catch(stop: &Stop, board: &Board) {
    // A process has one command, so that this is never the second time.
    let _ = SHARED.set((stop.clone(), board.clone()));
    handle(libc::SIGINT, asked_to_end);
    handle(libc::SIGTERM, asked_to_end);
}

/// The signal that asked the process to end, if one did.
pub(super) fn caught() -> Option<c_int> {
    Some(CAUGHT.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
}

/// Ends the process as a signal does that is not handled.
pub(super) fn end_by(signal: c_int) {
    // Fails for what is no signal only.
    let _ = emulate_default_handler(signal);
}

/// Writing to a pipe that nobody reads is an error (EPIPE) from now on, and does not end the process there and then.
pub(super) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition, and no handler of this program is replaced.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Starts the thread that SIGUSR1 has tell what the plugins on the `board` did. Where no thread or pipe can be had, the signal keeps
/// its meaning.
pub(super) fn tell_on_request(board: &Board) {
    if is_ignored(libc::SIGUSR1) {
        return;
    }
    let Ok((mut reader, writer)) = io::pipe() else { return };
    let board = board.clone();
    let tell = move || {
        let mut byte = [0];
        while matches!(reader.read(&mut byte), Ok(1)) {
            REQUESTED.store(false, Ordering::SeqCst);
            report::text(board.text().as_bytes());
        }
    };
    if REQUESTS.set(writer).is_ok() && thread::Builder::new().name("statistics".into()).spawn(tell).is_ok() {
        handle(libc::SIGUSR1, asked_to_tell);
    }
}

/// Whether a signal is ignored.
fn is_ignored(signal: c_int) -> bool {
    // SAFETY: all-zero bytes are a valid `struct sigaction`, and the call only writes to it.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Has a signal handled, unless it is ignored. System calls that it interrupts go on, except for waits by `poll`.
fn handle(signal: c_int, handler: extern "C" fn(c_int)) {
    if !is_ignored(signal) {
        replace(signal, handler as *const () as libc::sighandler_t);
    }
}

/// Sets the disposition of a signal.
fn replace(signal: c_int, disposition: libc::sighandler_t) {
    // SAFETY: the structure is complete: a mask without signals, flags, and a disposition that is SIG_DFL or one of the handlers
    // below, which do nothing that signal-safety(7) does not allow.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = disposition;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// SIGINT, SIGTERM.
extern "C" fn asked_to_end(signal: c_int) {
    let errno = Errno::last_raw();
    if CAUGHT.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        && let Some((stop, board)) = SHARED.get()
    {
        replace(libc::SIGALRM, out_of_patience as *const () as libc::sighandler_t);
        if !arm(PATIENCE.max(board.patience())) {
            // Without a timer the next signal ends the process.
            replace(signal, libc::SIG_DFL);
        }
        stop.stop();
    }
    Errno::set_raw(errno);
}

/// Has SIGALRM sent after this time; `false` if the kernel does not.
fn arm(time: Duration) -> bool {
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(time.subsec_micros()),
    };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: value };
    // SAFETY: the kernel reads the structure, which outlives the call.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) == 0 }
}

/// SIGALRM: as a program that does not catch the signal, so that the shell and its scripts see what happened.
extern "C" fn out_of_patience(_: c_int) {
    end_by(CAUGHT.load(Ordering::SeqCst));
}

/// SIGUSR1.
extern "C" fn asked_to_tell(_: c_int) {
    let errno = Errno::last_raw();
    if !REQUESTED.swap(true, Ordering::SeqCst)
        && let Some(mut writer) = REQUESTS.get()
    {
        // There is room: a byte is written only after the last one was read.
        let _ = writer.write(&[1]);
    }
    Errno::set_raw(errno);
}
