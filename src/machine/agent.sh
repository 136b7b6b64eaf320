#!/bin/sh
# Answers what the test of a machine asks inside. It comes from QEMU and is started by the initial RAM disk of a machine that
# is under test: on the disk there is nothing of it.
#
# A question is a line with a number, and as many lines of a script. The answer is a line with the exit status and the number of
# bytes that it printed, and these bytes.
most=16777216
port=
until [ -n "$port" ]; do
    for name in /sys/class/virtio-ports/*/name; do
        is=
        if [ -r "$name" ]; then read -r is <"$name"; fi
        if [ "$is" = bake ]; then port=${name%/name}; fi
    done
    [ -n "$port" ] || sleep 0.2
done
cd /run/bake || exit 1
exec 3<>"/dev/${port##*/}"
echo "bake 1" >&3
while read -r lines <&3; do
    while [ "$lines" -gt 0 ] && IFS= read -r line <&3; do
        printf '%s\n' "$line"
        lines=$((lines - 1))
    done >script
    echo 137 >status
    { (cd / && exec sh /run/bake/script 3>&- </dev/null); echo $? >status; } 2>&1 | head -c "$most" >answer
    read -r status <status
    { echo "$status $(wc -c <answer)"; cat answer; } >&3
done
