/* A WebSocket load client that costs next to nothing, so that what is measured is the server.
 *
 *   cc -O2 -o load load.c -lssl -lcrypto
 *   load COMMAND --connect TARGET[,TARGET ...] [--OPTION VALUE ...]      TARGET: unix:/path or 127.0.0.1:8080
 *
 *   echo        --clients 50 --size 1024 --seconds 5   each client sends a message when the last one is back
 *   echo        --clients 50 --size 1024 --messages 20 the same until each has had so many back
 *   handshakes  --count 5000 --concurrency 50          connect, 101, close with 1000, next
 *   handshakes  --rate 100 --seconds 60 --log FILE     the same on a schedule; a line each: when, microseconds, result
 *   storm       --count 5000                           all connect at once, and stay
 *   idle        --count 15000 --size 65536             come at a moderate pace (--concurrency), and stay
 *   balance     --count 10000 --stay 20                the same; but 20 % stay, the others leave after 0 to 2 s, until
 *                                                      the last one has come
 *   serve       PATH | PORT                            a minimal echo server, to find this client's own ceiling
 *
 * "ready {...}" says that all clients are there or have failed. Those that stay answer pings until standard input
 * closes, and at each line of it send a message of --size bytes; "ready" again when all are back. With --return those
 * that the server sends away come back within a second. --deflate offers compression as a browser does: messages
 * are sent as they are (RFC 7692 leaves that to the sender), answers are only counted. --tls full speaks TLS and checks no
 * certificate; with --tls resumed each of the clients under way resumes the session of the one before it. --groups
 * are the key exchanges that it offers, OpenSSL's own by default.
 * --watch 1,2:3 tells the processor time that these processes, in groups, have had while echo measured.
 * One thread, level-triggered epoll: an echo costs a send, a recv and a share of an epoll_wait.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 10.0 /* seconds for a handshake or a close, as in browsers and in websockets */
#define MESSAGES 8
#define SOURCES 32    /* addresses to come from: one has 28,000 ports, and each is blocked for a minute after its use */
/* The key of RFC 6455's example, whose answer is known: to check it takes no SHA-1. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  // pragma: allowlist secret

enum { BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum mode { ECHO, HANDSHAKES, HOLD };
enum state { AWAY, OPENING, OPEN, CLOSING };

struct client {
    int fd;
    enum state state;
    bool writing, stays;
    int error;
    SSL *tls;
    SSL_SESSION *session; /* the latest, for the next one in this place */
    long said;
    double started, due; /* of what is under way: handshake or message; of what comes next */
    const uint8_t *out;  /* what is being sent, and how much of it is left */
    size_t left;
    uint8_t header[10], header_size; /* of the frame that is being received */
    uint64_t payload;                /* what is left of its payload */
    uint8_t control[6 + 125], control_size, pong_size;
    uint16_t head_size;
    char head[1024]; /* of the HTTP response */
};

static struct { struct sockaddr_storage address; socklen_t size; } targets[64];
static int target_count, epoll;
static enum mode mode;
static long count = 50, concurrency = 50, size = 32, each, stay, rate, slots; /* slots: of the table of clients */
static double seconds = 5;
static bool deflate, come_back, asked, ending, resume;
static FILE *logfile;
static SSL_CTX *context; /* if it is TLS */

static struct client *clients;
static long started, present, opening, opened, failed, done, lost, answers, messages_all, answer_bytes;
static double now, last_open;
static long resumed;
static char spoken[128];
static char request[512];
static uint8_t *messages[MESSAGES], input[1 << 18];
static size_t request_size, message_size, turn;
static const uint8_t bye[] = {0x80 | CLOSE, 0x80 | 2, 0, 0, 0, 0, 1000 >> 8, 1000 & 255};
static struct { char kind[32]; long count; } failures[16];
static struct { const char *pids; double used, since; } watched[8];
static int watched_count;
static uint32_t *samples;
static size_t sample_count, sample_space;

static void die(const char *what) { perror(what); exit(1); }

