# Stands in for systemctl while an image is made: bake makes the links, and nothing is started.
# One question at a time; the answer begins with the number of who asked.
cd /dev/bake/systemctl || exit 1
tries=0
until (set -C; : > busy) 2> /dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -gt 1500 ]; then echo "systemctl: bake does not answer" >&2; exit 1; fi
    sleep 0.02
done
trap 'rm -f /dev/bake/systemctl/busy' EXIT
trap 'exit 1' INT TERM HUP
exec 3< answer
{
    printf '%s\n' "ask $$ ${BAKE_RUN:-1}"
    for word in "$@"; do printf '%s\n' ".$word"; done
    printf '%s\n' end
} > ask
code=1
while IFS= read -r line <&3; do
    [ "$line" = "begin $$" ] && break
done
while IFS= read -r line <&3; do
    case $line in
    .*) printf '%s\n' "${line#.}" ;;
    !*) printf '%s\n' "${line#!}" >&2 ;;
    end\ *) code=${line#end }; break ;;
    esac
done
exit "$code"
