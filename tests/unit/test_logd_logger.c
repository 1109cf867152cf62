/* SPDX-License-Identifier: Apache-2.0 */
/* The whole logger as a process: pipes in, files and console out. */
#include "logd/private.h"
#include "check_main.h"
#include "logd_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DEADLINE_MS 60000

static char dir[64];
static pid_t logger_pid;
static int keeper_end = -1, core_end = -1, console_end = -1;

static void remove_dir(void)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command) != 0)
		abort();
}

static void send_frame(uint16_t kind, const char *name, char stream, int fd, struct lg_frame f)
{
	f.build = WIRE_BUILD;
	f.kind = kind;
	f.stream = (uint8_t)stream;
	str_copy(f.name, name, sizeof(f.name));
	ck_assert_int_eq(send_fds(core_end, &f, sizeof(f), &fd, fd >= 0, 0), sizeof(f));
}

/* The next frame of the logger, within the deadline. */
static struct lg_frame receive(void)
{
	struct lg_frame f = {0};
	struct pollfd p = {core_end, POLLIN, 0};
	ck_assert_int_eq(poll(&p, 1, DEADLINE_MS), 1);
	ssize_t n = recv(core_end, &f, sizeof(f), 0);
	if (n < 0 &&
		errno == ECONNRESET) /* it left without reading all; what it said is still there */
		n = recv(core_end, &f, sizeof(f), 0);
	ck_assert_int_eq(n, sizeof(f));
	return f;
}

static struct lg_frame receive_kind(uint16_t kind)
{
	struct lg_frame f;
	do
		f = receive();
	while (f.kind != kind);
	return f;
}

static void sync_logger(void)
{
	static uint64_t number;
	send_frame(LG_SYNC, "", 0, -1, (struct lg_frame){.number = ++number});
	ck_assert_uint_eq(receive_kind(LG_SYNCED).number, number);
}

static void start(void)
{
	int keeper[2], core[2], console[2];
	str_copy(dir, "/tmp/test-logd.XXXXXX", sizeof(dir));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, keeper), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, core), 0);
	ck_assert_int_eq(pipe(console), 0);
	logger_pid = fork();
	if (logger_pid == 0) {
		int from[2] = {fcntl(keeper[1], F_DUPFD, 100), fcntl(core[1], F_DUPFD, 100)};
		dup2(console[1], STDOUT_FILENO);
		for (int fd = 3; fd < 100; fd++)
			close(fd);
		dup2(from[0], ROLE_KEEPER_FD);
		dup2(from[1], ROLE_CORE_FD);
		close(from[0]);
		close(from[1]);
		_exit(logger_main(0, NULL));
	}
	close(keeper[1]);
	close(core[1]);
	close(console[1]);
	keeper_end = keeper[0];
	core_end = core[0];
	console_end = console[0];
}

static void config(
	const char *path, uint64_t file_max, uint64_t total_max, unsigned keep, bool to_console)
{
	CLEANUP_CLOSE int fd = *path ? log_dir_open(path) : -1;
	send_frame(LG_CONFIG, "", 0, fd,
		(struct lg_frame){.number = *path && fd < 0 ? (uint64_t)-fd : 0,
			.file_max = file_max,
			.total_max = total_max,
			.file_keep = keep,
			.to_console = to_console});
}

static void stop(void)
{
	int status = -1;
	kill(logger_pid, SIGTERM);
	ck_assert_int_eq(waitpid(logger_pid, &status, 0), logger_pid);
	ck_assert_int_eq(status, 0);
	remove_dir();
}

/* Write end of a new pipe whose other end the logger has. */
static int open_stream(const char *unit, char letter)
{
	int p[2];
	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	send_frame(LG_OPEN, unit, letter, p[0], (struct lg_frame){0});
	close(p[0]);
	return p[1];
}

static void put(int fd, const char *text)
{
	ck_assert_int_eq(write_all(fd, text, strlen(text)), 0);
}

