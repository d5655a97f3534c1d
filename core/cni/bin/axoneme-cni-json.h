/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much JSON as the CNI executable needs: finding a member of an object in place, writing
 * strings. Nothing is copied and nothing is freed; the process is short.
 */
#ifndef AXONEME_CNI_JSON_H
#define AXONEME_CNI_JSON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 128 };

struct text {
	const char *at;
	size_t len;
};

struct buffer {
	char *at;
	size_t len, room;
};

static struct text text_of(const char *words)
{
	return (struct text){ words, strlen(words) };
}

static int is(struct text t, const char *words)
{
	return t.len == strlen(words) && !memcmp(t.at, words, t.len);
}

static void put(struct buffer *b, const char *data, size_t len)
{
	if (b->len + len > b->room) {
		b->room = (b->len + len) * 2 + 4096;
		b->at = realloc(b->at, b->room);
		if (!b->at)
			_exit(1);
	}
	if (len)
		memcpy(b->at + b->len, data, len);
	b->len += len;
}

static void puts_to(struct buffer *b, const char *words)
{
	put(b, words, strlen(words));
}

/* As a JSON string. Control characters, never wanted here, turn to blanks. */
static void quote(struct buffer *b, struct text t)
{
	put(b, "\"", 1);
	for (size_t i = 0; i < t.len; i++) {
		unsigned char c = (unsigned char)t.at[i];

		if (c == '"' || c == '\\')
			put(b, "\\", 1);
		put(b, c < 32 || c == 127 ? " " : t.at + i, 1);
	}
	put(b, "\"", 1);
}

static const char *blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

/*
 * Past one JSON value, or NULL. With `want` the value is an object, and *found becomes the raw text
 * of its last member of that name. Words and numbers are taken loosely: the agent reads again.
 */
static const char *skip(const char *p, const char *end, int depth, const char *want,
			struct text *found)
{
	char close;

	p = blanks(p, end);
	if (p >= end || depth > MAX_DEPTH)
		return NULL;
	if (*p == '"') {
		for (p++; p < end && *p != '"'; p++)
			if (*p == '\\')
				p++;
		return p < end ? p + 1 : NULL;
	}
	if (*p != '{' && *p != '[') {
		const char *start = p;

		while (p < end && (isalnum((unsigned char)*p) || strchr("+-.", *p)) && *p)
			p++;
		return p > start ? p : NULL;
	}
	close = *p == '{' ? '}' : ']';
	p = blanks(p + 1, end);
	if (p < end && *p == close)
		return p + 1;
	for (;;) {
		struct text name = { NULL, 0 }, value;

		p = blanks(p, end);
		if (close == '}') {
			name.at = p;
			if (p >= end || *p != '"' || !(p = skip(p, end, depth + 1, NULL, NULL)))
				return NULL;
			name = (struct text){ name.at + 1, (size_t)(p - name.at) - 2 };
			p = blanks(p, end);
			if (p >= end || *p++ != ':')
				return NULL;
			p = blanks(p, end);
		}
		value.at = p;
		p = skip(p, end, depth + 1, NULL, NULL);
		if (!p)
			return NULL;
		value.len = (size_t)(p - value.at);
		if (want && name.at && is(name, want))
			*found = value;
		p = blanks(p, end);
		if (p < end && *p == close)
			return p + 1;
		if (p >= end || *p++ != ',')
			return NULL;
	}
}

/* The raw value of a key of an object, empty if it has none; 0 if the text is not one object. */
static int member(struct text object, const char *key, struct text *found)
{
	const char *end = object.at + object.len, *p = blanks(object.at, end);

	*found = (struct text){ "", 0 };
	if (p >= end || *p != '{')
		return 0;
	p = skip(p, end, 0, key, found);
	return p && blanks(p, end) == end;
}

/* The inside of a string without escapes; empty for everything else. */
static struct text word(struct text raw)
{
	if (raw.len < 2 || raw.at[0] != '"' || memchr(raw.at, '\\', raw.len))
		return (struct text){ "", 0 };
	return (struct text){ raw.at + 1, raw.len - 2 };
}

#endif
