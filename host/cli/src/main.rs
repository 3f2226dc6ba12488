//! The program. Everything is the library's; this is where the C runtime enters.
#![cfg_attr(not(test), no_main)]

/// Ends the process with a sentence where there is no memory.
#[global_allocator]
static ALLOCATOR: flowgate::process::Checked = flowgate::process::Checked;

/// Entered instead of the standard library's runtime, which before `main` looks at descriptors and stacks in ways that cost time,
/// take `/proc` and `/dev`, and abort the process where they are missing.
#[cfg(not(test))]
#[allow(unsafe_code)]
// SAFETY: the name is the one that the C runtime calls, with the type that it calls, and no other function has it.
#[unsafe(no_mangle)]
extern "C" fn main(_: std::ffi::c_int, _: *const *const std::ffi::c_char) -> std::ffi::c_int {
    flowgate::process::main()
}
