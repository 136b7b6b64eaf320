#!/usr/bin/env bash
# The story of ../story on virtual machines: README.md, told by running it. Needs Linux, Rust, bash, and the network for Debian's packages;
# no root, no QEMU, no KVM.
#
#   examples/story-vm/run.sh [--out DIR] [--store DIR] [--rate REQUESTS_A_SECOND]
#
# --out keeps the reports, the histograms, the counts and the logs; --store uses a store that stays, without it everything goes at the end.
# BAKE names a bake to use; else the one in target/ is used, and built where it is missing or older than its sources. Exit status 0 if every claim holds, 1 if not.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)

# Machines are emulated: each takes half a minute to be up on a quiet host, and much longer on a busy one.
out= store= rate=20 patience=900
# shellcheck source=examples/story/common.sh
. "$repository/examples/story/common.sh"
arguments "$@"
find_bake

# ---- machines -------------------------------------------------------------------------------------------------------------------------

# web NAME DISK: starts a machine from a disk, and shows it to the proxy, which asks for its health and sends it nothing yet.
next_slot=1
web() {
    free_port
    ports[$1]=$port slots[$1]=machine$next_slot
    next_slot=$((next_slot + 1))
    machine "$1" bake boot "$2" --publish "$port:80" --wait "http://127.0.0.1:$port/healthz" --memory 512MiB
    tell_proxy "set server web/${slots[$1]} addr 127.0.0.1 port $port"
    tell_proxy "set server web/${slots[$1]} state drain"
}

# report NAME DISK [IMAGE]: compares the disk of a machine that has ended, or of one that only reads it, with what it claims to be.
report() {
    show bake drift "${@:3}" --disk "$2" --host "$1"
    quietly bake drift -q "${@:3}" --disk "$2" --host "$1" --json >"$work/reports/$1.json"
    [ "$status" = 0 ] || [ "$status" = 3 ] || die "bake drift failed with exit status $status"
}

# copies NAME NUMBER: as many reports as if that many machines more had started from the same disk.
copies() {
    local n
    for n in $(seq "$2"); do sed "s/\"host\":\"$1\"/\"host\":\"$1-$n\"/" "$work/reports/$1.json" >"$work/reports/$1-$n.json"; done
}

histogram() {
    picture=$("$bake" fleet "$work/reports" --svg "$work/fleet-$1.svg")
    printf '%s$ bake fleet reports --svg fleet-%s.svg%s\n%s\n' "$bold" "$1" "$plain" "$picture"
}

