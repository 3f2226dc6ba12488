//! Settings for compiling and running WebAssembly. The build script compiles the stock plugins with the settings with
//! which the host runs them; wasmtime refuses code that was compiled with others.
//!
//! Everything that wasmtime would read from the environment is set here, so that no environment variable affects how
//! plugins run.

use wasmtime::{Config, OptLevel, ProfilingStrategy, WasmBacktraceDetails};

/// Address space in bytes into which each linear memory of a stock plugin can grow: the default memory limit of a
/// plugin.
pub const STOCK_MEMORY: u64 = 64 << 20;
/// Inaccessible address space in bytes behind each: more than the constant offsets of accesses, the largest of which
/// are addresses of static data, behind 1 MiB of stack.
const STOCK_GUARD: u64 = 2 << 20;

/// Address space in bytes into which a memory can grow before it has to move, so that it moves rarely.
const GROWTH: u64 = 256 << 20;

/// Returns true for a stock plugin whose memory may become larger than [`STOCK_MEMORY`]: one that keeps something of
/// each flow.
pub fn grows(name: &str) -> bool {
    name == "aggregate"
}

/// Returns the settings for all plugins.
pub fn common() -> Config {
    let mut config = Config::new();
    // Deadlines: compiled code checks a counter that a thread of the host increments.
    config.epoch_interruption(true);
    // Unbounded recursion ends here, long before the host's own stack is exhausted.
    config.max_wasm_stack(512 << 10);
    // Features that no plugin needs are disabled, so that they cannot be attacked.
    config.wasm_memory64(false);
    // Components that are composed of several (as the tools for JavaScript and Python do in place of WASI) get adapters
    // that copy between memories; without this, wasmtime panics when it creates them. The memory limit of a plugin
    // applies to the sum of its memories.
    config.wasm_multi_memory(true);
    // Failures are named by their kind. Backtraces would cost time and memory, and their text belongs to the plugin.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    config.debug_info(false);
    config.profiler(ProfilingStrategy::None);
    config.cranelift_opt_level(OptLevel::Speed);
    config
}

/// Returns the settings for stock plugins: memories that take little address space and are initialised without
/// memory-mapped files.
///
/// Address space that is reserved for growth, and not for the memory itself, has each access compared with the current
/// length, and what its constant offset adds caught by the guard pages. So all accesses to one structure have a single
/// comparison: compared with a constant, each would need one of its own.
///
/// A memory that [`grows`] may move to a larger place, so that its code reads its place again.
pub fn stock(grows: bool) -> Config {
    let mut config = common();
    config.memory_reservation(0);
    config.memory_reservation_for_growth(if grows { GROWTH } else { STOCK_MEMORY });
    config.memory_may_move(grows);
    config.memory_guard_size(STOCK_GUARD);
    config.guard_before_linear_memory(false);
    config.memory_init_cow(false);
    config
}
