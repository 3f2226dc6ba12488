//! Memory that the system does not give: a sentence and exit status 1, instead of an abort with a core.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// What the process says when it ends for want of memory.
const MESSAGE: &[u8] =
    b"flowgate: the system gives no more memory (a limit such as ulimit -v, LimitAS=, LimitDATA= or MemoryMax=?)\n";

/// The system's allocator, except that a process that gets nothing ends with exit status 1 and says why. (The standard library
/// would abort it, with status 134 and a core dump.)
#[derive(Debug, Clone, Copy, Default)]
pub struct Checked;

// SAFETY: everything is done by the system's allocator; where that returns null, the process ends.
unsafe impl GlobalAlloc for Checked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one that `System` asks for.
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
