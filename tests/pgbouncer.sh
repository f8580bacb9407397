#!/bin/sh -eu
# Prints the path of a PgBouncer for the tests: the one on PATH, else Debian's package, unpacked into .pgbouncer without root.
# Without apt, or on another system: one sentence and exit 1.
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin
if command -v pgbouncer; then
    exit 0
fi
home=$PWD/.pgbouncer
binary=$home/root/usr/sbin/pgbouncer
if [ -x "$binary" ]; then
    echo "$binary"
    exit 0
fi
fail() {
    echo "no pgbouncer: $1; install it (Debian: apt-get install pgbouncer), so that it is on PATH" >&2
    exit 1
}
for tool in apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || fail "there is no $tool here"
done

work=$home/$$ # a run of its own: another one may be at it
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/new"
said=$work/said
lists= # the machine's own, or fresh ones when it has none
packages() { # with the two libraries that few machines have; their names differ between releases
    echo pgbouncer
    apt-cache $lists depends pgbouncer 2>/dev/null | sed -n 's/^ *Depends: \(lib[^ ]*\(event\|ares\)[^ ]*\)$/\1/p'
}
fetch() {
    (cd "$work/debs" && apt-get $lists -o APT::Sandbox::User=root -qq download $(packages)) >"$said" 2>&1 </dev/null
}
if ! fetch; then
    lists="-o Dir::State::lists=$work/lists -o Dir::Cache=$work/cache -o APT::Sandbox::User=root"
    apt-get $lists -qq update >"$said" 2>&1 </dev/null || fail "apt-get update failed: $(tail -n 1 "$said")"
    fetch || fail "apt-get download failed: $(tail -n 1 "$said")"
fi
for deb in "$work"/debs/*.deb; do
    dpkg-deb -x "$deb" "$work/new"
done
chmod -R a+rX "$work/new"
mv "$work/new" "$home/root" 2>/dev/null || [ -x "$binary" ] # complete, or not at all
echo "$binary"
