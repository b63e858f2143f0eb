/* What a plugin remembers of a client while it is connected. */
#include "internal.h"

jf_code(jf_get_info)(jf_str client, jf_map *info) {
    TEXT(client);
    app_string_t id = to_text(client);
    jackfield_plugin_types_info_t found;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_infos_get_info(&id, &found, &error)) return from_error(error);
    RESULT(info, from_pairs(found.ptr, found.len));
    return JF_OK;
}

jf_code(jf_set_info)(jf_str client, jf_map info) {
    TEXT(client);
    if (!jf_are_pairs_("info", info)) return JF_INVALID_ARGUMENT;
    app_string_t id = to_text(client);
    jackfield_plugin_types_info_t wanted = to_info(info);
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_infos_set_info(&id, &wanted, &error)) return from_error(error);
    return JF_OK;
}

jf_code(jf_update_info)(jf_str client, jf_map changes, jf_map *info) {
    TEXT(client);
    app_list_tuple2_string_option_string_t list = {NULL, changes.len};
    list.ptr = jf_alloc(changes.len * sizeof *list.ptr);
    for (size_t i = 0; i < changes.len; i++) {
        jf_str key = changes.items[i].key, value = changes.items[i].value;
        TEXT(key);
        TEXT_OR_NONE(value);
        list.ptr[i].f0 = to_text(key);
        list.ptr[i].f1 = (app_option_string_t){value.ptr != NULL, to_text(value)};
    }
    app_string_t id = to_text(client);
    jackfield_plugin_types_info_t updated;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_infos_update_info(&id, &list, &updated, &error)) return from_error(error);
    RESULT(info, from_pairs(updated.ptr, updated.len));
    return JF_OK;
}
