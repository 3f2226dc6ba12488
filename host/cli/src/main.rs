//! The entry point of the program, called by the C runtime. Everything else is in the library.
#![cfg_attr(not(test), no_main)]

/// Ends the process with a message if there is no memory.
#[global_allocator]
static ALLOCATOR: flowgate::process::Checked = flowgate::process::Checked;

/// Replaces the standard library's runtime. Before `main`, that runtime checks descriptors and stacks, which costs
/// time, needs `/proc` and `/dev`, and aborts the process if they are missing.
#[cfg(not(test))]
#[allow(unsafe_code)]
// SAFETY: the name is the one that the C runtime calls, with the type that it calls, and no other function has it.
#[unsafe(no_mangle)]
extern "C" fn main(_: std::ffi::c_int, _: *const *const std::ffi::c_char) -> std::ffi::c_int {
    flowgate::process::main()
}
