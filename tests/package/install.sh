#!/bin/bash
# Tests `make install` in private directories: the installed files, their size and linkage, and what is refused.
#
#   tests/package/install.sh TARGET_DIRECTORY
#
# `make test-package` builds what it needs and runs it. Needs no root.
set -euo pipefail
target=$1
cd "$(dirname "$0")/../.."
. tests/package/checks.sh

# At most 25 MB, of which the fleet and its TLS are some 4.
readonly LARGEST=25000000

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
install() { make --no-print-directory install CARGO_TARGET_DIR="$target" "$@"; }

# Prints attributes of an ELF file: type, needed libraries, and so on.
elf() { LC_ALL=C readelf --wide "$@" 2>/dev/null; }
build_id() { elf --notes "$1" | sed -n 's/.*Build ID: //p'; }

plain=$scratch/plain
check "make install" install DESTDIR="$plain" PREFIX=/usr/local
program=$plain/usr/local/bin/flowgate
check "the program runs" test "$("$program" -V | grep -c flowgate)" -ge 1
size=$(stat -c %s "$program")
check "it has at most $LARGEST bytes: $size" test "$size" -le $LARGEST
check "it has no symbols" test -z "$(nm "$program" 2>/dev/null)"
check "it is the program that the tests run" test "$(build_id "$program")" = "$(build_id "$target/release/flowgate")"
check "it has a build id" test -n "$(build_id "$program")"
check "it is position-independent" grep -q 'Type: *DYN' <(elf --file-header "$program")
check "it is relocated read-only" grep -q GNU_RELRO <(elf --program-headers "$program")
check "it is so as a whole" grep -q BIND_NOW <(elf --dynamic "$program")
check "no segment is writable and executable" test -z "$(elf --program-headers "$program" | awk '$1 == "LOAD" && /RWE/')"
check "its stack is not executable" test -z "$(elf --program-headers "$program" | awk '$1 == "GNU_STACK" && /E/ && /RWE/')"
if [ "$(uname -m)" = x86_64 ]; then
    table=$((0x$(elf --sections "$program" | sed -n 's/^.* \.got  *PROGBITS  *[0-9a-f]* [0-9a-f]* \([0-9a-f]*\) .*/\1/p')))
    check "its libraries call each other without a table of addresses: $table bytes" test "$table" -le 32768
fi
if [ -f "$(cc -print-file-name=libc.a)" ]; then
    check "it is linked statically" test -z "$(elf --dynamic "$program" | grep NEEDED)$(elf --program-headers "$program" | grep INTERP)"
fi
for file in share/man/man1/flowgate.1 share/bash-completion/completions/flowgate share/fish/vendor_completions.d/flowgate.fish \
    share/zsh/site-functions/_flowgate share/doc/flowgate/README.md share/doc/flowgate/OPERATIONS.md \
    share/doc/flowgate/examples/policy/policy.toml lib/systemd/system/flowgate-policy.service \
    lib/systemd/system/flowgate-pipeline@.service lib/systemd/system/flowgate-fleet-agent.service; do
    check "there is $file" test -s "$plain/usr/local/$file"
done
check "the completions are bash" bash -n "$plain/usr/local/share/bash-completion/completions/flowgate"
check "units name the program that is installed" \
    test -z "$(grep -h '^Exec' "$plain"/usr/local/lib/systemd/system/* | grep -v '=/usr/local/bin/flowgate ')"
check "without CONNTRACK=yes there is no conntrack" test ! -e "$plain/usr/local/sbin"
check "without SYMBOLS=yes there are none" test ! -e "$plain/usr/local/bin/.debug"

all=$scratch/all
check "make install CONNTRACK=yes SYMBOLS=yes" install DESTDIR="$all" PREFIX=/opt/flow CONNTRACK=yes SYMBOLS=yes
link=$all/opt/flow/sbin/conntrack
check "conntrack is flowgate" test "$(readlink -f "$link")" = "$(readlink -f "$all/opt/flow/bin/flowgate")"
check "conntrack -V is that of conntrack" grep -q '^conntrack v' <("$link" -V)
check "man conntrack is flowgate(1)" cmp "$all/opt/flow/share/man/man8/conntrack.8" "$all/opt/flow/share/man/man1/flowgate.1"
symbols=$all/opt/flow/bin/.debug/flowgate.debug
check "the symbols are those of the program" test "$(build_id "$symbols")" = "$(build_id "$all/opt/flow/bin/flowgate")"
check "debuggers find them" grep -q 'flowgate\.debug' <(elf --string-dump=.gnu_debuglink "$all/opt/flow/bin/flowgate")
check "they name functions" grep -q ' T main$' <(nm "$symbols")
check "a second time is the same" install DESTDIR="$all" PREFIX=/opt/flow CONNTRACK=yes

foreign=$scratch/foreign
mkdir -p "$foreign/usr/sbin" && echo other > "$foreign/usr/sbin/conntrack"
refuse "another program called conntrack stays" "is another program" install DESTDIR="$foreign" PREFIX=/usr CONNTRACK=yes
check "nothing is installed then" test "$(find "$foreign" -type f)" = "$foreign/usr/sbin/conntrack"
refuse "CONNTRACK=1" "takes yes or no" install DESTDIR="$foreign" CONNTRACK=1
refuse "SYMBOLS=all" "takes yes or no" install DESTDIR="$foreign" SYMBOLS=all
refuse "a misspelt variable" "unknown variable SYMBOL" install DESTDIR="$foreign" SYMBOL=yes
refuse "nothing built" "run \`make build\` first" make install CARGO_TARGET_DIR="$scratch/empty" DESTDIR="$foreign"

report
