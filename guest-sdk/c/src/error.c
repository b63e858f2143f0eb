/* The last error of the event. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    jf_code code;
    const char *message;
    /* Where the function was called that failed. */
    const char *function, *file;
    int line;
} last;

/* The last call. */
static const char *function, *file;
static int line;

void jf_at_(const char *of, const char *in, int at) {
    function = of;
    file = in;
    line = at;
}

static jf_code note(jf_code code, const char *message, const char *where) {
    last.code = code;
    last.message = message;
    last.function = where;
    last.file = file;
    last.line = line;
    return code;
}

jf_code jf_note_error_(jf_code code, jf_str message) {
    return note(code, message.ptr, function);
}

jf_code jf_fail(jf_code code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    jf_str message = jf_format_(format, arguments);
    va_end(arguments);
    return note(code, message.ptr, NULL);
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
    if (!last.function) return jf_format("%s: %s", code, last.message).ptr;
    return jf_format("%s: %s (%s, %s:%d)", code, last.message, last.function, last.file, last.line)
        .ptr;
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
