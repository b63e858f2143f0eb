/* One room: everybody hears everybody, by name, until a backend closes it. */
#include <stdlib.h>

#include "jackfield.h"

jf_verdict jf_on_connect(jf_str client, const jf_handshake *handshake, jf_acceptance *acceptance) {
    jf_str name = jf_map_get(handshake->query, "name");
    if (!name.len) return jf_refuse(400, "say ?name=");
    int64_t visits;
    if (jf_bucket_increment("default", name, 1, &visits) != JF_OK)
        return jf_refuse(503, "%s", jf_error_message());
    jf_send_to_client(client, jf_format("welcome, %s: visit %d", name.ptr, (int)visits));
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

jf_code jf_on_call(jf_caller caller, jf_str method, jf_str payload, jf_out *answer) {
    (void)caller;
    if (!jf_equal(method, "close"))
        return jf_fail(JF_UNKNOWN_METHOD, "there is no method %s", method.ptr);
    int seconds = atoi(payload.ptr);
    if (seconds < 1) return jf_fail(JF_INVALID_ARGUMENT, "say how many seconds");
    jf_code code = jf_set_timer("close", (uint64_t)seconds * 1000, JF_ONCE, JF_CLUSTER);
    if (code != JF_OK) return code; /* the caller gets the node's sentence */
    jf_reach reach;
    jf_str told = jf_format("the lobby closes in %d s", seconds);
    code = jf_send_to_group("lobby", told, JF_NONE, &reach);
    if (code != JF_OK) return code;
    return jf_put(answer, jf_format("%d", (int)reach.clients));
}

void jf_on_timer(jf_str name) {
    (void)name;
    jf_close_group("lobby", 4000, "the lobby is closed", JF_NONE, NULL);
}
