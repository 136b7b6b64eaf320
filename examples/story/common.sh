# What the stories have in common: bake and the load, what is started and ended, how it is shown, the proxy and the load.
# It is sourced by both, behind `repository`, `out`, `store`, `rate` and `patience` (how many seconds a machine may take).

# arguments ARGUMENT…: takes what the story is given; of anything else its script prints how it is used.
arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --out) out=${2:?"--out needs a directory"}; shift ;;
            --store) store=${2:?"--store needs a directory"}; shift ;;
            --rate) rate=${2:?"--rate needs a number"}; shift ;;
            *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
        esac
        shift
    done
}

# Leaves the bake that is used in BAKE, and the load in LOAD where that is built.
find_bake() {
    local target profile newer
    if [ -z "${BAKE-}" ]; then
        target=$(cd "$repository" && realpath -m "${CARGO_TARGET_DIR:-target}")
        # What is built already, and not older than its sources, is used.
        for profile in release debug; do
            BAKE=$target/$profile/bake LOAD=$target/$profile/examples/story-load
            [ -x "$BAKE" ] && [ -x "$LOAD" ] || continue
            newer=$(cd "$repository" && find src templates Cargo.toml Cargo.lock -newer "$BAKE" -print -quit)
            [ -n "$newer" ] || break
        done
        if [ ! -x "$BAKE" ] || [ ! -x "$LOAD" ] || [ -n "${newer-}" ]; then
            echo "run.sh: building bake in $target/release, which takes minutes; BAKE=/path/to/bake uses another" >&2
            (cd "$repository" && cargo build --release --bin bake --example story-load)
            BAKE=$target/release/bake LOAD=$target/release/examples/story-load
        else
            echo "run.sh: using $BAKE" >&2
        fi
    fi
}

# ---- what is started is ended ---------------------------------------------------------------------------------------------------------

declare -A pids=() ports=() slots=() taken=()
running=            # the command that is waited for
loading=            # the load
told=               # whether the end of the story was reached

