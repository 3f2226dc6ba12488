//! How WebAssembly is compiled: one configuration for the build script, which compiles the stock plugins ahead of time,
//! and for the host, which refuses code that was compiled otherwise.

/// The settings that both sides must agree on.
pub fn config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    // Deadlines: compiled code looks at a counter that a thread of the host advances.
    config.epoch_interruption(true);
    // Recursion without end is stopped here, long before the host's own stack is at risk.
    config.max_wasm_stack(512 << 10);
    // What no plugin needs is not there to be attacked.
    config.wasm_memory64(false);
    // A component that is put together from several (as the tools for JavaScript and Python do, to take the place of WASI) gets
    // adapters that copy from one memory into another; without this, wasmtime panics when it makes them. What a plugin may
    // use up counts over all of its memories.
    config.wasm_multi_memory(true);
    config
}
