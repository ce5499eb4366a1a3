#!/bin/sh
# What takes too long for every change: `tox run -e slow`. Each step that ends well is noted under build/slow, by commit, and
# is left out when the command is given again: an interrupted night goes on where it was. `sh ci/slow.sh STEP...` runs these.
set -eu
cd "$(dirname "$0")/.."

commit=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || commit=$commit-changed
out=build/slow/$commit
mkdir -p "$out"

steps="model stories openapi copy coverage enumerate prove mutants recall languages explain cluster"
if [ "$#" -eq 0 ]; then
    # shellcheck disable=SC2086  # they are words
    set -- $steps
fi
for step; do
    if [ -e "$out/$step.done" ]; then
        echo "slow: $step ended well before"
        continue
    fi
    echo "slow: $step"
    case $step in
        model) PYTHONPATH=.:tests python -m support.model.search --nightly ;;
        stories) HYPOTHESIS_PROFILE=nightly python -m pytest -q -n 2 --dist loadfile tests/model tests/schedule tests/queue ;;
        openapi) HYPOTHESIS_PROFILE=nightly python -m pytest -q tests/http/test_producer_openapi.py ;;
        copy) ZEROLOSS_WHOLE_COPY=1 python -m pytest -q tests/packaging/test_vendoring.py ;;
        coverage) python -m pytest -q -n 4 --dist loadfile --cov=zeroloss.reference --cov-report=term --cov-fail-under=95 ;;
        enumerate)
            how="--out $out/enumerate"
            [ ! -e "$out/enumerate/cases.jsonl" ] || how="--resume $out/enumerate"
            # shellcheck disable=SC2086
            zeroloss enumerate --target reference $how
            rm -rf "$out/enumerate-shards"
            zeroloss enumerate --target zeroloss.targets.reference_scenario:ShardsScenario --out "$out/enumerate-shards"
            ;;
        prove) rm -rf "$out/prove" && zeroloss prove --out "$out/prove" ;;
        mutants)
            how="--out $out/mutants"
            [ ! -e "$out/mutants/trials.jsonl" ] || how="--resume $out/mutants"
            # shellcheck disable=SC2086
            zeroloss mutants $how
            ;;
        recall)
            how="--out $out/recall"
            [ ! -e "$out/recall/steps.jsonl" ] || how="--resume $out/recall"
            # shellcheck disable=SC2086
            zeroloss mutants --recall "run,prove --quick,prove" $how
            ;;
        languages) ZEROLOSS_LANGUAGE_KILLS=12 python -m pytest -q -n 2 --dist loadfile --timeout 300 tests/harness/languages ;;
        explain) PYTHONPATH=.:tests python -m support.explaining ;;
        cluster)
            rm -rf "$out/cluster"
            for fault in cluster-reshard cluster-primary-sigkill cluster-partition worker-sigkill:count=3; do
                zeroloss run --redis cluster --target zeroloss.targets.reference_shards:ReferenceShards \
                    --durability replicas:1 --tasks 200 --workers 2 --faults "$fault" --out "$out/cluster/${fault%:*}"
            done
            zeroloss run --redis sentinel-url --durability replicas:1 --tasks 250 --workers 1 \
                --faults primary-cut-off --out "$out/cluster/primary-cut-off"
            ;;
        *) echo "slow: there is no step $step; there are: $steps." >&2 && exit 2 ;;
    esac
    touch "$out/$step.done"
done
