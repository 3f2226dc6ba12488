//! How WebAssembly is compiled and run. The build script compiles the stock plugins with the same settings as the host
//! runs them with; wasmtime refuses code that was compiled otherwise.
//!
//! Everything that wasmtime would look up in the environment is set here, so that no variable of a library decides how
//! plugins run, or whether they run at all.

use wasmtime::{Config, OptLevel, ProfilingStrategy, WasmBacktraceDetails};

/// Bytes of address space that each linear memory of a stock plugin takes: what a plugin may use at most by default.
pub const STOCK_MEMORY: u64 = 64 << 20;

/// What holds for all plugins.
pub fn common() -> Config {
    let mut config = Config::new();
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
    // Failures are named by their kind. Backtraces would cost time and memory, and their text is the plugin's.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    config.debug_info(false);
    config.profiler(ProfilingStrategy::None);
    config.cranelift_opt_level(OptLevel::Speed);
    config
}

/// What holds for stock plugins besides: memories that take little address space and are filled without files in memory. Each
/// access to memory is checked instead, which costs a listing less than 1 %.
pub fn stock() -> Config {
    let mut config = common();
    config.memory_reservation(STOCK_MEMORY);
    config.memory_may_move(false);
    config.memory_guard_size(0);
    config.memory_init_cow(false);
    config
}
