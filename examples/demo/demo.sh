#!/bin/bash
# Real traffic through a router in private network namespaces, listed by flowgate in three ways.
#
# FLOWGATE  the binary            (required)
# PLUGIN    the example plugin    (required; may carry settings: FILE,key=value)
#
# `make demo` builds both and runs this. Needs root; changes nothing outside the namespaces, which it removes.
set -euo pipefail

die() { printf 'demo: %s\n' "$*" >&2; exit 1; }
say() { printf '\n== %s\n' "$*"; }
show() { printf '\n$ %s\n' "$*"; }

[ "$(id -u)" = 0 ] || die "must be root, to create network namespaces"
[ -n "${FLOWGATE:-}" ] || die "FLOWGATE does not name the binary; run \`make demo\`"
[ -n "${PLUGIN:-}" ] || die "PLUGIN does not name the example plugin; run \`make demo\`"
[ -x "$FLOWGATE" ] || die "$FLOWGATE is missing; run \`make demo\`, which builds it"
[ -f "${PLUGIN%%,*}" ] || die "${PLUGIN%%,*} is missing; run \`make demo\`, which builds it"
for program in ip nft ping socat ss; do
    command -v "$program" >/dev/null || die "$program is not installed; run \`make setup\`"
done

# The outside addresses are documentation addresses, which count as public.
# client 10.1.0.2 -- 10.1.0.1 router 198.51.100.1 -- 198.51.100.2 server, and the same in 2001:db8:1:: and 2001:db8:2::
name=flowgate-demo-$$
scratch=$(mktemp -d)
client=$name-client router=$name-router server=$name-server

