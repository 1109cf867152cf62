#!/bin/bash
# Fuzzes with clang's libFuzzer under ASan and UBSan, leaks included.
#   run.sh [SECONDS]      every tests/fuzz/fuzz_*.c, or those in $FUZZ, for SECONDS each (60)
#   run.sh --total        executions, seconds, rate, coverage and findings of all runs so far (the ledger)
#   run.sh --merge        what was found and reaches new code goes into tests/fuzz/corpus, minimised
# build-fuzz/ledger.tsv has a line a run; build-fuzz/corpus/NAME keeps what the runs learned, a
# finding is build-fuzz/finding/NAME-*. Fixed, it belongs in tests/fuzz/corpus/NAME: make check replays it.
# A target's own libFuzzer options stand in its source as "Options: -max_len=N ...".
set -euo pipefail
cd "$(dirname "$0")/../.."
out=build-fuzz
ledger=$out/ledger.tsv
corpus_files=200 corpus_bytes=300000 # of one target in the tree, at most

names() {
	for f in tests/fuzz/fuzz_*.c; do
		n=$(basename "$f" .c)
		n=${n#fuzz_}
		case " ${FUZZ:-$n} " in *" $n "*) echo "$n" ;; esac
	done
}

total() {
	awk -F '\t' -v all="$(FUZZ='' names | tr '\n' ' ')" '
		{ n[$3] += $4; s[$3] += $5; c[$3] = $6 > c[$3] ? $6 : c[$3]; f[$3] += $7; N += $4; S += $5; F += $7 }
		END {
			printf "%-12s %13s %8s %9s %7s %8s\n", "target", "executions", "seconds", "a second", "cov", "findings"
			k = split(all, v, " ")
			for (i = 1; i <= k; i++)
				printf "%-12s %13d %8d %9d %7d %8d\n", v[i], n[v[i]], s[v[i]], s[v[i]] ? n[v[i]] / s[v[i]] : 0, c[v[i]], f[v[i]]
			printf "%-12s %13d %8d %9d %7s %8d\n", "all", N, S, S ? N / S : 0, "", F
		}' "$ledger"
}

build() {
	command -v clang >/dev/null || { echo "fuzz: clang is needed: apt-get install clang" >&2; exit 1; }
	make -s -j"${JOBS:-1}" -f tests/fuzz/fuzz.mk NAMES="$(names | tr '\n' ' ')"
}

# libFuzzer's arguments of one target, but for the corpora.
options() {
	local own
	own=$(sed -nE 's/^ ?\*? *Options: (-.*[^ *\/])[ *\/]*$/\1/p' "tests/fuzz/fuzz_$1.c")
	[ -e "$out/$1.dict" ] && echo "-dict=$out/$1.dict"
	echo "-timeout=10 -rss_limit_mb=2048 -max_len=4096 $own"
}

fuzz_one() {
	local name=$1 seconds=$2 log=$out/log/$1.log begin=$SECONDS bad=0 n cov
	mkdir -p "$out/corpus/$name" "$out/finding" "$out/log"
	rm -f "$log"
	"$out/fuzz_$name" -max_total_time="$seconds" $(options "$name") -print_final_stats=1 \
		-artifact_prefix="$out/finding/$name-" "$out/corpus/$name" $(ls -d "tests/fuzz/corpus/$name" 2>/dev/null) \
		>"$log" 2>&1 </dev/null || bad=1
	# Not a finding: LeakSanitizer needs a thread and the machine had none to give.
	grep -q 'LeakSanitizer has encountered a fatal error' "$log" && bad=0
	n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
	cov=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -c6-)
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$(date -u +%FT%TZ)" "$(git rev-parse --short HEAD 2>/dev/null)" \
		"$name" "${n:-0}" $((SECONDS - begin)) "${cov:-0}" $bad >>"$ledger"
	printf '%-12s %12d executions, %d s, cov %d%s\n' "$name" "${n:-0}" $((SECONDS - begin)) "${cov:-0}" \
		"$([ $bad = 0 ] || echo ": FINDING, see $log")"
	[ $bad = 0 ] || grep -E 'SUMMARY|Assertion|ERROR|runtime error|Test unit written' "$log" | cut -c1-200
	return $bad
}

# Who adds no coverage is left out by -merge=1; of more than fit, small and large ones alike.
merge_one() {
	local name=$1 to=tests/fuzz/corpus/$1 new=$out/merged
	rm -rf "$new"
	mkdir -p "$new" "$out/corpus/$name" "$to"
	"$out/fuzz_$name" $(options "$name") -merge=1 "$new" "$to" "$out/corpus/$name" >"$out/log/$name.merge" 2>&1
	# A seed or a finding has a name and stays; the others have their hashes.
	find "$to" -type f -regextype egrep -regex '.*/[0-9a-f]{12}' -delete
	find "$new" -type f -printf '%s %p\n' | sort -n |
		awk -v n=$corpus_files -v max=$corpus_bytes '
			{ size[NR] = $1; path[NR] = $2 }
			END {
				step = NR > n ? NR / n : 1
				for (i = 1; int(i) <= NR; i += step)
					if ((sum += size[int(i)]) <= max)
						print path[int(i)]
			}' |
		while read -r f; do
			cmp -s "$f" <(:) || [ -n "$(find "$to" -type f -exec cmp -s {} "$f" \; -print -quit)" ] ||
				cp "$f" "$to/$(basename "$f" | cut -c1-12)"
		done
	echo "$name: $(ls "$to" | wc -l) files, $(cat "$to"/* | wc -c) bytes"
}

mkdir -p $out
case ${1:-60} in
--total) total ;;
--merge) [ "${NOBUILD:-}" ] || build; for n in $(names); do merge_one "$n"; done ;;
*)
	[ "${NOBUILD:-}" ] || build # as it was built last
	bad=0
	for n in $(names); do fuzz_one "$n" "${1:-60}" || bad=1; done
	total
	exit $bad
	;;
esac
