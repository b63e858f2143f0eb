/* Text: what it is made of, and whether it may cross over to the node. */
#include "internal.h"

#include <string.h>

jf_str jf_from_str_(jf_str text) {
    return text;
}

jf_str jf_from_chars_(const char *text) {
    return (jf_str){text, text ? strlen(text) : 0};
}

bool(jf_equal)(jf_str a, jf_str b) {
    return !a.ptr == !b.ptr && a.len == b.len && (!a.len || !memcmp(a.ptr, b.ptr, a.len));
}

/* The bytes of the letter at `at`; 0 if there is none in UTF-8. */
static size_t letter(const unsigned char *at, size_t len) {
    unsigned char first = at[0];
    if (first < 0x80) return 1;
    size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || bytes > len) return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((at[i] & 0xC0) != 0x80) return 0;
    /* Longer than need be, a surrogate, or beyond U+10FFFF. */
    if ((first == 0xE0 && at[1] < 0xA0) || (first == 0xED && at[1] > 0x9F) ||
        (first == 0xF0 && at[1] < 0x90) || (first == 0xF4 && at[1] > 0x8F))
        return 0;
    return bytes;
}

bool jf_is_utf8(jf_str text) {
    const unsigned char *at = (const unsigned char *)text.ptr, *end = at + text.len;
    while (at < end) {
        size_t bytes = letter(at, (size_t)(end - at));
        if (!bytes) return false;
        at += bytes;
    }
    return true;
}

jf_str jf_as_utf8(jf_str text) {
    if (jf_is_utf8(text)) return text;
    jf_str copy = jf_copy(text);
    unsigned char *at = (unsigned char *)copy.ptr, *end = at + copy.len;
    while (at < end) {
        size_t bytes = letter(at, (size_t)(end - at));
        if (!bytes) *at = '?';
        at += bytes ? bytes : 1;
    }
    return copy;
}

bool jf_is_text_(const char *argument, jf_str text) {
    if (text.ptr && jf_is_utf8(text)) return true;
    jf_str message = text.ptr ? jf_format("`%s` is not UTF-8", argument)
                              : jf_format("`%s` is none, and must be a text", argument);
    jf_note_error_(JF_INVALID_ARGUMENT, message);
    return false;
}

bool jf_is_text_or_none_(const char *argument, jf_str text) {
    return !text.ptr || jf_is_text_(argument, text);
}

bool jf_are_texts_(const char *argument, jf_list list) {
    for (size_t i = 0; i < list.len; i++)
        if (!jf_is_text_(argument, list.items[i])) return false;
    return true;
}

bool jf_are_pairs_(const char *argument, jf_map map) {
    for (size_t i = 0; i < map.len; i++)
        if (!jf_is_text_(argument, map.items[i].key) || !jf_is_text_(argument, map.items[i].value))
            return false;
    return true;
}
