/* Tests of the JSON reader and writer, run natively under sanitizers: `make test`. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

/* ---- The few functions of the SDK that it calls. Each allocation is its own, so that the address
 * sanitizer sees what is read or written beside it. ---- */

static void *allocations[1 << 16];
static size_t allocated;

void *jf_alloc(size_t bytes) {
    assert(allocated < sizeof allocations / sizeof *allocations);
    return allocations[allocated++] = calloc(1, bytes ? bytes : 1);
}

static void free_all(void) {
    while (allocated) free(allocations[--allocated]);
}

jf_str jf_format(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    assert(len >= 0 && (size_t)len < sizeof text);
    return (jf_str){strcpy(jf_alloc((size_t)len + 1), text), (size_t)len};
}

jf_str jf_from_str_(jf_str text) {
    return text;
}

jf_str jf_from_chars_(const char *text) {
    return (jf_str){text, strlen(text)};
}

bool(jf_equal)(jf_str a, jf_str b) {
    return a.len == b.len && !memcmp(a.ptr, b.ptr, a.len);
}

/* ---- Tests ---- */

/* Of exactly this length, with no byte behind it. */
static const json *read_bytes(const char *bytes, size_t len, jf_str *why) {
    char *copy = jf_alloc(len);
    memcpy(copy, bytes, len);
    return json_read((jf_str){copy, len}, why);
}

static void write_value(json_text *to, const json *value) {
    switch (value->kind) {
    case JSON_STRING: json_string(to, value->text); return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        json_open(to, value->kind == JSON_OBJECT ? '{' : '[');
        for (const json *item = value->first; item; item = item->next) {
            if (value->kind == JSON_OBJECT) json_name(to, item->key);
            write_value(to, item);
        }
        json_close(to, value->kind == JSON_OBJECT ? '}' : ']');
        return;
    default: json_raw(to, value->raw);
    }
}

static void becomes(const char *read, const char *written) {
    jf_str why;
    const json *value = read_bytes(read, strlen(read), &why);
    if (!value) fprintf(stderr, "%s: %s\n", read, why.ptr);
    assert(value);
    json_text text = {0};
    write_value(&text, value);
    jf_str done = json_done(&text);
    if (!jf_equal(done, written)) fprintf(stderr, "%s became %.*s\n", read, JF_ARG(done));
    assert(jf_equal(done, written));
    free_all();
}

static void is_wrong(const char *text, size_t len) {
    jf_str why = {0};
    if (read_bytes(text, len, &why)) fprintf(stderr, "%.*s was read\n", (int)len, text);
    assert(why.len);
    free_all();
}

static void is_uint(const char *text, uint64_t most, bool is, uint64_t wanted) {
    jf_str why;
    uint64_t number;
    const json *value = read_bytes(text, strlen(text), &why);
    assert(json_is_uint(value, most, &number) == is);
    assert(!is || number == wanted);
    free_all();
}

static const char *const good[][2] = {
    {"null", "null"},
    {" \t\r\n true ", "true"},
    {"-0.5e+10", "-0.5e+10"},
    {"[]", "[]"},
    {"{ }", "{}"},
    {"[1, [2], {\"a\" : \"b\"}]", "[1,[2],{\"a\":\"b\"}]"},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\u0008\\u000c\\u000a\\u000d\\u0009\""},
    {"\"\\u00fc\\uD83D\\ude00\"", "\"\xC3\xBC\xF0\x9F\x98\x80\""},
    {"\"\\u0000\"", "\"\\u0000\""},
    {"\"a:\"", "\"a:\""},
    {"[\"[\",\"{\"]", "[\"[\",\"{\"]"},
    {"{\"a:\":{\"\":[]}}", "{\"a:\":{\"\":[]}}"},
};

static const char *const bad[] = {
    "",        " ",         "nul",        "nulll",   "01",         "-",           "1.",
    "1e",      "+1",        "[1,]",       "[1",      "[",          "{\"a\"}",     "{\"a\":}",
    "{a:1}",   "{\"a\":1,}", "\"",        "\"\\",    "\"\\x\"",    "\"\\u12\"",   "\"\\u12g4\"",
    "\"\n\"",  "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "1 2", "\"a\\\"",  "\"\\ud83d\\u",
    "tru",     "[}",        "{]",         "'a'",     "/**/1",      "NaN",         ("\xEF\xBB\xBF" "1"),
};

/* Changes and cuts what is good and bad, many times: it may be read or not, but soundly. */
static void survives(unsigned seed, int times) {
    srand(seed);
    for (int i = 0; i < times; i++) {
        const char *from = rand() % 2 ? good[rand() % (sizeof good / sizeof *good)][0]
                                      : bad[rand() % (sizeof bad / sizeof *bad)];
        char bytes[256];
        size_t len = strlen(from);
        memcpy(bytes, from, len);
        for (int changes = rand() % 4; changes && len; changes--)
            bytes[(size_t)rand() % len] = "\"\\[]{}:,u0eE-+.\0x"[rand() % 17];
        len = len ? (size_t)rand() % (len + 1) : 0;
        jf_str why;
        const json *value = read_bytes(bytes, len, &why);
        if (value) {
            /* What was written is read again, and is the same. */
            json_text once = {0}, twice = {0};
            write_value(&once, value);
            value = read_bytes(once.ptr, once.len, &why);
            assert(value);
            write_value(&twice, value);
            assert(jf_equal(json_done(&once), json_done(&twice)));
        }
        free_all();
    }
}

int main(void) {
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) becomes(good[i][0], good[i][1]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) is_wrong(bad[i], strlen(bad[i]));
    is_wrong("\0", 1);

    char deep[65];
    memset(deep, '[', sizeof deep);
    is_wrong(deep, sizeof deep);

    is_uint("18446744073709551615", UINT64_MAX, true, UINT64_MAX);
    is_uint("18446744073709551616", UINT64_MAX, false, 0);
    is_uint("256", 255, false, 0);
    is_uint("1.0", 255, false, 0);
    is_uint("-1", 255, false, 0);
    is_uint("\"1\"", 255, false, 0);

    jf_str why;
    const json *twice = read_bytes("{\"a\":1,\"a\":2}", 13, &why);
    assert(jf_equal(json_get(twice, "a")->raw, "2") && !json_get(twice, "b"));
    assert(!json_get(NULL, "a"));
    free_all();

    survives(1, 200000);
    puts("ok");
}
