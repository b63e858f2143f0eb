/* Clients as such, and the ends of their connections. */
#include "internal.h"

jf_code(jf_is_online)(jf_str client, bool *is_online) {
    TEXT(client);
    app_string_t id = to_text(client);
    bool is;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_clients_is_online(&id, &is, &error)) return from_error(error);
    RESULT(is_online, is);
    return JF_OK;
}

jf_code(jf_get_all_client_count)(jf_count *count) {
    jackfield_plugin_types_count_t counted;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_clients_get_all_client_count(&counted, &error)) return from_error(error);
    RESULT(count, from_count(counted));
    return JF_OK;
}

/* The last message of a close may be none. */
#define LAST_MESSAGE(name) if ((name).data.ptr) MESSAGE(name)

jf_code(jf_close_client)(jf_str client, uint16_t code, jf_str reason, jf_message last) {
    TEXT(client);
    TEXT(reason);
    LAST_MESSAGE(last);
    app_string_t id = to_text(client), why = to_text(reason);
    jackfield_plugin_types_message_t what = to_message(last);
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_close_close_client(&id, code, &why, last.data.ptr ? &what : NULL, &error))
        return from_error(error);
    return JF_OK;
}

/* A function that closes all of a uid, or of a group. */
typedef bool closer(app_string_t *, uint16_t, app_string_t *, jackfield_plugin_types_message_t *,
                    jackfield_plugin_types_count_t *, jackfield_plugin_types_error_t *);

static jf_code close_all(closer *function, jf_str of, uint16_t code, jf_str reason,
                         jf_message last, jf_count *count) {
    TEXT(reason);
    LAST_MESSAGE(last);
    app_string_t whom = to_text(of), why = to_text(reason);
    jackfield_plugin_types_message_t what = to_message(last);
    jackfield_plugin_types_count_t counted;
    jackfield_plugin_types_error_t error;
    if (!function(&whom, code, &why, last.data.ptr ? &what : NULL, &counted, &error))
        return from_error(error);
    RESULT(count, from_count(counted));
    return JF_OK;
}

jf_code(jf_close_uid)(jf_str uid, uint16_t code, jf_str reason, jf_message last, jf_count *count) {
    TEXT(uid);
    return close_all(jackfield_plugin_close_close_uid, uid, code, reason, last, count);
}

jf_code(jf_close_group)(jf_str group, uint16_t code, jf_str reason, jf_message last,
                        jf_count *count) {
    TEXT(group);
    return close_all(jackfield_plugin_close_close_group, group, code, reason, last, count);
}
