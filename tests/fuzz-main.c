/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fuzz-main.c - replays a corpus: runs a fuzz target once over every file of the directories given as arguments.
 *
 * With clang, -fsanitize=fuzzer brings its own main and this file is left out; with it, every compiler runs the kept
 * corpus as an ordinary test. A target ends the program when an invariant does not hold, and the last line printed
 * names the file.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The largest input: what libFuzzer takes by default when it knows no better. */
#define INPUT_MAX (1 << 20)

static int run_file(const char *folder, const char *name, uint8_t *buffer)
{
	char path[4096];
	uint8_t *exact;
	size_t size;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "rb");
	if (!f) {
		perror(path);
		return -1;
	}
	size = fread(buffer, 1, INPUT_MAX, f);
	fclose(f);

	/* A copy of just that size, so that AddressSanitizer sees a byte read too many. */
	exact = malloc(size ? size : 1);
	if (!exact)
		return -1;
	for (size_t i = 0; i < size; i++)
		exact[i] = buffer[i];
	puts(path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	return 0;
}

/* Returns the number of files, or -1. */
static int run_folder(const char *folder, uint8_t *buffer)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	int files = 0;

	if (!dir) {
		perror(folder);
		return -1;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (run_file(folder, entry->d_name, buffer)) {
			files = -1;
			break;
		}
		files++;
	}
	closedir(dir);
	return files;
}

int main(int argc, char **argv)
{
	uint8_t *buffer = malloc(INPUT_MAX);
	int files = 0;

	for (int i = 1; i < argc && files >= 0 && buffer; i++) {
		int more = run_folder(argv[i], buffer);

		files = more < 0 ? more : files + more;
	}
	free(buffer);
	if (files <= 0) {
		fprintf(stderr, "usage: %s CORPUS_DIRECTORY...  (with at least one file that can be read)\n", argv[0]);
		return EXIT_FAILURE;
	}
	printf("%d inputs\n", files);
	return EXIT_SUCCESS;
}
