//! An allocator that counts the allocations of a thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator with counters, to be used as the global allocator.
pub(crate) struct Counting;

/// Limit at which the process aborts, before the machine runs out of memory.
const MOST: isize = 3 << 30;

thread_local! {
    /// Bytes that this thread has allocated and not freed since [`begin`], their maximum, and the total of allocated
    /// bytes.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

/// Sets the counters to zero.
pub(crate) fn begin() {
    NOW.set(0);
    PEAK.set(0);
    TOTAL.set(0);
}

/// Returns the peak and the total of the bytes that this thread has allocated since [`begin`].
pub(crate) fn counted() -> (usize, usize) {
    (PEAK.get().unsigned_abs(), TOTAL.get())
}

fn add(size: usize) {
    let now = NOW.get().wrapping_add_unsigned(size);
    NOW.set(now);
    PEAK.set(PEAK.get().max(now));
    TOTAL.set(TOTAL.get().wrapping_add(size));
    if now > MOST {
        // An allocator must not unwind.
        NOW.set(0);
        eprintln!("{now} bytes are allocated: more than any input may cost");
        std::process::abort();
    }
}

fn remove(size: usize) {
    // Memory allocated before [`begin`] is not counted, so the value may become negative.
    NOW.set(NOW.get().wrapping_sub_unsigned(size));
}

// SAFETY: all calls are passed to the system's allocator; only sizes are counted.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        remove(layout.size());
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        remove(layout.size());
        // SAFETY: the caller upholds the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
