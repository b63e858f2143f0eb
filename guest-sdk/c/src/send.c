/* Messages to clients. */
#include "internal.h"

jf_code(jf_send_to_all)(jf_message message, jf_list exclude, jf_reach *reach) {
    MESSAGE(message);
    TEXTS(exclude);
    jackfield_plugin_types_message_t what = to_message(message);
    jackfield_plugin_send_list_client_id_t but = {to_texts(exclude), exclude.len};
    jackfield_plugin_types_reach_t reached;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_send_send_to_all(&what, &but, &reached, &error)) return from_error(error);
    RESULT(reach, from_reach(reached));
    return JF_OK;
}

jf_code(jf_send_to_client)(jf_str client, jf_message message) {
    TEXT(client);
    MESSAGE(message);
    app_string_t id = to_text(client);
    jackfield_plugin_types_message_t what = to_message(message);
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_send_send_to_client(&id, &what, &error)) return from_error(error);
    return JF_OK;
}

jf_code(jf_reply)(jf_message message) {
    MESSAGE(message);
    jackfield_plugin_types_message_t what = to_message(message);
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_send_reply(&what, &error)) return from_error(error);
    return JF_OK;
}

jf_code(jf_send_to_uid)(jf_list uids, jf_message message, jf_reach *reach) {
    TEXTS(uids);
    MESSAGE(message);
    jackfield_plugin_send_list_uid_t whom = {to_texts(uids), uids.len};
    jackfield_plugin_types_message_t what = to_message(message);
    jackfield_plugin_types_reach_t reached;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_send_send_to_uid(&whom, &what, &reached, &error))
        return from_error(error);
    RESULT(reach, from_reach(reached));
    return JF_OK;
}

jf_code(jf_send_to_group)(jf_list groups, jf_message message, jf_list exclude, jf_reach *reach) {
    TEXTS(groups);
    MESSAGE(message);
    TEXTS(exclude);
    jackfield_plugin_send_list_group_t whom = {to_texts(groups), groups.len};
    jackfield_plugin_types_message_t what = to_message(message);
    jackfield_plugin_send_list_client_id_t but = {to_texts(exclude), exclude.len};
    jackfield_plugin_types_reach_t reached;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_send_send_to_group(&whom, &what, &but, &reached, &error))
        return from_error(error);
    RESULT(reach, from_reach(reached));
    return JF_OK;
}
