/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher's parser on bytes nobody wrote: plan_check() may refuse, it may not look outside, and
 * what it accepts must bear everything the launcher and the child do with it.
 *
 * The sum is put right first, or the fuzzer would only ever learn to miss it. The input is copied to
 * a block of its exact size, so that ASan sees a read beyond. Seeds: tests/fuzz/corpus/plan, written
 * by `test_launch_plan` from plan_build() when FUZZ_SEEDS names a directory.
 */
#include "launch/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t read_strings(struct plan *p, const struct plan_span *s)
{
	const uint32_t *v = plan_at(p, s->off);
	size_t total = 0;
	for (uint32_t i = 0; i < s->n; i++)
		total += strlen(plan_str(p, v[i]));
	return total;
}

static size_t read_words(struct plan *p, const struct plan_span *s)
{
	char *const *v = plan_at(p, s->off);
	size_t total = 0;
	for (; *v; v++)
		total += strlen(*v);
	return total;
}

static size_t read_bytes(struct plan *p, const struct plan_span *s, size_t size)
{
	const unsigned char *v = plan_at(p, s->off);
	size_t total = 0;
	for (size_t i = 0; i < s->n * size; i++)
		total += v[i];
	return total;
}

static size_t read_steps(struct plan *p)
{
	const struct plan_mount *m = plan_at(p, p->mounts.off);
	const struct plan_dir *d = plan_at(p, p->dirs.off);
	size_t total = 0;
	for (uint32_t i = 0; i < p->mounts.n; i++)
		total += strlen(plan_str(p, m[i].dst)) + strlen(strna(plan_str(p, m[i].src)));
	for (uint32_t i = 0; i < p->dirs.n; i++)
		total += strlen(plan_str(p, d[i].root)) + strlen(plan_str(p, d[i].name)) +
			 strlen(strna(plan_str(p, d[i].link)));
	for (int i = 0; i < 3; i++)
		total += strlen(strna(plan_str(p, p->std[i].path)));
	return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static volatile size_t sink;
	struct plan *p = xmalloc(size);
	memcpy(p, data, size);
	if (size >= sizeof(*p) && size % 8 == 0)
		p->sum = plan_sum(p, size);
	if (plan_check(p, size) == 0) {
		plan_relocate(p);
		sink += read_words(p, &p->argv) + read_words(p, &p->envp) +
			read_strings(p, &p->exec) + read_strings(p, &p->pid_slots) +
			read_bytes(p, &p->groups, 4) + read_bytes(p, &p->cpu_mask, 1) +
			read_bytes(p, &p->seccomp, 1) + read_steps(p) +
			strlen(plan_str(p, p->unit)) + strlen(plan_str(p, p->cwd)) +
			strlen(strna(plan_str(p, p->root))) + strlen(strna(plan_str(p, p->netns)));
	}
	free(p);
	return 0;
}
