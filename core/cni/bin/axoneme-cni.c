/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CNI executable in C: what ./axoneme-cni does, in under a millisecond. A pod's start waits for
 * this process. Both have the same words, codes and tests; shim.py compiles this one where there
 * is a compiler.
 *
 * Specification: https://www.cni.dev/docs/spec/ (1.1.0). Behaviour without the agent: ADD, CHECK
 * and GC fail with 11, try again later; STATUS with 50; DEL is written down for the agent's next
 * start and succeeds. Everything is allocated once and left to the end of the process.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "axoneme-cni-json.h"

#define VERSIONS "\"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\""
#define DEFAULT_SOCKET "/var/run/axoneme/axoneme.sock"
#define SAFE "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

enum { MAX_CONFIG = 900 * 1024, MAX_ANSWER = 16 * 1024 * 1024, MAX_QUEUE = 256 };
enum { INCOMPATIBLE_VERSION = 1, BAD_ENVIRONMENT = 4, IO_FAILURE, NOT_DECODED, BAD_CONFIG };
enum { TRY_AGAIN = 11, NOT_AVAILABLE = 50, FAILED = 100 };

static struct text config; /* the network configuration, as it came */

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int is_version(struct text raw)
{
	static const char *const known[] = { "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" };

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (is(word(raw), known[i]))
			return 1;
	return 0;
}

/* Ends the run with an error object of the specification. `msg`, `details`: raw JSON strings. */
static void refuse_raw(int code, struct text msg, struct text details)
{
	struct text asked;
	struct buffer out = { 0 };
	char number[40];

	if (!member(config, "cniVersion", &asked) || !is_version(asked))
		asked = text_of("\"1.1.0\"");
	puts_to(&out, "{\"cniVersion\": ");
	put(&out, asked.at, asked.len);
	snprintf(number, sizeof(number), ", \"code\": %d, \"msg\": ", code);
	puts_to(&out, number);
	put(&out, msg.at, msg.len);
	if (details.len > 2) {
		puts_to(&out, ", \"details\": ");
		put(&out, details.at, details.len);
	}
	puts_to(&out, "}\n");
	write_all(1, out.at, out.len);
	_exit(1);
}

static void refuse(int code, const char *details, const char *format, ...)
{
	struct buffer msg = { 0 }, more = { 0 };
	char words[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	quote(&msg, text_of(words));
	quote(&more, text_of(details));
	refuse_raw(code, (struct text){ msg.at, msg.len }, (struct text){ more.at, more.len });
}

static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

static void read_config(void)
{
	struct buffer in = { 0 };
	char part[65536];
	ssize_t n;

	while ((n = read(0, part, sizeof(part)))) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			refuse(FAILED, "", "standard input: %s", strerror(errno));
		put(&in, part, (size_t)n);
		if (in.len > MAX_CONFIG)
			refuse(NOT_DECODED, "", "network configuration of more than %d bytes", MAX_CONFIG);
	}
	config = (struct text){ in.at ? in.at : "", in.len };
}

static void version(void)
{
	struct text asked = { "", 0 };
	struct buffer out = { 0 };

	if (blanks(config.at, config.at + config.len) != config.at + config.len &&
	    !member(config, "cniVersion", &asked))
		refuse(NOT_DECODED, "", "not a JSON object");
	if (!word(asked).len || strspn(word(asked).at, SAFE) != word(asked).len)
		asked = text_of("\"1.1.0\"");
	puts_to(&out, "{\"cniVersion\": ");
	put(&out, asked.at, asked.len);
	puts_to(&out, ", \"supportedVersions\": [" VERSIONS "]}\n");
	_exit(write_all(1, out.at, out.len) ? 1 : 0);
}

static void required(const char *command)
{
	static const char *const names[] = { "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS" };
	int count = !strcmp(command, "DEL") ? 2 : 3;
	char missing[80] = "";

	if (!strcmp(command, "STATUS") || !strcmp(command, "GC"))
		return;
	for (int i = 0; i < count; i++)
		if (!*environment(names[i])) {
			strcat(missing, *missing ? ", " : "");
			strcat(missing, names[i]);
		}
	if (*missing)
		refuse(BAD_ENVIRONMENT, "", "missing in the environment: %s", missing);
}