static double clock_of(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void sample(double duration)
{
    if (sample_count == sample_space && !(samples = realloc(samples, (sample_space = sample_space * 2 + 4096) * 4)))
        die("realloc");
    samples[sample_count++] = duration * 1e6;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t percentile(double share) { return sample_count ? samples[(size_t)(share * (sample_count - 1))] : 0; }

/* A frame whose mask is zero: the server unmasks it like any other, and nobody has to mask it here. */
static size_t frame(uint8_t *to, int opcode, size_t payload)
{
    size_t n = 0;
    to[n++] = 0x80 | opcode;
    to[n++] = 0x80 | (payload < 126 ? payload : payload < 65536 ? 126 : 127);
    for (int shift = payload < 126 ? 0 : payload < 65536 ? 16 : 64; shift; to[n++] = payload >> shift)
        shift -= 8;
    memset(to + n, 0, 4);
    return n + 4;
}

/* What apps send, and compressible like it: lines of JSON with changing numbers, in some messages that differ. */
static void make_messages(size_t payload)
{
    uint64_t number = 1;
    char line[96];
    for (int i = 0; i < MESSAGES; i++) {
        messages[i] = malloc(payload + 14);
        message_size = frame(messages[i], BINARY, payload);
        for (size_t n = 0, length; n < payload; n += length) {
            number = number * 6364136223846793005u + 1442695040888963407u;
            int id = number >> 44, price = number >> 50;
            length = sprintf(line, "{\"id\":%d,\"price\":%d,\"name\":\"item\"}\n", id, price);
            length = length < payload - n ? length : payload - n;
            memcpy(messages[i] + message_size + n, line, length);
        }
        message_size += payload;
    }
}

static void want(struct client *c, bool writing)
{
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    if (c->writing != writing)
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    c->writing = writing;
}

/* What SSL_read and SSL_write mean, in the words of recv(2) and send(2). */
static ssize_t in_words_of_sockets(struct client *c, int n)
{
    if (n > 0)
        return n;
    int error = SSL_get_error(c->tls, n);
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        errno = EAGAIN;
    else if (error == SSL_ERROR_SSL)
        errno = EPROTO;
    return error == SSL_ERROR_ZERO_RETURN || !errno ? 0 : -1;
}

static ssize_t transmit(struct client *c, const void *data, size_t length)
{
    return c->tls ? in_words_of_sockets(c, SSL_write(c->tls, data, length)) : send(c->fd, data, length, MSG_NOSIGNAL);
}

static ssize_t take(struct client *c, void *to, size_t length)
{
    return c->tls ? in_words_of_sockets(c, SSL_read(c->tls, to, length)) : recv(c->fd, to, length, 0);
}

static int new_session(SSL *tls, SSL_SESSION *session)
{
    struct client *c = SSL_get_app_data(tls);
    SSL_SESSION_free(c->session);
    c->session = session;
    return 1;
}

static void begin_tls(struct client *c)
{
    c->tls = SSL_new(context);
    SSL_set_app_data(c->tls, c);
    SSL_set_fd(c->tls, c->fd);
    SSL_set_tlsext_host_name(c->tls, "localhost");
    SSL_set_connect_state(c->tls);
    if (resume && c->session)
        SSL_set_session(c->tls, c->session);
}

static void flush(struct client *c)
{
    while (c->left || c->pong_size) {
        if (!c->left) {
            c->out = c->control, c->left = c->pong_size, c->pong_size = 0;
            continue;
        }
        ssize_t n = transmit(c, c->out, c->left);
        if (n < 0 || (!n && c->tls)) { /* not yet connected, or full; any other error is for receive() to report */
            if (n < 0 && errno != EAGAIN && !c->error)
                c->error = errno;
            return want(c, !c->tls || SSL_want_write(c->tls));
        }
        c->out += n, c->left -= n;
    }
    want(c, false);
}

static void push(struct client *c, const void *data, size_t length)
{
    c->out = data, c->left = length;
    flush(c);
}

static void gone(struct client *c)
{
    if (c->tls) {
        SSL_shutdown(c->tls);
        SSL_free(c->tls);
        c->tls = NULL;
    }
    close(c->fd);
    present--;
    c->state = AWAY;
    c->due = come_back && c->stays ? now + drand48() : 0;
}

static void log_result(struct client *c, double duration, const char *result)
{
    if (logfile)
        fprintf(logfile, "%.6f %.0f %s\n", clock_of(CLOCK_REALTIME) - (now - c->started), duration * 1e6, result);
}

static void fail(struct client *c, const char *kind)
{
    int i = 0;
    while (failures[i].count && strcmp(failures[i].kind, kind) && i < 15)
        i++;
    snprintf(failures[i].kind, sizeof failures[i].kind, "%s", kind);
    failures[i].count++;
    failed++;
    opening -= c->state == OPENING;
    log_result(c, now - c->started, kind);
    gone(c);
}

static const char *name_of(int error)
{
    return error == 0 ? "closed" : error == ECONNREFUSED ? "refused" : error == ECONNRESET ? "reset"
         : error == EAGAIN ? "backlog full" : strerror(error);
}

static void open_one(struct client *c, double when)
{
    int target = started % target_count, family = targets[target].address.ss_family, yes = 1;
    *c = (struct client){.started = when, .state = OPENING, .stays = c->stays, .session = c->session};
    if ((c->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0)) < 0)
        die("socket");
    if (family == AF_INET) {
        struct sockaddr_in source = {.sin_family = AF_INET}, *to = (struct sockaddr_in *)&targets[target].address;
        /* To another host from what it knows of this one. */
        if (ntohl(to->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET)
            source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + started % SOURCES);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        /* Otherwise bind() takes a port that nobody has on this address, not one that is free for the target. */
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(c->fd, (struct sockaddr *)&source, sizeof source))
            die("bind");
    }
    started++, present++, opening++;
    int error = connect(c->fd, (struct sockaddr *)&targets[target].address, targets[target].size) ? errno : 0;
    if (error && error != EINPROGRESS)
        return fail(c, name_of(error));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
    if (context)
        begin_tls(c);
    /* On loopback the connection mostly stands by now: no need to wait to be told so. */
    push(c, request, request_size);
}

