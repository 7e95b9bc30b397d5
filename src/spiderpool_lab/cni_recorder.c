/*
 * Stands in front of the CNI executable in a lab: calls the real one with the same name, environment and standard
 * input, and appends a record of the call to a file (spiderpool_lab/cni_calls.py reads it).
 *
 * A record is one write: "STARTED ENDED STATUS BYTES\n" (nanoseconds since the epoch, the exit status), then that many
 * bytes: the name, KEY=VALUE entries of CNI_* variables, an empty entry, standard input and standard output, with NUL
 * between them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if !defined(PROGRAM) || !defined(RECORDS)
#error "PROGRAM is the real executable, RECORDS the file"
#endif
#define MOST 1048576 /* bytes of a call; larger ones are cut in the record */

static char record[MOST + 128], body[MOST];
static size_t used;

static void append(const char *data, size_t length) {
    size_t fits = length < sizeof body - used ? length : sizeof body - used;
    memcpy(body + used, data, fits);
    used += fits;
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Copies standard input into the record and into a file that becomes the program's standard input. */
static int keep_input(void) {
    char part[65536];
    int copy = memfd_create("request", 0);
    for (ssize_t count; (count = read(STDIN_FILENO, part, sizeof part)) > 0;) {
        append(part, (size_t)count);
        if (write(copy, part, (size_t)count) != count)
            return -1;
    }
    return lseek(copy, 0, SEEK_SET) ? -1 : dup2(copy, STDIN_FILENO);
}

/* Copies the program's output to our own and into the record. */
static void pass_on(int from) {
    char part[65536];
    for (ssize_t count; (count = read(from, part, sizeof part)) > 0;) {
        append(part, (size_t)count);
        if (write(STDOUT_FILENO, part, (size_t)count) != count)
            return;
    }
}

int main(int argc, char **argv) {
    long long started = now();
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
    append(name, strlen(name) + 1);
    for (char **entry = environ; *entry; entry++)
        if (!strncmp(*entry, "CNI_", 4))
            append(*entry, strlen(*entry) + 1);
    append("", 1);
    int output[2];
    if (keep_input() || pipe(output))
        return 1;
    append("", 1);

    pid_t child = fork();
    if (child == 0) {
        dup2(output[1], STDOUT_FILENO);
        close(output[0]);
        close(output[1]);
        execv(PROGRAM, argv);
        _exit(127);
    }
    close(output[1]);
    pass_on(output[0]);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 1;
    status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);

    int head = snprintf(record, 128, "%lld %lld %d %zu\n", started, now(), status, used);
    memcpy(record + head, body, used);
    int file = open(RECORDS, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file < 0 || write(file, record, (size_t)head + used) < 0)
        perror(RECORDS);
    return status;
}
