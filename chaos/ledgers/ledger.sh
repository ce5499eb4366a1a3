# zeroloss's ledger for POSIX shells: what a task body calls, so that the harness knows what was executed.
#
#     . ./ledger.sh
#     zeroloss_effect "$id" "$payload" command words...
#
# runs the command, and returns its status; not 0 is recorded as an error. `payload` is the JSON text that arrived, which
# is compared byte for byte; an id has no quotes or backslashes. Without ZEROLOSS_LEDGER in the environment it only runs
# the command. One file a process, one write an event; a subshell is a process. What a line means: docs/ledger.md of
# zeroloss. Needs Linux and sha256sum; copy it freely.

zeroloss_effect() {
    zeroloss_task=$1 zeroloss_payload=$2
    shift 2
    if [ -z "${ZEROLOSS_LEDGER:-}" ]; then
        "$@"
        return
    fi
    zeroloss_digest=$(printf %s "$zeroloss_payload" | sha256sum) || return
    # As the kernel tells it, since $$ is the same in a subshell; and a number that no other execution has.
    read -r zeroloss_pid zeroloss_rest </proc/self/stat
    read -r zeroloss_execution </proc/sys/kernel/random/uuid
    zeroloss_write begin ",\"digest\":\"${zeroloss_digest%% *}\"" || return
    # The command may call zeroloss_effect itself.
    set -- "$zeroloss_task" "$zeroloss_execution" "$@"
    zeroloss_status=0
    zeroloss_run "$@" || zeroloss_status=$?
    zeroloss_task=$1 zeroloss_execution=$2
    if [ "$zeroloss_status" -eq 0 ]; then
        zeroloss_write end ""
    else
        zeroloss_write error ",\"error\":\"exit status $zeroloss_status\"" || return
        return "$zeroloss_status"
    fi
}

zeroloss_run() {
    shift 2
    "$@"
}

zeroloss_write() {
    zeroloss_now
    printf '{"t":%s,"pid":%s,"kind":"effect","phase":"%s","task":"%s","execution":"%s"%s}\n' \
        "$zeroloss_t" "$zeroloss_pid" "$1" "$zeroloss_task" "$zeroloss_execution" "$2" \
        >>"$ZEROLOSS_LEDGER/worker-$zeroloss_pid.jsonl"
}

# A shell has no clock but /proc/uptime, in hundredths of a second, which goes on while the machine is suspended: for how
# long that was, the harness says.
zeroloss_now() {
    read -r zeroloss_t zeroloss_rest </proc/uptime
    zeroloss_t=${zeroloss_t%.*}${zeroloss_t#*.}0000000
    zeroloss_t=$((zeroloss_t - ${ZEROLOSS_SUSPENDED_NS:-0}))
}
