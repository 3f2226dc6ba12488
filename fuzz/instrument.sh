#!/bin/sh
# A RUSTC_WRAPPER that builds only the crates of flowgate and the fuzz target with coverage instrumentation. The
# dependencies are those of an ordinary build, and the stable compiler is sufficient.
rustc="$1"; shift
case " $* " in
 *" --crate-name flowgate_"*|*" fuzz_targets/"*) exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares ;;
 *) exec "$rustc" "$@" ;;
esac
