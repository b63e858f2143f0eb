/* Named sets of clients. */
#include "internal.h"

jf_code(jf_join_group)(jf_str client, jf_str group) {
    TEXT(client);
    TEXT(group);
    app_string_t id = to_text(client), name = to_text(group);
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_groups_join_group(&id, &name, &error)) return from_error(error);
    return JF_OK;
}

jf_code(jf_leave_group)(jf_str client, jf_str group) {
    TEXT(client);
    TEXT(group);
    app_string_t id = to_text(client), name = to_text(group);
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_groups_leave_group(&id, &name, &error)) return from_error(error);
    return JF_OK;
}

/* A function of a group that counts. */
typedef bool counter(app_string_t *, jackfield_plugin_types_count_t *,
                     jackfield_plugin_types_error_t *);

static jf_code count_by(counter *function, jf_str group, jf_count *count) {
    TEXT(group);
    app_string_t name = to_text(group);
    jackfield_plugin_types_count_t counted;
    jackfield_plugin_types_error_t error;
    if (!function(&name, &counted, &error)) return from_error(error);
    RESULT(count, from_count(counted));
    return JF_OK;
}

jf_code(jf_ungroup)(jf_str group, jf_count *count) {
    return count_by(jackfield_plugin_groups_ungroup, group, count);
}

jf_code(jf_get_client_count_by_group)(jf_str group, jf_count *count) {
    return count_by(jackfield_plugin_groups_get_client_count_by_group, group, count);
}

jf_code(jf_get_uid_count_by_group)(jf_str group, jf_count *count) {
    return count_by(jackfield_plugin_groups_get_uid_count_by_group, group, count);
}

/* A function of a group that lists. */
typedef bool lister(app_string_t *, app_string_t *, uint32_t, jackfield_plugin_types_page_t *,
                    jackfield_plugin_types_error_t *);

static jf_code list_by(lister *function, jf_str group, jf_str cursor, uint32_t limit,
                       jf_page *page) {
    TEXT(group);
    TEXT_OR_NONE(cursor);
    app_string_t name = to_text(group), from = to_text(cursor);
    jackfield_plugin_types_page_t found;
    jackfield_plugin_types_error_t error;
    if (!function(&name, from.ptr ? &from : NULL, limit, &found, &error)) return from_error(error);
    RESULT(page, from_page(found));
    return JF_OK;
}

jf_code(jf_get_client_ids_by_group)(jf_str group, jf_str cursor, uint32_t limit, jf_page *page) {
    return list_by(jackfield_plugin_groups_get_client_ids_by_group, group, cursor, limit, page);
}

jf_code(jf_get_uids_by_group)(jf_str group, jf_str cursor, uint32_t limit, jf_page *page) {
    return list_by(jackfield_plugin_groups_get_uids_by_group, group, cursor, limit, page);
}

jf_code(jf_get_all_groups)(jf_str cursor, uint32_t limit, jf_page *page) {
    TEXT_OR_NONE(cursor);
    app_string_t from = to_text(cursor);
    jackfield_plugin_types_page_t found;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_groups_get_all_groups(from.ptr ? &from : NULL, limit, &found, &error))
        return from_error(error);
    RESULT(page, from_page(found));
    return JF_OK;
}
