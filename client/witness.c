/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * witness.c - see witness.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/witness.h"

static _Noreturn void be_witness(pid_t parent)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Somebody may wait for the end of a pipe. */
	close_range(0, ~0U, 0);
	while (getppid() == parent)
		pause();
	_exit(0);
}

int witness_start(struct witness *w)
{
	const pid_t parent = getpid(), pid = fork();

	if (pid == 0)
		be_witness(parent);
	w->pid = pid > 0 ? pid : 0;
	return pid > 0 ? 0 : -errno;
}

void witness_end(struct witness *w)
{
	if (w->pid == 0)
		return;
	kill(w->pid, SIGKILL);
	while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
		;
	w->pid = 0;
}

/* The signals that are pending for a process, as the kernel tells them; 0 if it does not. */
static uint64_t pending(pid_t pid)
{
	char path[40], line[256];
	uint64_t set = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "ShdPnd: %" SCNx64, &set) == 1)
			break;
	fclose(file);
	return set;
}

/* What is pending stays so until the end. Its successor is there before: what comes in between, one of both has got. */
static void replace(struct witness *w)
{
	struct witness old = *w;

	witness_start(w);
	w->noted |= pending(old.pid);
	witness_end(&old);
}

bool witness_saw(struct witness *w, int signal)
{
	const uint64_t bit = UINT64_C(1) << (signal - 1);
	uint64_t set;

	/* A group gets a signal one process after the other. Meanwhile the kernel changes no group: when this has come
	 * back, whatever it says, all have got it. */
	setpgid(0, getpgrp());
	set = w->pid ? pending(w->pid) : 0;
	if (set & bit)
		replace(w);
	set |= w->noted;
	w->noted &= ~bit;
	return set & bit;
}
