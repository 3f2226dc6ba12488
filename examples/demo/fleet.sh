#!/bin/bash
# Six hosts as one: agents in private network namespaces with traffic, which are asked, and do what is planned and signed.
#
# FLOWGATE     the binary            (required)
# NATS_SERVER  the NATS server       (required)
# PLUGIN       the example plugin    (required)
#
# `make demo-fleet` builds and installs them and runs this. Needs root; changes nothing outside the namespaces, which it
# removes, also after Ctrl-C.
set -euo pipefail

die() { printf 'demo: %s\n' "$*" >&2; exit 1; }
say() { printf '\n== %s\n' "$*"; }

[ "$(id -u)" = 0 ] || die "must be root, to create network namespaces"
[ -x "${FLOWGATE:-}" ] || die "FLOWGATE does not name the binary; run \`make demo-fleet\`, which builds it"
[ -x "${NATS_SERVER:-}" ] || die "NATS_SERVER does not name the server; run \`make demo-fleet\`, which installs it"
[ -f "${PLUGIN:-}" ] || die "PLUGIN does not name the example plugin; run \`make demo-fleet\`, which builds it"
for program in ip nft socat ss; do
    command -v "$program" >/dev/null || die "$program is not installed; run \`make setup\`"
done

# The operators and the server are in the namespace hub, 10.97.0.1; the hosts are 10.97.0.11 and so on.
name=flowgate-fleet-demo-$$
scratch=$(mktemp -d)
fleet=$scratch/fleet
hub=$name-hub
hosts=(web-1 web-2 web-3 db-1 db-2 dns-1)
export FLOWGATE_FLEET=$fleet/operators/alice/operator.toml

cleanup() {
    local status=$? host pids
    trap '' INT TERM
    for host in "${hosts[@]}" hub; do
        # All of them are processes that this script started.
        pids=$(ip netns pids "$name-$host" 2>/dev/null || true)
        # shellcheck disable=SC2086 # several numbers
        [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
        ip netns delete "$name-$host" 2>/dev/null || true
    done
    rm -rf "$scratch"
    [ "$status" = 0 ] || printf 'demo: ended with status %s; everything is removed\n' "$status" >&2
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a program in a namespace, in the background. `exec` avoids an enclosing shell, which would report its end.
behind() { # namespace, file for what it says, program, arguments
    local namespace=$1 log=$2
    shift 2
    (exec ip netns exec "$namespace" "$@" >"$log" 2>&1) &
    disown
}
# Waits until a command succeeds.
await() { # what, command
    local what=$1 attempt
    shift
    for attempt in {1..300}; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    die "not within 30 s: $what"
}
# Shows a command of an operator, and runs it. Sets `status`.
status=0
ask() {
    local word shown=
    for word; do
        case $word in *[!A-Za-z0-9_./=,:-]*) shown+=" '$word'" ;; *) shown+=" ${word//$scratch\//}" ;; esac
    done
    printf '\n$ flowgate%s\n' "$shown"
    status=0
    ip netns exec "$hub" "$FLOWGATE" "$@" 2>&1 | sed "s|$scratch/||g" || status=$?
}
must() { # the exit status that is right, a command
    local right=$1
    shift
    ask "$@"
    [ "$status" = "$right" ] || die "flowgate $1 $2 ended with status $status instead of $right"
}
quietly() { ip netns exec "$hub" "$FLOWGATE" "$@" 2>/dev/null; }

say "Seven namespaces: one for the server and the operators, six hosts, and a network between them"
ip netns add "$hub"
ip -n "$hub" link set lo up
ip -n "$hub" link add br0 type bridge
ip -n "$hub" address add 10.97.0.1/24 dev br0
ip -n "$hub" link set br0 up
number=10
for host in "${hosts[@]}"; do
    number=$((number + 1))
    ip netns add "$name-$host"
    ip -n "$hub" link add "v$number" type veth peer name eth0 netns "$name-$host"
    ip -n "$hub" link set "v$number" master br0 up
    ip -n "$name-$host" link set lo up
    ip -n "$name-$host" address add "10.97.0.$number/24" dev eth0
    ip -n "$name-$host" link set eth0 up
    # A kernel tracks connections once a rule asks for their state; in a separate shell, because /proc/sys shows the
    # namespace of the process that opens it.
    ip netns exec "$name-$host" nft 'add table inet demo; add chain inet demo in { type filter hook input priority 0; }; add rule inet demo in ct state established accept'
    ip netns exec "$name-$host" bash -c 'echo 1 >/proc/sys/net/netfilter/nf_conntrack_acct'
