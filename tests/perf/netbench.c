// SPDX-License-Identifier: Apache-2.0
/*
 * Request/response over TCP, one byte each way, as netperf's TCP_RR and TCP_CRR measure it.
 *
 *   netbench server PORT [CPU]
 *   netbench rr|crr HOST PORT SECONDS [CPU]
 *
 * rr uses one connection for all requests, crr a new connection for each. The client prints one
 * JSON line: requests, requests per second, median and 99th percentile in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_SAMPLES 4000000

static float samples[MAX_SAMPLES];

static void die(const char *what)
{
	fprintf(stderr, "netbench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void pin(const char *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(atoi(cpu), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void serve(const char *port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(port)) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), one = 1;
	char byte;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&any, sizeof(any)) || listen(fd, 128))
		die("listen");
	for (;;) {
		int peer = accept(fd, NULL, NULL);

		if (peer < 0)
			continue;
		no_delay(peer);
		while (read(peer, &byte, 1) == 1 && write(peer, &byte, 1) == 1)
			;
		close(peer);
	}
}

static int dial(struct addrinfo *to)
{
	int fd = socket(to->ai_family, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen))
		die("connect");
	no_delay(fd);
	return fd;
}

static void exchange(int fd)
{
	char byte = 'x';

	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
		die("exchange");
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void run(int crr, struct addrinfo *to, double seconds)
{
	int fd = crr ? -1 : dial(to);
	double start = now(), last = start;
	long count = 0;

	while (last - start < seconds && count < MAX_SAMPLES) {
		double begin = last;

		if (crr)
			fd = dial(to);
		exchange(fd);
		if (crr)
			close(fd);
		last = now();
		samples[count++] = (last - begin) * 1e6;
	}
	qsort(samples, count, sizeof(samples[0]), by_value);
	printf("{\"requests\": %ld, \"per_second\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f}\n",
	       count, count / (last - start), samples[count / 2], samples[count * 99 / 100]);
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *to;

	if (argc >= 3 && !strcmp(argv[1], "server")) {
		if (argc > 3)
			pin(argv[3]);
		serve(argv[2]);
	}
	if (argc < 5) {
		fprintf(stderr, "usage: netbench server PORT [CPU] | rr|crr HOST PORT SECONDS [CPU]\n");
		return 2;
	}
	if (argc > 5)
		pin(argv[5]);
	if (getaddrinfo(argv[2], argv[3], &hints, &to))
		die(argv[2]);
	run(!strcmp(argv[1], "crr"), to, atof(argv[4]));
	return 0;
}
