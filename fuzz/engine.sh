#!/bin/sh
# A RUSTC_WRAPPER for `cargo fuzz build`: compiles wasmtime and its compiler with the sanitizer, but without coverage
# instrumentation, and with as many code generation units as in ordinary builds. No input reaches the compiler, and
# instrumenting it takes most of the time of the build.
rustc="$1"; shift
case " $* " in
 *" --crate-name cranelift_"*|*" --crate-name wasmtime"*|*" --crate-name regalloc2 "*|*" --crate-name pulley_"*|*" --crate-name gimli "*|*" --crate-name object "*)
  for argument; do
   shift
   case "$argument" in
    -Cpasses=sancov-module|-Cllvm-args=-sanitizer-coverage-*|-Cllvm-args=-simplifycfg-branch-fold-threshold=*|-Ccodegen-units=1) ;;
    *) set -- "$@" "$argument" ;;
   esac
  done ;;
esac
exec "$rustc" "$@"