done
echo "web-1 10.97.0.11, web-2 10.97.0.12, web-3 10.97.0.13, db-1 10.97.0.14, db-2 10.97.0.15, dns-1 10.97.0.16"

say "A fleet: the keys of two operators, both of whom sign what is to be done; a certificate; the server's configuration"
must 0 fleet init "$fleet" --server 10.97.0.1 --store "$scratch/store" --operator alice --operator bob --need 2
enrol() { # label, names
    local label=$1
    shift
    for host; do
        must 0 fleet enrol "$fleet" "$host" --label "$label" --state "$scratch/state/$host"
    done
}
enrol role=web web-1 web-2 web-3
enrol role=db db-1 db-2
enrol role=dns dns-1
mkdir "$scratch/state"
# What is rolled out is on trial for a minute; here, for ten seconds.
for host in "${hosts[@]}"; do
    sed -i 's/^trial = .*/trial = 10/' "$fleet/agents/$host/agent.toml"
done
behind "$hub" "$scratch/server.log" "$NATS_SERVER" -c "$fleet/server/nats-server.conf"
await "the server listens" ip netns exec "$hub" bash -c 'exec 3<>/dev/tcp/10.97.0.1/4222'
quietly fleet doctor >/dev/null || true # whoever comes first makes the registry
# Each has a folder /run of its own, as hosts have, for the socket of the service that is rolled out.
agent() {
    # shellcheck disable=SC2016 # the inner shell's
    behind "$name-$1" "$scratch/$1.log" unshare -m bash -c 'mount -t tmpfs tmpfs /run && mkdir /run/flowgate && exec "$@"' \
        agent "$FLOWGATE" fleet agent "$fleet/agents/$1/agent.toml"
}
for host in "${hosts[@]}"; do
    agent "$host"
done
all_answer() { [ "$(quietly fleet ls -o json | grep -c '"state":"answered"')" = "${#hosts[@]}" ]; }
await "all agents answer" all_answer

say "Traffic: every web server has connections to both databases, and asks dns-1 for names"
# The shells run in the namespaces, with the programs of the demo.
behind "$name-db-1" /dev/null socat TCP4-LISTEN:5432,fork,reuseaddr EXEC:cat
behind "$name-db-2" /dev/null socat TCP4-LISTEN:5432,fork,reuseaddr EXEC:cat
behind "$name-dns-1" /dev/null socat UDP4-RECVFROM:53,fork EXEC:cat
listens() { [ -n "$(ip netns exec "$name-$1" ss -Hlntu "sport = :$2")" ]; }
for place in "db-1 5432" "db-2 5432" "dns-1 53"; do
    # shellcheck disable=SC2086 # a host and a port
    await "the service at $place" listens $place
done
for host in web-1 web-2 web-3; do
    for database in 10.97.0.14 10.97.0.15; do
        # shellcheck disable=SC2016 # the inner shell's
        behind "$name-$host" /dev/null bash -c 'exec 3<>"/dev/tcp/$1/5432"; echo select >&3; read -r _ <&3; exec sleep 600 3<&3' client "$database"
    done
    for question in 1 2 3 4 5; do
        answer=$(echo "$question" | ip netns exec "$name-$host" timeout 10 socat -T 0.3 - UDP:10.97.0.16:53)
        [ "$answer" = "$question" ] || die "dns-1 answered '$answer'"
    done
done
connected() { [ "$(quietly fleet list --on role=web -- -p tcp --dport 5432 --state ESTABLISHED | wc -l)" = 6 ]; }
await "the connections to the databases" connected

