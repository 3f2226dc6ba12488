//! Allocation failures end the process with a message and exit status 1, instead of an abort with a core dump.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// The message of a process that ends for lack of memory.
const MESSAGE: &[u8] =
    b"flowgate: the system gives no more memory (a limit such as ulimit -v, LimitAS=, LimitDATA= or MemoryMax=?)\n";

/// The system's allocator, except that a failed allocation ends the process with a message and exit status 1. (The
/// standard library would abort it, with status 134 and a core dump.)
#[derive(Debug, Clone, Copy, Default)]
pub struct Checked;

// SAFETY: all calls go to the system's allocator; if it returns null, the process ends.
unsafe impl GlobalAlloc for Checked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract, which is that of `System`.
        checked(unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { System.realloc(memory, layout, size) })
    }
}

fn checked(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        end();
    }
    memory
}

#[cold]
fn end() -> ! {
    // SAFETY: writes bytes of the program to standard error, and ends the process; neither allocates.
    unsafe {
        libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(1)
    }
}
