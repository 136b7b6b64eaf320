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
out= store= rate=60 patience=120
# shellcheck source=examples/story/common.sh
. "$here/common.sh"
arguments "$@"
find_bake
if [ "$EUID" != 0 ]; then
    # bake builds and runs machines for anyone, but compares running ones for root alone: each of their files must be read, whoever owns it.
    echo "run.sh: the rest needs root, to read every file of running machines; going on with sudo" >&2
    exec sudo env "BAKE=$BAKE" "LOAD=${LOAD-}" bash "${BASH_SOURCE[0]}" "${given[@]}"
fi

# ---- machines -------------------------------------------------------------------------------------------------------------------------

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

# ---- before the story -----------------------------------------------------------------------------------------------------------------

begin web proxy db
# Copies, as a build writes its lock file beside the recipe.
cp -r "$repository/examples/web" "$here" "$work"
rm -f "$work"/*/*.lock

headline "1. Version 1 serves"
say "Apache and the app, and the proxy in front of it: baked, tested, published. Both or none."
must bake build $quiet web/apache.toml story/proxy.toml
must bake promote web:1.0.0 production
proxy_begins
web web-a
web web-b
wait_healthy web-a web-b
into_service web-a web-b
say
load_begins
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
load_ends
claim "version 1 was seen" seen_above 1.0.0 0
claim "version 2 was seen" seen_above 2.0.0 0
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

the_end