cleanup() {
    local status=$? namespace pids
    for namespace in "$client" "$server" "$router"; do
        # The processes of the namespace, all of which this script started; all at once, so that none reports another
        # one's end.
        pids=$(ip netns pids "$namespace" 2>/dev/null || true)
        # shellcheck disable=SC2086 # several numbers
        [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
        ip netns delete "$namespace" 2>/dev/null || true
    done
    rm -rf "$scratch"
    [ "$status" = 0 ] || printf 'demo: failed with status %s\n' "$status" >&2
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

at() { ip netns exec "$@"; }

say "Three namespaces: a client, a router that tracks connections, a server"
for namespace in "$client" "$router" "$server"; do
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
done
ip -n "$router" link add inside type veth peer name eth0 netns "$client"
ip -n "$router" link add outside type veth peer name eth0 netns "$server"
link() { # namespace interface IPv4 IPv6
    ip -n "$1" address add "$3" dev "$2"
    ip -n "$1" -6 address add "$4" dev "$2" nodad
    ip -n "$1" link set "$2" up
}
link "$client" eth0 10.1.0.2/24 2001:db8:1::2/64
link "$router" inside 10.1.0.1/24 2001:db8:1::1/64
link "$router" outside 198.51.100.1/24 2001:db8:2::1/64
link "$server" eth0 198.51.100.2/24 2001:db8:2::2/64
ip -n "$client" route add default via 10.1.0.1
ip -n "$client" -6 route add default via 2001:db8:1::1
# The server has no IPv4 route to the client, so IPv4 traffic must pass source NAT.
ip -n "$server" -6 route add default via 2001:db8:2::1
# In a separate shell, because /proc/sys shows the namespace of the process that opens it.
at "$router" bash -c '
    cd /proc/sys/net
    echo 1 >ipv4/ip_forward
    echo 1 >ipv6/conf/all/forwarding
    echo 1 >netfilter/nf_conntrack_acct
    echo 1 >netfilter/nf_conntrack_timestamp'

say "Rules of the router: source NAT, destination NAT, the FTP helper, a mark"
at "$router" nft -f - <<'RULES'
table inet demo {
    ct helper look-at-ftp { type "ftp" protocol tcp; }
    chain forward {
        type filter hook forward priority filter;
        ct state new tcp dport 21 ct helper set "look-at-ftp"
        udp dport 53 ct mark set 7
    }
}
table ip demo-nat {
    chain door {
        type nat hook prerouting priority dstnat;
        ip daddr 10.1.0.1 tcp dport 8080 dnat to 198.51.100.2:80
    }
    chain outside {
        type nat hook postrouting priority srcnat;
        oifname "outside" ip saddr 10.1.0.0/24 snat to 198.51.100.1
    }
}
RULES

say "Servers: HTTP-like on TCP 80, echo on UDP 53, FTP control on TCP 21"
# `exec` avoids an enclosing shell, which would report that its program was killed when the demo ends.
behind() { # namespace, program, arguments
    (exec ip netns exec "$@") &
    disown
}
serve() { # address of socat, what it does
    behind "$server" socat "$1" "$2"
}
# Reply 227 (RFC 959, section 4.2) announces a data port, 195 * 256 + 80: the helper reads it and expects a connection.
ftp_replies() {
    printf '220 ready\r\n'
    sleep 0.3 # the helper looks at the beginning of a packet only
    printf '227 Entering Passive Mode (198,51,100,2,195,80)\r\n'
    exec sleep 60
}
export -f ftp_replies
serve TCP6-LISTEN:80,fork,reuseaddr,ipv6only=0 SYSTEM:'head -c 4000000 /dev/zero; exec sleep 60'
serve TCP6-LISTEN:81,fork,reuseaddr,ipv6only=0 EXEC:cat
serve UDP6-RECVFROM:53,fork,ipv6only=0 EXEC:cat
serve TCP4-LISTEN:21,fork,reuseaddr EXEC:'bash -c ftp_replies'

for port in 80 81 53 21; do
    for attempt in {1..50}; do
        [ -z "$(at "$server" ss -Hlntu "sport = :$port")" ] || break
        [ "$attempt" -lt 50 ] || die "the server on port $port did not come up"
        sleep 0.1
    done
done

say "Traffic"
echo "ICMP and ICMPv6: ping"
at "$client" ping -q -c 2 -i 0.2 198.51.100.2 >/dev/null || die "no answer to ping"
at "$client" ping -q -c 2 -i 0.2 2001:db8:2::2 >/dev/null || die "no answer to ping over IPv6"
fetch() { # address port; the connection stays open
    rm -f "$scratch/bytes"
    # shellcheck disable=SC2016 # the inner shell's
    behind "$client" bash -c 'exec 3<>"/dev/tcp/$1/$2"; head -c 4000000 <&3 | wc -c >"$3.new"; mv "$3.new" "$3"; exec sleep 60 3<&3' \
        fetch "$1" "$2" "$scratch/bytes"
    for attempt in {1..200}; do
        [ ! -f "$scratch/bytes" ] || break
        [ "$attempt" -lt 200 ] || die "$1 port $2 was too slow"
        sleep 0.1
    done
    [ "$(<"$scratch/bytes")" = 4000000 ] || die "$1 port $2 sent $(<"$scratch/bytes") bytes instead of 4000000"
}
echo "TCP: 4 MB through the destination NAT, 4 MB over IPv6"
fetch 10.1.0.1 8080
fetch 2001:db8:2::2 80
echo "TCP: a connection that stays open, and one to a port that is closed"
behind "$client" bash -c 'exec 3<>/dev/tcp/198.51.100.2/81; echo hello >&3; read -r _ <&3; exec sleep 60 3<&3'
at "$client" bash -c 'exec 3<>/dev/tcp/198.51.100.2/82' 2>/dev/null && die "port 82 is open"
echo "UDP: three questions with answers, one without"
for question in one two three; do
    answer=$(printf '%s' "$question" | at "$client" timeout 5 socat -T 0.3 - UDP:198.51.100.2:53)
    [ "$answer" = "$question" ] || die "UDP port 53 answered '$answer'"
done
at "$client" bash -c 'echo lost >/dev/udp/2001:db8:2::2/9' || true
echo "FTP: a control connection, whose helper expects a data connection"
behind "$client" bash -c 'exec 3<>/dev/tcp/198.51.100.2/21; read -r _ <&3; read -r _ <&3; exec sleep 60 3<&3'
sleep 1

flowgate() {
    show "flowgate $*"
    at "$router" "$FLOWGATE" "$@"
}

say "The table, as conntrack -L lists it"
flowgate -L
table=$(at "$router" "$FLOWGATE" -L 2>/dev/null)
# Checks that the demo shows what it should.
expect() { # what, pattern
    grep -Eq -- "$2" <<<"$table" || die "the table shows no $1"
}
expect "TCP connection" '^tcp .*ESTABLISHED'
expect "UDP" '^udp .*mark=7'
expect "ICMP" '^icmp '
expect "ICMPv6" '^icmpv6 '
expect "IPv6 connection" '^tcp .*src=2001:db8:1::2'
expect "destination NAT" 'dst=10\.1\.0\.1 .* src=198\.51\.100\.2 .*sport=80 '
expect "source NAT" 'dst=198\.51\.100\.1 '
expect "helper" 'helper=ftp'

say "What the FTP helper expects"
flowgate -L expect
[ -n "$(at "$router" "$FLOWGATE" -L expect 2>/dev/null)" ] || die "the helper expects nothing"

say "Through the example plugin ${PLUGIN%%,*}"
flowgate -L --plugin "$PLUGIN"
[ -n "$(at "$router" "$FLOWGATE" -L --plugin "$PLUGIN" 2>/dev/null)" ] || die "the plugin let nothing through, although 4 MB went to public addresses"

say "As JSON"
flowgate -L -o json

say "Done; the namespaces go away now"
