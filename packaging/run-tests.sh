#!/usr/bin/env bash
# Runs pytest with its own temporary directory and a limit on the whole run, and afterwards unmounts
# whatever was left mounted below that directory.
#
#   packaging/run-tests.sh [pytest arguments]
#   TEST_LIMIT=2700                   seconds for the whole run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Short, because the names of unix sockets below it end at 107 bytes.
scratch=$(mktemp -d /tmp/osm.XXXXXX)
# Tests of unprivileged processes keep their files below it: those may pass through, not look around.
chmod 711 "$scratch"

mounts_below() {
    # Field 5 of mountinfo is the mountpoint, with blanks as octal escapes. Deepest first.
    awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

clean() {
    local escaped point
    mounts_below "$scratch" | while read -r escaped; do
        point=$(printf '%b' "$escaped")
        printf 'tests: %s was left mounted, unmounting\n' "$point" >&2
        fusermount3 -uz "$point" 2>/dev/null || umount -l "$point" || true
    done
    # --one-file-system: never into something that is still mounted.
    rm -rf --one-file-system "$scratch" 2>/dev/null || true
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

export TMPDIR=$scratch XDG_CACHE_HOME=$scratch/cache
status=0
# All of them: what needs no mount runs beside the mounts (tests/support/lanes.py). Some: in this process.
[ $# -gt 0 ] || set -- --numprocesses 2 --dist loadscope
timeout --kill-after=30 "${TEST_LIMIT:-2700}" .venv/bin/python -m pytest -q -ra "$@" </dev/null || status=$?
case $status in
    5) echo "tests: nothing to run" ; exit 0 ;;
    124 | 137) echo "tests: ended after ${TEST_LIMIT:-2700} s" >&2 ;;
esac
exit "$status"
