#!/usr/bin/env bash
# The story of README.md, told by running it. Needs Linux, root, Rust, bash, and the network for Debian's packages.
#
#   examples/story/run.sh [--out DIR] [--store DIR] [--rate REQUESTS_A_SECOND]
#
# --out keeps the reports, the histograms, the counts and the logs; --store uses a store that stays, without it everything goes at the end.
# BAKE names a bake to use; else the one in target/ is used, and built where it is missing or older than its sources. Exit status 0 if every claim holds, 1 if not.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)

given=("$@")
out= store= rate=60
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=${2:?"--out needs a directory"}; shift ;;
        --store) store=${2:?"--store needs a directory"}; shift ;;
        --rate) rate=${2:?"--rate needs a number"}; shift ;;
        *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
    shift
done

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
if [ "$EUID" != 0 ]; then
    # bake builds and runs machines for anyone, but compares running ones for root alone: each of their files must be read, whoever owns it.
    echo "run.sh: the rest needs root, to read every file of running machines; going on with sudo" >&2
    exec sudo env "BAKE=$BAKE" "LOAD=${LOAD-}" bash "${BASH_SOURCE[0]}" "${given[@]}"
fi
bake=$(realpath "$BAKE")

# ---- what is started is ended ---------------------------------------------------------------------------------------------------------

work=$(mktemp -d "${TMPDIR:-/tmp}/bake-story.XXXXXX")
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
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

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

# ---- machines, the proxy, the load ----------------------------------------------------------------------------------------------------

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

