#!/bin/sh
# Holds a vendored copy of `reference/` to this repository's tests of the queue, and kills its workers, from outside:
#
#   sh ci/conformance.sh path/to/theirs/queue [TEST...]
#
# The copy imports itself by relative names only, so that under the name `zeroloss.reference` it is still the copy. TEST: a file or
# folder below tests/; else those of ci/queue-tests. Needs the libraries of the group `test`. Status 0: it conforms.
set -eu

copy=$(cd "${1:?usage: conformance.sh COPY [TEST...]}" && pwd)
shift
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp -R "$root/chaos" "$work/zeroloss"
cp -R "$copy" "$work/zeroloss/reference"
cp -R "$root/tests" "$root/pyproject.toml" "$work"
cd "$work"
PYTHONPATH=$work
export PYTHONPATH
# shellcheck disable=SC2046  # they are words
[ "$#" -gt 0 ] || set -- $(cat "$root/ci/queue-tests")
for name; do
    shift
    set -- "$@" "tests/$name"
done
python -m pytest -q -p no:cacheprovider -k "not container" "$@"
python -m zeroloss run --target reference --redis embedded --tasks 200 --kills 5 --faults worker-sigkill