static void socket_path(struct sockaddr_un *address)
{
	struct text raw, path;

	if (!member(config, "socket-path", &raw))
		refuse(NOT_DECODED, "", "not a JSON object");
	path = raw.len ? word(raw) : text_of(DEFAULT_SOCKET);
	if (!path.len || path.at[0] != '/' || path.len >= sizeof(address->sun_path))
		refuse(BAD_CONFIG, "", "socket-path %.*s is not an absolute path of at most %zu bytes",
		       (int)(raw.len < 200 ? raw.len : 200), raw.at, sizeof(address->sun_path) - 1);
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path.at, path.len);
}

/* One line to the agent. The answer, one line, or 0 when nobody is there; *why says so. */
static int ask(const struct sockaddr_un *address, const char *command, struct buffer *answer,
	       const char **why)
{
	static const char *const passed_on[] = { "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME",
						 "CNI_ARGS", "CNI_PATH" };
	const struct timeval connecting = { .tv_sec = 1, .tv_usec = 500000 };
	const struct timeval waiting = { .tv_sec = 90 };
	int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), first = 1;
	struct buffer line = { 0 };
	char part[65536];

	setsockopt(agent, SOL_SOCKET, SO_SNDTIMEO, &connecting, sizeof(connecting));
	if (connect(agent, (const struct sockaddr *)address, sizeof(*address))) {
		*why = strerror(errno == EAGAIN ? ETIMEDOUT : errno);
		return 0;
	}
	setsockopt(agent, SOL_SOCKET, SO_SNDTIMEO, &waiting, sizeof(waiting));
	setsockopt(agent, SOL_SOCKET, SO_RCVTIMEO, &waiting, sizeof(waiting));
	puts_to(&line, "{\"method\":\"cni.");
	for (const char *c = command; *c; c++)
		put(&line, (char[]){ (char)tolower((unsigned char)*c) }, 1);
	puts_to(&line, "\",\"params\":{\"env\":{");
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(*passed_on); i++) {
		const char *value = getenv(passed_on[i]);

		if (!value)
			continue;
		puts_to(&line, first ? "" : ",");
		first = 0;
		quote(&line, text_of(passed_on[i]));
		puts_to(&line, ":");
		quote(&line, text_of(value));
	}
	puts_to(&line, "},\"config\":");
	quote(&line, config);
	puts_to(&line, "}}\n");
	for (size_t sent = 0; sent < line.len;) {
		ssize_t n = send(agent, line.at + sent, line.len - sent, MSG_NOSIGNAL);

		if (n < 0)
			refuse(TRY_AGAIN, "", "no answer from the agent: %s", strerror(errno));
		sent += (size_t)n;
	}
	while (!answer->len || answer->at[answer->len - 1] != '\n') {
		ssize_t n = recv(agent, part, sizeof(part), 0);

		if (n < 0)
			refuse(TRY_AGAIN, "", "no answer from the agent: %s",
			       strerror(errno == EAGAIN ? ETIMEDOUT : errno));
		if (!n)
			refuse(TRY_AGAIN, "", "the agent closed the connection without an answer");
		put(answer, part, (size_t)n);
		if (answer->len > MAX_ANSWER)
			refuse(IO_FAILURE, "", "the agent's answer does not end");
	}
	return 1;
}

/* Prints the result inside the agent's answer, byte for byte; an error of the agent is ours. */
static void unpack(struct text line)
{
	struct text result, error, raw, msg, hint;
	int code = FAILED;

	if (!member(line, "result", &result))
		refuse(IO_FAILURE, "", "the agent's answer is not understood");
	if (result.len) {
		if (!is(result, "null") &&
		    (write_all(1, result.at, result.len) || write_all(1, "\n", 1)))
			_exit(1);
		_exit(0);
	}
	if (!member(line, "error", &error) || !member(error, "code", &raw))
		refuse(IO_FAILURE, "", "the agent's answer is not understood");
	if (is(word(raw), "not-ready"))
		code = TRY_AGAIN;
	else if (word(raw).len > 4 && !memcmp(word(raw).at, "cni-", 4))
		code = atoi(word(raw).at + 4);
	if (!member(error, "message", &msg) || !msg.len || *msg.at != '"')
		msg = text_of("\"failed\"");
	if (!member(error, "hint", &hint) || !hint.len || *hint.at != '"')
		hint = text_of("");
	refuse_raw(code ? code : FAILED, msg, hint);
}