/* The stored text of a unit without the stamps, which must look like stamps. */
static char *stored(const char *unit)
{
	struct buf raw = {0}, text = {0};
	struct log_cursor cursor;
	int r = log_read_last(dir, unit, 0, 0, 64 << 20, &raw, &cursor);
	ck_assert_msg(r == 0 || r == -ENOENT, "%s", errno_name(r));
	buf_add(&text, "", 0);
	for (char *p = raw.data, *end; p && p < raw.data + raw.size; p = end + 1) {
		end = memchr(p, '\n', (size_t)(raw.data + raw.size - p));
		ck_assert_ptr_nonnull(end);
		ck_assert_int_ge(end - p, LOG_HEAD_SIZE);
		ck_assert(p[4] == '-' && p[10] == 'T' && p[19] == '.' && p[23] == 'Z' &&
			  p[24] == ' ');
		buf_add(&text, p + LOG_STAMP_SIZE + 1, (size_t)(end - p) - LOG_STAMP_SIZE);
	}
	buf_done(&raw);
	return text.data ? buf_steal(&text) : xstrdup("");
}

static void check_stored(const char *unit, const char *expected)
{
	char *text = stored(unit);
	ck_assert_str_eq(text, expected);
	free(text);
}

START_TEST(lines_are_stamped_and_whole)
{
	start();
	config(dir, 0, 0, 0, false);
	int o = open_stream("a.service", 'o'), e = open_stream("a.service", 'e');
	put(o, "one\ntw");
	sync_logger();
	check_stored("a.service", "o one\n");
	put(e, "err\n");
	sync_logger();
	put(o, "o\n\nlast without end");
	close(o);
	sync_logger();
	check_stored("a.service", "o one\ne err\no two\no \no last without end\n");
	close(e);
	stop();
}
END_TEST

START_TEST(a_long_line_is_stored_in_marked_pieces)
{
	static char line[40000], expected[41000];
	start();
	config(dir, 0, 0, 0, false);
	int o = open_stream("a.service", 'o');
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	put(o, line);
	put(o, "short\n");
	sync_logger();
	snprintf(expected, sizeof(expected), "o %.*s\no+%.*s\no+%.*s\no short\n", LOG_LINE_MAX,
		line, LOG_LINE_MAX, line, 39998 - 2 * LOG_LINE_MAX, line);
	check_stored("a.service", expected);
	close(o);
	stop();
}
END_TEST

START_TEST(a_note_is_one_line_and_harmless)
{
	struct lg_frame f = {0};
	start();
	config(dir, 0, 0, 0, false);
	str_copy(f.text, "started\n\033[2Jpid 1", sizeof(f.text));
	send_frame(LG_NOTE, "a.service", 0, -1, f);
	sync_logger();
	check_stored("a.service", "d started??[2Jpid 1\n");
	stop();
}
END_TEST

START_TEST(a_note_comes_after_what_was_written_before_it)
{
	struct lg_frame f = {.text = "exited, status=1"};
	start();
	config(dir, 0, 0, 0, false);
	int o = open_stream("a.service", 'o');
	put(o, "one\nlast words");
	send_frame(LG_NOTE, "a.service", 0, -1, f);
	sync_logger();
	check_stored("a.service", "o one\no last words\nd exited, status=1\n");
	put(o, " go on\nnext\n");
	sync_logger();
	check_stored("a.service", "o one\no last words\nd exited, status=1\no  go on\no next\n");
	put(o, "x");
	send_frame(LG_NOTE, "b.service", 0, -1, f); /* another unit's note changes nothing */
	put(o, "y\nz");
	send_frame(LG_NOTE, "a.service", 0, -1, f);
	sync_logger();
	put(o, "\n\n");
	sync_logger();
	char *text = stored("a.service");
	ck_assert_ptr_nonnull(strstr(text, "next\no xy\no z\nd exited, status=1\no \no \n"));
	free(text);
	close(o);
	stop();
}
END_TEST

START_TEST(rotation_never_splits_a_line_and_the_cap_holds)
{
	start();
	config(dir, 10000, 100000, 5, false);
	int o = open_stream("a.service", 'o');
	char line[64];
	for (int i = 0; i < 5000; i++) {
		snprintf(line, sizeof(line), "line %05d %.*s\n", i, i % 30,
			"..............................");
		put(o, line);
	}
	sync_logger();
	char *text = stored("a.service");
	int first = -1, n = 0, number;
	for (char *p = text; *p; p = strchr(p, '\n') + 1, n++) {
		ck_assert_int_eq(sscanf(p, "o line %d", &number), 1);
		if (first < 0)
			first = number;
		ck_assert_int_eq(number, first + n);
		ck_assert_int_eq(strchr(p, '\n') - p, 2 + 11 + number % 30);
	}
	ck_assert_int_eq(first + n, 5000); /* the newest are there; 5 kept files and current */
	ck_assert_int_ge(strlen(text) + (size_t)n * 25, 5 * 9900);
	free(text);
	char path[128];
	struct stat st;
	for (unsigned seq = 1; seq < 40; seq++) {
		snprintf(path, sizeof(path), "%s/a.service/%010u.log", dir, seq);
		if (stat(path, &st) == 0)
			ck_assert_int_le(st.st_size, 10000);
	}
	close(o);
	stop();
}
END_TEST

