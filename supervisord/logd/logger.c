/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The logger process: pipes of the services -> files and console.
 *
 *  1. A pipe is read whether or not its bytes can be stored; a service never blocks on us longer
 *     than one turn of the loop.
 *  2. The core may die and come back at any moment: streams go on; LG_OPEN for a pipe that is
 *     open already (same inode) changes nothing, LG_CONFIG for the same directory only sizes.
 *  3. What we have to say to the core is state (a pending sync, trouble not told yet), not a queue:
 *     it is bounded, and survives a full or absent link.
 *  4. No timer but while a pipe cannot be read: an idle logger does not wake up. A failed write is tried
 *     again by the next line.
 *  5. A pipe ends when it says so. One that cannot be read now is left alone for a while and tried again:
 *     what we end blocks its service for good.
 *
 * It runs as a user of its own when the daemon is root's (confine/): the log directory is handed over
 * by core, as a descriptor. It parses nothing but frames of the core and counts newlines in everything
 * else; of the file system it sees its directory alone.
 *
 * Started by the keeper in ROLE_LOGGER; peer of core/.
 */
#include "private.h"

#include "confine/confine.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Rounds over one pipe when it is drained for a sync or a close: a full default pipe is one
 * round; a writer that never stops does not hold us for ever. */
#define DRAIN_ROUNDS_MAX 64

#define READ_AGAIN_US (100 * USEC_PER_MSEC)

struct stream {
	struct source source;
	int fd;
	dev_t dev;
	ino_t ino;
	char letter;
	bool to_console;
	bool is_unread; /* its last read failed: not watched until the timer */
	struct line_state lines;
	struct unit_log *log;
	struct stream *next, *prev; /* of the same unit */
};

static struct logger {
	struct loop loop;
	struct source keeper, core, signals;
	struct store store;
	struct console console;
	struct stamper stamper;
	struct batch batch;
	unsigned n_streams;
	int turn_fd; /* turn.c; < 0: not ours */
	bool is_configured, all_to_console, has_keeper;
	bool has_unread; /* streams; the timer is armed */
	bool has_sync;
	uint64_t sync_number;
	char in[LOG_LINE_MAX + LOG_READ_MAX]; /* a stream's carry ends where its read begins */
} g;

/* ---- to the core ------------------------------------------------------------------------------ */

static int core_send(uint16_t kind, uint64_t number, const char *name, const char *text)
{
	struct lg_frame f = {.build = WIRE_BUILD, .kind = kind, .number = number};
	str_copy(f.name, name, sizeof(f.name));
	str_copy(f.text, text, sizeof(f.text));
	ssize_t n = send_fds(g.core.fd, &f, sizeof(f), NULL, 0, MSG_DONTWAIT);
	return n < 0 ? (int)n : 0;
}

/* The number of an LG_TROUBLE: 0 it begins, 1 it is over. */
static int tell_log(struct unit_log *log)
{
	char text[160];
	int r = 0;
	if (log->error && !log->is_told) {
		snprintf(text, sizeof(text), "cannot write its log (%s); lines are dropped",
			errno_name(log->error));
		r = core_send(LG_TROUBLE, 0, log->name, text);
		log->is_told = r == 0;
		if (r == 0)
			log->over_text[0] = '\0';
	} else if (!log->error && log->over_text[0]) {
		r = core_send(LG_TROUBLE, 1, log->name, log->over_text);
		if (r == 0)
			log->over_text[0] = '\0';
	}
	return r;
}

