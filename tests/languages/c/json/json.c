#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* So deep may arrays and objects be within each other, since the reader calls itself. */
enum { DEPTH = 64 };

/* ---- Reading ---- */

typedef struct {
    const char *start, *at, *end;
    const char *wrong; /* what was awaited where reading stopped */
    int depth;
} reader;

static bool wrong(reader *from, const char *what) {
    if (!from->wrong) from->wrong = what;
    return false;
}

static void skip_space(reader *from) {
    while (from->at < from->end && strchr(" \t\r\n", *from->at) && *from->at) from->at++;
}

static bool skip(reader *from, char letter) {
    if (from->at == from->end || *from->at != letter) return false;
    from->at++;
    return true;
}

static bool skip_word(reader *from, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(from->end - from->at) < len || memcmp(from->at, word, len)) return false;
    from->at += len;
    return true;
}

static bool is_digit(const reader *from) {
    return from->at < from->end && *from->at >= '0' && *from->at <= '9';
}

static bool skip_digits(reader *from) {
    if (!is_digit(from)) return wrong(from, "a digit");
    while (is_digit(from)) from->at++;
    return true;
}

static bool read_number(reader *from, json *value) {
    const char *begin = from->at;
    value->kind = JSON_NUMBER;
    skip(from, '-');
    if (!skip(from, '0') && !skip_digits(from)) return false;
    if (skip(from, '.') && !skip_digits(from)) return false;
    if (skip(from, 'e') || skip(from, 'E')) {
        if (!skip(from, '+')) skip(from, '-');
        if (!skip_digits(from)) return false;
    }
    value->text = (jf_str){begin, (size_t)(from->at - begin)};
    return true;
}

static bool read_hex(reader *from, unsigned *unit) {
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef";
        char letter = from->at < from->end ? *from->at : 0;
        if (letter >= 'A' && letter <= 'F') letter += 'a' - 'A';
        const char *digit = letter ? strchr(digits, letter) : NULL;
        if (!digit) return wrong(from, "four hexadecimal digits");
        *unit = *unit * 16 + (unsigned)(digit - digits);
        from->at++;
    }
    return true;
}

static char *put_letter(char *to, unsigned letter) {
    if (letter < 0x80) {
        *to++ = (char)letter;
    } else if (letter < 0x800) {
        *to++ = (char)(0xC0 | letter >> 6);
        *to++ = (char)(0x80 | (letter & 0x3F));
    } else if (letter < 0x10000) {
        *to++ = (char)(0xE0 | letter >> 12);
        *to++ = (char)(0x80 | (letter >> 6 & 0x3F));
        *to++ = (char)(0x80 | (letter & 0x3F));
    } else {
        *to++ = (char)(0xF0 | letter >> 18);
        *to++ = (char)(0x80 | (letter >> 12 & 0x3F));
        *to++ = (char)(0x80 | (letter >> 6 & 0x3F));
        *to++ = (char)(0x80 | (letter & 0x3F));
    }
    return to;
}

