#!/bin/sh
# Run by cargo instead of rustc for the crates of this workspace (.cargo/config.toml). Runs rustc, for the program
# `flowgate` with these linker flags:
#
# * crt-static: a static position-independent executable. Without dynamic loader and symbol lookup it starts in three
#   quarters of the time (docs/PERFORMANCE.md, "Start-up").
# * pack-relative-relocs: encodes about 24,000 relative relocations as a bitmap, 6 KB instead of 0.6 MB.
# * icf=all (lld, which rustc links with on x86_64): merges functions with identical code, 0.7 MB less. Nothing here
#   compares addresses of functions.
# * ignore-data-address-equality: the same for constants, and consequently for functions and tables of landing pads that
#   differed only in these: 0.8 MB less, and a fifth of the pages that relocations are written to. Only read-only data
#   with identical content is merged: data with an identity of its own (call sites of tracing, empty chunks of
#   allocators) is writable, so it stays separate. The only constants whose addresses are compared are vtables (of
#   wakers, of `bytes`): equal ones behave in the same way, so they may be merged.
#
# Only the last crate gets the flags. In RUSTFLAGS or [target] they would also apply to procedural macros, which cannot
# be static, and with `--target` cargo compiles everything that the build script and the program share twice, including
# wasmtime. In this way cargo build, cargo test and `make install` all produce the same program.
case " $* " in
*" --target "*) ;; # Another machine: what its C library brings is not known here.
*" --crate-name flowgate "*" --crate-type bin "*)
    # Debian's libc6-dev contains the static C library. Without it the program is linked dynamically, and starts more
    # slowly.
    if [ -f "$(cc -print-file-name=libc.a 2>/dev/null)" ]; then
        set -- "$@" -C target-feature=+crt-static
        if [ "$(uname -m)" = x86_64 ]; then
            set -- "$@" -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--icf=all \
                -C link-arg=-Wl,--ignore-data-address-equality
        fi
    fi
    ;;
esac
exec "$@"
