#!/bin/sh
# Find a Python that can run Flotilla and hand over to setup.py. Everything else is decided there.
set -u
cd "$(dirname "$0")/.." || exit 1

# What an earlier set-up made is the first choice: its stamp is checked in a blink.
if [ -x .venv/bin/python ] && .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    exec .venv/bin/python -I scripts/setup.py "$@"
fi

# What root sets up, others may want to run: a Python that only root can reach (below /root, say) is second choice then.
reachable='import os, sys
path = os.path.realpath(sys.executable)
while path != "/":
    path = os.path.dirname(path)
    if not os.stat(path).st_mode & 1: sys.exit(1)'

found='' incomplete='' private=''
for name in python3 python3.14 python3.13 python3.12 python3.11; do
    for python in "$(command -v "$name" 2>/dev/null)" "/usr/bin/$name" "/usr/local/bin/$name"; do
        [ -n "$python" ] && [ -x "$python" ] || continue
        version=$("$python" -I -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
        if ! "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            case "$found" in *"$python "*) ;; *) found="$found $python ($version)" ;; esac
        elif ! "$python" -I -c 'import venv; from ensurepip import bootstrap' 2>/dev/null; then
            [ -n "$incomplete" ] || incomplete=$python
        elif [ "$(id -u)" = 0 ] && ! "$python" -I -c "$reachable" 2>/dev/null; then
            [ -n "$private" ] || private=$python
        else
            exec "$python" -I scripts/setup.py "$@"
        fi
    done
done
[ -z "$private" ] || exec "$private" -I scripts/setup.py "$@"

# A Python without venv can still say so, with the command that installs it.
[ -z "$incomplete" ] || exec "$incomplete" -I scripts/setup.py "$@"

sudo=''
[ "$(id -u)" = 0 ] || sudo='sudo '
if command -v apt-get >/dev/null 2>&1; then
    install="${sudo}apt-get install python3 python3-venv"
elif command -v dnf >/dev/null 2>&1; then
    install="${sudo}dnf install python3.12"
elif command -v apk >/dev/null 2>&1; then
    install="${sudo}apk add python3"
elif command -v pacman >/dev/null 2>&1; then
    install="${sudo}pacman -S python"
elif command -v zypper >/dev/null 2>&1; then
    install="${sudo}zypper install python312"
elif command -v brew >/dev/null 2>&1; then
    install='brew install python@3.12'
else
    install='see https://www.python.org/downloads/'
fi
{
    echo "Flotilla needs Python 3.11 or newer; found:${found:- none}."
    echo "  Install it: $install"
} >&2
exit 1