static void say_bye(struct client *c)
{
    c->state = CLOSING, c->started = now;
    push(c, bye, sizeof bye);
}

static void stands(struct client *c)
{
    c->state = OPEN;
    opening--, opened++;
    resumed += c->tls && SSL_session_reused(c->tls);
    last_open = now;
    if (c->tls && !*spoken)
        snprintf(spoken, sizeof spoken, "%s, %s, %s", SSL_get_version(c->tls), SSL_get_cipher(c->tls),
                 SSL_group_to_name(c->tls, SSL_get_negotiated_group(c->tls)));
    if (mode != ECHO)
        sample(now - c->started);
    log_result(c, now - c->started, "101");
    if (mode == HANDSHAKES)
        say_bye(c);
    else if (mode == HOLD && !c->stays)
        c->due = now + 2 * drand48();
}

static void say(struct client *c)
{
    c->started = now;
    push(c, messages[turn++ % MESSAGES], message_size);
}

static void answered(struct client *c)
{
    answers++, messages_all++;
    if (mode != ECHO)
        return;
    now = clock_of(CLOCK_MONOTONIC);
    sample(now - c->started);
    if (++c->said != each && c->state == OPEN)
        ending ? say_bye(c) : say(c);
}

static void frames(struct client *c, const uint8_t *data, size_t length)
{
    while (length) {
        if (!c->payload) { /* between two frames: the header, two bytes or four or ten */
            c->header[c->header_size++] = *data++, length--;
            int short_length = c->header_size > 1 ? c->header[1] : 0;
            int extended = 2 * (short_length == 126) + 8 * (short_length == 127);
            if (c->header_size < 2 || c->header_size < 2 + extended)
                continue;
            for (int i = 0; i < extended; i++)
                c->payload = c->payload << 8 | c->header[2 + i];
            if (!extended)
                c->payload = short_length;
            c->control_size = 0;
        }
        int opcode = c->header[0] & 15;
        size_t here = c->payload < length ? c->payload : length;
        if (opcode == PING)
            memcpy(c->control + 6 + c->control_size, data, here), c->control_size += here;
        else if (opcode < CLOSE)
            answer_bytes += here;
        data += here, length -= here, c->payload -= here;
        if (c->payload)
            return;
        bool last = c->header[0] & 0x80;
        c->header_size = 0;
        if (opcode == PING) {
            frame(c->control, PONG, c->control_size);
            c->pong_size = 6 + c->control_size;
            flush(c);
        } else if (opcode == CLOSE && c->state == OPEN) { /* the server's wish */
            lost++;
            say_bye(c);
        } else if (opcode < CLOSE && last) {
            answered(c);
        }
    }
}

static void read_head(struct client *c, size_t length)
{
    c->head[c->head_size += length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end && c->head_size < sizeof c->head - 1)
        return;
    char kind[32];
    snprintf(kind, sizeof kind, "%.3s", c->head + 9);
    if (!end || strcmp(kind, "101") || !strstr(c->head, ACCEPT))
        return fail(c, kind);
    stands(c);
    size_t used = end + 4 - c->head;
    frames(c, (uint8_t *)c->head + used, c->head_size - used);
}

