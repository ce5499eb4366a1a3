#!/bin/sh
# Gives this machine a Docker engine and a Redis image, from Debian's packages alone: no image registry is asked.
#
#   sh ci/engine.sh
#
# 1. Where no engine answers: installs docker.io, and starts it (by systemd, or dockerd itself, its log in a file).
# 2. Where the image is missing: packs Debian's redis-server, redis-cli, dash and the libraries that `ldd` lists.
# Running it again is quick and changes nothing. An image of that name from elsewhere is kept.
#
#   ZEROLOSS_REDIS_IMAGE   name of the image (redis:7)
#   ZEROLOSS_IMAGE_FORCE   1: build the image even though there is one of that name
#   ZEROLOSS_ENGINE_LOG    where dockerd logs (/var/log/zeroloss-dockerd.log)
set -eu

image=${ZEROLOSS_REDIS_IMAGE:-redis:7}
force=${ZEROLOSS_IMAGE_FORCE:-}
engine_log=${ZEROLOSS_ENGINE_LOG:-/var/log/zeroloss-dockerd.log}
engine_start_s=60

say() { echo "engine: $*"; }
fail() { echo "engine: $*" >&2; exit 1; }

engine_answers() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

# install PACKAGE...: the package lists are fetched only when a package is not known yet.
install() {
    command -v apt-get >/dev/null || fail "needs Debian's apt-get to install $*; install a Docker engine by hand."
    [ "$(id -u)" -eq 0 ] || fail "needs root to install $*."
    apt-cache show "$@" >/dev/null 2>&1 || apt-get update -qq
    say "installing $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        systemctl start docker
    else
        # Of its own session, so that no signal to this script's terminal reaches it.
        setsid dockerd >"$engine_log" 2>&1 </dev/null &
        dockerd_pid=$!
    fi
    waited_s=0
    until engine_answers; do
        if [ -n "${dockerd_pid:-}" ] && ! kill -0 "$dockerd_pid" 2>/dev/null; then
            tail -n 20 "$engine_log" >&2
            fail "dockerd ended at once; the end of its log is above."
        fi
        if [ "$waited_s" -ge "$engine_start_s" ]; then
            [ ! -f "$engine_log" ] || tail -n 20 "$engine_log" >&2
            fail "the engine did not answer within $engine_start_s s."
        fi
        sleep 1
        waited_s=$((waited_s + 1))
    done
}

ensure_engine() {
    if engine_answers; then
        say "Docker $(docker version --format '{{.Server.Version}}') answers"
        return
    fi
    command -v dockerd >/dev/null && command -v iptables >/dev/null || install docker.io iptables
    # Debian 13 and later ship the client apart.
    command -v docker >/dev/null || install docker-cli
    start_engine
    say "started Docker $(docker version --format '{{.Server.Version}}')"
}

# add FILE AS: copies a program with every library it loads, and the loader, into $root.
add() {
    mkdir -p "$root$(dirname "$2")"
    cp -L "$1" "$root$2"
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}

build_image() {
    # redis-tools holds the binary of redis-server too (one file, many names), and starts no service.
    command -v redis-cli >/dev/null && [ -x /usr/bin/redis-check-rdb ] || install redis-tools
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    add /usr/bin/redis-check-rdb /usr/local/bin/redis-server
    add /usr/bin/redis-cli /usr/local/bin/redis-cli
    add /bin/dash /bin/sh
    mkdir -p "$root/data" "$root/tmp" "$root/etc"
    chmod 1777 "$root/tmp" "$root/data"
    echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
    # As the official image does: options alone mean redis-server, and no protected mode, since a container's port is
    # reachable only where it was published.
    cat >"$root/usr/local/bin/docker-entrypoint.sh" <<'ENTRYPOINT'
#!/bin/sh
set -eu
case "${1:-}" in ''|-*|*.conf) set -- redis-server "$@" ;; esac
[ "$1" = redis-server ] || exec "$@"
shift
case "${1:-}" in ''|-*) exec redis-server --protected-mode no "$@" ;; esac
config=$1
shift
exec redis-server "$config" --protected-mode no "$@"
ENTRYPOINT
    chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"
    tar -C "$root" --owner=0 --group=0 -c . | docker import \
        --change 'ENV PATH=/usr/local/bin:/bin' \
        --change 'WORKDIR /data' \
        --change 'VOLUME /data' \
        --change 'EXPOSE 6379' \
        --change 'ENTRYPOINT ["docker-entrypoint.sh"]' \
        --change 'CMD ["redis-server"]' \
        --change "LABEL zeroloss.recipe=$recipe" \
        - "$image" >/dev/null
    say "built $image: $("$root/usr/local/bin/redis-server" --version | cut -d' ' -f1-3), from Debian's packages"
}

ensure_image() {
    # What an image of ours was made from: this script and the release of Debian. Elsewhere the label is missing.
    recipe=$(cat "$0" /etc/debian_version | cksum | cut -d' ' -f1)
    if [ -z "$force" ] && docker image inspect "$image" >/dev/null 2>&1; then
        found=$(docker image inspect --format '{{index .Config.Labels "zeroloss.recipe"}}' "$image")
        if [ -z "$found" ]; then
            say "$image is there, from elsewhere, and is kept"
            return
        elif [ "$found" = "$recipe" ]; then
            say "$image is there"
            return
        fi
    fi
    build_image
}

ensure_engine
ensure_image
