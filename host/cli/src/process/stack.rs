//! The stack that signal handlers run on: that of wasmtime, which turns faults of plugins into errors.
#![allow(unsafe_code)]

use std::{cell::UnsafeCell, ptr};

/// What wasmtime asks for: it makes a stack itself where there is none of this size, and panics where it cannot.
const SIZE: usize = 256 << 10;

/// Memory of the program, which the kernel gives when it is first used.
#[repr(align(64))]
struct Stack(UnsafeCell<[u8; SIZE]>);

// SAFETY: nothing but the kernel, for the one thread that registers it, uses it.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; SIZE]));

/// Gives the first thread its stack for signal handlers. It costs one system call, and works where no memory is left.
pub(super) fn provide() {
    let stack = libc::stack_t { ss_sp: STACK.0.get().cast(), ss_flags: 0, ss_size: SIZE };
    // SAFETY: the memory is static, and no other thread has it as its stack: this is called once, by the first.
    unsafe {
        libc::sigaltstack(&raw const stack, ptr::null_mut());
    }
}