static void receive(struct client *c)
{
    bool head = c->state == OPENING;
    ssize_t n = head ? take(c, c->head + c->head_size, sizeof c->head - 1 - c->head_size)
                     : take(c, input, sizeof input);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        return head ? read_head(c, n) : frames(c, input, n);
    if (c->state == CLOSING) {
        done++;
        gone(c);
    } else if (mode == HOLD && !head) { /* 1006 */
        lost++;
        gone(c);
    } else {
        fail(c, name_of(n ? errno : c->error));
    }
}

/* What has its time: called twenty times a second. */
static void sweep(void)
{
    for (struct client *c = clients; c < clients + slots; c++) {
        if ((c->state == OPENING || c->state == CLOSING) && now > c->started + PATIENCE)
            fail(c, c->state == OPENING ? "timeout" : "close timeout");
        else if (c->due && now > c->due && c->state == OPEN)
            c->due = 0, say_bye(c);
        else if (c->due && now > c->due && c->state == AWAY)
            open_one(c, now);
    }
}

static void wait_for_events(double until)
{
    static struct epoll_event events[512];
    static double swept;
    double pause = until - now < 0.05 ? until - now : 0.05;
    struct timespec timeout = {.tv_nsec = pause > 0 ? pause * 1e9 : 0};
    int n = epoll_pwait2(epoll, events, 512, &timeout, NULL);
    now = clock_of(CLOCK_MONOTONIC);
    for (int i = 0; i < n; i++) {
        struct client *c = events[i].data.ptr;
        if (!c) { /* standard input */
            asked = read(0, input, sizeof input) > 0;
            ending = !asked;
            continue;
        }
        if (events[i].events & EPOLLOUT || (c->tls && c->left)) /* in a TLS handshake the request waits for answers */
            flush(c);
        if (events[i].events & ~EPOLLOUT)
            do
                receive(c);
            while (c->tls && SSL_pending(c->tls));
    }
    if (now > swept + 0.05)
        swept = now, sweep();
}

static double cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* The seconds of processor time that the processes "1,2,3" have had, all their threads. */
static double cpu_of(const char *pids)
{
    double sum = 0;
    for (char *next; strtol(pids, &next, 10); pids = next + (*next == ',')) {
        char name[300];
        snprintf(name, sizeof name, "/proc/%ld/task", strtol(pids, NULL, 10));
        DIR *tasks = opendir(name);
        for (struct dirent *task; tasks && (task = readdir(tasks));) {
            snprintf(name, sizeof name, "/proc/%ld/task/%s/schedstat", strtol(pids, NULL, 10), task->d_name);
            FILE *file = fopen(name, "r");
            double ns = 0;
            if (file)
                sum += fscanf(file, "%lf", &ns) == 1 ? ns / 1e9 : 0, fclose(file);
        }
        if (tasks)
            closedir(tasks);
    }
    return sum;
}

/* Of each group of --watch, since the last call. */
static void read_watched(void)
{
    for (int i = 0; i < watched_count; i++) {
        double used = cpu_of(watched[i].pids);
        watched[i].since = used - watched[i].used, watched[i].used = used;
    }
}

static void report(const char *prefix, const char *what, double number, double elapsed, double cpu_seconds)
{
    qsort(samples, sample_count, 4, by_value);
    printf("%s{\"%s\": %.1f, \"p50_us\": %u, \"p99_us\": %u, \"max_us\": %u, \"opened\": %ld, \"failed\": %ld, "
           "\"seconds\": %.3f, \"client_cpu_seconds\": %.3f, \"messages\": %ld, \"answer_bytes\": %.1f, \"failures\": {",
           prefix, what, elapsed ? number / elapsed : 0, percentile(.5), percentile(.99), percentile(1), opened,
           failed + lost, elapsed, cpu_seconds, messages_all, answers ? (double)answer_bytes / answers : 0);
    for (int i = 0; i < 16 && failures[i].count; i++)
        printf("%s\"%s\": %ld", i ? ", " : "", failures[i].kind, failures[i].count);
    printf("}, \"watched_cpu_seconds\": [");
    for (int i = 0; i < watched_count; i++)
        printf("%s%.6f", i ? ", " : "", watched[i].since);
    printf("]");
    if (context)
        printf(", \"resumed\": %ld, \"tls\": \"%s\"", resumed, spoken);
    puts("}");
    fflush(stdout);
}

/* The first connection of every client, so many under way at a time. */
static void arrive(void)
{
    static long next;
    while (next < count && opening < concurrency)
        open_one(&clients[next++], now = clock_of(CLOCK_MONOTONIC));
    wait_for_events(now + 1);
}