static uint64_t disk_use(void)
{
	char command[160];
	unsigned long long size = 0;
	snprintf(command, sizeof(command),
		"find %s -type f -printf '%%s\\n' | awk '{s+=$1}END{print s+0}'", dir);
	FILE *f = popen(command, "r");
	ck_assert_int_eq(fscanf(f, "%llu", &size), 1);
	pclose(f);
	return size;
}

START_TEST(one_cap_over_all_units_takes_the_oldest_files_first)
{
	int fds[8];
	char unit[32], line[128];
	start();
	config(dir, 10000, 60000, 50, false);
	for (int u = 0; u < 8; u++) {
		snprintf(unit, sizeof(unit), "u%d.service", u);
		fds[u] = open_stream(unit, 'o');
		for (int i = 0; i < 300; i++) {
			snprintf(line, sizeof(line),
				"%d %04d ......................................\n", u, i);
			put(fds[u], line);
		}
		sync_logger();
		ck_assert_uint_le(disk_use(), 60000);
	}
	/* u0 was written first: nothing but its current file may be left; u7 lost nothing. */
	char *text = stored("u7.service");
	ck_assert_ptr_nonnull(strstr(text, "o 7 0000"));
	ck_assert_ptr_nonnull(strstr(text, "o 7 0299"));
	free(text);
	text = stored("u0.service");
	ck_assert_ptr_null(strstr(text, "o 0 0000"));
	free(text);
	for (int u = 0; u < 8; u++)
		close(fds[u]);
	stop();
}
END_TEST

START_TEST(the_cap_holds_when_nothing_is_rotated_yet)
{
	int fds[20];
	char unit[32], line[128];
	start();
	config(dir, 10000, 20000, 5, false);
	for (int u = 0; u < 20; u++) {
		snprintf(unit, sizeof(unit), "u%d.service", u);
		fds[u] = open_stream(unit, 'o');
		for (int i = 0; i < 40; i++) {
			snprintf(line, sizeof(line),
				"%d %04d ......................................\n", u, i);
			put(fds[u], line);
		}
		sync_logger();
		ck_assert_uint_le(disk_use(), 20000);
	}
	char *text = stored("u19.service");
	ck_assert_ptr_nonnull(strstr(text, "o 19 0039"));
	free(text);
	for (int u = 0; u < 20; u++)
		close(fds[u]);
	stop();
}
END_TEST

