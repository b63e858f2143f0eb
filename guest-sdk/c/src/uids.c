/* Which person a client is. */
#include "internal.h"

jf_code(jf_bind_uid)(jf_str client, jf_str uid) {
    TEXT(client);
    TEXT(uid);
    app_string_t id = to_text(client), who = to_text(uid);
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_uids_bind_uid(&id, &who, &error)) return from_error(error);
    return JF_OK;
}

jf_code(jf_unbind_uid)(jf_str client, jf_str uid_or_none, bool *was_bound) {
    TEXT(client);
    TEXT_OR_NONE(uid_or_none);
    app_string_t id = to_text(client), who = to_text(uid_or_none);
    bool was;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_uids_unbind_uid(&id, who.ptr ? &who : NULL, &was, &error))
        return from_error(error);
    RESULT(was_bound, was);
    return JF_OK;
}

jf_code(jf_is_uid_online)(jf_str uid, bool *is_online) {
    TEXT(uid);
    app_string_t who = to_text(uid);
    bool is;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_uids_is_uid_online(&who, &is, &error)) return from_error(error);
    RESULT(is_online, is);
    return JF_OK;
}

jf_code(jf_get_uid_by_client_id)(jf_str client, jf_str *uid) {
    TEXT(client);
    app_string_t id = to_text(client);
    jackfield_plugin_uids_option_uid_t who;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_uids_get_uid_by_client_id(&id, &who, &error)) return from_error(error);
    RESULT(uid, who.is_some ? from_text(who.val) : JF_NONE);
    return JF_OK;
}

jf_code(jf_get_client_ids_by_uid)(jf_str uid, jf_str cursor, uint32_t limit, jf_page *page) {
    TEXT(uid);
    TEXT_OR_NONE(cursor);
    app_string_t who = to_text(uid), from = to_text(cursor);
    jackfield_plugin_types_page_t found;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_uids_get_client_ids_by_uid(&who, from.ptr ? &from : NULL, limit, &found,
                                                     &error))
        return from_error(error);
    RESULT(page, from_page(found));
    return JF_OK;
}

jf_code(jf_get_all_uids)(jf_str cursor, uint32_t limit, jf_page *page) {
    TEXT_OR_NONE(cursor);
    app_string_t from = to_text(cursor);
    jackfield_plugin_types_page_t found;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_uids_get_all_uids(from.ptr ? &from : NULL, limit, &found, &error))
        return from_error(error);
    RESULT(page, from_page(found));
    return JF_OK;
}