cleanup() {
    local status=$? pid file tick=0
    trap '' INT TERM HUP
    set +e
    [ -n "$told" ] || [ "$status" -ge 128 ] || show_logs
    : >"$work/stop"
    local all=($running $loading "${pids[@]}")
    while :; do
        local alive=()
        for pid in "${all[@]}"; do kill -0 "$pid" 2>/dev/null && alive+=("$pid"); done
        [ ${#alive[@]} -gt 0 ] || break
        # Asked, after five seconds asked again (which ends a machine whose program does not listen), after twenty ended.
        if [ $tick = 0 ] || [ $tick = 50 ]; then kill -TERM "${alive[@]}" 2>/dev/null; fi
        if [ $tick = 200 ]; then kill -KILL "${alive[@]}" 2>/dev/null; fi
        sleep 0.1
        tick=$((tick + 1))
    done
    wait
    if [ -n "$out" ]; then
        mkdir -p "$out" && cp -r "$work/reports" "$work/logs" "$out" 2>/dev/null
        for file in "$work"/load.{json,txt} "$work"/fleet-*.svg; do [ ! -e "$file" ] || cp "$file" "$out"; done
    fi
    # What layers hold belongs to whom it belongs in the image; an ordinary user cannot remove all of it.
    [ "$store" != "$work/store" ] || "$bake" gc -q --cache-older-than 0s >/dev/null 2>&1
    rm -rf "$work"
    exit "$status"
}
show_logs() {
    local log
    for log in "$work"/logs/*; do
        [ -s "$log" ] || continue
        printf '%s\n' "---- the last lines of ${log##*/}" >&2
        tail -n 8 "$log" >&2
    done
}

die() {
    printf 'run.sh: %s\n' "$*" >&2
    exit 1
}

# ---- how it is told -------------------------------------------------------------------------------------------------------------------

bold= plain= green= red=
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then bold=$'\e[1m' plain=$'\e[0m' green=$'\e[32m' red=$'\e[31m'; fi
quiet=-q            # bars are for a terminal; elsewhere the transcript stays short
[ ! -t 2 ] || quiet=
good=0 bad=0

headline() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s\n' "$*"; }
show() {
    local word words=
    for word; do
        [[ $# = 1 || $word != *" "* ]] || word="\"$word\""
        words+=" $word"
    done
    printf '%s$%s%s\n' "$bold" "$words" "$plain"
}

# Runs a bake command as it would be typed, and leaves its exit status in `status`. As a child that is waited for, so that Ctrl-C is heard.
typed() {
    show "$@"
    quietly "$@"
}

quietly() {
    [ "$1" != bake ] || set -- "$bake" "${@:2}"
    status=0
    "$@" </dev/null &
    running=$!
    wait "$running" || status=$?
    running=
}

must() {
    typed "$@"
    [ "$status" = 0 ] || die "that failed with exit status $status"
}

# claim TEXT COMMAND…: what the story says must be so, and is counted.
claim() {
    local text=$1
    shift
    if "$@"; then
        good=$((good + 1))
        printf '%s[ok]%s %s\n' "$green" "$plain" "$text"
    else
        bad=$((bad + 1))
        printf '%s[NOT SO]%s %s\n' "$red" "$plain" "$text"
    fi
}
is() { [ "$1" = "$2" ]; }
has() { [[ $1 == *"$2"* ]]; }

# until_true SECONDS WHAT COMMAND…: looks until it is so. A machine that ends meanwhile ends the wait.
until_true() {
    local end=$((SECONDS + $1)) what=$2 name
    shift 2
    until "$@"; do
        for name in "${!pids[@]}"; do kill -0 "${pids[$name]}" 2>/dev/null || die "the machine $name has ended by itself"; done
        [ "$SECONDS" -lt "$end" ] || die "waited too long: $what"
        sleep 0.05
    done
}

# ---- the proxy and the load -----------------------------------------------------------------------------------------------------------

# Leaves a port in `port` that nothing listens on, below those that the kernel lends to clients.
free_port() {
    local n
    for n in {1..500}; do
        port=$((12000 + RANDOM % 18000))
        if [ -z "${taken[$port]-}" ] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            taken[$port]=yes
            return
        fi
    done
    die "there is no free port"
}

# machine NAME bake run …: starts one in the background.
machine() {
    local name=$1
    shift
    printf '%s$ %s &%s   # %s\n' "$bold" "$*" "$plain" "$name"
    "$bake" "${@:2}" </dev/null >"$work/logs/$name.log" 2>&1 &
    pids[$name]=$!
}

# stop NAME: asks a machine to end and waits for it; its exit status is in `status`.
stop() {
    local pid=${pids[$1]}
    printf '%s$ kill %s%s   # %s\n' "$bold" "$pid" "$plain" "$1"
    unset "pids[$1]"
    running=$pid
    kill -TERM "$pid"
    status=0
    wait "$pid" || status=$?
    running=
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# exchange PORT TEXT: sends a text, prints what comes back. In a shell of its own: who is not ready yet may hang up first, and then
# SIGPIPE ends the shell that writes.
exchange() {
    (
        exec 9<>"/dev/tcp/127.0.0.1/$1"
        printf '%s' "$2" >&9
        cat <&9
    )
}

# One command to the proxy's runtime API.
ask_proxy() { exchange "$admin" "$*"$'\n'; }
tell_proxy() {
    printf '%sproxy> %s%s\n' "$bold" "$*" "$plain"
    ask_proxy "$*" >>"$work/logs/proxy-api.log"
}

# field SLOT NAME: what the proxy's statistics say of a machine.
field() {
    local names=() row n
    while IFS=, read -r -a row; do
        if [ "${row[0]-}" = "# pxname" ]; then
            names=("${row[@]}")
        elif [ "${row[0]-}/${row[1]-}" = "web/$1" ]; then
            for n in "${!names[@]}"; do
                [ "${names[n]}" != "$2" ] || printf '%s' "${row[n]-}"
            done
        fi
    done < <(ask_proxy "show stat")
}
healthy() { [[ $(field "$1" status) == DRAIN* && $(field "$1" check_status) == *L7OK ]]; }
drained() { [ "$(field "$1" scur)" = 0 ] && [ "$(field "$1" qcur)" = 0 ]; }

wait_healthy() {
    local name
    for name; do until_true "$patience" "$name answers the proxy's health checks" healthy "${slots[$name]}"; done
    say "healthy: $*"
}
# into_service NAME…, out_of_service NAME…
into_service() {
    local name
    for name; do tell_proxy "set server web/${slots[$name]} state ready"; done
}
out_of_service() {
    local name
    for name; do tell_proxy "set server web/${slots[$name]} state drain"; done
    for name; do until_true "$patience" "$name has no request in hand" drained "${slots[$name]}"; done
    say "drained: $*"
    for name; do
        tell_proxy "set server web/${slots[$name]} state maint"
        stop "$name"
        claim "$name ended cleanly" is "$status" 0
    done
}

# seen NAME: a number of the load's progress.
seen() {
    local name number found=0
    while read -r name number; do [ "$name" != "$1" ] || found=$number; done <"$work/progress"
    printf '%s' "$found"
}
seen_above() { [ -e "$work/progress" ] && [ "$(seen "$1")" -gt "$2" ]; }
# Waits until every client of the load has asked again: whatever was answered before is counted then.
counted() {
    local sent
    sent=$(seen sent)
    until_true 120 "requests are sent" seen_above sent $((sent + 100))
}
so_far() { say "the load so far: $(seen sent) requests, $(seen failed) failed, $(seen 1.0.0) answered by 1.0.0, $(seen 2.0.0) by 2.0.0"; }

# count VERSION: what `picture` says beside the bar of this version of web: `2`, `1 1 drifted`, nothing.
count() {
    local words of=
    while read -r -a words; do
        if [ ${#words[@]} = 1 ]; then of=${words[0]}; fi
        if [ "$of/${words[0]-}" = "web/$1" ]; then printf '%s' "${words[*]:2}"; fi
    done <<<"$picture"
}

# Waits for the end of the load, and shows what it counted.
load_ends() {
    : >"$work/stop"
    status=0
    wait "$loading" || status=$?
    loading=
    say
    say "The load ends:"
    cat "$work/load.txt"
    claim "zero failed requests" is "$status/$(seen failed)" 0/0
}

# begin NAME…: makes the directory of the story, in which it goes on; its store has no version of these images yet. What comes before,
# compiling bake, is not part of its time.
begin() {
    local name
    SECONDS=0
    bake=$(realpath "$BAKE")
    work=$(mktemp -d "${TMPDIR:-/tmp}/bake-story.XXXXXX")
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mkdir "$work/logs" "$work/reports"
    if [ -n "${LOAD-}" ]; then
        cp "$LOAD" "$work/load"
    else
        rustc -O --edition 2024 -o "$work/load" "$repository/examples/story/load.rs"
    fi
    store=$(realpath -m "${store:-$work/store}")
    [ -z "$out" ] || out=$(realpath -m "$out")
    export BAKE_STORE=$store
    for name; do
        [ -z "$("$bake" list "$name" -q 2>/dev/null)" ] || die "the store $store has versions of $name already; the story begins without"
    done
    cd "$work"
}

# The proxy, on a port that is left in `entry`.
proxy_begins() {
    free_port; entry=$port
    free_port; admin=$port
    machine proxy bake run proxy:1.0.0 --network host --env "PORT=$entry" --env "ADMIN=$admin"
    until_true 120 "the proxy listens" listens "$admin"
    until_true 120 "the proxy listens" listens "$entry"
}

# The load, from now on.
load_begins() {
    say "From now on $rate requests a second go through the proxy, half of them on new connections, half on kept ones. Nothing is tried twice."
    "$work/load" --to "127.0.0.1:$entry" --rate "$rate" --for 3600 --until "$work/stop" --progress "$work/progress" \
        --summary "$work/load.json" >"$work/load.txt" 2>"$work/logs/load.log" &
    loading=$!
    until_true 60 "requests are answered" seen_above 1.0.0 100
    so_far
}

# What the end of a story counts.
the_end() {
    headline "The end"
    told=yes
    say "requests sent: $(seen sent)"
    say "requests failed: $(seen failed)"
    say "answered by 1.0.0: $(seen 1.0.0)"
    say "answered by 2.0.0: $(seen 2.0.0)"
    say "claims that hold: $good"
    say "claims that do not: $bad"
    say "seconds: $SECONDS"
    [ "$bad" = 0 ]
}