/* As a browser's tab does, and not by an end of the process: that would be an error for each of them in the app. */
static void leave(bool all)
{
    ending = true, come_back = false;
    for (struct client *c = clients; all && c < clients + slots; c++)
        if (c->state == OPEN)
            say_bye(c);
    for (double end = now + 2 * PATIENCE; present && now < end;)
        wait_for_events(end);
}

static void run_echo(void)
{
    while (opened + failed < count)
        arrive();
    for (struct client *c = clients; c < clients + slots; c++)
        if (c->state == OPEN)
            say(c);
    for (double end = now + (seconds < 1 ? seconds / 2 : 0.5); !each && now < end;)
        wait_for_events(end);
    read_watched();
    double begin = now = clock_of(CLOCK_MONOTONIC), cpu_before = cpu();
    if (!each)
        answers = answer_bytes = sample_count = 0;
    while (each ? answers < each * (count - failed) : now < begin + seconds)
        wait_for_events(each ? now + 1 : begin + seconds);
    double used = cpu() - cpu_before;
    read_watched();
    report("", "messages_per_second", answers, now - begin, used);
    leave(each);
}

static void run_handshakes(void)
{
    double begin = now = clock_of(CLOCK_MONOTONIC);
    long all = rate ? rate * seconds : count, slot = 0;
    while (done + failed < all) {
        for (long tries = 0; started < all && tries < slots; tries++) {
            double due = rate ? begin + (double)started / rate : now;
            if (due > now)
                break;
            struct client *c = &clients[slot++ % slots];
            if (c->state == AWAY)
                open_one(c, due); /* from when it was due: being late is a wait too */
        }
        wait_for_events(rate && started < all ? begin + (double)started / rate : now + 1);
    }
    report("", "handshakes_per_second", opened, now - begin, cpu());
}

/* Each client sends a message, so many at a time. */
static void talk(void)
{
    long before = answers, said = 0;
    struct client *c = clients;
    while (!ending && (c < clients + slots || answers + lost < before + said)) {
        for (; c < clients + slots && before + said < answers + lost + concurrency; c++)
            if (c->state == OPEN)
                say(c), said++;
        wait_for_events(now + 1);
    }
    asked = false;
    printf("ready {\"answers\": %ld}\n", answers - before);
    fflush(stdout);
}

static void run_hold(void)
{
    double begin = last_open = now = clock_of(CLOCK_MONOTONIC);
    struct epoll_event event = {.events = EPOLLIN};
    bool can_wait = !epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event); /* not /dev/null */
    for (long i = 0; i < count; i++)
        clients[i].stays = drand48() * 100 < stay;
    while (opened + failed < count && !ending)
        arrive();
    for (struct client *c = clients; c < clients + slots; c++)
        c->due = 0; /* from here on nobody leaves */
    report("ready ", "handshakes_per_second", opened, last_open - begin, cpu());
    while (can_wait && !ending) {
        wait_for_events(now + 1);
        if (asked)
            talk();
    }
    long gone_before = lost;
    leave(true);
    printf("{\"lost\": %ld, \"returned\": %ld, \"failed\": %ld}\n", gone_before, started - count, failed);
}

static void prepare_tls(const char *groups)
{
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_quiet_shutdown(context, 1); /* OpenSSL resumes no session that has ended without a shutdown */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, new_session);
    if (groups && !SSL_CTX_set1_groups_list(context, groups))
        die(groups);
    signal(SIGPIPE, SIG_IGN);
}

static void set_target(char *name)
{
    struct sockaddr_un *path = (struct sockaddr_un *)&targets[target_count].address;
    struct sockaddr_in *port = (struct sockaddr_in *)path;
    char *colon = strrchr(name, ':');
    if (!colon || target_count == sizeof targets / sizeof *targets) {
        fprintf(stderr, "no target: %s\n", name);
        exit(2);
    } else if (!strncmp(name, "unix:", 5)) {
        path->sun_family = AF_UNIX;
        snprintf(path->sun_path, sizeof path->sun_path, "%s", name + 5);
        targets[target_count++].size = sizeof *path;
    } else {
        *colon = 0;
        *port = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
        port->sin_addr.s_addr = inet_addr(name);
        targets[target_count++].size = sizeof *port;
    }
}

struct peer { int fd; bool open; size_t have; uint8_t data[1 << 17]; };

