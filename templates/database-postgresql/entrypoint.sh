#!/bin/sh
# Starts PostgreSQL on the cluster in the volume; makes the cluster if the volume has none.
#
# POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD: password of the user `postgres`, used when the cluster is made. Without one only
# connections through the socket are allowed. Arguments are passed on to the server.
set -eu

volume=/var/lib/postgresql
for bin in /usr/lib/postgresql/*/bin; do
    major=${bin#/usr/lib/postgresql/}
    major=${major%/bin}
done
data=$volume/$major

# Made aside and renamed: a start that is interrupted leaves no half of a cluster.
rm -rf "$volume"/*.new
for other in "$volume"/*/PG_VERSION; do
    if [ -e "$other" ] && [ "$other" != "$data/PG_VERSION" ]; then
        echo "the volume has a cluster of PostgreSQL $(cat "$other"), and this image has $major: dump it there and restore it here" >&2
        exit 1
    fi
done

if [ ! -e "$data/PG_VERSION" ]; then
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
        POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
    fi
    if [ -n "${POSTGRES_PASSWORD:-}" ]; then
        # By a pipe: a password in a file or an argument could be seen by others.
        printf '%s\n' "$POSTGRES_PASSWORD" | "$bin/initdb" -D "$data.new" -U postgres --pwfile=/dev/stdin -E UTF8 --locale=C.UTF-8 \
            --auth-local=peer --auth-host=scram-sha-256
        echo "host all all all scram-sha-256" >> "$data.new/pg_hba.conf"
    else
        "$bin/initdb" -D "$data.new" -U postgres -E UTF8 --locale=C.UTF-8 --auth-local=peer --auth-host=reject
    fi
    sync
    mv "$data.new" "$data"
fi
unset POSTGRES_PASSWORD

exec "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
