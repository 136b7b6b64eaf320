# Runs the client, by the name that there is: Chef's, or that of Cinc, its free distribution.
first=$1
shift
for program in "$first" "${first%chef-client}cinc-client"; do
    if command -v "$program" > /dev/null 2>&1; then exec "$program" "$@"; fi
done
echo "there is neither $first nor cinc-client" >&2
exit 127
