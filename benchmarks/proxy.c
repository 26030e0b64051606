/* The floor: the least that a proxy in user space does. It only moves bytes, and knows neither HTTP nor TLS.
 *
 *   cc -O2 -o proxy proxy.c
 *   proxy PORT SOCKET ...       listens on 127.0.0.1:PORT and connects to the Unix sockets, one after the other
 *
 * It has a worker for each core, as nginx and HAProxy have by default. Each listens by itself (SO_REUSEPORT), so they share
 * nothing. A worker has one buffer, which stays in the cache: what it reads it writes at once, and a connection has memory
 * of its own only for what the other side did not take. Until that is written, the worker does not read more of it.
 * Level-triggered epoll: a message costs a recv, a send and a share of an epoll_wait, each way.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* One of the two ends of a connection. */
struct end {
    int fd;
    struct pair *pair;
    struct end *other;
    uint32_t events;      /* what epoll watches */
    char *rest;           /* what this end did not take yet, and how much of it is left */
    size_t from, left;
    bool finished, told;  /* this end sends no more; this end was told that the other sends no more */
};

struct pair {
    struct end client, app;
    struct pair *next; /* of those that have ended */
    bool over;
};

static int epoll;
static char buffer[1 << 17];
static struct sockaddr_un sockets[64];
static int socket_count, turn;
static struct pair *ended;

static void die(const char *what) { perror(what); exit(1); }

/* The memory of a pair stays until all events of this epoll_wait are done: one of them may be of its other end. */
static void end_pair(struct pair *p)
{
    if (p->over)
        return;
    close(p->client.fd), close(p->app.fd);
    p->over = true, p->next = ended, ended = p;
}

/* An end is read unless the other end still has a rest, and is written to only if it has one. One for which neither holds
 * is not watched at all: epoll would report its hang-up over and over. */
static void watch(struct end *e)
{
    uint32_t events = (e->finished || e->other->left ? 0 : EPOLLIN) | (e->left ? EPOLLOUT : 0);
    struct epoll_event event = {.events = events, .data.ptr = e};
    if (events != e->events)
        epoll_ctl(epoll, !events ? EPOLL_CTL_DEL : e->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, e->fd, &event);
    e->events = events;
}

/* Pass on that the other end sends no more; if that holds for both, it is over. */
static void pass_on_end(struct end *e)
{
    if (!e->other->finished || e->left || e->told)
        return;
    e->told = true;
    shutdown(e->fd, SHUT_WR);
    if (e->other->told)
        end_pair(e->pair);
}

static void write_rest(struct end *e)
{
    ssize_t n = send(e->fd, e->rest + e->from, e->left, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        return end_pair(e->pair);
    if (n > 0)
        e->from += n, e->left -= n;
    if (e->left)
        return;
    free(e->rest);
    e->rest = NULL, e->from = 0;
    pass_on_end(e);
    if (!e->pair->over)
        watch(e), watch(e->other);
}

static void copy(struct end *e)
{
    struct end *to = e->other;
    ssize_t n = recv(e->fd, buffer, sizeof buffer, 0), sent = 0;
    if (n < 0)
        return errno == EAGAIN ? (void)0 : end_pair(e->pair);
    if (n == 0) {
        e->finished = true;
        pass_on_end(to);
        if (!e->pair->over)
            watch(e);
        return;
    }
    if ((sent = send(to->fd, buffer, n, MSG_NOSIGNAL)) < 0 && errno != EAGAIN)
        return end_pair(e->pair);
    sent = sent < 0 ? 0 : sent;
    if (sent == n)
        return;
    to->left = n - sent;
    if (!(to->rest = malloc(to->left)))
        die("malloc");
    memcpy(to->rest, buffer + sent, to->left);
    watch(e), watch(to);
}

/* One whose queue is full is passed over. */
static int connect_app(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    for (int tries = 0; tries < socket_count; tries++, turn++)
        if (!connect(fd, (struct sockaddr *)&sockets[turn % socket_count], sizeof *sockets))
            return turn++, fd;
    close(fd);
    return -1;
}

static void add(struct end *e, struct end *other, struct pair *p, int fd)
{
    *e = (struct end){.fd = fd, .pair = p, .other = other};
    watch(e);
}

static void welcome(int listener)
{
    int yes = 1, client, app;
    while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if ((app = connect_app()) < 0) {
            close(client);
            continue;
        }
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct pair *p = calloc(1, sizeof *p);
        if (!p)
            die("calloc");
        add(&p->client, &p->app, p, client);
        add(&p->app, &p->client, p, app);
    }
}

static void serve(int port, int number)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8192))
        die("listen");
    turn = number; /* not all workers begin with the same socket */
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN}, events[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        for (int i = 0, n = epoll_wait(epoll, events, 512, -1); i < n; i++) {
            struct end *e = events[i].data.ptr;
            if (!e) {
                welcome(listener);
                continue;
            }
            if (!e->pair->over && e->left && events[i].events & ~EPOLLIN)
                write_rest(e);
            if (!e->pair->over && e->events & EPOLLIN && events[i].events & ~EPOLLOUT)
                copy(e);
        }
        while (ended) {
            struct pair *p = ended;
            ended = p->next;
            free(p->client.rest), free(p->app.rest), free(p);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return fprintf(stderr, "The head of proxy.c says how to call it.\n"), 2;
    for (char **path = argv + 2; *path && socket_count < 64; path++, socket_count++) {
        sockets[socket_count].sun_family = AF_UNIX;
        snprintf(sockets[socket_count].sun_path, sizeof sockets->sun_path, "%s", *path);
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (long number = sysconf(_SC_NPROCESSORS_ONLN); number > 0; number--)
        if (!fork())
            serve(atoi(argv[1]), number);
    return wait(NULL) < 0; /* a worker ends only if it fails */
}