/* Says what there is to say; on a full link the rest follows when it can be written. */
static void core_flush(void)
{
	size_t pos = 0;
	void *v;
	int r = 0;
	if (!g.core.is_added || (!g.has_sync && !g.store.has_news && !g.store.wants_dir))
		return;
	if (g.has_sync) {
		r = core_send(LG_SYNCED, g.sync_number, "", "");
		g.has_sync = r < 0;
	}
	if (r == 0 && g.store.wants_dir) {
		r = core_send(LG_DIR, 0, "", "");
		g.store.wants_dir = r < 0;
	}
	while (r == 0 && g.store.has_news && map_next(&g.store.logs, &pos, NULL, &v))
		r = tell_log(v);
	if (r == 0)
		g.store.has_news = false;
	(void)loop_modify(&g.loop, &g.core, r == -EAGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* ---- streams ---------------------------------------------------------------------------------- */

static void batch_write(struct unit_log *log, bool to_console, struct batch *b)
{
	if (!b->n_lines)
		return;
	store_write(&g.store, log, b->data, b->size, b->n_lines);
	if (to_console || g.all_to_console)
		console_show(&g.console, log->name, b->data, b->size);
	b->size = b->n_lines = 0;
}

static void on_batch(void *arg, struct batch *b)
{
	struct stream *s = arg;
	batch_write(s->log, s->to_console, b);
}

static void stream_end(struct stream *s)
{
	lines_end(&s->lines, &g.stamper, s->letter, now_wall_us(), &g.batch, on_batch, s);
	on_batch(s, &g.batch);
	loop_remove(&g.loop, &s->source);
	fd_close(s->fd);
	*(s->prev ? &s->prev->next : &s->log->streams) = s->next;
	if (s->next)
		s->next->prev = s->prev;
	if (!s->log->streams)
		store_release(s->log);
	free(s);
	g.n_streams--;
	if (!g.has_keeper && !g.n_streams)
		g.loop.is_done = true;
}

static void leave_alone(struct stream *s)
{
	loop_remove(&g.loop, &s->source);
	if (!g.has_unread)
		loop_arm(&g.loop, now_mono_us() + READ_AGAIN_US);
	g.has_unread = s->is_unread = true;
}

/* One read: > 0 bytes came, 0 the pipe is empty for now, < 0 it ended. */
static int stream_read(struct stream *s)
{
	char *at = g.in + LOG_LINE_MAX;
	ssize_t n;
	do
		n = read(s->fd, at, LOG_READ_MAX);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN)
		leave_alone(s);
	if (n <= 0)
		return n < 0 ? 0 : -1;
	size_t carried = s->lines.carry.size;
	if (carried)
		memcpy(at - carried, s->lines.carry.data, carried);
	lines_add(&s->lines, &g.stamper, s->letter, now_wall_us(), at - carried,
		(size_t)n + carried, &g.batch, on_batch, s);
	on_batch(s, &g.batch);
	return 1;
}

static void on_stream(struct source *src, uint32_t epoll_events)
{
	struct stream *s = container_of(src, struct stream, source);
	(void)epoll_events;
	if (g.loop.is_done)
		return; /* the next one reads it: this one's directory may be gone */
	if (stream_read(s) < 0)
		stream_end(s);
	core_flush();
}

/* Reads what is in the pipe now. True when it has ended and s is gone. */
static bool stream_drain(struct stream *s)
{
	int r = 1;
	for (int i = 0; i < DRAIN_ROUNDS_MAX && r > 0; i++)
		r = stream_read(s);
	if (r < 0)
		stream_end(s);
	return r < 0;
}

/* Calls fn for every stream; fn may end the one it is given. */
static void each_stream(void (*fn)(struct stream *s))
{
	size_t pos = 0;
	void *v;
	while (g.n_streams && map_next(&g.store.logs, &pos, NULL, &v)) {
		struct unit_log *log = v;
		for (struct stream *s = log->streams, *next; s; s = next) {
			next = s->next;
			fn(s);
		}
	}
}

static void drain(struct stream *s)
{
	(void)stream_drain(s);
}

static int stream_start(struct stream *s)
{
	return loop_add(&g.loop, &s->source, s->fd, EPOLLIN, PRIO_NORMAL, on_stream);
}

static void watch_again(struct stream *s)
{
	bool was_unread = s->is_unread;
	s->is_unread = false;
	if (was_unread && g.is_configured && !s->source.is_added && stream_start(s) < 0)
		leave_alone(s);
}

static void on_timer(struct loop *l)
{
	loop_arm(l, USEC_INFINITY);
	g.has_unread = false;
	each_stream(watch_again);
}

static bool is_open_already(const struct unit_log *log, const struct stat *st, char letter)
{
	for (struct stream *s = log->streams; s; s = s->next)
		if (s->ino == st->st_ino && s->dev == st->st_dev && s->letter == letter)
			return true;
	return false;
}

static void start_or_end(struct stream *s)
{
	if (stream_start(s) < 0)
		stream_end(s);
}

/* Takes fd over. */
static int stream_open(const struct lg_frame *f, int fd)
{
	CLEANUP_CLOSE int owned = fd;
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -EBADF;
	struct unit_log *log = store_log(&g.store, f->name);
	if (log && is_open_already(log, &st, (char)f->stream))
		return 0;
	if (!log || g.n_streams >= LOG_STREAMS_MAX)
		return -ENOSPC;
	/* On the read end's own description; the service's end is another one. */
	int r = fd_set_nonblock(fd, true);
	if (r < 0)
		return r;
	struct stream *s = xcalloc(1, sizeof(*s));
	*s = (struct stream){.fd = fd,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.letter = (char)f->stream,
		.to_console = f->to_console,
		.log = log,
		.next = log->streams};
	r = g.is_configured ? stream_start(s) : 0; /* else do_config() starts it */
	if (r < 0) {
		free(s);
		return r;
	}
	(void)TAKE_FD(owned);
	if (log->streams)
		log->streams->prev = s;
	log->streams = s;
	g.n_streams++;
	return 0;
}

/* ---- frames of the core ----------------------------------------------------------------------- */

static void forget_told(void)
{
	size_t pos = 0;
	void *v;
	while (map_next(&g.store.logs, &pos, NULL, &v))
		((struct unit_log *)v)->is_told = false;
	g.store.has_news = true;
}

/* The directory is all there is for us from now on. */
static void confine_to_dir(void)
{
	const struct confine_path paths[] = {
		{.fd = g.store.dir_fd, .is_writable = true},
#ifdef __SANITIZE_ADDRESS__
		{.fd = -1,             .path = "/proc"    }, /* its leak checker reads there */
#endif
	};
	struct err e = {0};
	int r = g.store.is_fixed || g.store.dir_fd < 0
			? 0
			: confine_files(paths, ARRAY_SIZE(paths), false, &e);
	g.store.is_fixed |= r > 0;
	if (r < 0)
		log_warn(NULL, "%s", e.text);
}

static void take_turn(void)
{
	g.turn_fd = turn_take(g.store.dir_fd);
	if (g.turn_fd < 0 && g.turn_fd != -EROFS && g.turn_fd != -EACCES)
		log_error(NULL,
			"another logger writes here and does not end (%s): its lines and ours mix",
			errno_name(g.turn_fd));
}

static void do_config(const struct lg_frame *f, int fd)
{
	store_limits(&g.store, f->file_max, f->total_max, f->file_keep);
	g.all_to_console = f->to_console;
	if (store_open(&g.store, fd, (int)f->number) > 0) {
		log_warn(NULL, "the log directory is another one now: starting anew");
		g.loop.is_done = true; /* nothing is lost that is in a pipe: keeper holds it */
		return;
	}
	if (g.store.dir_fd >= 0 && g.turn_fd < 0)
		take_turn();
	confine_to_dir(); /* not before: it forbids to signal the logger whose turn is over */
	forget_told();    /* this may be a new core */
	if (g.is_configured)
		return;
	g.is_configured = true;
	each_stream(start_or_end);
}

static void do_open(const struct lg_frame *f, int fd)
{
	int r = stream_open(f, fd);
	if (r < 0) {
		log_error(f->name, "cannot take its output: %s", errno_name(r));
		(void)core_send(LG_TROUBLE, 0, f->name, "its output cannot be taken");
	}
}

static void do_close(const struct lg_frame *f, int fd)
{
	struct unit_log *log = map_get(&g.store.logs, f->name);
	(void)fd;
	for (struct stream *s = log ? log->streams : NULL, *next; s; s = next) {
		next = s->next;
		if (s->letter == (char)f->stream && !stream_drain(s))
			stream_end(s);
	}
}

/* What the service wrote before the daemon's word about it comes before it in the log, also a last
 * line without an end: a dead process will not finish it, and its pipe may outlive it. */
static void put_before_note(struct unit_log *log)
{
	for (struct stream *s = log->streams, *next; s; s = next) {
		next = s->next;
		if (stream_drain(s))
			continue;
		lines_end(&s->lines, &g.stamper, s->letter, now_wall_us(), &g.batch, on_batch, s);
		on_batch(s, &g.batch);
	}
}

static void do_note(const struct lg_frame *f, int fd)
{
	struct line_state lines = {0};
	struct stream s = {.letter = 'd', .log = store_log(&g.store, f->name)};
	char text[sizeof(f->text)];
	(void)fd;
	if (!s.log)
		return;
	put_before_note(s.log);
	str_copy(text, f->text, sizeof(text) - 1);
	str_make_printable(text); /* one line, whatever it quotes */
	size_t size = strlen(text);
	text[size++] = '\n';
	lines_add(&lines, &g.stamper, 'd', now_wall_us(), text, size, &g.batch, on_batch, &s);
	on_batch(&s, &g.batch);
	if (!s.log->streams)
		store_release(s.log);
}

static void do_sync(const struct lg_frame *f, int fd)
{
	(void)fd;
	each_stream(drain);
	g.has_sync = true;
	g.sync_number = f->number;
}

/* What a core may ask. */
static const struct {
	enum lg_kind kind;
	void (*fn)(const struct lg_frame *f, int fd);
	bool needs_unit, needs_stream;
} permitted[] = {
	{LG_CONFIG, do_config, false, false},
	{LG_OPEN,   do_open,   true,  true },
	{LG_CLOSE,  do_close,  true,  true },
	{LG_NOTE,   do_note,   true,  false},
	{LG_SYNC,   do_sync,   false, false},
};

static void handle_frame(const struct lg_frame *f, size_t size, int fd)
{
	if (size != sizeof(*f) || f->build != WIRE_BUILD ||
		!memchr(f->name, '\0', sizeof(f->name)) ||
		!memchr(f->text, '\0', sizeof(f->text))) {
		log_error(NULL, "a frame of another build or shape; ignored");
		fd_close(fd);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(permitted); i++) {
		if (f->kind != permitted[i].kind)
			continue;
		if (permitted[i].needs_unit && !log_name_is_valid(f->name))
			break;
		if (permitted[i].needs_stream && f->stream != 'o' && f->stream != 'e')
			break;
		if (f->kind != LG_OPEN && f->kind != LG_CONFIG)
			fd = fd_close(fd);
		permitted[i].fn(f, fd);
		return;
	}
	log_error(NULL, "a frame of kind %u that makes no sense; ignored", f->kind);
	fd_close(fd);
}

static void on_core(struct source *s, uint32_t epoll_events)
{
	for (int i = 0;
		(epoll_events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && i < 64 && !g.loop.is_done;
		i++) {
		struct lg_frame f;
		int fd = -1;
		size_t n_fds = 1;
		ssize_t n = recv_fds(s->fd, &f, sizeof(f), &fd, &n_fds, MSG_DONTWAIT);
		if (n == -EAGAIN)
			break;
		if (n == -EMSGSIZE) {
			log_error(NULL, "a frame was cut, or its descriptor had no room; ignored");
			continue;
		}
		if (n <= 0) { /* no core for now: the streams go on */
			loop_remove(&g.loop, s);
			return;
		}
		handle_frame(&f, (size_t)n, n_fds ? fd : -1);
	}
	core_flush();
}

/* ---- life ------------------------------------------------------------------------------------- */

static void core_link(int fd)
{
	if (g.core.is_added)
		loop_remove(&g.loop, &g.core);
	if (g.core.fd != fd)
		fd_close(g.core.fd);
	(void)loop_add(&g.loop, &g.core, fd, EPOLLIN, PRIO_KEEPER, on_core);
	core_flush();
}

/* The keeper gives us a new link when it had to make one; its end means we are on our own. */
static void on_keeper(struct source *s, uint32_t epoll_events)
{
	struct kp_frame f;
	int fd = -1;
	size_t n_fds = 1;
	(void)epoll_events;
	ssize_t n = recv_fds(s->fd, &f, sizeof(f), &fd, &n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN || n == -EMSGSIZE)
		return;
	if (n <= 0) {
		/* Services may outlive a killed keeper: without a reader they would die of SIGPIPE. */
		loop_remove(&g.loop, s);
		g.has_keeper = false;
		each_stream(drain);
		if (!g.n_streams)
			g.loop.is_done = true;
		return;
	}
	if (n == sizeof(f) && f.magic == KP_MAGIC && f.kind == KP_LINK && f.role == ROLE_CORE &&
		n_fds)
		core_link(fd);
	else if (n_fds)
		fd_close(fd);
}

/* SIGTERM comes from the keeper, when all services are stopped. Another logger, if there will be
 * one, gets the pipes from the core again: what is in them now is ours, the rest its. */
static void on_signal(struct source *s, uint32_t epoll_events)
{
	struct signalfd_siginfo si;
	(void)epoll_events;
	if (read(s->fd, &si, sizeof(si)) != sizeof(si) || si.ssi_signo != SIGTERM)
		return;
	each_stream(drain);
	core_flush();
	g.loop.is_done = true;
}

static int logger_init(void)
{
	struct rlimit rl;
	struct err e = {0};
	sigset_t signals;
	g.keeper.fd = g.core.fd = g.store.dir_fd = g.turn_fd = -1;
	g.batch.data = xmalloc(LOG_BATCH_MAX);
	g.has_keeper = true;
	store_limits(&g.store, 0, 0, 0);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max; /* three descriptors a service */
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
	(void)umask(0027);
	(void)signal(SIGPIPE, SIG_IGN);
	int r = loop_init(&g.loop);
	g.loop.on_timer = on_timer;
	if (r < 0)
		return r;
	console_init(&g.console, &g.loop, STDOUT_FILENO);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT); /* Ctrl-C is the keeper's affair */
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	r = loop_add(&g.loop, &g.signals, fd, EPOLLIN, PRIO_CONTROL, on_signal);
	if (r == 0)
		r = loop_add(&g.loop, &g.keeper, ROLE_KEEPER_FD, EPOLLIN, PRIO_KEEPER, on_keeper);
	if (r < 0)
		return r;
	core_link(ROLE_CORE_FD);
	r = confine(ROLE_LOGGER, &e);
	if (r < 0)
		log_error(NULL, "%s", e.text);
	return r;
}

int logger_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	log_open("stayd-logger", LOG_INFORM);
	int r = logger_init();
	if (r < 0) {
		log_error(NULL, "cannot start: %s", errno_name(r));
		return EXIT_FAILURE;
	}
	r = loop_run(&g.loop);
	each_stream(stream_end);
	console_done(&g.console);
	store_done(&g.store);
	free(g.batch.data);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