START_TEST(a_pipe_that_is_open_already_is_kept)
{
	int p[2];
	start();
	config(dir, 0, 0, 0, false);
	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	for (int i = 0; i < 3; i++)
		send_frame(LG_OPEN, "a.service", 'o', p[0], (struct lg_frame){0});
	config(dir, 0, 0, 0, false); /* a new core says it again */
	put(p[1], "once\n");
	sync_logger();
	check_stored("a.service", "o once\n");
	/* LG_CLOSE takes what is in the pipe, and an unfinished line, and ends it: the write end
	 * finds no reader, since we drop ours too. */
	put(p[1], "tail");
	send_frame(LG_CLOSE, "a.service", 'o', -1, (struct lg_frame){0});
	sync_logger();
	check_stored("a.service", "o once\no tail\n");
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(write(p[1], "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
	close(p[1]);
	stop();
}
END_TEST

START_TEST(streams_go_on_without_core_and_keeper_and_end_the_logger)
{
	int status;
	start();
	config(dir, 0, 0, 0, false);
	int o = open_stream("a.service", 'o');
	sync_logger();
	close(core_end);
	close(keeper_end);
	put(o, "alone\n");
	ck_assert_int_eq(waitpid(logger_pid, &status, WNOHANG), 0);
	close(o);
	ck_assert_int_eq(waitpid(logger_pid, &status, 0), logger_pid);
	ck_assert_int_eq(status, 0);
	check_stored("a.service", "o alone\n");
	remove_dir();
}
END_TEST

START_TEST(nonsense_from_the_core_changes_nothing)
{
	static const char *bad[] = {"", "../x", "a/b", ".hidden", ".."};
	int p[2];
	start();
	config(dir, 0, 0, 0, false);
	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		send_frame(LG_OPEN, bad[i], 'o', p[0], (struct lg_frame){0});
	send_frame(LG_OPEN, "a.service", 'x', p[0], (struct lg_frame){0});
	send_frame(LG_SYNCED, "a.service", 'o', p[0], (struct lg_frame){0});
	send_frame(LG_OPEN, "a.service", 'o', -1, (struct lg_frame){0});
	struct lg_frame f = {.build = WIRE_BUILD, .kind = LG_NOTE};
	memset(f.name, 'a', sizeof(f.name)); /* not terminated */
	ck_assert_int_eq(send(core_end, &f, sizeof(f), 0), sizeof(f));
	ck_assert_int_eq(send(core_end, "short", 5, 0), 5);
	close(p[0]);
	sync_logger();
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(write(p[1], "x", 1), -1); /* nobody kept the read end */
	close(p[1]);
	stop();
}
END_TEST

START_TEST(a_full_disk_never_blocks_a_service_and_is_told_once)
{
	char fs[128], path[192];
	static char line[1001];
	/* Before the logger starts: it could not be stopped while it is libcheck's copy yet. */
	str_copy(fs, "/tmp/test-logd-fs.XXXXXX", sizeof(fs));
	ck_assert_ptr_nonnull(mkdtemp(fs));
	if (mount("none", fs, "tmpfs", 0, "size=256k") < 0) {
		(void)rmdir(fs);
		SKIP("cannot mount a tmpfs");
	}
	start();
	config(fs, 100000, 10000000, 10, false);
	int o = open_stream("a.service", 'o');
	memset(line, 'y', 999);
	line[999] = '\n';
	for (int i = 0; i < 600; i++) /* 600 kB: it would block in the pipe if nobody read */
		put(o, line);
	struct lg_frame f = receive_kind(LG_TROUBLE);
	ck_assert_uint_eq(f.number, 0);
	ck_assert_str_eq(f.name, "a.service");
	ck_assert_ptr_nonnull(strstr(f.text, "ENOSPC"));
	/* Whole lines only, also where the disk became full. */
	struct buf raw = {0};
	struct log_cursor cursor;
	ck_assert_int_eq(log_read_last(fs, "a.service", 0, 0, 1 << 20, &raw, &cursor), 0);
	ck_assert_uint_gt(raw.size, 200000);
	ck_assert_uint_eq(raw.size % (1000 + LOG_HEAD_SIZE), 0);
	buf_done(&raw);
	/* Room again: the next try is a second later at the earliest; write until it is over. */
	snprintf(path, sizeof(path), "%s/a.service/0000000001.log", fs);
	ck_assert_int_eq(unlink(path), 0);
	struct pollfd p = {core_end, POLLIN, 0};
	for (int i = 0; i < DEADLINE_MS / 10 && poll(&p, 1, 10) == 0; i++)
		put(o, "more\n");
	f = receive(); /* nothing was said meanwhile: this is the end of it */
	ck_assert_int_eq(f.kind, LG_TROUBLE);
	ck_assert_uint_eq(f.number, 1);
	put(o, "the end\n");
	sync_logger();
	ck_assert_int_eq(log_read_last(fs, "a.service", 0, 0, 1 << 20, &raw, &cursor), 0);
	ck_assert_ptr_nonnull(strstr(raw.data, " lines lost since "));
	ck_assert_ptr_nonnull(strstr(raw.data, "o the end\n"));
	buf_done(&raw);
	close(o);
	sync_logger(); /* the stream has ended and closed its files */
	(void)umount2(fs, MNT_DETACH);
	(void)rmdir(fs);
	stop();
}
END_TEST

START_TEST(a_log_directory_that_appears_later_is_used)
{
	char path[128];
	start();
	snprintf(path, sizeof(path), "%s/later", dir);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644); /* a file is in the way */
	close(fd);
	config(path, 0, 0, 0, false);
	int o = open_stream("a.service", 'o');
	put(o, "lost\n");
	ck_assert_uint_eq(receive_kind(LG_TROUBLE).number, 0);
	sync_logger();
	ck_assert_int_eq(unlink(path), 0);
	for (bool over = false; !over;) {
		struct pollfd p = {core_end, POLLIN, 0};
		put(o, "again\n");
		struct lg_frame f = {0};
		if (poll(&p, 1, 10) == 1)
			f = receive();
		if (f.kind == LG_DIR)
			config(path, 0, 0, 0, false);
		over = f.kind == LG_TROUBLE && f.number == 1;
	}
	str_copy(path + strlen(path), "/a.service/current", sizeof(path) - strlen(path));
	ck_assert_int_eq(access(path, R_OK), 0);
	close(o);
	stop();
}
END_TEST

/* Where Landlock fixes the directory a new logger takes over; what waits in the pipe is its. */
START_TEST(a_log_directory_that_is_replaced_ends_the_logger_or_is_used)
{
	char path[128], command[160];
	int status;
	start();
	snprintf(path, sizeof(path), "%s/logs", dir);
	config(path, 0, 0, 0, false);
	int o = open_stream("a.service", 'o');
	put(o, "one\n");
	sync_logger();
	snprintf(command, sizeof(command), "rm -rf %s", path);
	ck_assert_int_eq(system(command), 0);
	int b = open_stream("b.service", 'o');
	put(b, "lost\n");
	receive_kind(LG_DIR);
	/* It is answered behind the directory, or never, also when both are there at once. */
	struct lg_frame f = {.build = WIRE_BUILD, .kind = LG_SYNC, .number = 7};
	struct pollfd p = {core_end, POLLIN, 0};
	ck_assert_int_eq(kill(logger_pid, SIGSTOP), 0);
	config(path, 0, 0, 0, false);
	(void)send(core_end, &f, sizeof(f), MSG_NOSIGNAL);
	ck_assert_int_eq(kill(logger_pid, SIGCONT), 0);
	do
		ck_assert_int_eq(poll(&p, 1, DEADLINE_MS), 1);
	while (recv(core_end, &f, sizeof(f), 0) == sizeof(f) && f.kind != LG_SYNCED);
	if (f.kind == LG_SYNCED) {
		put(b, "two\n");
		sync_logger();
		str_copy(dir + strlen(dir), "/logs", sizeof(dir) - strlen(dir));
		check_stored("b.service", "o two\n");
		stop();
		dir[strlen(dir) - 5] = '\0';
	} else {
		ck_assert_int_eq(waitpid(logger_pid, &status, 0), logger_pid);
		ck_assert_int_eq(status, 0);
	}
	remove_dir();
}
END_TEST

START_TEST(the_console_shows_prefixed_harmless_lines)
{
	char text[256] = "";
	start();
	config("", 0, 0, 0, true);
	int o = open_stream("web@1.service", 'o');
	put(o, "h\xc3\xa9llo\tx\n\033[31mred\xff\xc2\x9b\n");
	sync_logger();
	ssize_t n = read(console_end, text, sizeof(text) - 1);
	ck_assert_int_gt(n, 0);
	ck_assert_str_eq(text, "web@1 | h\xc3\xa9llo\tx\nweb@1 | \\x1b[31mred\\xff\\xc2\\x9b\n");
	close(o);
	stop();
}
END_TEST

START_TEST(a_stuck_console_blocks_nobody_and_what_is_missing_is_counted)
{
	static char line[1001], text[65536];
	start();
	config(dir, 0, 0, 0, true);
	int o = open_stream("a.service", 'o');
	memset(line, 'z', 999);
	line[999] = '\n';
	for (int i = 0; i < 1000; i++) /* 1 MB; the console pipe and buffer hold 320 kB */
		put(o, line);
	sync_logger();
	struct pollfd p = {console_end, POLLIN, 0};
	struct buf seen = {0};
	for (int i = 0; i < 1000 && (!seen.size || !strstr(seen.data, "a | after\n")); i++) {
		put(o, "after\n"); /* shown once the buffer in front of it has gone */
		sync_logger();
		while (poll(&p, 1, 0) == 1) {
			ssize_t n = read(console_end, text, sizeof(text));
			ck_assert_int_gt(n, 0);
			buf_add(&seen, text, (size_t)n);
		}
	}
	ck_assert_ptr_nonnull(strstr(seen.data, "a | after\n"));
	ck_assert_ptr_nonnull(strstr(seen.data, "not shown: the console is slow\n"));
	buf_done(&seen);
	close(o);
	stop();
}
END_TEST

START_TEST(a_torn_line_of_a_crash_is_closed)
{
	char path[128];
	start();
	snprintf(path, sizeof(path), "%s/a.service", dir);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	str_copy(path + strlen(path), "/current", sizeof(path) - strlen(path));
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	put(fd, "2026-01-02T03:04:05.678Z o torn");
	close(fd);
	config(dir, 0, 0, 0, false);
	int o = open_stream("a.service", 'o');
	put(o, "new\n");
	sync_logger();
	check_stored("a.service", "o torn\no new\n");
	close(o);
	stop();
}
END_TEST

START_TEST(many_units_are_written_at_once_and_cost_no_wake_up_when_idle)
{
	enum { N = 300 };
	int fds[N];
	char unit[32], line[64], path[64], status[2][4096];
	struct buf b = {0};
	start();
	config(dir, 0, 0, 0, false);
	for (int i = 0; i < N; i++) {
		snprintf(unit, sizeof(unit), "u%d.service", i);
		fds[i] = open_stream(unit, 'o');
	}
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++) {
			snprintf(line, sizeof(line), "%d.%d\n", i, round);
			put(fds[i], line);
		}
	}
	sync_logger();
	for (int i = 0; i < N; i++) {
		snprintf(unit, sizeof(unit), "u%d.service", i);
		snprintf(line, sizeof(line), "o %d.0\no %d.1\no %d.2\n", i, i, i);
		check_stored(unit, line);
	}
	snprintf(path, sizeof(path), "/proc/%d/status", (int)logger_pid);
	/* It settles, as its last turn may still wait for a CPU; then there is no switch in 300 ms. */
	for (int k = 0; k < 20 && (k < 2 || strcmp(status[0], status[1]) != 0); k++) {
		struct pollfd nothing = {core_end, POLLIN, 0};
		ck_assert_int_eq(poll(&nothing, 1, 300), 0); /* it says nothing, either */
		buf_reset(&b);
		ck_assert_int_eq(read_file(AT_FDCWD, path, 65536, &b), 0);
		char *at = strstr(b.data, "voluntary_ctxt_switches");
		ck_assert_ptr_nonnull(at);
		str_copy(status[k % 2], at, sizeof(status[0]));
	}
	ck_assert_str_eq(status[0], status[1]);
	buf_done(&b);
	for (int i = 0; i < N; i++)
		close(fds[i]);
	stop();
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("logd logger");
	TCase *t = tcase_create("process");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, lines_are_stamped_and_whole);
	tcase_add_test(t, a_long_line_is_stored_in_marked_pieces);
	tcase_add_test(t, a_note_is_one_line_and_harmless);
	tcase_add_test(t, a_note_comes_after_what_was_written_before_it);
	tcase_add_test(t, rotation_never_splits_a_line_and_the_cap_holds);
	tcase_add_test(t, one_cap_over_all_units_takes_the_oldest_files_first);
	tcase_add_test(t, the_cap_holds_when_nothing_is_rotated_yet);
	tcase_add_test(t, a_pipe_that_is_open_already_is_kept);
	tcase_add_test(t, streams_go_on_without_core_and_keeper_and_end_the_logger);
	tcase_add_test(t, nonsense_from_the_core_changes_nothing);
	tcase_add_test(t, a_full_disk_never_blocks_a_service_and_is_told_once);
	tcase_add_test(t, a_log_directory_that_appears_later_is_used);
	tcase_add_test(t, a_log_directory_that_is_replaced_ends_the_logger_or_is_used);
	tcase_add_test(t, the_console_shows_prefixed_harmless_lines);
	tcase_add_test(t, a_stuck_console_blocks_nobody_and_what_is_missing_is_counted);
	tcase_add_test(t, a_torn_line_of_a_crash_is_closed);
	tcase_add_test(t, many_units_are_written_at_once_and_cost_no_wake_up_when_idle);
	suite_add_tcase(s, t);
	return s;
}
