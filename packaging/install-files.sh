#!/usr/bin/env bash
# Installs what a Python package cannot: mount helpers, systemd unit, manual pages and completions.
#
#   sudo packaging/install-files.sh [OSSMOUNT]    the command to install for; default: the one on PATH
#   DESTDIR=/tmp/root packaging/install-files.sh  into a directory tree of its own
#
# Run it again after an upgrade. What may live here: places of a Debian-like system; docs/install.md says
# how to take everything away again.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${DESTDIR:-}
command=${1:-$(command -v ossmount || true)}
if [ -z "$command" ]; then
    echo "install-files: no ossmount on PATH; install it first, or name it" >&2
    exit 1
fi
command=$(realpath -s "$command")
# The interpreter of the environment that the command belongs to has the package.
python=$(dirname "$(realpath "$command")")/python
if ! "$python" -c 'import ossmount' 2>/dev/null; then
    echo "install-files: $command is not in a virtual environment of ossmount" >&2
    exit 1
fi

put() { # MODE TARGET: standard input to a file
    mkdir -p "$root$(dirname "$2")"
    install -m "$1" /dev/stdin "$root$2"
    echo "$root$2"
}

# mount(8) looks for its helpers in /sbin only, whatever PATH is.
for name in mount.ossmount mount.fuse.ossmount; do
    mkdir -p "$root/sbin"
    ln -sfn "$(dirname "$command")/mount.ossmount" "$root/sbin/$name"
    echo "$root/sbin/$name"
done
sed "s|/usr/bin/ossmount|$command|g" "$source/systemd/ossmount@.service" |
    put 0644 /etc/systemd/system/ossmount@.service
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
"$python" -m ossmount.cli.manual "$pages"
put 0644 /usr/local/share/man/man1/ossmount.1 <"$pages/man1/ossmount.1"
put 0644 /usr/local/share/man/man8/mount.ossmount.8 <"$pages/man8/mount.ossmount.8"
"$command" completion bash | put 0644 /usr/local/share/bash-completion/completions/ossmount
"$command" completion zsh | put 0644 /usr/local/share/zsh/site-functions/_ossmount
"$command" completion fish | put 0644 /usr/share/fish/vendor_completions.d/ossmount.fish
