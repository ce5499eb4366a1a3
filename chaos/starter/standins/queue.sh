#!/bin/sh
# A stand-in for your worker, so that what `zeroloss init` wrote runs: put yours in its place. It needs redis-cli.
#
#     sh queue.sh            takes tasks by BRPOP, and loses what it holds when it is killed
#     sh queue.sh reliable   takes each under a lease, after which another worker takes it again
set -eu
. "${0%/*}/ledger.sh"

lease_ms=2000
pending=$ZEROLOSS_NAMESPACE:pending
held=$ZEROLOSS_NAMESPACE:held
claim='
local now = redis.call("TIME")
local ms = now[1] * 1000 + math.floor(now[2] / 1000)
local task = redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", ms, "LIMIT", 0, 1)[1] or redis.call("RPOP", KEYS[1])
if task then redis.call("ZADD", KEYS[2], ms + ARGV[1], task) end
return task'

redis() {
    redis-cli -u "$REDIS_URL" --raw "$@"
}

while :; do
    if [ "${1:-}" = reliable ]; then
        task=$(redis EVAL "$claim" 2 "$pending" "$held" "$lease_ms")
    else
        task=$(redis BRPOP "$pending" 1)
        task=${task#"$pending"?} # its first line is the list's name
    fi
    case $task in
        '{'*) ;;
        '')
            sleep 0.05
            continue
            ;;
        *) # what redis-cli says where the server is gone
            echo "$task" >&2
            exit 1
            ;;
    esac
    id=${task#*'"id":'}
    id=${id#*'"'} # there may be a space before it
    ms=${task#*'"work_ms":'}
    ms=${ms# }
    ms=${ms%%[!0-9]*}
    zeroloss_effect "${id%%'"'*}" "$task" sleep "$((ms / 1000)).$(printf %03d "$((ms % 1000))")"
    if [ "${1:-}" = reliable ]; then
        printf %s "$task" | redis -x ZREM "$held" >&2
    fi
done
