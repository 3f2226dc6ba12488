#!/bin/sh
# Run by cargo instead of rustc for all crates (.cargo/config.toml): rustc, for libraries with the flag by
# which they call functions of other libraries directly.
#
# For a program with full RELRO rustc has each such call go through a table of addresses (.got), since in a program
# that is linked dynamically they could not be bound lazily. flowgate is linked statically and has no use for the
# table: 27,000 addresses that are written while it is loaded, in 53 of its pages, 0.1 ms of each start, and one
# byte more for each of 360,000 calls. How much of a program is relocated read-only depends on the flag of the crate that
# is linked, which stays "full".
#
# It is not in RUSTFLAGS, which the environment would replace, and not in a profile, which has no such key.
case " $* " in
*" --target "*) ;; # Plugins, or another machine.
*" --crate-type lib "* | *" --crate-type rlib "*) set -- "$@" -C relro-level=partial ;;
esac
exec "$@"
