/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the logger costs beside the least that is possible: reading 64 KiB, writing them, rotating
 * by size. Both take LOGD_SPEED_MB (50) of 100-byte lines in 4000-byte writes from a child, to files
 * of 10 MB of which 10 are kept. The figures are printed; the test fails when the logger loses a
 * line, or is slower than a sixth of the bare copy (which no noise of a busy machine explains).
 */
#include "logd/private.h"
#include "check_main.h"
#include "logd_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define FILE_SIZE (10 * 1000 * 1000)
#define LINE_SIZE 100
#define PER_WRITE 40

static char dir[64];
static size_t n_writes;

struct cost {
	double seconds, cpu_seconds;
};

static double cpu_of(const struct rusage *u)
{
	return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
	       (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1e6;
}

static pid_t start_writer(int fd)
{
	static char block[LINE_SIZE * PER_WRITE];
	pid_t pid = fork();
	if (pid)
		return pid;
	memset(block, 'x', sizeof(block));
	for (size_t i = LINE_SIZE - 1; i < sizeof(block); i += LINE_SIZE)
		block[i] = '\n';
	for (size_t i = 0; i < n_writes; i++)
		if (write_all(fd, block, sizeof(block)) < 0)
			_exit(1);
	_exit(0);
}

/* The least a logger can do. */
static int bare_copy(int in)
{
	static char block[65536];
	char path[128];
	size_t in_file = FILE_SIZE;
	int out = -1, n_files = 0;
	for (ssize_t n; (n = read(in, block, sizeof(block))) > 0; in_file += (size_t)n) {
		if (in_file + (size_t)n > FILE_SIZE) {
			fd_close(out);
			snprintf(path, sizeof(path), "%s/%d", dir, n_files % 11);
			out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
			n_files++;
			in_file = 0;
		}
		if (write_all(out, block, (size_t)n) < 0)
			return 1;
	}
	return 0;
}

static struct cost finish(pid_t writer, pid_t copier, uint64_t start_us)
{
	struct rusage u;
	int status;
	ck_assert_int_eq(waitpid(writer, &status, 0), writer);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(wait4(copier, &status, 0, &u), copier);
	ck_assert_int_eq(status, 0);
	return (struct cost){(double)(now_mono_us() - start_us) / 1e6, cpu_of(&u)};
}

static struct cost run_bare(void)
{
	int p[2];
	ck_assert_int_eq(pipe(p), 0);
	uint64_t start_us = now_mono_us();
	pid_t writer = start_writer(p[1]);
	close(p[1]);
	pid_t copier = fork();
	if (copier == 0)
		_exit(bare_copy(p[0]));
	close(p[0]);
	return finish(writer, copier, start_us);
}

static struct cost run_logger(void)
{
	struct lg_frame f = {.build = WIRE_BUILD,
		.kind = LG_CONFIG,
		.file_max = FILE_SIZE,
		.total_max = 100ULL * FILE_SIZE,
		.file_keep = 10};
	int keeper[2], core[2], p[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, keeper), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, core), 0);
	ck_assert_int_eq(pipe(p), 0);
	pid_t logger = fork();
	if (logger == 0) {
		int links[2] = {fcntl(keeper[1], F_DUPFD, 100), fcntl(core[1], F_DUPFD, 100)};
		for (int fd = 3; fd < 100; fd++)
			close(fd);
		dup2(links[0], ROLE_KEEPER_FD);
		dup2(links[1], ROLE_CORE_FD);
		close(links[0]);
		close(links[1]);
		_exit(logger_main(0, NULL));
	}
	close(keeper[1]);
	close(core[1]);
	int dir_fd = log_dir_open(dir);
	ck_assert_int_gt(send_fds(core[0], &f, sizeof(f), &dir_fd, 1, 0), 0);
	close(dir_fd);
	f.kind = LG_OPEN;
	f.stream = 'o';
	str_copy(f.name, "speed.service", sizeof(f.name));
	ck_assert_int_gt(send_fds(core[0], &f, sizeof(f), &p[0], 1, 0), 0);
	close(p[0]);
	uint64_t start_us = now_mono_us();
	pid_t writer = start_writer(p[1]);
	close(p[1]);
	close(keeper[0]); /* it ends with its last stream */
	return finish(writer, logger, start_us);
}

/* Every line that rotation has left is a line of ours, and all of the newest ones are there. */
static void check_files(void)
{
	struct buf out = {0};
	struct log_cursor c;
	ck_assert_int_eq(log_read_last(dir, "speed.service", 0, 0, 200 << 20, &out, &c), 0);
	ck_assert_uint_eq(out.size % (LINE_SIZE + LOG_HEAD_SIZE), 0);
	for (size_t i = 0; i < out.size; i += LINE_SIZE + LOG_HEAD_SIZE)
		ck_assert(out.data[i + LOG_HEAD_SIZE] == 'x' &&
			  out.data[i + LOG_HEAD_SIZE + LINE_SIZE - 1] == '\n');
	size_t expected = n_writes * PER_WRITE * (LINE_SIZE + LOG_HEAD_SIZE);
	ck_assert_uint_ge(out.size, MIN(expected, 99 * (size_t)(FILE_SIZE / 100) * 10));
	buf_done(&out);
}

/* In memory where there is room for both copies, with their stamps: containers often have 64 MB there. */
static const char *place(size_t bytes)
{
	struct statvfs v;
	if (access("/dev/shm", W_OK) == 0 && statvfs("/dev/shm", &v) == 0 &&
		(uint64_t)v.f_bavail * v.f_frsize > 3 * (uint64_t)bytes)
		return "/dev/shm/logd.XXXXXX";
	return "/tmp/logd.XXXXXX";
}

START_TEST(the_logger_keeps_up_with_a_bare_copy)
{
	const char *mb = getenv("LOGD_SPEED_MB");
	char command[128];
	n_writes = (mb ? strtoul(mb, NULL, 10) : 50) * 1000000 / (LINE_SIZE * PER_WRITE);
	double n_lines = (double)n_writes * PER_WRITE, bytes = n_lines * LINE_SIZE;
	str_copy(dir, place((size_t)bytes), sizeof(dir));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	struct cost bare = run_bare(), ours = run_logger();
	check_files();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
	printf("# bare copy: %.0f MB/s, %.0f ns of CPU a line\n", bytes / bare.seconds / 1e6,
		bare.cpu_seconds / n_lines * 1e9);
	printf("# logger, stamped, whole lines: %.0f MB/s, %.0f ns of CPU a line\n",
		bytes / ours.seconds / 1e6, ours.cpu_seconds / n_lines * 1e9);
	printf("# ratio: %.2f by time, %.2f by CPU\n", bare.seconds / ours.seconds,
		bare.cpu_seconds / ours.cpu_seconds);
#ifndef __SANITIZE_ADDRESS__
	ck_assert_double_ge(bare.cpu_seconds / ours.cpu_seconds, 1.0 / 6);
#endif
}
END_TEST

Suite *suite(void)
{
	Suite *s = suite_create("logd speed");
	TCase *t = tcase_create("speed");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, the_logger_keeps_up_with_a_bare_copy);
	suite_add_tcase(s, t);
	return s;
}