static void make_folders(char *folder)
{
	for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(folder, 0700);
		*slash = '/';
	}
	if (mkdir(folder, 0700) && errno != EEXIST)
		refuse(IO_FAILURE, "", "%s: %s", folder, strerror(errno));
}

static int notes_in(const char *folder)
{
	DIR *open_folder = opendir(folder);
	struct dirent *entry;
	int count = 0;

	if (!open_folder)
		refuse(IO_FAILURE, "", "%s: %s", folder, strerror(errno));
	while ((entry = readdir(open_folder))) {
		size_t len = strlen(entry->d_name);

		count += len > 5 && !strcmp(entry->d_name + len - 5, ".json");
	}
	closedir(open_folder);
	return count;
}

/* Leave a note for the agent's next start; the pod's namespace takes its interface along. */
static void queue_deletion(const char *socket_path)
{
	const char *container = environment("CNI_CONTAINERID"), *ifname = environment("CNI_IFNAME");
	const char *slash = strrchr(socket_path, '/');
	char folder[256], name[768], hidden[800], id[512];
	struct buffer note = { 0 };
	int fd;

	if (strchr("._-", *container) || container[strspn(container, SAFE)] ||
	    ifname[strspn(ifname, SAFE)] || strlen(container) > 200 || strlen(ifname) > 200)
		refuse(BAD_ENVIRONMENT, "", "CNI_CONTAINERID '%s', CNI_IFNAME '%s'", container, ifname);
	snprintf(folder, sizeof(folder), "%.*s/cni-delete-queue", (int)(slash - socket_path),
		 socket_path);
	snprintf(name, sizeof(name), "%s/%s-%s.json", folder, container, ifname);
	snprintf(hidden, sizeof(hidden), "%s.%d", name, (int)getpid());
	snprintf(id, sizeof(id), "%s:%s", container, ifname);
	make_folders(folder);
	if (notes_in(folder) >= MAX_QUEUE)
		refuse(TRY_AGAIN, "", "%d deletions wait for the agent already", MAX_QUEUE);
	puts_to(&note, "{\"attachment_id\": ");
	quote(&note, text_of(id));
	puts_to(&note, ", \"container_id\": ");
	quote(&note, text_of(container));
	puts_to(&note, ", \"ifname\": ");
	quote(&note, text_of(ifname));
	puts_to(&note, ", \"netns\": ");
	quote(&note, text_of(environment("CNI_NETNS")));
	puts_to(&note, "}");
	fd = open(hidden, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write_all(fd, note.at, note.len) || close(fd) || rename(hidden, name))
		refuse(IO_FAILURE, "", "%s: %s", folder, strerror(errno));
}

int main(void)
{
	static const char *const commands[] = { "ADD", "CHECK", "DEL", "STATUS", "GC", "VERSION" };
	const char *command = environment("CNI_COMMAND"), *why = "";
	struct sockaddr_un address = { 0 };
	struct buffer answer = { 0 };
	struct text asked;
	size_t i = 0;

	config = text_of("");
	while (i < sizeof(commands) / sizeof(*commands) && strcmp(command, commands[i]))
		i++;
	if (i == sizeof(commands) / sizeof(*commands))
		refuse(BAD_ENVIRONMENT, "", "CNI_COMMAND '%s' is not a command", command);
	read_config();
	if (!strcmp(command, "VERSION"))
		version();
	required(command);
	socket_path(&address);
	if (ask(&address, command, &answer, &why))
		unpack((struct text){ answer.at, answer.len });
	if (!strcmp(command, "STATUS"))
		refuse(NOT_AVAILABLE, why, "the agent is not available");
	if (strcmp(command, "DEL"))
		refuse(TRY_AGAIN, why, "the agent is not running, try again later");
	if (member(config, "cniVersion", &asked) && asked.len && !is_version(asked))
		refuse(INCOMPATIBLE_VERSION, "", "cniVersion %.*s", (int)(asked.len < 64 ? asked.len : 64),
		       asked.at);
	queue_deletion(address.sun_path);
	return 0;
}