# web NAME: starts a machine of what production is, and shows it to the proxy, which asks for its health and sends it nothing yet.
next_slot=1
web() {
    free_port
    ports[$1]=$port slots[$1]=machine$next_slot
    next_slot=$((next_slot + 1))
    machine "$1" bake run web@production --publish "$port:80"
    tell_proxy "set server web/${slots[$1]} addr 127.0.0.1 port $port"
    tell_proxy "set server web/${slots[$1]} state drain"
}
wait_healthy() {
    local name
    for name; do until_true 120 "$name answers the proxy's health checks" healthy "${slots[$name]}"; done
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
    for name; do until_true 120 "$name has no request in hand" drained "${slots[$name]}"; done
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

# fleet WHEN NAME…: compares running machines with what they claim to be, and draws the picture. What it says is in `picture`.
fleet() {
    local when=$1 name
    shift
    mkdir -p "$work/reports/$when"
    for name; do
        printf '%s$ bake drift --pid %s --host %s --json > reports/%s/%s.json%s\n' "$bold" "${pids[$name]}" "$name" "$when" "$name" "$plain"
        quietly bake drift --pid "${pids[$name]}" --host "$name" --json >"$work/reports/$when/$name.json"
        [ "$status" = 0 ] || [ "$status" = 3 ] || die "bake drift failed with exit status $status"
    done 2>"$work/logs/drift.log"
    picture=$("$bake" fleet "$work/reports/$when" --svg "$work/fleet-$when.svg")
    printf '%s$ bake fleet reports/%s --svg fleet-%s.svg%s\n%s\n' "$bold" "$when" "$when" "$plain" "$picture"
}
# count VERSION: what `picture` says beside the bar of this version of web: `2`, `1 1 drifted`, nothing.
count() {
    local words of=
    while read -r -a words; do
        if [ ${#words[@]} = 1 ]; then of=${words[0]}; fi
        if [ "$of/${words[0]-}" = "web/$1" ]; then printf '%s' "${words[*]:2}"; fi
    done <<<"$picture"
}

# ---- before the story -----------------------------------------------------------------------------------------------------------------

SECONDS=0           # without the time that it takes to compile bake
mkdir "$work/logs" "$work/reports"
if [ -n "${LOAD-}" ]; then cp "$LOAD" "$work/load"; else rustc -O --edition 2024 -o "$work/load" "$here/load.rs"; fi
store=$(realpath -m "${store:-$work/store}")
[ -z "$out" ] || out=$(realpath -m "$out")
export BAKE_STORE=$store
for name in web proxy db; do
    [ -z "$("$bake" list "$name" -q 2>/dev/null)" ] || die "the store $store has versions of $name already; the story begins without"
done
# Copies, as a build writes its lock file beside the recipe.
cp -r "$repository/examples/web" "$here" "$work"
rm -f "$work"/*/*.lock
cd "$work"

headline "1. Version 1 serves"
say "Apache and the app, and the proxy in front of it: baked, tested, published. Both or none."
must bake build $quiet web/apache.toml story/proxy.toml
must bake promote web:1.0.0 production
free_port; entry=$port
free_port; admin=$port
machine proxy bake run proxy:1.0.0 --network host --env "PORT=$entry" --env "ADMIN=$admin"
until_true 120 "the proxy listens" listens "$admin"
until_true 120 "the proxy listens" listens "$entry"
web web-a
web web-b
wait_healthy web-a web-b
into_service web-a web-b
say
say "From now on $rate requests a second go through the proxy, half of them on new connections, half on kept ones. Nothing is tried twice."
"$work/load" --to "127.0.0.1:$entry" --rate "$rate" --for 1800 --until "$work/stop" --progress "$work/progress" --summary "$work/load.json" \
    >"$work/load.txt" 2>"$work/logs/load.log" &
loading=$!
until_true 60 "requests are answered" seen_above 1.0.0 100
so_far
fleet before proxy web-a web-b
claim "two machines are version 1, byte for byte" is "$(count 1.0.0)" 2

headline "2. Version 2 fails to bake"
say "NGINX and the new app, on the same base. But the package mirror is down: nobody listens on port 9."
cp web/apache.lock web/nginx.lock   # the base is what version 1 stands on; what is above it is chosen anew
listed=$("$bake" list)
cp "$store/index.json" index.before
answered=$(seen answered)
typed bake build $quiet web/nginx.toml --debian-mirror http://127.0.0.1:9/debian
claim "the build failed with exit status 1" is "$status" 1
must bake list
claim "the store is as it was: no version 2, and no half of one" is "$("$bake" list)" "$listed"
claim "its index is the same, byte for byte" cmp -s "$store/index.json" index.before
until_true 60 "requests are answered" seen_above answered "$answered"
claim "the traffic went on, and no request failed" is "$(seen failed)" 0
so_far

headline "3. Version 2 bakes, is tested, and takes over"
say "The mirror is back. The version number is still free."
must bake build $quiet web/nginx.toml
show "bake show web:2.0.0 | grep -A 2 ^tested"
"$bake" show web:2.0.0 | grep -A 2 ^tested
claim "its tests have passed" has "$("$bake" show web:2.0.0 --json)" '"tested":"yes"'
say
must bake promote web:2.0.0 production
say "New machines beside the old ones:"
web web-c
web web-d
wait_healthy web-c web-d
into_service web-c web-d
until_true 60 "version 2 answers" seen_above 2.0.0 50
so_far
fleet during proxy web-a web-b web-c web-d
claim "two machines of each version" is "$(count 1.0.0) $(count 2.0.0)" "2 2"
say
say "The old ones finish what they have in hand, and go:"
out_of_service web-a web-b
counted
old=$(seen 1.0.0) new=$(seen 2.0.0)
until_true 60 "version 2 answers" seen_above 2.0.0 $((new + 100))
claim "since then version 1 has answered nothing" is "$(seen 1.0.0)" "$old"
claim "no request failed" is "$(seen failed)" 0
so_far
fleet after proxy web-c web-d
claim "two machines of version 2, none of version 1" is "$(count 1.0.0)/$(count 2.0.0)" "/2"

headline "4. What an upgrade in place would have left"
say "One more machine of version 1, apart from the traffic. Somebody logs in and upgrades it: first the app's new files, then NGINX, whose"
say "package cannot be fetched."
mkdir upgrade
cp story/upgrade-in-place.sh upgrade/
must bake run web:2.0.0 --volume upgrade:/mnt -- cp /var/www/html/index.html /var/www/html/version.json /etc/nginx/nginx.conf /mnt
free_port; ports[web-x]=$port
machine web-x bake run web:1.0.0 --publish "$port:80" --volume upgrade:/mnt:ro -- sh /mnt/upgrade-in-place.sh
answer() {
    reply=$(exchange "${ports[web-x]}" $'GET /version.json HTTP/1.0\r\n\r\n') && has "$reply" " 200 "
} 2>/dev/null
until_true 60 "web-x answers" answer
printf '%sGET http://127.0.0.1:%s/version.json%s\n%s\n\n' "$bold" "${ports[web-x]}" "$plain" "${reply//$'\r'/}"
claim "the server says that it is version 1" has "$reply" "X-App-Version: 1.0.0"
claim "the app says that it is version 2" has "$reply" '"version": "2.0.0"'
typed bake drift --pid "${pids[web-x]}" --host web-x
claim "bake drift says: not the version it claims to be (exit status 3)" is "$status" 3
fleet half proxy web-c web-d web-x
drifted=$("$bake" drift --pid "${pids[web-x]}" 2>/dev/null || true)
claim "it names what was changed" has "$drifted" "/var/www/html/version.json"
claim "and what was added" has "$drifted" "/etc/nginx"
claim "the fleet shows it" has "$(count 1.0.0)" "drifted"
say "Nobody repairs it. It goes:"
stop web-x

headline "5. Back to version 1, the same way"
must bake promote --back web@production
web web-e
web web-f
wait_healthy web-e web-f
into_service web-e web-f
out_of_service web-c web-d
counted
old=$(seen 2.0.0) new=$(seen 1.0.0)
until_true 60 "version 1 answers" seen_above 1.0.0 $((new + 100))
claim "since then version 2 has answered nothing" is "$(seen 2.0.0)" "$old"
fleet back proxy web-e web-f
claim "two machines are version 1 again" is "$(count 1.0.0)/$(count 2.0.0)" "2/"
must bake list --history web@production
: >stop
status=0
wait "$loading" || status=$?
loading=
say
say "The load ends:"
cat load.txt
claim "version 1 was seen" seen_above 1.0.0 0
claim "version 2 was seen" seen_above 2.0.0 0
claim "zero failed requests" is "$status/$(seen failed)" 0/0
for name in web-e web-f proxy; do stop "$name"; done

headline "6. A database is replaced, its data is not"
say "MariaDB 10.11 of Debian 12 and MariaDB 11.8 of Debian 13. The data lies in a directory of the host that is shown to the machine."
must bake build $quiet story/db-1.toml story/db-2.toml
must bake promote db:1.0.0 production
mkdir data
free_port; database=$port
password=$RANDOM$RANDOM$RANDOM
sql() { "$bake" run db@production --network host --env "MYSQL_PWD=$password" --entrypoint mariadb -- \
    -h 127.0.0.1 -P "$database" -u app --skip-ssl --skip-column-names app -e "$1"; }
tell_sql() {
    printf '%ssql> %s%s\n' "$bold" "$1" "$plain"
    rows=$(sql "$1")
    [ -z "$rows" ] || say "$rows"
}
can_sql() { sql "select 1" >/dev/null 2>&1; }
machine db-a bake run db@production --volume data:/var/lib/mysql --publish "$database:3306" --env "DB_PASSWORD=$password"
until_true 180 "the database answers" can_sql
tell_sql "create table orders (id int primary key, item varchar(20), taken_by varchar(60))"
tell_sql "insert into orders values (1, 'bread', version()), (2, 'cake', version()), (3, 'rolls', version())"
tell_sql "select * from orders"
before=$rows
claim "three rows, written by 10.11" has "$rows" "10.11."
say "Version 1 ends, and version 2 starts on the same data:"
stop db-a
claim "version 1 has ended cleanly; nothing of it holds the data" is "$status" 0
must bake promote db:2.0.0 production
machine db-b bake run db@production --volume data:/var/lib/mysql --publish "$database:3306"
until_true 180 "the database answers" can_sql
grep '^db-start' logs/db-b.log || true
tell_sql "select * from orders"
claim "the rows are still there" is "$rows" "$before"
tell_sql "insert into orders values (4, 'pie', version())"
tell_sql "select * from orders where id = 4"
claim "and 11.8 writes more" has "$rows" "11.8."
typed bake drift --pid "${pids[db-b]}" --host db-b
claim "the machine is version 2, byte for byte; its data is not the machine" is "$status" 0
say "The data is 11.8's now, so there is no way back to version 1 of the image. The store knows:"
must bake revoke db:1.0.0 --why "the data has been upgraded to MariaDB 11.8"
typed bake promote --back db@production
claim "bake promote --back refuses" is "$status" 1
stop db-b
claim "version 2 ended cleanly, too" is "$status" 0

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
