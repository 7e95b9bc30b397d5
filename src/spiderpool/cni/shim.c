/*
 * The CNI executable, installed under each plugin name. It forwards a call to the agent: sends its own name, the
 * CNI_* variables and its standard input to the agent's socket, prints the body of the answer, and exits with 0 if
 * the HTTP status is 200, else with 1. An answer counts only if it is whole. It makes no decisions.
 *
 * Framing (docs/reference/cni-protocol.md): one HTTP/1.0 POST. Its body is the name, KEY=VALUE entries, an empty
 * entry, and standard input, with NUL between them.
 *
 * SPIDERPOOL_SOCKET names another socket, for tests and labs.
 *
 * STATUS and VERSION answer soon, since the kubelet waits for them, but wait for an agent that is being restarted.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifndef SOCKET_PATH
#define SOCKET_PATH "/var/run/spidernet/spiderpool.sock"
#endif
#define ANSWER_SECONDS 110 /* for call and answer; the agent answers within 60 s, container runtimes wait longer */
#define ANSWER_BYTES (16 << 20)
#define PROBE_SECONDS 5    /* the same for STATUS and VERSION, which the agent answers within 3 s */
#define RESTART_SECONDS 10 /* STATUS and VERSION wait for the socket. After 30 s without a status, a Node is NotReady. */

extern char **environ;

struct buffer {
    char *data;
    size_t used, size;
};

/* The codes of the CNI specification for "try again later" and, of STATUS, "cannot service ADD requests". */
enum { TRY_AGAIN = 11, NOT_AVAILABLE = 50 };

static int fail(const char *what, int code) {
    printf("{\"cniVersion\":\"1.0.0\",\"code\":%d,\"msg\":\"spiderpool-agent %s: %s\"}\n", code, what,
           strerror(errno));
    return 1;
}

static int reserve(struct buffer *buffer, size_t more) {
    if (buffer->size - buffer->used >= more)
        return 0;
    size_t size = 2 * buffer->size + more + 4096;
    char *data = realloc(buffer->data, size);
    if (!data)
        return -1;
    buffer->data = data;
    buffer->size = size;
    return 0;
}

static int append(struct buffer *buffer, const char *data, size_t length) {
    if (reserve(buffer, length))
        return -1;
    memcpy(buffer->data + buffer->used, data, length);
    buffer->used += length;
    return 0;
}

static time_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

/* Lets the next call on a socket wait until the end, and not longer, however little each call brings. */
static int wait_until(int fd, time_t end) {
    time_t left = end - now();
    struct timeval timeout = {.tv_sec = left > 0 ? left : 0, .tv_usec = 1};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) |
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
}

/* Reads up to the end of the input; from a socket, only until ``end``, and not much more than ANSWER_BYTES. */
static int read_all(struct buffer *buffer, int fd, time_t end) {
    for (;;) {
        if (reserve(buffer, 65536) || (end && (buffer->used > ANSWER_BYTES || wait_until(fd, end))))
            return -1;
        ssize_t count = read(fd, buffer->data + buffer->used, buffer->size - buffer->used);
        if (count == 0)
            return 0;
        if (count > 0)
            buffer->used += (size_t)count;
        else if (errno != EINTR)
            return -1;
    }
}

static int send_all(int fd, const char *data, size_t length, time_t end) {
    while (length) {
        if (wait_until(fd, end))
            return -1;
        ssize_t count = send(fd, data, length, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -1;
        data += count;
        length -= (size_t)count;
    }
    return 0;
}

/* Connects; while nobody listens, tries again every 250 ms for the given time. */
static int connect_within(int fd, const struct sockaddr_un *address, int seconds) {
    for (int left = 4 * seconds;; left--) {
        if (!connect(fd, (const struct sockaddr *)address, sizeof *address))
            return 0;
        if (left <= 0 || (errno != ECONNREFUSED && errno != ENOENT))
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = 250000000}, NULL);
    }
}

/* The body of an HTTP answer that ends with a NUL byte, and its length; NULL unless all of it is there. */
static const char *whole_body(const struct buffer *answer, size_t *length) {
    char *end = answer->used > 12 && !strncmp(answer->data, "HTTP/1.", 7) ? strstr(answer->data, "\r\n\r\n") : NULL;
    for (char *line = answer->data; end && line < end; line = strstr(line, "\r\n") + 2)
        if (!strncasecmp(line, "Content-Length:", 15)) {
            *length = strtoul(line + 15, NULL, 10);
            return *length <= answer->used - 1 - (size_t)(end + 4 - answer->data) ? end + 4 : NULL;
        }
    return NULL;
}

int main(int argc, char **argv) {
    struct buffer body = {0}, answer = {0};
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
    int failed = append(&body, name, strlen(name) + 1);
    for (char **entry = environ; *entry; entry++)
        if (!strncmp(*entry, "CNI_", 4))
            failed |= append(&body, *entry, strlen(*entry) + 1);
    failed |= append(&body, "", 1);
    if (failed || read_all(&body, STDIN_FILENO, 0))
        return fail("was not asked, standard input could not be read", 5);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("SPIDERPOOL_SOCKET");
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path ? path : SOCKET_PATH);
    const char *command = getenv("CNI_COMMAND");
    int status = command && !strcmp(command, "STATUS"), probe = status || (command && !strcmp(command, "VERSION"));
    int away = status ? NOT_AVAILABLE : TRY_AGAIN;
    int patience = probe ? PROBE_SECONDS : ANSWER_SECONDS, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || wait_until(fd, now() + patience) || connect_within(fd, &address, probe ? RESTART_SECONDS : 0))
        return fail("is not running on this node", away);
    time_t end = now() + patience;
    char head[128];
    int length = snprintf(head, sizeof head, "POST /v1/cni HTTP/1.0\r\nContent-Length: %zu\r\n\r\n", body.used);
    send_all(fd, head, (size_t)length, end);
    send_all(fd, body.data, body.used, end); /* after a failed send the agent's refusal can still be read */
    if ((read_all(&answer, fd, end) && !answer.used) || append(&answer, "", 1))
        return fail("did not answer", away);
    size_t size = 0;
    const char *text = whole_body(&answer, &size);
    if (!text) {
        errno = EPROTO;
        return fail("went away without a whole answer", away);
    }
    return fwrite(text, 1, size, stdout) != size || fflush(stdout) || strncmp(answer.data + 9, "200", 3);
}
