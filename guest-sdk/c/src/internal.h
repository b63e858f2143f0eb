/* What the files of the SDK share: between the header's values and those of the bindings. */
#ifndef JACKFIELD_INTERNAL_H
#define JACKFIELD_INTERNAL_H

#include <stdarg.h>

#include "../bindings/app.h"
#include "jackfield.h"

/* ---- memory.c ---- */

/* Frees all memory of the event. */
void jf_end_event_(void);
jf_str jf_format_(const char *format, va_list arguments);

struct jf_out {
    jf_str bytes; /* none: nothing was put */
};

/* ---- error.c ---- */

jf_code jf_note_error_(jf_code code, jf_str message);
/* Where the author called the function that runs. */
struct jf_place {
    const char *function, *file;
    int line;
};

struct jf_place jf_place_(void);
void jf_forget_error_(void);
jf_code jf_error_code_(void);

/* ---- text.c ---- */

/* A text that is not UTF-8 would trap. These note an error that names the argument. */
bool jf_is_text_(const char *argument, jf_str text);
bool jf_is_text_or_none_(const char *argument, jf_str text);
bool jf_are_texts_(const char *argument, jf_list list);
bool jf_are_pairs_(const char *argument, jf_map map);
bool jf_is_message_(jf_message message);

/* An argument of the function that this stands in. */
#define TEXT(name) if (!jf_is_text_(#name, name)) return JF_INVALID_ARGUMENT
#define TEXT_OR_NONE(name) if (!jf_is_text_or_none_(#name, name)) return JF_INVALID_ARGUMENT
#define TEXTS(name) if (!jf_are_texts_(#name, name)) return JF_INVALID_ARGUMENT
#define MESSAGE(name) if (!jf_is_message_(name)) return JF_INVALID_ARGUMENT

/* ---- To the node: the same bytes under other types ---- */

_Static_assert(sizeof(jf_str) == sizeof(app_string_t), "texts are lists of bytes");
_Static_assert(sizeof(jf_pair) == sizeof(app_tuple2_string_string_t), "pairs are two texts");

static inline app_string_t to_text(jf_str text) {
    return (app_string_t){(uint8_t *)(uintptr_t)text.ptr, text.len};
}

static inline app_list_u8_t to_bytes(jf_str bytes) {
    return (app_list_u8_t){(uint8_t *)(uintptr_t)bytes.ptr, bytes.len};
}

static inline app_string_t *to_texts(jf_list list) {
    return (app_string_t *)(uintptr_t)list.items;
}

static inline jackfield_plugin_types_info_t to_info(jf_map map) {
    return (jackfield_plugin_types_info_t){(app_tuple2_string_string_t *)(uintptr_t)map.items,
                                           map.len};
}

static inline jackfield_plugin_types_message_t to_message(jf_message message) {
    jackfield_plugin_types_message_t to = {.tag = JACKFIELD_PLUGIN_TYPES_MESSAGE_TEXT};
    if (message.is_binary) {
        to.tag = JACKFIELD_PLUGIN_TYPES_MESSAGE_BINARY;
        to.val.binary = to_bytes(message.data);
    } else {
        to.val.text = to_text(message.data);
    }
    return to;
}

/* ---- From the node: all of it is in the arena, and texts end in a zero byte ---- */

static inline jf_str from_text(app_string_t text) {
    return (jf_str){text.len ? (const char *)text.ptr : "", text.len};
}

static inline jf_str from_bytes(app_list_u8_t bytes) {
    return (jf_str){bytes.len ? (const char *)bytes.ptr : "", bytes.len};
}

static inline jf_str from_option(app_option_string_t option) {
    return option.is_some ? from_text(option.val) : JF_NONE;
}

static inline jf_list from_texts(app_string_t *items, size_t len) {
    return (jf_list){(const jf_str *)items, len, 0};
}

static inline jf_map from_pairs(app_tuple2_string_string_t *items, size_t len) {
    return (jf_map){(const jf_pair *)items, len, 0};
}

static inline jf_count from_count(jackfield_plugin_types_count_t count) {
    return (jf_count){count.value, from_texts(count.missing.ptr, count.missing.len)};
}

static inline jf_reach from_reach(jackfield_plugin_types_reach_t reach) {
    jf_list missing = from_texts(reach.missing.ptr, reach.missing.len);
    return (jf_reach){reach.clients, reach.dropped, missing};
}

static inline jf_page from_page(jackfield_plugin_types_page_t page) {
    return (jf_page){from_texts(page.items.ptr, page.items.len), from_option(page.next),
                     from_texts(page.missing.ptr, page.missing.len)};
}

/* The node's codes are in the order of jf_code, after JF_OK. */
_Static_assert(JACKFIELD_PLUGIN_TYPES_ERROR_CODE_INVALID_ARGUMENT + 1 == JF_INVALID_ARGUMENT &&
                   JACKFIELD_PLUGIN_TYPES_ERROR_CODE_INTERNAL + 1 == JF_INTERNAL,
               "one order of codes");

static inline jf_code from_error(jackfield_plugin_types_error_t error) {
    return jf_note_error_((jf_code)(error.code + 1), from_text(error.message));
}

/* Results that nobody wants are dropped. */
#define RESULT(to, value) do { if (to) *(to) = (value); } while (0)

#endif
