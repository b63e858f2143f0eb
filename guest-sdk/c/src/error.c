/* The last error of the event. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    jf_code code;
    const char *message;
    /* Where the function was called that failed. */
    struct jf_place place;
} last;

/* Of the last call. */
static struct jf_place place;

void jf_at_(const char *function, const char *file, int line) {
    place = (struct jf_place){function, file, line};
}

struct jf_place jf_place_(void) {
    return place;
}

static jf_code note(jf_code code, const char *message, struct jf_place where) {
    last.code = code;
    last.message = message;
    last.place = where;
    return code;
}

jf_code jf_note_error_(jf_code code, jf_str message) {
    return note(code, message.ptr, place);
}

jf_code jf_fail(jf_code code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    jf_str message = jf_format_(format, arguments);
    va_end(arguments);
    return note(code, message.ptr, (struct jf_place){0});
}

void jf_forget_error_(void) {
    last.code = JF_OK;
}

jf_code jf_error_code_(void) {
    return last.code;
}

const char *jf_code_name(jf_code code) {
    static const char *const names[] = {
        [JF_OK] = "ok",
        [JF_INVALID_ARGUMENT] = "invalid-argument",
        [JF_NOT_FOUND] = "not-found",
        [JF_CLOSED] = "closed",
        [JF_TAKEN] = "taken",
        [JF_OVERLOADED] = "overloaded",
        [JF_LIMIT_EXCEEDED] = "limit-exceeded",
        [JF_UNREACHABLE] = "unreachable",
        [JF_TIMED_OUT] = "timed-out",
        [JF_DENIED] = "denied",
        [JF_INTERNAL] = "internal",
        [JF_UNKNOWN_METHOD] = "unknown-method",
        [JF_UNAVAILABLE] = "unavailable",
        [JF_FAILED] = "failed",
    };
    return (size_t)code < sizeof names / sizeof *names ? names[code] : "unknown";
}

const char *jf_error_message(void) {
    return last.code == JF_OK ? "no error" : last.message;
}

const char *jf_error_text(void) {
    if (last.code == JF_OK) return "no error";
    const char *code = jf_code_name(last.code);
    struct jf_place at = last.place;
    if (!at.function) return jf_format("%s: %s", code, last.message).ptr;
    return jf_format("%s: %s (%s, %s:%d)", code, last.message, at.function, at.file, at.line).ptr;
}

void jf_panic_(const char *in, int at, const char *format, ...) {
    /* By these words the node knows a panic. No arena here: it may be full. */
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "panicked at %s:%d: %s\n", in, at, text);
    abort();
}
