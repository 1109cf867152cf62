/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client side of the control protocol: NUL-terminated JSON over a Unix socket.
 *
 * Owns the connection. Nothing is done before connect(2): `status` of one unit should cost an exec
 * and a round trip. Called by the verbs.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "ctl.h"

static volatile sig_atomic_t is_interrupted;

static void on_interrupt(int signo UNUSED)
{
	is_interrupted = 1;
}

/* Anybody makes names in /tmp. The daemon takes only a directory of its own, and we of it. */
static bool is_own_dir(const char *dir)
{
	struct stat st;
	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
	       !(st.st_mode & 022);
}

/* And anybody may take an abstract name; that of a daemon tells whose it is (runtime_dir_choice()). */
static bool is_false(const char *path, int fd)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);
	unsigned uid;
	if (sscanf(path, "@stayd-%u-", &uid) != 1)
		return false;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
	       (peer.uid != uid && peer.uid != 0);
}

/* An abstract name is there when somebody answers. A daemon of root serves others too. */
static bool is_there(const char *path)
{
	struct client cl;
	if (path[0] == '/')
		return access(path, F_OK) == 0;
	if (client_open(&cl, path) < 0)
		return false;
	client_close(&cl);
	return true;
}

char *socket_path(const char *option)
{
	static const char system[] = "/run/stayd/control.sock";
	const char *env = getenv("STAYD_SOCKET");
	char *dir, *first = NULL;
	if (option)
		return xstrdup(option);
	if (env && env[0])
		return xstrdup(env);
	for (unsigned i = 0; (dir = runtime_dir_choice(i)); i++) {
		char *path = xasprintf("%s/control.sock", dir);
		bool is_ours = i == 0 || dir[0] == '@' || is_own_dir(dir);
		free(dir);
		if (is_ours && is_there(path)) {
			free(first);
			return path;
		}
		if (first)
			free(path);
		else
			first = path;
	}
	if (!is_there(system))
		return first;
	free(first);
	return xstrdup(system);
}

int client_open(struct client *cl, const char *path)
{
	struct sockaddr_un addr;
	unsigned len;
	*cl = (struct client){.fd = -1, .deadline_us = USEC_INFINITY};
	int r = unix_addr(path, &addr, &len);
	if (r < 0)
		return r;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, len) < 0) {
		r = -errno;
		fd_close(fd);
		return r;
	}
	if (is_false(path, fd)) {
		fd_close(fd);
		return -EPERM;
	}
	cl->fd = fd;
	return 0;
}

void client_close(struct client *cl)
{
	if (cl->fd >= 0)
		cl->fd = fd_close(cl->fd);
	buf_done(&cl->in);
}