/* What stands behind a backslash. */
static bool read_escape(reader *from, char **to) {
    static const char short_forms[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    for (const char *form = short_forms; *form; form += 2) {
        if (skip(from, *form)) {
            *(*to)++ = form[1];
            return true;
        }
    }
    unsigned unit, low;
    if (!skip(from, 'u')) return wrong(from, "an escape such as \\n");
    if (!read_hex(from, &unit)) return false;
    if (unit >= 0xD800 && unit <= 0xDFFF) {
        if (unit > 0xDBFF || !skip_word(from, "\\u")) return wrong(from, "two surrogates");
        if (!read_hex(from, &low)) return false;
        if (low < 0xDC00 || low > 0xDFFF) return wrong(from, "two surrogates");
        unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
    *to = put_letter(*to, unit);
    return true;
}

static bool read_string(reader *from, jf_str *text) {
    if (!skip(from, '"')) return wrong(from, "a string");
    const char *quote = from->at;
    while (quote < from->end && *quote != '"') quote += *quote == '\\' && quote + 1 < from->end ? 2 : 1;
    /* No escape is shorter than what it stands for. */
    char *letters = jf_alloc((size_t)(quote - from->at) + 1), *to = letters;
    while (!skip(from, '"')) {
        if (from->at == from->end) return wrong(from, "the end of a string");
        if ((unsigned char)*from->at < 0x20) return wrong(from, "an escape for a control character");
        if (!skip(from, '\\')) *to++ = *from->at++;
        else if (!read_escape(from, &to)) return false;
    }
    *text = (jf_str){letters, (size_t)(to - letters)};
    return true;
}

static bool read_value(reader *from, json *value);

/* The rest of an array or of an object, behind its bracket. */
static bool read_values(reader *from, json *value) {
    bool is_object = value->kind == JSON_OBJECT;
    char bracket = is_object ? '}' : ']';
    const json **next = &value->first;
    skip_space(from);
    if (skip(from, bracket)) return true;
    do {
        json *item = jf_alloc(sizeof *item);
        if (is_object) {
            skip_space(from);
            if (!read_string(from, &item->key)) return false;
            skip_space(from);
            if (!skip(from, ':')) return wrong(from, "a colon");
        }
        if (!read_value(from, item)) return false;
        *next = item;
        next = &item->next;
        skip_space(from);
    } while (skip(from, ','));
    return skip(from, bracket) || wrong(from, "a comma, or the closing bracket");
}

static bool read_value(reader *from, json *value) {
    skip_space(from);
    const char *begin = from->at;
    bool is_read = true;
    if (skip_word(from, "null")) value->kind = JSON_NULL;
    else if (skip_word(from, "false")) value->kind = JSON_FALSE;
    else if (skip_word(from, "true")) value->kind = JSON_TRUE;
    else if (skip(from, '[') || skip(from, '{')) {
        value->kind = *begin == '{' ? JSON_OBJECT : JSON_ARRAY;
        if (from->depth == DEPTH) return wrong(from, "fewer brackets within each other");
        from->depth++;
        is_read = read_values(from, value);
        from->depth--;
    } else if (from->at < from->end && *from->at == '"') {
        value->kind = JSON_STRING;
        is_read = read_string(from, &value->text);
    } else if (is_digit(from) || (from->at < from->end && *from->at == '-')) {
        is_read = read_number(from, value);
    } else {
        is_read = wrong(from, "a value");
    }
    value->raw = (jf_str){begin, (size_t)(from->at - begin)};
    return is_read;
}

const json *json_read(jf_str text, jf_str *why) {
    reader from = {.start = text.ptr, .at = text.ptr, .end = text.ptr + text.len};
    json *value = jf_alloc(sizeof *value);
    if (read_value(&from, value)) {
        skip_space(&from);
        if (from.at == from.end) return value;
        wrong(&from, "the end");
    }
    *why = jf_format("%s was expected at byte %td", from.wrong, from.at - from.start);
    return NULL;
}

const json *(json_get)(const json *object, jf_str name) {
    const json *found = NULL;
    if (!object || object->kind != JSON_OBJECT) return NULL;
    for (const json *item = object->first; item; item = item->next)
        if (jf_equal(item->key, name)) found = item;
    return found;
}

bool json_is_uint(const json *value, uint64_t most, uint64_t *number) {
    if (!value || value->kind != JSON_NUMBER) return false;
    *number = 0;
    for (size_t i = 0; i < value->text.len; i++) {
        char letter = value->text.ptr[i];
        if (letter < '0' || letter > '9') return false;
        uint64_t digit = (uint64_t)(letter - '0');
        if (*number > (UINT64_MAX - digit) / 10) return false;
        *number = *number * 10 + digit;
    }
    return *number <= most;
}

/* ---- Writing ---- */

static void append(json_text *to, const char *bytes, size_t len) {
    if (len > to->room - to->len) {
        to->room = (to->len + len) * 2 + 64;
        char *more = jf_alloc(to->room);
        if (to->len) memcpy(more, to->ptr, to->len);
        to->ptr = more;
    }
    if (len) memcpy(to->ptr + to->len, bytes, len);
    to->len += len;
}

/* Between two values, or between two names. */
static void comma(json_text *to) {
    char last = to->len ? to->ptr[to->len - 1] : '[';
    if (last != '[' && last != '{' && last != ':') append(to, ",", 1);
}

void json_open(json_text *to, char bracket) {
    comma(to);
    append(to, &bracket, 1);
}

void json_close(json_text *to, char bracket) {
    append(to, &bracket, 1);
}

void(json_raw)(json_text *to, jf_str value) {
    comma(to);
    append(to, value.ptr, value.len);
}

void(json_string)(json_text *to, jf_str value) {
    if (!value.ptr) {
        json_raw(to, "null");
        return;
    }
    comma(to);
    append(to, "\"", 1);
    for (size_t i = 0; i < value.len; i++) {
        unsigned char letter = (unsigned char)value.ptr[i];
        char escaped[8];
        int len = 1;
        if (letter == '"' || letter == '\\') len = snprintf(escaped, sizeof escaped, "\\%c", letter);
        else if (letter < 0x20) len = snprintf(escaped, sizeof escaped, "\\u%04x", letter);
        else escaped[0] = (char)letter;
        append(to, escaped, (size_t)len);
    }
    append(to, "\"", 1);
}

void(json_name)(json_text *to, jf_str name) {
    json_string(to, name);
    append(to, ":", 1);
}

void json_uint(json_text *to, uint64_t value) {
    json_raw(to, jf_format("%" PRIu64, value));
}

void json_bool(json_text *to, bool value) {
    json_raw(to, value ? "true" : "false");
}

jf_str json_done(const json_text *text) {
    return (jf_str){text->ptr, text->len};
}
