//! flowgate: the kernel's connection tracking, streamed through WebAssembly components.
pub mod cli;
pub mod model;
pub mod netlink;
