#!/bin/bash
# Fuzzes every tests/fuzz/fuzz_*.c for SECONDS each (60) with clang's libFuzzer under ASan and UBSan.
# New inputs that reach new code are kept in build-fuzz/NAME.corpus, findings in build-fuzz/NAME.crash-*;
# a finding, once fixed, belongs in tests/fuzz/corpus/NAME/. FUZZ="unit values" picks some.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
out=build-fuzz
mkdir -p "$out"
command -v clang >/dev/null || { echo "fuzz: clang is needed: apt-get install clang" >&2; exit 1; }
flags="-std=gnu11 -D_GNU_SOURCE -O1 -g -Iinclude -Isupervisord -Itests -fno-strict-aliasing
       -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
lib=()
for d in base unit model launch net net/lb; do
	for c in supervisord/$d/*.c; do
		[ -e "$c" ] && [ "$c" != supervisord/net/main.c ] || continue
		o=$out/${c//\//_}.o
		if [ ! -e "$o" ] || [ -n "$(find "$c" supervisord include -name '*.[chd]*' -newer "$o" -print -quit)" ]; then
			clang $flags -c -o "$o" "$c"
		fi
		lib+=("$o")
	done
done
ar rcs "$out/all.a" "${lib[@]}"
words=$out/directives.dict # every section and key, as libFuzzer's dictionary
grep -oE '^[A-Z_]*ROW\(("[A-Za-z-]+", *)?[A-Za-z0-9]+,' include/stayd/directives.def |
	sed -E 's/^[A-Z_]*ROW\(("([A-Za-z-]+)", *)?([A-Za-z0-9]+),/"[\2]\\x0a"\n"\3="/; s/^"\[\]\\x0a"\n//' |
	sort -u > "$words"
bad=0
for f in tests/fuzz/fuzz_*.c; do
	name=$(basename "$f" .c)
	name=${name#fuzz_}
	case " ${FUZZ:-$name} " in *" $name "*) ;; *) continue ;; esac
	libs="-lcap -lseccomp -linih -ljansson"
	if compgen -G 'supervisord/net/*.c' >/dev/null; then libs="$libs -lcurl"; fi
	clang $flags -fsanitize=fuzzer -o "$out/fuzz_$name" "$f" -Wl,--start-group "$out/all.a" -Wl,--end-group $libs
	mkdir -p "$out/$name.corpus"
	dict=
	[ "$name" = unit ] && dict="-dict=$words"
	echo "fuzz $name: $seconds s"
	"$out/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 $dict \
		-print_final_stats=1 -artifact_prefix="$out/$name." "$out/$name.corpus" "tests/fuzz/corpus/$name" \
		>"$out/$name.log" 2>&1 || { bad=1; tail -40 "$out/$name.log"; }
	grep -E 'number_of_executed_units|^Done|cov:' "$out/$name.log" | tail -2
done
exit $bad
