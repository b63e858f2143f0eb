/* The whole contract over JSON: one request a text message, one answer each. It answers as
 * plugins/console does, whose README lists all requests; operations.c has them as a table. */
#include <stdlib.h>
#include <string.h>

#include "outcome.h"
#include "request.h"

/* Who wants to hear of clients that have left joins this group. */
#define WATCH_CLOSE "watch-close"
/* Who wants to hear of timers that fire joins this group. */
#define TIMERS "timers"
/* A timer whose name begins so carries out the request that follows (or the name of one). */
#define ON_TIMER "do:"
/* Info key: a request (or the name of one) that the client's close carries out. */
#define ON_CLOSE "on-close"
/* Info key: a group that the client's close tries to leave. */
#define ON_CLOSE_LEAVE "on-close-leave"

/* A client that has left can't be told anything, and that is no news; what else keeps an answer
 * back stands in the log, since the client never sees it. */
static void tell(jf_str client, jf_str text) {
    jf_code code = jf_send_to_client(client, text);
    if (code != JF_OK && code != JF_NOT_FOUND && code != JF_CLOSED)
        jf_log(JF_LOG_WARN, "no answer went to %s: %s", client.ptr, jf_error_text());
}

static void group_hears(const char *group, json_text *event) {
    json_close(event, '}');
    if (jf_send_to_group(group, json_done(event), JF_NONE, NULL) != JF_OK)
        jf_log(JF_LOG_WARN, "the group %s was not told: %s", group, jf_error_text());
}

static json_text event(const char *name) {
    json_text text = {0};
    json_open(&text, '{');
    json_name(&text, "event");
    json_string(&text, name);
    return text;
}

static bool has_prefix(jf_str text, const char *prefix) {
    size_t len = strlen(prefix);
    return text.len >= len && !memcmp(text.ptr, prefix, len);
}

static jf_str behind(jf_str text, const char *prefix) {
    return (jf_str){text.ptr + strlen(prefix), text.len - strlen(prefix)};
}

/* ---- Connect ---- */

static bool is_number(jf_str text, uint64_t most, uint64_t *number) {
    json value = {.kind = JSON_NUMBER, .text = text};
    return text.len && json_is_uint(&value, most, number);
}

static jf_verdict refuse(jf_str status, const jf_handshake *handshake) {
    uint64_t code, times;
    if (!is_number(status, UINT16_MAX, &code))
        return jf_refuse(400, "refuse=%s: give an HTTP status, as refuse=403", status.ptr);
    jf_str reason = jf_map_get(handshake->query, "reason");
    if (!is_number(jf_map_get(handshake->query, "times"), UINT32_MAX, &times)) times = 1;
    char *all = jf_alloc(reason.len * times + 1);
    for (uint64_t i = 0; i < times && reason.len; i++)
        memcpy(all + i * reason.len, reason.ptr, reason.len);
    return jf_refuse((int)code, "%s", all);
}

static void say_connected(jf_str client, const jf_handshake *shown) {
    json_text text = event("connected");
    json_name(&text, "client");
    json_string(&text, client);
    json_name(&text, "generation");
    json_uint(&text, jf_identify().generation);
    if (shown) {
        json_name(&text, "handshake");
        json_open(&text, '{');
        json_name(&text, "path");
        json_string(&text, shown->path);
        json_name(&text, "query");
        outcome_pairs(&text, shown->query);
        json_name(&text, "headers");
        outcome_pairs(&text, shown->headers);
        json_name(&text, "remote_address");
        json_string(&text, shown->remote_address);
        json_name(&text, "subprotocols");
        outcome_list(&text, shown->subprotocols);
        json_name(&text, "uid");
        json_string(&text, shown->uid);
        json_close(&text, '}');
    }
    json_close(&text, '}');
    tell(client, json_done(&text));
}

static jf_verdict carry_out(jf_str client, jf_str text) {
    request request = request_named_or_whole(text);
    json_text ok = {0};
    jf_code code = request_run(&request, client, &ok);
    if (code != JF_OK)
        return jf_refuse(400, "%s (%s)", jf_error_message(), jf_code_name(code));
    if (!jf_equal(request.id, "null")) {
        json_text answer = {0};
        json_open(&answer, '{');
        json_name(&answer, "id");
        json_raw(&answer, request.id);
        json_name(&answer, "ok");
        json_raw(&answer, json_done(&ok));
        json_close(&answer, '}');
        tell(client, json_done(&answer));
    }
    return JF_ACCEPT;
}

/* What the query asks for, as it is: whether it can be had is for the node to say. */
jf_verdict jf_on_connect(jf_str client, const jf_handshake *handshake, jf_acceptance *acceptance) {
    jf_map query = handshake->query;
    for (size_t i = 0; i < query.len; i++)
        if (jf_equal(query.items[i].key, "say")) tell(client, query.items[i].value);
    for (size_t i = 0; i < query.len; i++)
        if (jf_equal(query.items[i].key, "do") &&
            carry_out(client, query.items[i].value) == JF_REFUSE)
            return JF_REFUSE;
    jf_str status = jf_map_get(query, "refuse");
    if (status.ptr) return refuse(status, handshake);
    bool is_shown = jf_equal(jf_map_get(query, "handshake"), "1");
    say_connected(client, is_shown ? handshake : NULL);
    jf_accept_uid(acceptance, jf_map_get(query, "uid"));
    jf_accept_subprotocol(acceptance, jf_map_get(query, "subprotocol"));
    for (size_t i = 0; i < query.len; i++) {
        jf_str key = query.items[i].key, value = query.items[i].value;
        if (jf_equal(key, "group")) jf_accept_group(acceptance, value);
        if (has_prefix(key, "info.")) jf_accept_info(acceptance, behind(key, "info."), value);
    }
    return JF_ACCEPT;
}

