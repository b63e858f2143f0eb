/* Messages. */
#include "internal.h"

jf_message(jf_text)(jf_str text) {
    return (jf_message){false, text};
}

jf_message(jf_binary)(jf_str bytes) {
    return (jf_message){true, bytes};
}

jf_message jf_message_from_message_(jf_message message) {
    return message;
}

jf_message jf_message_from_chars_(const char *text) {
    return jf_text(text);
}

bool jf_is_message_(jf_message message) {
    if (!message.is_binary) return jf_is_text_("message", message.data);
    if (message.data.ptr) return true;
    jf_note_error_(JF_INVALID_ARGUMENT, JF("`message` is none, and must be bytes"));
    return false;
}