int client_call(struct client *cl, const char *method, json_t *params, bool more)
{
	json_t *m = json_pack("{s:s+}", "method", "org.stayd.Control.", method);
	if (params)
		json_object_set_new(m, "parameters", params);
	if (more)
		json_object_set_new(m, "more", json_true());
	char *text = json_dumps(m, JSON_COMPACT);
	json_decref(m);
	if (!text)
		return -EINVAL;         /* an argument is not UTF-8 */
	size_t size = strlen(text) + 1; /* with the NUL that ends a message */
	int r = size > CONTROL_MESSAGE_MAX ? -E2BIG : 0;
	for (size_t at = 0; r == 0 && at < size;) {
		ssize_t n = send(cl->fd, text + at, size - at, MSG_NOSIGNAL);
		if (n < 0 && errno != EINTR)
			r = -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	free(text);
	return r;
}

bool client_is_interrupted(void)
{
	return is_interrupted;
}

/* 0 when there is something to read. */
static int client_poll(struct client *cl)
{
	struct pollfd p = {.fd = cl->fd, .events = POLLIN};
	for (;;) {
		int timeout = -1;
		if (is_interrupted)
			return CLIENT_INTERRUPTED;
		if (cl->deadline_us != USEC_INFINITY) {
			uint64_t now = now_mono_us();
			if (now >= cl->deadline_us)
				return CLIENT_TIMED_OUT;
			timeout = (int)MIN((cl->deadline_us - now) / USEC_PER_MSEC + 1, 1u << 30);
		}
		int n = poll(&p, 1, timeout);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static bool message_ready(struct client *cl, size_t *ret_size)
{
	char *end = cl->in.size > cl->scanned
			    ? memchr(cl->in.data + cl->scanned, '\0', cl->in.size - cl->scanned)
			    : NULL;
	cl->scanned = end ? (size_t)(end - cl->in.data) : cl->in.size;
	*ret_size = cl->scanned;
	return end != NULL;
}

int client_read(struct client *cl, char **ret_text, size_t *ret_size)
{
	static bool has_handler;
	struct sigaction sa = {.sa_handler = on_interrupt}; /* no SA_RESTART: poll must end */
	size_t size;
	if (!has_handler)
		has_handler = sigaction(SIGINT, &sa, NULL) == 0;
	while (!message_ready(cl, &size)) {
		int r = client_poll(cl);
		if (r != 0)
			return r;
		if (cl->in.size > CONTROL_REPLY_MAX + CONTROL_MESSAGE_MAX)
			return -EMSGSIZE;
		buf_reserve(&cl->in, 256 * 1024);
		ssize_t n = recv(cl->fd, cl->in.data + cl->in.size, 256 * 1024 - 1, 0);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EINTR)
			return -errno;
		cl->in.size += n > 0 ? (size_t)n : 0;
	}
	*ret_text = xstrndup(cl->in.data, size);
	*ret_size = size;
	buf_consume(&cl->in, size + 1);
	cl->scanned = 0;
	return 0;
}

int client_reply(struct client *cl, struct reply *ret)
{
	char *text;
	size_t size;
	json_error_t e;
	int r = client_read(cl, &text, &size);
	if (r != 0)
		return r;
	json_t *root = json_loadb(text, size, 0, &e);
	free(text);
	if (!json_is_object(root)) {
		json_decref(root);
		return -EBADMSG;
	}
	*ret = (struct reply){
		.root = root,
		.params = json_object_get(root, "parameters"),
		.error = json_string_value(json_object_get(root, "error")),
		.continues = json_is_true(json_object_get(root, "continues")),
	};
	return 0;
}

void reply_done(struct reply *r)
{
	json_decref(r->root);
	*r = (struct reply){0};
}

const char *reply_raw(const char *text, size_t size, size_t *ret_size)
{
	static const char head[] = "{\"parameters\":";
	size_t n = sizeof(head) - 1;
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)text[i] < ' ')
			return NULL; /* no JSON, and not of a daemon */
	if (size < n + 3 || memcmp(text, head, n) != 0 || text[n] != '{' || text[size - 1] != '}' ||
		text[size - 2] != '}')
		return NULL;
	*ret_size = size - n - 1;
	return text + n;
}

/* ---- exit codes -------------------------------------------------------------------------------------- */

int exit_of_error(const char *error, bool is_status)
{
	static const struct {
		const char *name;
		int code, status_code;
	} rows[] = {
#define FAULT(name, code, status_code) {name, code, status_code},
#include "stayd/outcomes.def"
	};
	const char *name = startswith(error, "org.stayd.") ? error + strlen("org.stayd.") : error;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (streq(rows[i].name, name))
			return is_status ? rows[i].status_code : rows[i].code;
	return STAY_EXIT_FAILED;
}

int exit_of_result(const char *result)
{
	static const struct {
		const char *result;
		int code;
	} rows[] = {
#define RESULT(id, word, code) {word, code},
#include "stayd/outcomes.def"
	};
	if (streq(result, "started"))
		return STAY_EXIT_OK;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (streq(rows[i].result, result))
			return rows[i].code;
	return STAY_EXIT_FAILED;
}

/* ---- saying it ------------------------------------------------------------------------------------------ */

static bool is_status_verb(const struct ctl *c)
{
	return c->verb && !c->verb->is_change;
}

