//! The stack for signal handlers, that of wasmtime, which converts faults of plugins to errors.
#![allow(unsafe_code)]

use std::{cell::UnsafeCell, ptr};

/// The size that wasmtime requires: it allocates a stack if there is none of this size, and panics if it cannot.
const SIZE: usize = 256 << 10;

/// Static memory, which the kernel provides on first use.
#[repr(align(64))]
struct Stack(UnsafeCell<[u8; SIZE]>);

// SAFETY: only the kernel uses it, for the one thread that registers it.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; SIZE]));

/// Sets the stack for signal handlers of the first thread. It costs one system call, and works without free memory.
pub(super) fn provide() {
    let stack = libc::stack_t { ss_sp: STACK.0.get().cast(), ss_flags: 0, ss_size: SIZE };
    // SAFETY: the memory is static, and no other thread uses it as its stack: this is called once, by the first thread.
    unsafe {
        libc::sigaltstack(&raw const stack, ptr::null_mut());
    }
}
