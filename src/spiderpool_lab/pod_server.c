/*
 * The server of the walkthrough's pods: answers each HTTP request and each datagram with the pod, its node and the
 * client's address as JSON, as pod_servers.py does for the pods of fast nodes.
 *
 *     pod-server [TCP-PORT UDP-PORT]
 *
 * The pod and the node come from the claims of the service account's token. A pod without a token names itself by its
 * host name. The ports are 80 and 53; on the host network, where they may be taken, 9080 and 9053.
 *
 * The first line of each HTTP request is logged before it is answered, such as "GET /17 HTTP/1.1".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOKEN "/var/run/secrets/kubernetes.io/serviceaccount/token"
#define REQUEST_SECONDS 10 /* that a client has to send its request */
#define LABEL 64           /* bytes of a host name, with its end */
#define NAME 256           /* bytes of a name of Kubernetes, with its end */

static char pod[2 * NAME + 2], node[NAME];

/* Decodes base64url (RFC 4648, section 5) up to the first other character. Returns the length. */
static size_t decode(const char *text, char *out, size_t space) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t length = 0;
    unsigned bits = 0, held = 0;
    for (const char *digit; *text && (digit = strchr(digits, *text)) && length < space; text++) {
        bits = bits << 6 | (unsigned)(digit - digits);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[length++] = (char)(bits >> held);
        }
    }
    return length;
}

/* Copies the string that follows a mark; leaves the target empty if there is none. The claims hold no escapes. */
static void after(const char *claims, const char *mark, char *target) {
    const char *start = strstr(claims, mark);
    size_t length = start ? strcspn(start + strlen(mark), "\"") : 0;
    if (length && length < NAME)
        memcpy(target, start + strlen(mark), length);
}

/* Finds out the pod and the node. Returns whether the pod is on the host network: then its host name is the node's. */
static int identify(void) {
    static char token[16384], claims[16384], name[NAME], space[NAME], host[LABEL];
    gethostname(host, sizeof host - 1);
    FILE *file = fopen(TOKEN, "r");
    size_t length = file ? fread(token, 1, sizeof token - 1, file) : 0;
    const char *body = length ? strchr(token, '.') : NULL;
    if (body)
        decode(body + 1, claims, sizeof claims - 1);
    after(claims, "\"namespace\":\"", space);
    after(claims, "\"pod\":{\"name\":\"", name);
    after(claims, "\"node\":{\"name\":\"", node);
    if (!*name) {
        strcpy(pod, host);
        return 0;
    }
    snprintf(pod, sizeof pod, "%s/%s", space, name);
    return strncmp(name, host, sizeof host - 1) != 0;
}

/* The answer to a client. Quotes, backslashes and control characters are left out of what the client sent. */
static int answer(char *out, size_t space, const struct sockaddr_in6 *from, const char *forwarded) {
    char client[INET6_ADDRSTRLEN], safe[512] = "";
    inet_ntop(AF_INET6, &from->sin6_addr, client, sizeof client);
    const char *shown = strncmp(client, "::ffff:", 7) ? client : client + 7;
    size_t length = 0;
    for (; forwarded && (unsigned char)*forwarded >= ' ' && length < sizeof safe - 1; forwarded++)
        if (*forwarded != '"' && *forwarded != '\\')
            safe[length++] = *forwarded;
    return snprintf(out, space, "{\"pod\": \"%s\", \"node\": \"%s\", \"client\": \"%s\"%s%s%s}", pod, node, shown,
                    length ? ", \"forwardedFor\": \"" : "", safe, length ? "\"" : "");
}

/* The value of X-Forwarded-For in a request's head; NULL without it. */
static const char *forwarded_for(const char *head) {
    static const char name[] = "\r\nx-forwarded-for:";
    const char *value = strcasestr(head, name);
    return value ? value + strlen(name) + strspn(value + strlen(name), " \t") : NULL;
}

/* Logs the first line of a request, in one write: requests are answered side by side. */
static void note(const char *head) {
    char line[256];
    size_t length = strcspn(head, "\r\n");
    int size = snprintf(line, sizeof line, "%.*s\n", length < sizeof line - 1 ? (int)length : (int)sizeof line - 2, head);
    if (write(STDOUT_FILENO, line, (size_t)size) != size)
        warn("log");
}

/* Reads a request and answers it, in a process of its own, which ends when the client is too slow. */
static void respond(int connection, const struct sockaddr_in6 *from) {
    static char head[65536], body[2048], reply[4096];
    size_t length = 0;
    ssize_t got;
    signal(SIGALRM, SIG_DFL);
    alarm(REQUEST_SECONDS);
    while (!strstr(head, "\r\n\r\n") && length < sizeof head - 1) {
        if ((got = read(connection, head + length, sizeof head - 1 - length)) <= 0)
            return;
        length += (size_t)got;
    }
    note(head);
    int head_only = !strncmp(head, "HEAD ", 5), known = head_only || !strncmp(head, "GET ", 4);
    int size = answer(body, sizeof body, from, forwarded_for(head));
    int all = snprintf(reply, sizeof reply,
                       "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                       "Connection: close\r\n\r\n%s",
                       known ? "200 OK" : "405 Method Not Allowed", size, head_only ? "" : body);
    if (write(connection, reply, (size_t)all) != all)
        return;
    shutdown(connection, SHUT_WR);
}

static void serve_tcp(int listener) {
    struct sockaddr_in6 from;
    socklen_t size = sizeof from;
    int connection = accept(listener, (struct sockaddr *)&from, &size);
    if (connection < 0)
        return;
    if (fork() == 0) {
        respond(connection, &from);
        _exit(0);
    }
    close(connection);
}

/* Answers a datagram from the address that it was sent to (RFC 3542, section 6), not from the first of the pod. */
static void serve_udp(int sock) {
    char data[2048], control[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    struct sockaddr_in6 from;
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_name = &from,
                             .msg_namelen = sizeof from,
                             .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    if (recvmsg(sock, &message, 0) < 0)
        return;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == IPV6_PKTINFO)
        ((struct in6_pktinfo *)CMSG_DATA(header))->ipi6_ifindex = 0; /* routes choose the link of the answer */
    part.iov_len = (size_t)answer(data, sizeof data, &from, NULL);
    sendmsg(sock, &message, 0);
}

/* A socket on a port of all addresses of both families. */
static int bound(int kind, int port) {
    int off = 0, on = 1, sock = socket(AF_INET6, kind | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 all = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port)};
    setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    setsockopt(sock, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(sock, (struct sockaddr *)&all, sizeof all) || (kind == SOCK_STREAM && listen(sock, 128)))
        err(1, "port %d", port);
    return sock;
}

static void end(int number) {
    (void)number;
    _exit(0);
}

int main(int count, char **words) {
    int host_network = identify();
    int tcp = bound(SOCK_STREAM, count > 2 ? atoi(words[1]) : host_network ? 9080 : 80);
    int udp = bound(SOCK_DGRAM, count > 2 ? atoi(words[2]) : host_network ? 9053 : 53);
    signal(SIGTERM, end); /* process 1 of a container has no default action */
    signal(SIGINT, end);
    signal(SIGCHLD, SIG_IGN); /* ended processes need no collecting */
    struct pollfd sockets[] = {{tcp, POLLIN, 0}, {udp, POLLIN, 0}};
    for (;;) {
        if (poll(sockets, 2, -1) <= 0)
            continue;
        if (sockets[0].revents)
            serve_tcp(tcp);
        if (sockets[1].revents)
            serve_udp(udp);
    }
}
