/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stayctl: its command line, and whatever a daemon answers (or one that is none: the socket may be
 * anybody's). The input is a count of arguments, each ended by a zero byte; the rest is what the
 * other end says to each connection, to its end.
 *
 * It always ends, with an exit code it has; what it shows to people carries no control character,
 * whoever sent it.
 * Options: -max_len=2048 -detect_leaks=0
 */
#include "ctl/ctl.h"
#include "no_harm.h"

#include <sys/socket.h>

#define ARGS_MAX     8
#define CONNECTS_MAX 4

int connect(int fd, const struct sockaddr *address, socklen_t size);
int usleep(useconds_t us);
unsigned sleep(unsigned s);

static struct input answers;
static unsigned n_connects;

/* The other end is a socket pair that says its answer and closes. */
int connect(int fd, const struct sockaddr *address, socklen_t size)
{
	int p[2];
	(void)address, (void)size;
	if (n_connects++ >= CONNECTS_MAX || !in_left(&answers)) {
		errno = ECONNREFUSED;
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0 || dup2(p[0], fd) < 0)
		abort();
	/* Up to a byte that no JSON has: the next connection gets what is behind it. */
	const uint8_t *cut = memchr(answers.p, 0xff, in_left(&answers));
	size_t n = cut ? (size_t)(cut - answers.p) : in_left(&answers);
	(void)!send(p[1], answers.p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	answers.p += n + (cut != NULL);
	(void)shutdown(p[1], SHUT_WR);
	/* It is read to its end: closing it at once would be a reset. */
	fd_close(p[0]);
	static int last = -1;
	fd_close(last);
	last = p[1];
	return 0;
}

int usleep(useconds_t us)
{
	fake_now_us += us;
	return 0;
}

unsigned sleep(unsigned s)
{
	fake_now_us += s * USEC_PER_SEC;
	return 0;
}

static void check_shown(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		assert((unsigned char)text[i] >= ' ' || text[i] == '\n' || text[i] == '\t');
	for (size_t i = 0; i < size; i++)
		assert(text[i] != 0x7f);
}

static bool is_known_exit(int code)
{
	return (code >= 0 && code <= 8) || code == 78 || (code >= 128 && code <= 160);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *shown[2];
	static size_t shown_size[2];
	struct input in = in_begin(data, size);
	char *argv[ARGS_MAX + 2] = {(char *)(uintptr_t) "stayctl"}, *own[ARGS_MAX];
	int argc = in_u8(&in) % ARGS_MAX + 1;
	bool is_plain = true, is_json = false;
	for (int i = 1; i < argc + 1 && i <= ARGS_MAX; i++) {
		uint8_t verb = in_u8(&in);
		own[i - 1] = in_str(&in);
		for (char *p = own[i - 1]; *p; p++)
			*p = *p == '/' ? '_' : *p; /* no file but here */
		argv[i] = own[i - 1];
		if (verb)
			argv[i] = (char *)(uintptr_t)verbs[verb % n_verbs].name;
		is_plain = is_plain && is_printable(argv[i]);
		is_json = is_json || startswith(argv[i], "--j");
	}
	answers = in;
	n_connects = 0;
	FILE *out = stdout, *err = stderr;
	stdout = open_memstream(&shown[0], &shown_size[0]);
	stderr = open_memstream(&shown[1], &shown_size[1]);
	int code = ctl_main(argc + 1, argv);
	fclose(stdout);
	fclose(stderr);
	stdout = out;
	stderr = err;
	assert(is_known_exit(code));
	if (is_plain && !is_json)
		check_shown(shown[0], shown_size[0]);
	if (is_plain)
		check_shown(shown[1], shown_size[1]);
	free(shown[0]);
	free(shown[1]);
	for (int i = 0; i < argc && i < ARGS_MAX; i++)
		free(own[i]);
	return 0;
}