/* Echoes a frame by moving its header over the mask, which is zero: this server is for this client only. */
static bool serve_peer(struct peer *p)
{
    static const char response[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                   "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n";
    ssize_t n = recv(p->fd, p->data + p->have, sizeof p->data - p->have, 0);
    if (n <= 0)
        return false;
    p->have += n;
    if (!p->open) {
        p->have = 0;
        return p->open = send(p->fd, response, sizeof response - 1, MSG_NOSIGNAL) > 0;
    }
    size_t length = p->data[1] & 127, head = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (head > 2)
        length = 0;
    for (size_t i = 2; i < head; i++)
        length = length << 8 | p->data[i];
    if (p->have < head + 4 + length)
        return true;
    bool last = (p->data[0] & 15) == CLOSE;
    p->have = 0;
    memmove(p->data + 4, p->data, head);
    p->data[5] &= 127;
    return send(p->fd, p->data + 4, head + length, MSG_NOSIGNAL) > 0 && !last;
}

static void serve(char *where)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", strchr(where, '/') ? "unix:" : "127.0.0.1:", where);
    set_target(name);
    int yes = 1, listener = socket(targets[0].address.ss_family, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (strchr(where, '/'))
        unlink(where);
    if (bind(listener, (struct sockaddr *)&targets[0].address, targets[0].size) || listen(listener, 4096))
        die(where);
    struct epoll_event event = {.events = EPOLLIN}, events[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;)
        for (int i = 0, n = epoll_wait(epoll, events, 512, -1); i < n; i++) {
            struct peer *p = events[i].data.ptr;
            if (!p) {
                event.data.ptr = p = calloc(1, sizeof *p);
                p->fd = accept(listener, NULL, NULL);
                setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                epoll_ctl(epoll, EPOLL_CTL_ADD, p->fd, &event);
            } else if (!serve_peer(p)) {
                close(p->fd);
                free(p);
            }
        }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"clients", 1, 0, 'n'}, {"count", 1, 0, 'n'}, {"concurrency", 1, 0, 'p'}, {"size", 1, 0, 'b'},
        {"messages", 1, 0, 'm'},
        {"stay", 1, 0, 's'}, {"rate", 1, 0, 'r'}, {"seconds", 1, 0, 't'}, {"log", 1, 0, 'l'}, {"connect", 1, 0, 'c'},
        {"watch", 1, 0, 'w'}, {"tls", 1, 0, 'x'}, {"groups", 1, 0, 'g'}, {"deflate", 0, 0, 'd'}, {"return", 0, 0, 'a'}, {0}};
    const char *secured = NULL, *groups = NULL;
    char command = argc > 2 ? *argv[1] : '?'; /* no two begin with the same letter, but serve and storm */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll = epoll_create1(0);
    if (command == 's' && argv[1][1] == 'e')
        serve(argv[2]);
    mode = command == 'e' ? ECHO : command == 'h' ? HANDSHAKES : HOLD;
    stay = command == 'b' ? 20 : 100;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (option) {
        case 'n': count = atol(optarg); break;
        case 'p': concurrency = atol(optarg); break;
        case 'b': size = atol(optarg); break;
        case 'm': each = atol(optarg); break;
        case 's': stay = atol(optarg); break;
        case 'r': rate = atol(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'l':
            if (!(logfile = fopen(optarg, "w")))
                die(optarg);
            setlinebuf(logfile); /* whole lines, also if it is ended */
            break;
        case 'd': deflate = true; break;
        case 'x': secured = optarg; break;
        case 'g': groups = optarg; break;
        case 'a': come_back = true; break;
        case 'w':
            for (char *group; (group = strsep(&optarg, ":")) && watched_count < 8;)
                watched[watched_count++].pids = group;
            break;
        case 'c':
            for (char *name = strtok(optarg, ","); name; name = strtok(NULL, ","))
                set_target(name);
            break;
        default: return 2;
        }
    if (!strchr("ehsib", command) || !target_count)
        return fprintf(stderr, "The head of load.c says how to call it.\n"), 2;
    if (secured) {
        prepare_tls(groups);
        resume = !strcmp(secured, "resumed");
    }
    if (command == 's') /* storm */
        concurrency = count;
    request_size = snprintf(request, sizeof request,
                            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                            deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
    make_messages(size);
    slots = mode == ECHO || mode == HOLD ? count : rate ? 4096 : concurrency;
    if (!(clients = calloc(slots, sizeof *clients)))
        die("calloc");
    mode == ECHO ? run_echo() : mode == HANDSHAKES ? run_handshakes() : run_hold();
    return 0;
}
