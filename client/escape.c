/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * escape.c - see escape.h.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "client/escape.h"

/* Bytes of the UTF-8 character at the front of `length` > 0 bytes; 0: it is none. */
static size_t utf8_length(const unsigned char *s, size_t length)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	uint32_t c = s[0] & (0xffu >> (n + 1));
	size_t i;

	if (n == 1)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4 || length < n)
		return 0;
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static void print(FILE *out, const char *text, const char *also)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t length = strlen(text), n;

	for (; length > 0; s += n, length -= n) {
		n = utf8_length(s, length);
		if (n > 1 ? s[0] == 0xc2 && s[1] < 0xa0 : n == 0 || *s < ' ' || *s == 0x7f || strchr(also, *s)) {
			fprintf(out, "%%%02X", *s);
			n = 1;
		} else {
			fwrite(s, 1, n, out);
		}
	}
}

/* Whatever is in a log, or in the name of one, a terminal must not take it for a command. */
void escape_print(FILE *out, const char *text)
{
	print(out, text, "");
}

void escape_word(FILE *out, const char *text)
{
	print(out, text, " %");
}

void escape_json(FILE *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t length = strlen(text), n;

	fputc('"', out);
	for (; length > 0; s += n, length -= n) {
		n = utf8_length(s, length);
		if (n == 0) {
			fputs("\\ufffd", out);
			n = 1;
		} else if (*s < ' ' || *s == 0x7f) {
			fprintf(out, "\\u%04x", *s);
		} else {
			if (*s == '"' || *s == '\\')
				fputc('\\', out);
			fwrite(s, 1, n, out);
		}
	}
	fputc('"', out);
}

/* U+FFFE and U+FFFF are no characters of XML. */
static bool is_xml(const unsigned char *s, size_t n)
{
	if (n == 1)
		return *s >= ' ' || *s == '\t' || *s == '\n';
	return n > 0 && !(s[0] == 0xef && s[1] == 0xbf && s[2] >= 0xbe);
}

static const char *xml_entity(unsigned char c)
{
	return c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : c == '\n' ? "&#10;" :
	       c == '\t' ? "&#9;" : NULL;
}

void escape_xml(FILE *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t length = strlen(text), n;
	const char *entity;

	for (; length > 0; s += n, length -= n) {
		n = utf8_length(s, length);
		entity = xml_entity(*s);
		if (!is_xml(s, n)) {
			fputs("\xef\xbf\xbd", out);
			n = n ? n : 1;
		} else if (entity) {
			fputs(entity, out);
		} else {
			fwrite(s, 1, n, out);
		}
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void escape_undo(char *text)
{
	char *to = text;
	int high, low;

	for (; *text; text++) {
		high = *text == '%' ? hex_digit(text[1]) : -1;
		low = high >= 0 ? hex_digit(text[2]) : -1;
		if (low < 0 || high + low == 0) {
			*to++ = *text;
		} else {
			*to++ = (char)(high << 4 | low);
			text += 2;
		}
	}
	*to = '\0';
}
