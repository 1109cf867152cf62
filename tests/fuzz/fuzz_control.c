/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes a local user sends to the control socket, in whatever pieces.
 *
 * The first byte of the input chooses the size of the pieces and whether requests are answered at
 * once; the rest goes to a fresh connection. Checked: no crash, every answer is one JSON object in
 * valid UTF-8, and an input without more messages ends with an idle server.
 * Options: -max_len=2048 -detect_leaks=0
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "control_doubles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop loop;
static struct core *core;
static struct sockaddr_un address;
static socklen_t address_size;

/* An abstract name: nothing to clean up when a run is killed. */
static int listen_somewhere(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	address.sun_family = AF_UNIX;
	address_size = sizeof(sa_family_t);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, address_size) < 0 || listen(fd, 16) < 0)
		abort();
	address_size = sizeof(address);
	if (getsockname(fd, (struct sockaddr *)&address, &address_size) < 0)
		abort();
	return fd;
}

static void start(void)
{
	log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
	if (loop_init(&loop) < 0)
		abort();
	core = fake_core();
	if (control_new(&loop, listen_somewhere(), NULL, &fake_daemon, core, &core->control) < 0)
		abort();
}

static void check_answers(const struct buf *in)
{
	for (size_t at = 0; at < in->size;) {
		const char *end = memchr(in->data + at, '\0', in->size - at);
		if (!end)
			break; /* cut by our close */
		json_t *j = json_loadb(in->data + at, (size_t)(end - in->data) - at, 0, NULL);
		if (!json_is_object(j))
			abort();
		json_decref(j);
		at = (size_t)(end - in->data) + 1;
	}
}

static void turn(int fd, struct buf *in)
{
	char chunk[4096];
	for (int i = 0; i < 4; i++)
		if (loop_turn(&loop, 0) <= 0)
			break;
	for (ssize_t n; (n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0;)
		buf_add(in, chunk, (size_t)n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf in = {0};
	if (!core)
		start();
	if (size < 1)
		return 0;
	size_t piece = (size_t)(data[0] & 0x7f) * 16 + 1;
	core->is_deferred = data[0] & 0x80;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(fd, (struct sockaddr *)&address, address_size) < 0)
		abort();
	while (!control_clients(
		core->control)) /* accepting has a share of the time, and may pause */
		if (loop_turn(&loop, 1000) < 0)
			abort();
	for (size_t at = 1; at < size;) {
		ssize_t n = send(fd, data + at, MIN(piece, size - at), MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			break;
		at += n > 0 ? (size_t)n : 0;
		turn(fd, &in);
	}
	turn(fd, &in);
	for (uint64_t id = core->next_request; id > 0 && id + 8 > core->next_request; id--)
		control_reply_done(core->control, id, REPLY_FAILED, "fuzz");
	turn(fd, &in);
	check_answers(&in);
	buf_done(&in);
	close(fd);
	while (control_clients(core->control))
		if (loop_turn(&loop, 1000) <= 0)
			abort(); /* a client that nobody would ever close */
	return 0;
}
