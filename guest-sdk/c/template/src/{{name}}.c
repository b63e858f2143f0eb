/* One room: everybody hears everybody, by name. */
#include "jackfield.h"

jf_verdict jf_on_connect(jf_str client, const jf_handshake *handshake, jf_acceptance *acceptance) {
    (void)client;
    jf_str name = jf_map_get(handshake->query, "name");
    if (!name.len) return jf_refuse(400, "say ?name=");
    jf_accept_uid(acceptance, name);
    jf_accept_group(acceptance, "lobby");
    return JF_ACCEPT;
}

void jf_on_message(jf_str client, jf_message message) {
    jf_str name;
    if (message.is_binary || jf_get_uid_by_client_id(client, &name) != JF_OK) return;
    jf_str line = jf_format("%s: %s", name.ptr, message.data.ptr);
    jf_send_to_group("lobby", line, client, NULL);
}

void jf_on_close(jf_str client, const jf_departure *departure) {
    (void)client;
    jf_send_to_group("lobby", jf_format("%s has left", departure->uid.ptr), JF_NONE, NULL);
}