/* It may quote a name from a hostile file or command line. */
static void say_text(const char *prefix, const char *text)
{
	print_line(stderr, prefix, text, strlen(text));
}

int say_error(struct ctl *c, const struct reply *r)
{
	const char *text = js(r->params, "message");
	const char *dot = strrchr(r->error, '.');
	if (streq(r->error, "org.varlink.service.InvalidParameter"))
		fprintf(stderr, "error: the daemon does not take '%s' so\n",
			jp(r->params, "parameter"));
	else
		say_text("error: ", text[0] ? text : dot ? dot + 1 : r->error);
	if (js(r->params, "hint")[0])
		say_text("  hint: ", js(r->params, "hint"));
	return exit_of_error(r->error, is_status_verb(c));
}

int say_broken(int r, const char *id)
{
	if (r == CLIENT_TIMED_OUT) {
		fprintf(stderr, "error: not finished in time; %s goes on in the daemon\n",
			id ? id : "it");
		return STAY_EXIT_TIMED_OUT;
	}
	if (r == CLIENT_INTERRUPTED) {
		if (id)
			fprintf(stderr, "\nnote: detached; %s goes on in the daemon\n", id);
		return 128 + SIGINT;
	}
	fprintf(stderr, "error: the connection to stayd broke: %s%s%s\n", errno_name(r),
		id ? "; asked for: " : "", strna(id));
	fprintf(stderr, "  hint: stayctl status\n");
	return STAY_EXIT_UNREACHABLE;
}

int connect_or_say(struct ctl *c, struct client *cl)
{
	char *path = socket_path(c->socket);
	int r = client_open(cl, path);
	if (r < 0 && !c->quiet) {
		fprintf(stderr, "error: cannot reach stayd at %s: %s\n", path, errno_name(r));
		fprintf(stderr, "  hint: %s\n",
			r == -EACCES
				? "you may not use this socket"
				: "is stayd running? --socket PATH or $STAYD_SOCKET names another");
	}
	free(path);
	if (r == 0 && c->timeout_us != USEC_INFINITY)
		cl->deadline_us = now_mono_us() + c->timeout_us;
	return r < 0 ? STAY_EXIT_UNREACHABLE : 0;
}

int ask(struct ctl *c, const char *method, json_t *params, struct reply *ret)
{
	struct client cl;
	int r = connect_or_say(c, &cl);
	if (r) {
		json_decref(params);
		return r;
	}
	r = client_call(&cl, method, params, false);
	if (r == 0)
		r = client_reply(&cl, ret);
	client_close(&cl);
	if (r)
		return say_broken(r, NULL);
	if (!ret->error)
		return 0;
	r = say_error(c, ret);
	reply_done(ret);
	return r;
}

static int print_raw(struct ctl *c, const char *text, size_t size)
{
	size_t raw_size;
	const char *raw = reply_raw(text, size, &raw_size);
	if (raw) {
		fwrite(raw, 1, raw_size, stdout);
		fputc('\n', stdout);
		return 0;
	}
	json_t *root = json_loadb(text, size, 0, NULL);
	struct reply rep = {.root = root,
		.params = json_object_get(root, "parameters"),
		.error = json_string_value(json_object_get(root, "error"))};
	int r = rep.error ? say_error(c, &rep) : say_broken(-EBADMSG, NULL);
	reply_done(&rep);
	return r;
}

int ask_raw(struct ctl *c, const char *method, json_t *params)
{
	struct client cl;
	char *text;
	size_t size;
	int r = connect_or_say(c, &cl);
	if (r) {
		json_decref(params);
		return r;
	}
	r = client_call(&cl, method, params, false);
	if (r == 0)
		r = client_read(&cl, &text, &size);
	client_close(&cl);
	if (r)
		return say_broken(r, NULL);
	r = print_raw(c, text, size);
	free(text);
	return r;
}

json_t *names_json(struct ctl *c)
{
	json_t *a = json_array();
	for (int i = 0; i < c->argc; i++)
		json_array_append_new(a, json_string(c->argv[i]));
	return a;
}
