#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# night.sh SIM SECONDS JOBS [SEED]: universes for that long, in as many processes, each from seeds of its own.
# Each job prints its report when it is over. A job that fails is told again by the seed it names; the seed
# then belongs into seeds.txt.
sim=$1 seconds=$2 jobs=$3 seed=${4:-$(($(date +%s) * 1000))}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
i=0
while [ "$i" -lt "$jobs" ]; do
	{
		"$sim" --seconds "$seconds" --seed $((seed + i * 100000000)) >"$dir/$i" 2>&1
		echo $? >"$dir/$i.status"
	} &
	i=$((i + 1))
done
wait
bad=0 i=0
while [ "$i" -lt "$jobs" ]; do
	[ "$jobs" -eq 1 ] || echo "# job $i, from seed $((seed + i * 100000000))"
	cat "$dir/$i"
	[ "$(cat "$dir/$i.status")" = 0 ] || bad=1
	i=$((i + 1))
done
exit $bad
