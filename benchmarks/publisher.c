/* An MQTT 3.1.1 publisher at QoS 1 that costs little: telemetry of many devices over one connection, pipelined.
 *
 *   publisher HOST PORT DEVICES ROUNDS FIRST_ROUND START_MS STEP_MS POINTS METRICS RATE CLOCK_ROUNDS FIRST_DEVICE
 *
 * In each round each device says METRICS * POINTS readings, STEP_MS apart, in one message. Devices are numbered from
 * FIRST_DEVICE on, rounds from FIRST_ROUND on, so that a second run goes on where the first one stopped. RATE bounds the readings a second (0: as
 * fast as they are acknowledged). At the beginning and after each CLOCK_ROUNDS rounds, when everything is acknowledged,
 * the simulator's clock is published, and at most CLOCKS of them are unconfirmed (0: no clock). The line printed at the end is JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { OUT = 1 << 18, IN = 1 << 16, IN_FLIGHT = 20000, CLOCKS = 8, LARGEST = 1 << 20 };

static int wire;
static unsigned char out[OUT + LARGEST], in[IN];
static size_t waiting, got;
static unsigned unacknowledged, unconfirmed;
static uint16_t packet_id;

static void fail(const char *what) { perror(what); exit(1); }

static double now_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

/* Handles what the broker says; returns how many bytes were whole packets. */
static size_t understand(void) {
    size_t at = 0;
    for (;;) {
        size_t length = 0, head = 1, shift = 0;
        do {
            if (at + head >= got) return at;
            length |= (size_t)(in[at + head] & 127) << shift;
            shift += 7;
        } while (in[at + head++] & 128);
        if (at + head + length > got) return at;
        switch (in[at] >> 4) {
        case 4: unacknowledged--; break;
        case 3: unconfirmed -= unconfirmed > 0; break; /* at QoS 0: only clocks are subscribed to */
        }
        at += head + length;
    }
}

/* Moves bytes in both directions; waits for either if `block`, for at most that many milliseconds. */
static void move(int block) {
    struct pollfd ready = {wire, POLLIN | (waiting ? POLLOUT : 0), 0};
    if (poll(&ready, 1, block) < 0) fail("poll");
    if (ready.revents & POLLOUT) {
        ssize_t sent = send(wire, out, waiting, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) fail("send");
        if (sent > 0) memmove(out, out + sent, waiting -= sent);
    }
    if (ready.revents & (POLLIN | POLLHUP | POLLERR)) {
        ssize_t read = recv(wire, in + got, IN - got, 0);
        if (read == 0 || (read < 0 && errno != EAGAIN)) fail("the broker has closed the connection");
        if (read > 0) {
            size_t used;
            got += read;
            used = understand();
            memmove(in, in + used, got -= used);
        }
    }
}

static unsigned char *put_text(unsigned char *to, const char *text, size_t length) {
    *to++ = length >> 8;
    *to++ = length & 255;
    memcpy(to, text, length);
    return to + length;
}

static void packet(unsigned char kind, const unsigned char *body, size_t length) {
    size_t left = length;
    out[waiting++] = kind;
    do {
        out[waiting++] = (left & 127) | (left > 127 ? 128 : 0);
        left >>= 7;
    } while (left);
    memcpy(out + waiting, body, length);
    waiting += length;
}

static void publish(const char *topic, const char *payload, size_t length) {
    static unsigned char body[LARGEST];
    unsigned char *to = put_text(body, topic, strlen(topic));
    if (++packet_id == 0) packet_id = 1;
    *to++ = packet_id >> 8;
    *to++ = packet_id & 255;
    memcpy(to, payload, length);
    while (waiting > OUT / 2 || unacknowledged >= IN_FLIGHT) move(1000);
    packet(0x32, body, to + length - body);
    unacknowledged++;
    if (waiting > OUT / 4) move(0);
}