# Somebody at a machine: runs a program of the image `admin`.
admin() { "$bake" run admin:1.0.0 --network host --volume "$work/keys:/keys" "$@"; }
log_in() {
    admin -- ssh -q -i /keys/id -p "$1" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=60 root@127.0.0.1 "$2"
}
can_log_in() { log_in "$1" true >/dev/null 2>&1; }
sql() { admin --env "PGPASSWORD=$password" -- psql -h 127.0.0.1 -p "$database" -U postgres -tAqc "$1"; }
can_sql() { sql "select 1" >/dev/null 2>&1; }
tell_sql() {
    printf '%ssql> %s%s\n' "$bold" "$1" "$plain"
    rows=$(sql "$1")
    [ -z "$rows" ] || say "$rows"
}
# What the disks are that nothing may write to.
sums() { sha256sum story-vm/*-[12].raw; }

# database NAME DISK: starts a machine of the database on the disk with the data.
database() {
    free_port; database=$port
    machine "$1" bake boot "$2" --data data.raw:pgdata --credential database.password:keys/password --publish "$database:5432" --memory 512MiB
    until_true "$patience" "the database answers" can_sql
    tell_sql "select split_part(version(), ' ', 2)"
}

# ---- before the story -----------------------------------------------------------------------------------------------------------------

begin web proxy machine db admin
# Copies, as a build writes its lock file and its outputs beside the recipe.
cp -r "$repository/examples/story" "$here" "$work"
rm -f "$work"/*/*.lock "$work"/*/*.raw
mkdir keys

headline "1. Version 1 is baked, boots, and serves"
say "The proxy in front, a container, and what somebody sits at:"
must bake build $quiet story/proxy.toml story-vm/admin.toml
admin -- ssh-keygen -q -t ed25519 -N "" -C somebody -f /keys/id
say
say "Apache and the app, on a machine of their own. Before version 1 exists its disk is booted and asked:"
must bake build $quiet story-vm/web-1.toml --var "key=$(cat keys/id.pub)"
claim "it was booted, and its tests have passed" has "$("$bake" show web:1.0.0 --json)" '"tested":"yes"'
baked=$(sums)
proxy_begins
web web-a ./story-vm/web-1.raw
wait_healthy web-a
into_service web-a
load_begins

headline "2. Version 2 fails to bake"
say "NGINX and the new app. But the package mirror is down: nobody listens on port 9."
listed=$("$bake" list)
cp "$store/index.json" index.before
typed bake build $quiet story-vm/web-2.toml --debian-mirror http://127.0.0.1:9/debian
claim "the build failed with exit status 1" is "$status" 1
claim "the store is as it was: no version 2, and no half of one" is "$("$bake" list)" "$listed"
claim "its index is the same, byte for byte" cmp -s "$store/index.json" index.before
claim "there is no disk of version 2" is "$(ls story-vm/web-2.raw 2>/dev/null)" ""
claim "the traffic went on, and no request failed" is "$(seen failed)" 0
so_far

headline "3. Version 2 bakes, boots, and takes over"
say "The mirror is back. The version number is still free."
must bake build $quiet story-vm/web-2.toml
claim "it was booted, and its tests have passed" has "$("$bake" show web:2.0.0 --json)" '"tested":"yes"'
baked=$(sums)
say "A new machine beside the old one:"
web web-b ./story-vm/web-2.raw
wait_healthy web-b
into_service web-b
until_true "$patience" "version 2 answers" seen_above 2.0.0 50
so_far
say "The old one finishes what it has in hand, and its power button is pressed:"
out_of_service web-a
counted
old=$(seen 1.0.0) new=$(seen 2.0.0)
until_true "$patience" "version 2 answers" seen_above 2.0.0 $((new + 50))
claim "since then version 1 has answered nothing" is "$(seen 1.0.0)" "$old"
claim "no request failed" is "$(seen failed)" 0
load_ends
for name in web-b proxy; do stop "$name"; done
claim "the disks are what they were when they were baked, byte for byte" is "$(sums)" "$baked"

headline "4. What an upgrade in place would have left"
say "Version 1 on a disk that is written to, as servers were always kept. Somebody logs in and upgrades it: first the app, then NGINX, whose"
say "package cannot be fetched."
free_port; ssh=$port
free_port; ports[web-x]=$port
machine web-x bake boot ./story-vm/web-1-writable.raw --persist web-x.raw --publish "$ssh:22" --publish "$port:80" --memory 512MiB
until_true "$patience" "somebody can log in" can_log_in "$ssh"
cp story-vm/upgrade-in-place.sh keys
show "ssh root@web-x sh < upgrade-in-place.sh"
status=0
admin -- sh -c "ssh -q -i /keys/id -p $ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@127.0.0.1 sh </keys/upgrade-in-place.sh" \
    >logs/upgrade.log 2>&1 || status=$?
tail -n 3 logs/upgrade.log
claim "the upgrade failed half-way" is "$([ "$status" != 0 ] && echo yes)" yes
reply=$(exchange "${ports[web-x]}" $'GET /version.json HTTP/1.0\r\n\r\n')
printf '%sGET /version.json%s\n%s\n\n' "$bold" "$plain" "${reply//$'\r'/}"
claim "the server says that it is version 1" has "$reply" "X-App-Version: 1.0.0"
claim "the app says that it is version 2" has "$reply" '"version": "2.0.0"'
stop web-x
claim "the machine ended cleanly" is "$status" 0
show bake drift web:1.0.0 --disk web-x.raw
quietly bake drift -q web:1.0.0 --disk web-x.raw >drifted
cat drifted
claim "bake drift says: not the version it claims to be (exit status 3)" is "$status" 3
claim "it names what was changed" grep -q /var/www/html/version.json drifted
claim "and what was added" grep -q /etc/nginx drifted

headline "5. A fleet is a histogram"
say "The machines that ran, 49 more that start from the disk of version 1, and 19 more from that of version 2:"
report web-a story-vm/web-1.raw
claim "web-a is version 1, byte for byte" is "$status" 0
report web-b story-vm/web-2.raw
claim "web-b is version 2, byte for byte" is "$status" 0
copies web-a 49
copies web-b 19
histogram all
claim "50 machines are version 1, and 20 are version 2" is "$(count 1.0.0)/$(count 2.0.0)" "50/20"
say "And the one that was upgraded in place:"
report web-x web-x.raw web:1.0.0
histogram half
claim "the one that was upgraded in place is seen" has "$(count 1.0.0)" "1 drifted"

headline "6. A database machine is replaced, its disk is not"
say "PostgreSQL as Debian 12 released it, and as it is today. The data is on a disk of its own, which is blank at first."
must bake build $quiet story-vm/db-1.toml story-vm/db-2.toml
baked=$(sums)
truncate -s 1G data.raw
password=$RANDOM$RANDOM$RANDOM
printf '%s' "$password" >keys/password
database db-a ./story-vm/db-1.raw
first=$rows
tell_sql "create table orders (id int primary key, item text, taken_by text default split_part(version(), ' ', 2))"
tell_sql "insert into orders values (1, 'bread'), (2, 'cake'), (3, 'rolls')"
tell_sql "select * from orders order by id"
claim "three rows, written by $first" is "$(grep -c "|$first\$" <<<"$rows")" 3
before=$rows
stop db-a
claim "version 1 ended cleanly; nothing of it holds the data" is "$status" 0
say
say "A new machine, the same disk of data:"
database db-b ./story-vm/db-2.raw
second=$rows
if [ "$first" = "$second" ]; then
    say "The archive has no newer release right now."
else
    say "PostgreSQL $first is $second now."
fi
tell_sql "select * from orders order by id"
claim "the rows are still there" is "$rows" "$before"
tell_sql "insert into orders values (4, 'pie')"
stop db-b
claim "version 2 ended cleanly" is "$status" 0
say
say "And back, as the files of PostgreSQL are the same in all releases of one series:"
database db-c ./story-vm/db-1.raw
claim "it is version 1 again" is "$rows" "$first"
tell_sql "select * from orders order by id"
claim "all rows are there, that of version 2 as well" is "$rows" "$before"$'\n'"4|pie|$second"
stop db-c
claim "version 1 ended cleanly" is "$status" 0
claim "the disks of both are what they were when they were baked" is "$(sums)" "$baked"
report db story-vm/db-1.raw
claim "the machine is version 1, byte for byte; its data is not the machine" is "$status" 0

the_end
