# The part of `debian.sh` that runs inside the root, as its process 1 and with a network namespace of its own. /packages
# contains the packages, and next/ in it the same with a higher version; the real conntrack is in apt's cache.
set -euo pipefail
. /packages/checks.sh

# There is no network, so packages are installed from /packages or from apt's cache.
install() { apt-get install -qy --no-install-recommends "$@"; }
installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true; }
version() { dpkg-query -W -f '${Version}' "$1"; }
# Lists all files except the records of dpkg and apt.
files() {
    find / \( -path /proc -o -path /sys -o -path /dev -o -path /packages -o -path /tmp -o -path /var/cache/apt \
        -o -path /var/lib/apt -o -path /var/log/apt -o -path /var/cache/ldconfig -o -path /var/cache/debconf \) \
        -prune -o -print |
        grep -v -x -e /var/log/dpkg.log -e '/var/lib/dpkg/[a-z]*\(-old\|-new\)\?' -e /var/log/alternatives.log |
        sort
}
# Prints the table without timeouts.
table_of() { "$1" -L "${@:2}" 2>/dev/null | sed 's/ [0-9]* \(src=\|[A-Z_]* src=\)/ \1/' | sort; }
table() { table_of conntrack "$@"; }
flow() { conntrack -I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport "$1" --dport 53 -t 6000; }

files >/tmp/before
old=$(dpkg-deb -f /packages/flowgate_*.deb Version)

echo "# beside the real conntrack"
check "the real conntrack is installed" install conntrack
real=$(version conntrack)
for port in 1 2 3 4 5; do check "a flow is made with it" flow $port; done
table >/tmp/table; table -o xml | sed 's/<timeout>[0-9]*//g' >/tmp/xml
check "flowgate alone is installed" install /packages/flowgate_*.deb
check "conntrack stays the real one" test "$(readlink -f /usr/sbin/conntrack)" = /usr/sbin/conntrack
check "flowgate -V" grep -q flowgate <(flowgate -V)
check "flowgate -L shows what conntrack shows" cmp /tmp/table <(table_of flowgate)

echo "# in its place"
check "flowgate-conntrack is installed" install /packages/flowgate-conntrack_*.deb
check "the real conntrack is gone" test "$(installed conntrack)" != installed
check "conntrack is flowgate" test "$(readlink -f /usr/sbin/conntrack)" = /usr/bin/flowgate
check "conntrack -V" grep -q '^conntrack v1\.4\.' <(conntrack -V)
check "conntrack -C" test "$(conntrack -C)" = 5
check "conntrack -L" cmp /tmp/table <(table)
check "conntrack -L -o xml" cmp /tmp/xml <(table -o xml | sed 's/<timeout>[0-9]*//g')
check "conntrack -I" flow 6
check "conntrack -D" conntrack -D -p udp --orig-port-src 6
check "conntrack -D deleted one" test "$(conntrack -C)" = 5
refuse "to delete what is not there" "0 flow entries" conntrack -D -p udp --orig-port-src 6
check "flowgate -L -o json" grep -q '"destination":"192.0.2.2"' <(flowgate -L -o json 2>/dev/null)
check "the manual page is compressed" gzip -t /usr/share/man/man1/flowgate.1.gz
check "so is that of conntrack, which is the same" cmp /usr/share/man/man8/conntrack.8.gz /usr/share/man/man1/flowgate.1.gz
check "completions of bash" bash -n /usr/share/bash-completion/completions/flowgate
check "completions of zsh" grep -q '^#compdef flowgate' /usr/share/zsh/vendor-completions/_flowgate
check "completions of fish" grep -q '^complete -c flowgate' /usr/share/fish/vendor_completions.d/flowgate.fish
for file in copyright changelog.gz changelog.Debian.gz README.md OPERATIONS.md examples/policy/policy.toml; do
    check "there is $file" test -s "/usr/share/doc/flowgate/$file"
done
for unit in flowgate-policy.service flowgate-pipeline@.service flowgate-fleet-agent.service; do
    check "$unit starts /usr/bin/flowgate" grep -q '^ExecStart=/usr/bin/flowgate \(run\|fleet agent\) ' "/usr/lib/systemd/system/$unit"
done
check "what needs conntrack can be installed" install /packages/needs-conntrack_*.deb
check "and be removed" apt-get purge -qy needs-conntrack
check "dpkg finds no file changed" test -z "$(dpkg --verify flowgate flowgate-conntrack)"

echo "# upgrade"
mkdir -p /etc/flowgate/pipelines /var/log/flowgate /var/lib/flowgate /var/cache/flowgate
echo mine >/etc/flowgate/pipelines/mine.toml
check "to the next version" install /packages/next/*.deb
check "flowgate is of it" test "$(version flowgate)" = "$old+next"
check "flowgate-conntrack too" test "$(version flowgate-conntrack)" = "$old+next"
check "conntrack -C" test "$(conntrack -C)" = 5
check "what the administrator wrote is there" grep -q mine /etc/flowgate/pipelines/mine.toml
refuse "flowgate alone cannot go back" "conntrack" install --no-remove --allow-downgrades /packages/flowgate_*.deb
check "both together can" install --allow-downgrades /packages/flowgate_*.deb /packages/flowgate-conntrack_*.deb

echo "# back to the real conntrack"
check "conntrack is installed again" install conntrack
check "flowgate-conntrack is gone" test "$(installed flowgate-conntrack)" != installed
check "conntrack is the real one" test "$(readlink -f /usr/sbin/conntrack) $(version conntrack)" = "/usr/sbin/conntrack $real"
check "flowgate is still there" test "$(installed flowgate)" = installed
check "and flowgate-conntrack replaces it once more" install /packages/flowgate-conntrack_*.deb
check "conntrack -C" test "$(conntrack -C)" = 5

echo "# remove and purge"
check "remove flowgate-conntrack" apt-get remove -qy flowgate-conntrack
check "there is no conntrack" test ! -e /usr/sbin/conntrack
check "remove flowgate" apt-get remove -qy flowgate
check "there is no flowgate" test ! -e /usr/bin/flowgate
touch /var/log/flowgate/log /var/lib/flowgate/state /var/cache/flowgate/compiled
ln -s /usr/lib/systemd/system/flowgate-policy.service /etc/systemd/system/multi-user.target.wants/
check "purge" dpkg --purge flowgate flowgate-conntrack
check "what the administrator wrote is still there" grep -q mine /etc/flowgate/pipelines/mine.toml
rm -r /etc/flowgate
check "purge of the real conntrack" apt-get purge -qy --autoremove conntrack
check "nothing is left behind" diff /tmp/before <(files)

report