say "Is everything in order?"
must 0 fleet doctor
say "Who is there?"
must 0 fleet ls
say "One question to all of them: who talks to the databases? Each host's kernel selects by itself"
must 0 fleet list --on role=web -- -p tcp --dport 5432
say "The same in the query language, counted"
must 0 fleet count -- --where 'dport == 53 and proto == udp'

say "Which ports carry most, over all hosts? Each host groups its flows, and the groups are merged"
must 0 fleet list -- --by proto,dport --count --sum bytes --sort bytes --top 3

say "A host dies. It is not forgotten: it is named, and the exit status is not 0"
pids=$(ip netns pids "$name-web-3")
for pid in $pids; do
    [ "$(readlink -f "/proc/$pid/exe")" != "$(readlink -f "$FLOWGATE")" ] || kill -KILL "$pid"
done
must 1 fleet count -- -p tcp --dport 5432
echo "(the exit status is $status)"
must 0 fleet count --allow-missing 1 -- -p tcp --dport 5432
say "It comes back by itself"
agent web-3
await "web-3 answers again" all_answer
must 0 fleet ls --agent web-3

say "What would be deleted? A plan: every agent counts, and nothing is done"
must 0 fleet delete --dry-run --plan "$scratch/dns.json" -- -p udp --dport 53
say "One signature is not enough: the agents refuse"
must 0 fleet sign "$scratch/dns.json"
must 1 fleet apply "$scratch/dns.json"
say "bob signs too, and it is done"
must 0 fleet sign "$scratch/dns.json" --operator "$fleet/operators/bob/operator.toml"
must 0 fleet apply "$scratch/dns.json"
must 0 fleet count -- -p udp --dport 53
[ "$(quietly fleet count -- -p udp --dport 53 | tail -n 1 | tr -s ' ')" = "total 0" ] || die "not all of these flows are gone"
say "Each plan is done once"
must 1 fleet apply "$scratch/dns.json"
say "All of it is on record at each host, and a line that is changed or missing would show"
must 0 audit verify "$scratch/state/dns-1/audit.jsonl"

say "A policy for all of them: a tenant whose plugin shows heavy TCP connections. Both sign the release"
policy() { # folder, limits of the plugin
    mkdir -p "$scratch/$1/plugins"
    cp "$PLUGIN" "$scratch/$1/plugins/heavy_tcp.wasm"
    cat >"$scratch/$1/policy.toml" <<POLICY
[service]
socket = "/run/flowgate/policy.sock"
[audit]
path = "/run/flowgate/policy.jsonl"
[[tenant]]
name = "team-db"
[[tenant.scope]]
ports = [5432]
[[tenant.plugin]]
file = "plugins/heavy_tcp.wasm"
sha256 = "$(sha256sum "$PLUGIN" | cut -d ' ' -f 1)"
limits = { $2 }
[[tenant.sink]]
kind = "file"
path = "/run/flowgate/team-db.log"
POLICY
}
sign_release() {
    must 0 fleet sign "$1"
    quietly fleet sign "$1" --operator "$fleet/operators/bob/operator.toml" >/dev/null || die "bob cannot sign"
}
policy good 'memory = "64MiB"'
must 0 fleet rollout start "$scratch/good" --release "$scratch/good.json"
sign_release "$scratch/good.json"
echo
echo "In two stages: a third of the hosts, then all of them"
must 0 fleet rollout start --signed "$scratch/good.json" --stages 34,100 --bake 2s --within 60s
must 0 fleet ls

say "Another one, with a mistake: its plugin gets too little memory to start. The first stage shows it, and goes back"
policy bad 'memory = "64KiB"'
must 0 fleet rollout start "$scratch/bad" --release "$scratch/bad.json"
sign_release "$scratch/bad.json"
must 1 fleet rollout start --signed "$scratch/bad.json" --stages 34,100 --bake 2s --within 60s
say "Nobody runs it: the hosts that tried it say so, and the others never saw it"
must 0 fleet ls

say "Done; the namespaces, the server and the agents go away now"