static void join(const char *host, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    unsigned char body[256], *at = body;
    char name[32];
    int on = 1;
    inet_pton(AF_INET, host, &to.sin_addr);
    if ((wire = socket(AF_INET, SOCK_STREAM, 0)) < 0 || connect(wire, (void *)&to, sizeof to)) fail("connect");
    setsockopt(wire, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(wire, F_SETFL, O_NONBLOCK);
    memcpy(at, "\0\4MQTT\4\2\0\0", 10); /* version 4, clean session, no keep-alive */
    at = put_text(at + 10, name, snprintf(name, sizeof name, "publisher-%d", getpid()));
    packet(0x10, body, at - body);
    at = body;
    *at++ = 0;
    *at++ = 1;
    at = put_text(at, "wardwatch/v1/_clock/confirmed", 29);
    *at++ = 0;
    packet(0x82, body, at - body);
    while (waiting) move(1000);
}

static char *number(char *to, int64_t value) {
    char digits[24];
    int n = 0;
    do digits[n++] = '0' + value % 10; while (value /= 10);
    while (n) *to++ = digits[--n];
    return to;
}

static char *text(char *to, const char *words) { return stpcpy(to, words); }

/* One message: metric 0 counts up, the others move about a level of their own. */
static size_t message(char *to, int device, int64_t round, int64_t start_ms, int step_ms, int points, int metrics) {
    char *begin = to;
    int64_t first_ms = start_ms + round * points * step_ms;
    to += sprintf(to, "{\"device\":\"bench-%06d\",\"boot\":", device);
    to = number(to, start_ms);
    to = number(text(to, ",\"seq\":"), round + 1);
    to = number(text(to, ",\"sent\":"), first_ms + (int64_t)(points - 1) * step_ms);
    to = text(to, ",\"series\":{");
    for (int metric = 0; metric < metrics; metric++) {
        to = number(text(to, metric ? "]],\"m" : "\"m"), metric);
        to = text(to, "\":[");
        for (int point = 0; point < points; point++) {
            int64_t tick = round * points + point;
            uint32_t noise = (uint32_t)(tick * 2654435761u + device * 40503u + metric * 97u) >> 16;
            to = number(text(to, point ? "],[" : "["), first_ms + (int64_t)point * step_ms);
            *to++ = ',';
            if (metric == 0) {
                to = number(to, tick / 6);
            } else {
                to = number(to, 20 + metric * 5 + noise % 4);
                *to++ = '.';
                to = number(to, 10 + noise / 7 % 90);
            }
        }
    }
    to = text(to, "]]}}");
    return to - begin;
}

/* Says what time it is, when everything before has arrived. */
static void clock_at(int64_t at_ms) {
    char payload[48];
    size_t length = sprintf(payload, "{\"at\":%lld}", (long long)at_ms);
    while (unacknowledged || unconfirmed >= CLOCKS) move(1000);
    unconfirmed++;
    publish("wardwatch/v1/_clock", payload, length);
    while (unacknowledged) move(1000);
}

int main(int count, char **given) {
    if (count != 13) return fprintf(stderr, "see the head of publisher.c for the arguments\n"), 2;
    int devices = atoi(given[3]), rounds = atoi(given[4]), step_ms = atoi(given[7]), points = atoi(given[8]);
    int metrics = atoi(given[9]), clock_rounds = atoi(given[11]), first_device = atoi(given[12]);
    int64_t first_round = atoll(given[5]), start_ms = atoll(given[6]), bytes = 0;
    double rate = atof(given[10]), begun_s;
    static char payload[LARGEST / 2], topic[64];
    join(given[1], atoi(given[2]));
    begun_s = now_s();
    if (clock_rounds) clock_at(start_ms + first_round * points * step_ms); /* what comes before the first clock waits */
    for (int64_t round = first_round; round < first_round + rounds; round++) {
        for (int device = 0; device < devices; device++) {
            size_t length = message(payload, first_device + device, round, start_ms, step_ms, points, metrics);
            if (rate > 0) {
                double due_s = begun_s + ((round - first_round) * devices + device) * (double)(points * metrics) / rate;
                double left_s;
                while ((left_s = due_s - now_s()) > 0.0005) move(left_s * 1000 + 1);
            }
            snprintf(topic, sizeof topic, "wardwatch/v1/bench-%06d/telemetry", first_device + device);
            publish(topic, payload, length);
            bytes += length;
        }
        if (clock_rounds && (round + 1) % clock_rounds == 0) clock_at(start_ms + (round + 1) * points * step_ms);
    }
    while (unacknowledged || waiting) move(1000);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"messages\":%lld,\"readings\":%lld,\"bytes\":%lld,\"seconds\":%.6f,\"cpu_s\":%.6f}\n",
           (long long)rounds * devices, (long long)rounds * devices * points * metrics, (long long)bytes,
           now_s() - begun_s, used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6);
    return 0;
}
