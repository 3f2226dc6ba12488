#!/bin/sh
# What cargo runs instead of rustc for the crates of this workspace (.cargo/config.toml): rustc, and for the
# program `flowgate` with the flags by which it is linked:
#
# * crt-static: a static position-independent executable. Without dynamic loader and look-up of symbols it starts
#   in three quarters of the time (docs/PERFORMANCE.md, "Start-up").
# * pack-relative-relocs: some 47,000 relative relocations as a bit map, 11 KB instead of 1.1 MB.
# * icf=all (lld, which rustc links with on x86_64): functions of the same code are one, 0.7 MB less. Nothing here
#   compares addresses of functions; vtables, which wakers compare, are data and stay apart.
#
# Only the last crate takes the flags. In RUSTFLAGS or [target] they would be those of procedural macros too, which
# cannot be static, and with `--target` cargo compiles everything that the build script and the program share twice,
# wasmtime among it. So cargo build, cargo test and `make install` all have the same program.
case " $* " in
*" --target "*) ;; # Another machine: what its C library brings is not known here.
*" --crate-name flowgate "*" --crate-type bin "*)
    # Debian's libc6-dev has the static C library. Where there is none the program is dynamic, and starts later.
    if [ -f "$(cc -print-file-name=libc.a 2>/dev/null)" ]; then
        set -- "$@" -C target-feature=+crt-static
        if [ "$(uname -m)" = x86_64 ]; then
            set -- "$@" -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--icf=all
        fi
    fi
    ;;
esac
exec "$@"
