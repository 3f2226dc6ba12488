#!/bin/sh
# Run by cargo instead of rustc for the crates of this workspace (.cargo/config.toml): rustc, for the
# program `flowgate` with the flags by which it is linked:
#
# * crt-static: a static position-independent executable. Without dynamic loader and look-up of symbols it starts
#   in three quarters of the time (docs/PERFORMANCE.md, "Start-up").
# * pack-relative-relocs: some 24,000 relative relocations as a bit map, 6 KB instead of 0.6 MB.
# * icf=all (lld, which rustc links with on x86_64): functions of the same code are one, 0.7 MB less. Nothing here
#   compares addresses of functions.
# * ignore-data-address-equality: the same for constants, and with them for the functions and tables of landing pads
#   that differed in nothing but these: 0.8 MB less, and a fifth of the pages that relocations are written to. Only
#   read-only data of the same content is merged: what has an identity of its own (call sites of tracing, empty chunks
#   of allocators) can be changed, so that it stays apart. Of constants whose addresses are compared there are vtables
#   (of wakers, of `bytes`): where they are equal they mean the same, and may be taken for one.
#
# Only the last crate takes the flags. In RUSTFLAGS or [target] they would be those of procedural macros too, which
# cannot be static, and with `--target` cargo compiles everything that the build script and the program share twice,
# wasmtime among it. So cargo build, cargo test and `make install` all have the same program.
case " $* " in
*" --target "*) ;; # Another machine: what its C library brings is not known here.
*" --crate-name flowgate "*" --crate-type bin "*)
    # Debian's libc6-dev has the static C library. Without it the program is dynamic, and starts more slowly.
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
