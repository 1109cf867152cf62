#!/usr/bin/python3
"""The model is pure: its archive may refer to nothing but itself, memory and string functions.

A stray time(), open() or log call shows up here as an undefined symbol that is not on the list.
The keeper and init mode do system calls and nothing else: they, and what of base/ is made for them, may
refer to no allocator, no stdio, no assert and no other function that does (a list too, of what they may
use), and the keeper has a bound in lines."""
import glob, os, subprocess, sys

ALLOWED = set("""
memchr memcpy memmove memset memcmp strcmp strncmp strlen strchr strrchr strstr strnlen strspn strcspn
strtoul strtoull strtol snprintf __snprintf_chk vsnprintf __vsnprintf_chk qsort bsearch abort
__assert_fail __stack_chk_fail __memcpy_chk __memset_chk __memmove_chk free fnmatch
xmalloc xcalloc xrealloc xstrdup xstrndup xasprintf oom arena_alloc arena_strdup arena_strndup
arena_printf arena_done freep_ startswith endswith str_copy streq buf_add buf_add_byte buf_add_str
buf_printf buf_done buf_reset buf_reserve buf_steal buf_consume map_get map_put map_del map_next map_done
strv_add strv_add_take strv_done strv_has hash_bytes crc32_of err_set errno_name rng_next id128_hex
id128_is_null format_timespan unit_conf_ref unit_conf_unref unit_name_complete unit_name_template
str_make_printable parse_timespan unit_name_instance unit_name_with_instance unit_name_type unit_type_name amount_of signal_name
dep_kind_name exec_kind_name unit_load_name restart_mode_name service_type_name condition_kind_name
""".split())
PREFIXES = ("__asan_", "__ubsan_", "_GLOBAL_OFFSET_TABLE_")

KEEPER_ALLOWED = set("""
__errno_location __libc_current_sigrtmax __libc_current_sigrtmin __stack_chk_fail __memcpy_chk __memmove_chk
__memset_chk memcpy memmove memset memcmp strcmp strlen strtol strtoul environ getenv getauxval
_exit clock_gettime close_range dup2 execveat execvp fallocate fcntl fork fstat getpgrp getpid
getrlimit ioctl kill memfd_create mmap munmap open poll prctl read reboot recvmsg setitimer setpgid setrlimit setsockopt sigaction sigaddset
sigemptyset sigfillset signal signalfd sigprocmask socketpair sync syscall tcgetpgrp tcsetpgrp usleep waitid waitpid write
closing_begin closing_end hash16_add hash16_del hash16_first crc32_of errno_name exec_with_fds fd_close fifo_head fifo_put fifo_take first_pid_namespace
hash_bytes kill_children now_boot_us now_mono_us pack_load pack_save put_number reap_pause_us reaper_begin recv_said say_line send_fds slot_give
slot_take startswith fds_begin str_copy
table deposit_put is_ours news_add news_all news_head news_told orphan_add orphan_find row_begin row_below row_born row_end row_forget row_ended row_free row_new
program_open row_of_id row_of_pid rows_high rows_init state_begin state_load state_save
""".split())
# Lines of supervisord/keeper/*.[ch], comments included: the process that must never die is read in one sitting.
KEEPER_LINES_MAX = 800


def keeper_lines():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../supervisord/keeper/*.[ch]")
    return sum(open(f, encoding="utf-8").read().count("\n") for f in glob.glob(folder))


def main():
    is_keeper = os.path.basename(sys.argv[1]) == "keeper.a"
    allowed = ALLOWED if os.path.basename(sys.argv[1]) == "model.a" else KEEPER_ALLOWED
    out = subprocess.run(["nm", "-A", sys.argv[1]], capture_output=True, text=True, check=True).stdout
    defined, undefined = set(), {}
    for line in out.splitlines():
        where, rest = line.split(" ", 1)
        f = rest.split()
        if f[-2] == "U":
            undefined.setdefault(f[-1], where)
        elif f[-2].isupper():
            defined.add(f[-1])
    bad = {s: w for s, w in undefined.items() if s not in defined and s not in allowed and not s.startswith(PREFIXES)}
    for s, w in sorted(bad.items()):
        print("purity: %s refers to %s" % (w, s))
    print("purity: %d symbols from outside, %d not allowed" % (len([s for s in undefined if s not in defined]), len(bad)))
    if is_keeper and keeper_lines() > KEEPER_LINES_MAX:
        print("purity: keeper has %d lines, bound %d" % (keeper_lines(), KEEPER_LINES_MAX))
        return 1
    return 1 if bad else 0


sys.exit(main())
