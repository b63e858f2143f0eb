/* Memory of the event.
 *
 * The node writes the arguments of an event and the results of its calls into memory that it asks
 * cabi_realloc for. All of it, and all that the SDK makes, is in one arena, which is emptied when
 * the event has ended. So nobody frees anything, and nothing leaks. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 16 << 10, MORE_BYTES = 64 << 10 };

struct block {
    struct block *next;
    max_align_t data[];
};

/* Most events need no more than this. */
static _Alignas(max_align_t) char first[FIRST_BYTES];
static char *free_from = first, *free_to = first + FIRST_BYTES;
static struct block *more;

static void *allocate(size_t align, size_t bytes) {
    char *at = (char *)(((uintptr_t)free_from + align - 1) & ~(uintptr_t)(align - 1));
    /* One byte more: a zero, for who reads it as a string of C. */
    if (at > free_to || bytes >= (size_t)(free_to - at)) {
        if (bytes > SIZE_MAX / 2) jf_panic("no memory has %zu bytes", bytes);
        size_t size = bytes + 1 > MORE_BYTES ? bytes + 1 : MORE_BYTES;
        struct block *block = malloc(sizeof *block + size);
        if (!block) jf_panic("no memory for %zu bytes", bytes);
        block->next = more;
        more = block;
        at = (char *)block->data;
        free_to = at + size;
    }
    at[bytes] = 0;
    free_from = at + bytes + 1;
    return at;
}

void jf_end_event_(void) {
    while (more) {
        struct block *block = more;
        more = block->next;
        free(block);
    }
    free_from = first;
    free_to = first + FIRST_BYTES;
    jf_forget_error_();
}

/* In place of the bindings' own, which would take it from malloc. */
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_bytes,
                                                                size_t align, size_t bytes) {
    if (old && bytes <= old_bytes) return old;
    void *new = allocate(align, bytes);
    if (old) memcpy(new, old, old_bytes);
    return new;
}

/* The state of the adapter for WASI 0.1, which stays as long as the instance. */
__attribute__((export_name("cabi_realloc_adapter"))) void *
cabi_realloc_adapter(void *old, size_t old_bytes, size_t align, size_t bytes) {
    void *new = NULL;
    if (old || posix_memalign(&new, align < sizeof(void *) ? sizeof(void *) : align, bytes))
        jf_panic("no memory for WASI: %zu bytes after %zu", bytes, old_bytes);
    return new;
}

void *jf_alloc(size_t bytes) {
    return memset(allocate(_Alignof(max_align_t), bytes), 0, bytes);
}

jf_str(jf_copy)(jf_str text) {
    if (!text.ptr) return text;
    char *copy = allocate(1, text.len);
    memcpy(copy, text.ptr, text.len);
    return (jf_str){copy, text.len};
}

jf_code(jf_put)(jf_out *out, jf_str bytes) {
    out->bytes = jf_copy(bytes.ptr ? bytes : JF(""));
    return JF_OK;
}

jf_str jf_format_(const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0) jf_panic("this is no format: %s", format);
    char *text = allocate(1, (size_t)len);
    vsnprintf(text, (size_t)len + 1, format, arguments);
    return (jf_str){text, (size_t)len};
}

jf_str jf_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    jf_str text = jf_format_(format, arguments);
    va_end(arguments);
    return text;
}