/* ---- Message, close ---- */

void jf_on_message(jf_str client, jf_message message) {
    request request = message.is_binary ? request_wrong("this was a binary message")
                                        : request_read(message.data);
    tell(client, request_answer_text(&request, client));
}

void jf_on_close(jf_str client, const jf_departure *departure) {
    static const char *const closers[] = {
        [JF_BY_CLIENT] = "client",
        [JF_BY_PLUGIN] = "plugin",
        [JF_BY_NODE] = "node",
        [JF_BY_NETWORK] = "network",
    };
    json_text closed = event("closed");
    json_name(&closed, "client");
    json_string(&closed, client);
    json_name(&closed, "code");
    json_uint(&closed, departure->code);
    json_name(&closed, "reason");
    json_string(&closed, departure->reason);
    json_name(&closed, "by");
    json_string(&closed, closers[departure->by]);
    json_name(&closed, "uid");
    json_string(&closed, departure->uid);
    json_name(&closed, "groups");
    outcome_list(&closed, departure->groups);
    json_name(&closed, "info");
    outcome_info(&closed, departure->info);
    group_hears(WATCH_CLOSE, &closed);

    jf_str group = jf_map_get(departure->info, ON_CLOSE_LEAVE);
    if (group.ptr) {
        json_text left = event("on-close-leave");
        jf_code code = jf_leave_group(client, group);
        if (code == JF_OK) {
            json_name(&left, "ok");
            json_raw(&left, "null");
        } else {
            request_error(&left, code);
        }
        group_hears(WATCH_CLOSE, &left);
    }
    jf_str text = jf_map_get(departure->info, ON_CLOSE);
    if (text.ptr) {
        json_text answered = event("on-close");
        request request = request_named_or_whole(text);
        request_answer(&request, client, &answered);
        group_hears(WATCH_CLOSE, &answered);
    }
}

/* ---- Call ---- */

static jf_code fail_as_asked(jf_str name) {
    static const jf_code codes[] = {JF_UNKNOWN_METHOD, JF_INVALID_ARGUMENT, JF_NOT_FOUND,
                                    JF_DENIED,         JF_LIMIT_EXCEEDED,   JF_OVERLOADED,
                                    JF_UNAVAILABLE,    JF_FAILED};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (jf_equal(name, jf_code_name(codes[i]))) return jf_fail(codes[i], "asked to fail");
    return jf_fail(JF_INVALID_ARGUMENT, "`fail` takes the code of an error");
}

jf_code jf_on_call(jf_caller caller, jf_str method, jf_str payload, jf_out *answer) {
    if (jf_equal(method, "echo")) return jf_put(answer, payload);
    if (jf_equal(method, "caller"))
        return jf_put(answer,
                      jf_format("%s %s", caller.is_plugin ? "plugin" : "api", caller.name.ptr));
    bool is_known = jf_equal(method, "do") || jf_equal(method, "bytes") || jf_equal(method, "fail");
    if (!is_known) return jf_fail(JF_UNKNOWN_METHOD, "there is no method %s", method.ptr);
    if (!jf_is_utf8(payload)) return jf_fail(JF_INVALID_ARGUMENT, "the payload is no text");
    if (jf_equal(method, "fail")) return fail_as_asked(payload);
    if (jf_equal(method, "do")) {
        request request = request_named_or_whole(payload);
        /* A call is no client's: a request that means one has to name it. */
        return jf_put(answer, request_answer_text(&request, JF("")));
    }
    uint64_t bytes;
    if (!is_number(payload, SIZE_MAX / 2, &bytes))
        return jf_fail(JF_INVALID_ARGUMENT, "`bytes` takes a number");
    char *dots = jf_alloc(bytes + 1);
    memset(dots, '.', bytes);
    return jf_put(answer, ((jf_str){dots, bytes}));
}

/* ---- Timer ---- */

void jf_on_timer(jf_str name) {
    jf_identity identity = jf_identify();
    json_text fired = event("timer");
    json_name(&fired, "name");
    json_string(&fired, name);
    json_name(&fired, "generation");
    json_uint(&fired, identity.generation);
    json_name(&fired, "node");
    json_string(&fired, identity.node);
    group_hears(TIMERS, &fired);
    if (has_prefix(name, ON_TIMER)) {
        json_text answered = event("on-timer");
        json_name(&answered, "name");
        json_string(&answered, name);
        request request = request_named_or_whole(behind(name, ON_TIMER));
        /* A timer is no client's either. */
        request_answer(&request, JF(""), &answered);
        group_hears(TIMERS, &answered);
    }
}
