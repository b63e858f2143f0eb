/* The plugin about itself; time and chance. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

jf_identity jf_identify(void) {
    jackfield_plugin_runtime_identity_t identity;
    jackfield_plugin_runtime_identify(&identity);
    return (jf_identity){from_text(identity.plugin), identity.generation,
                         from_text(identity.node)};
}

void jf_log(jf_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    app_string_t line = to_text(jf_as_utf8(jf_format_(format, arguments)));
    va_end(arguments);
    jackfield_plugin_runtime_log((jackfield_plugin_runtime_level_t)level, &line);
}

int64_t jf_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t jf_random(void) {
    uint64_t number;
    if (getentropy(&number, sizeof number)) jf_panic("no random numbers");
    return number;
}

/* Runs once in each instance. */
__attribute__((constructor)) static void begin(void) {
    /* rand() would give the same numbers in each instance. */
    srand((unsigned)jf_random());
    /* A line that waits in a buffer would be lost by a trap. */
    setvbuf(stdout, NULL, _IOLBF, 0);
}
