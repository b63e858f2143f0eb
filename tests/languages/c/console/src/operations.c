#include "operations.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "arguments.h"
#include "misbehave.h"
#include "outcome.h"
#include "request.h"

/* An argument that is not as it must be. */
#define TAKE(taken) if (!(taken)) return JF_INVALID_ARGUMENT

/* A function of the node that failed. */
#define TRY(function) \
    do { \
        jf_code code_ = (function); \
        if (code_ != JF_OK) return code_; \
    } while (0)

static jf_code nothing(const call *call) {
    json_raw(call->ok, "null");
    return JF_OK;
}

static jf_code flag(const call *call, bool is) {
    json_bool(call->ok, is);
    return JF_OK;
}

static jf_code text(const call *call, jf_str text) {
    json_string(call->ok, text);
    return JF_OK;
}

static jf_code reach(const call *call, const jf_reach *reach) {
    outcome_reach(call->ok, reach);
    return JF_OK;
}

static jf_code count(const call *call, const jf_count *count) {
    outcome_count(call->ok, count);
    return JF_OK;
}

static jf_code page(const call *call, const jf_page *page) {
    outcome_page(call->ok, page);
    return JF_OK;
}

static jf_code info(const call *call, jf_map info) {
    outcome_info(call->ok, info);
    return JF_OK;
}

/* ---- Sends ---- */

static jf_code send_to_all(const call *call) {
    jf_message message;
    jf_list exclude;
    jf_reach reached;
    TAKE(take_message(call, &message));
    TAKE(take_texts_or_none(call, "exclude", &exclude));
    TRY(jf_send_to_all(message, exclude, &reached));
    return reach(call, &reached);
}

static jf_code send_to_client(const call *call) {
    jf_str client;
    jf_message message;
    TAKE(take_client(call, &client));
    TAKE(take_message(call, &message));
    TRY(jf_send_to_client(client, message));
    return nothing(call);
}

static jf_code reply(const call *call) {
    jf_message message;
    TAKE(take_message(call, &message));
    TRY(jf_reply(message));
    return nothing(call);
}

static jf_code send_to_uid(const call *call) {
    jf_list uids;
    jf_message message;
    jf_reach reached;
    TAKE(take_texts(call, "uid", "uids", &uids));
    TAKE(take_message(call, &message));
    TRY(jf_send_to_uid(uids, message, &reached));
    return reach(call, &reached);
}

static jf_code send_to_group(const call *call) {
    jf_list groups, exclude;
    jf_message message;
    jf_reach reached;
    TAKE(take_texts(call, "group", "groups", &groups));
    TAKE(take_message(call, &message));
    TAKE(take_texts_or_none(call, "exclude", &exclude));
    TRY(jf_send_to_group(groups, message, exclude, &reached));
    return reach(call, &reached);
}

/* ---- Uids ---- */

static jf_code bind_uid(const call *call) {
    jf_str client, uid;
    TAKE(take_client(call, &client));
    TAKE(take_text(call, "uid", &uid));
    TRY(jf_bind_uid(client, uid));
    return nothing(call);
}

static jf_code unbind_uid(const call *call) {
    jf_str client, uid;
    bool was_bound;
    TAKE(take_client(call, &client));
    TAKE(take_text_or(call, "uid", JF_NONE, &uid));
    TRY(jf_unbind_uid(client, uid, &was_bound));
    return flag(call, was_bound);
}

static jf_code is_uid_online(const call *call) {
    jf_str uid;
    bool is_online;
    TAKE(take_text(call, "uid", &uid));
    TRY(jf_is_uid_online(uid, &is_online));
    return flag(call, is_online);
}

static jf_code get_uid_by_client_id(const call *call) {
    jf_str client, uid;
    TAKE(take_client(call, &client));
    TRY(jf_get_uid_by_client_id(client, &uid));
    return text(call, uid);
}

static bool take_page(const call *call, jf_str *cursor, uint64_t *limit) {
    return take_text_or(call, "cursor", JF_NONE, cursor) &&
           take_uint_or(call, "limit", UINT32_MAX, 100, limit);
}

static jf_code get_client_ids_by_uid(const call *call) {
    jf_str uid, cursor;
    uint64_t limit;
    jf_page found;
    TAKE(take_text(call, "uid", &uid));
    TAKE(take_page(call, &cursor, &limit));
    TRY(jf_get_client_ids_by_uid(uid, cursor, (uint32_t)limit, &found));
    return page(call, &found);
}

static jf_code get_all_uids(const call *call) {
    jf_str cursor;
    uint64_t limit;
    jf_page found;
    TAKE(take_page(call, &cursor, &limit));
    TRY(jf_get_all_uids(cursor, (uint32_t)limit, &found));
    return page(call, &found);
}

/* ---- Groups ---- */

static jf_code join_group(const call *call) {
    jf_str client, group;
    TAKE(take_client(call, &client));
    TAKE(take_text(call, "group", &group));
    TRY(jf_join_group(client, group));
    return nothing(call);
}

static jf_code leave_group(const call *call) {
    jf_str client, group;
    TAKE(take_client(call, &client));
    TAKE(take_text(call, "group", &group));
    TRY(jf_leave_group(client, group));
    return nothing(call);
}

static jf_code ungroup(const call *call) {
    jf_str group;
    jf_count counted;
    TAKE(take_text(call, "group", &group));
    TRY(jf_ungroup(group, &counted));
    return count(call, &counted);
}

static jf_code get_client_count_by_group(const call *call) {
    jf_str group;
    jf_count counted;
    TAKE(take_text(call, "group", &group));
    TRY(jf_get_client_count_by_group(group, &counted));
    return count(call, &counted);
}

static jf_code get_client_ids_by_group(const call *call) {
    jf_str group, cursor;
    uint64_t limit;
    jf_page found;
    TAKE(take_text(call, "group", &group));
    TAKE(take_page(call, &cursor, &limit));
    TRY(jf_get_client_ids_by_group(group, cursor, (uint32_t)limit, &found));
    return page(call, &found);
}

static jf_code get_uids_by_group(const call *call) {
    jf_str group, cursor;
    uint64_t limit;
    jf_page found;
    TAKE(take_text(call, "group", &group));
    TAKE(take_page(call, &cursor, &limit));
    TRY(jf_get_uids_by_group(group, cursor, (uint32_t)limit, &found));
    return page(call, &found);
}

static jf_code get_uid_count_by_group(const call *call) {
    jf_str group;
    jf_count counted;
    TAKE(take_text(call, "group", &group));
    TRY(jf_get_uid_count_by_group(group, &counted));
    return count(call, &counted);
}

static jf_code get_all_groups(const call *call) {
    jf_str cursor;
    uint64_t limit;
    jf_page found;
    TAKE(take_page(call, &cursor, &limit));
    TRY(jf_get_all_groups(cursor, (uint32_t)limit, &found));
    return page(call, &found);
}

/* ---- Clients ---- */

static jf_code is_online(const call *call) {
    jf_str client;
    bool is;
    TAKE(take_client(call, &client));
    TRY(jf_is_online(client, &is));
    return flag(call, is);
}

static jf_code get_all_client_count(const call *call) {
    jf_count counted;
    TRY(jf_get_all_client_count(&counted));
    return count(call, &counted);
}

static bool take_close(const call *call, uint16_t *code, jf_str *reason, jf_message *last) {
    uint64_t number;
    if (!take_uint_or(call, "code", UINT16_MAX, 1000, &number) ||
        !take_text_or(call, "reason", JF(""), reason) || !take_message_or_none(call, last))
        return false;
    *code = (uint16_t)number;
    return true;
}

static jf_code close_client(const call *call) {
    jf_str client, reason;
    uint16_t code;
    jf_message last;
    TAKE(take_client(call, &client));
    TAKE(take_close(call, &code, &reason, &last));
    TRY(jf_close_client(client, code, reason, last));
    return nothing(call);
}

static jf_code close_uid(const call *call) {
    jf_str uid, reason;
    uint16_t code;
    jf_message last;
    jf_count counted;
    TAKE(take_text(call, "uid", &uid));
    TAKE(take_close(call, &code, &reason, &last));
    TRY(jf_close_uid(uid, code, reason, last, &counted));
    return count(call, &counted);
}

static jf_code close_group(const call *call) {
    jf_str group, reason;
    uint16_t code;
    jf_message last;
    jf_count counted;
    TAKE(take_text(call, "group", &group));
    TAKE(take_close(call, &code, &reason, &last));
    TRY(jf_close_group(group, code, reason, last, &counted));
    return count(call, &counted);
}

/* ---- Info ---- */

static jf_code get_info(const call *call) {
    jf_str client;
    jf_map found;
    TAKE(take_client(call, &client));
    TRY(jf_get_info(client, &found));
    return info(call, found);
}

static jf_code set_info(const call *call) {
    jf_str client;
    jf_map wanted;
    TAKE(take_client(call, &client));
    TAKE(take_info(call, false, &wanted));
    TRY(jf_set_info(client, wanted));
    return nothing(call);
}

static jf_code update_info(const call *call) {
    jf_str client;
    jf_map changes, updated;
    TAKE(take_client(call, &client));
    TAKE(take_info(call, true, &changes));
    TRY(jf_update_info(client, changes, &updated));
    return info(call, updated);
}

/* ---- Calls, timers, the plugin itself ---- */

static jf_code call_plugin(const call *call) {
    jf_str plugin, method, payload, answer;
    TAKE(take_text(call, "plugin", &plugin));
    TAKE(take_text(call, "method", &method));
    TAKE(take_text_or(call, "payload", JF(""), &payload));
    TRY(jf_call(plugin, method, payload, &answer));
    return text(call, jf_as_utf8(answer));
}

static const char *const scopes[] = {[JF_NODE] = "node", [JF_CLUSTER] = "cluster", NULL};

static jf_code set_timer(const call *call) {
    jf_str name;
    uint64_t after_ms, every_ms;
    int scope;
    TAKE(take_text(call, "name", &name));
    TAKE(take_uint(call, "after_ms", UINT64_MAX, &after_ms));
    TAKE(take_uint_or(call, "every_ms", UINT64_MAX - 1, JF_ONCE, &every_ms));
    TAKE(take_choice(call, "scope", scopes, JF_NODE, &scope));
    TRY(jf_set_timer(name, after_ms, every_ms, (jf_scope)scope));
    return nothing(call);
}

static jf_code cancel_timer(const call *call) {
    jf_str name;
    int scope;
    bool was_set;
    TAKE(take_text(call, "name", &name));
    TAKE(take_choice(call, "scope", scopes, JF_NODE, &scope));
    TRY(jf_cancel_timer(name, (jf_scope)scope, &was_set));
    return flag(call, was_set);
}

static jf_code identify(const call *call) {
    jf_identity identity = jf_identify();
    outcome_identity(call->ok, &identity);
    return JF_OK;
}

static jf_code log_line(const call *call) {
    static const char *const levels[] = {"trace", "debug", "info", "warn", "error", NULL};
    int level;
    jf_str line;
    TAKE(take_choice(call, "level", levels, JF_LOG_INFO, &level));
    TAKE(take_text(call, "text", &line));
    jf_log((jf_level)level, "%s", line.ptr);
    return nothing(call);
}

/* ---- For tests of the node ---- */

static jf_code print(const call *call) {
    jf_str line;
    TAKE(take_text(call, "text", &line));
    printf("%s\n", line.ptr);
    fprintf(stderr, "%s\n", line.ptr);
    return nothing(call);
}

static jf_code sleep_for(const call *call) {
    uint64_t ms;
    jf_str line;
    TAKE(take_uint_or(call, "ms", UINT32_MAX, 1000, &ms));
    TAKE(take_text_or(call, "log", JF_NONE, &line));
    if (line.ptr) jf_log(JF_LOG_INFO, "%s", line.ptr);
    usleep((useconds_t)ms * 1000);
    return nothing(call);
}

/* The same request many times within one event; the outcome is the last one's. */
static jf_code repeat(const call *call) {
    uint64_t times;
    const json *object;
    TAKE(take_uint(call, "times", UINT32_MAX, &times));
    TAKE(take_object(call, "request", &object));
    request request = request_of_object(object);
    json_text last = {0};
    json_raw(&last, "null");
    for (uint64_t i = 0; i < times; i++) {
        last.len = 0;
        TRY(request_run(&request, call->caller, &last));
    }
    json_raw(call->ok, json_done(&last));
    return JF_OK;
}

static jf_code panic(const call *call) {
    jf_str message;
    TAKE(take_text_or(call, "message", JF("asked to panic"), &message));
    jf_panic("%s", message.ptr);
}

static jf_code unreachable(const call *call) {
    (void)call;
    __builtin_trap();
}

static jf_code spin(const call *call) {
    uint64_t ms;
    TAKE(take_uint_or(call, "ms", UINT32_MAX, UINT64_MAX, &ms));
    misbehave_spin(ms);
    return nothing(call);
}

static jf_code spin_host(const call *call) {
    for (;;) jf_is_online(call->caller, NULL);
}

static jf_code overflow_stack(const call *call) {
    volatile uint64_t depth = misbehave_overflow_stack(0);
    (void)depth;
    return nothing(call);
}

static jf_code eat_memory(const call *call) {
    uint64_t bytes;
    TAKE(take_uint_or(call, "bytes", SIZE_MAX, 0, &bytes));
    misbehave_eat_memory((size_t)bytes);
    return nothing(call);
}

static jf_code grow_memory(const call *call) {
    uint64_t bytes;
    TAKE(take_uint(call, "bytes", SIZE_MAX, &bytes));
    return flag(call, misbehave_grow_memory((size_t)bytes));
}

static jf_code exit_with(const call *call) {
    uint64_t code;
    TAKE(take_uint_or(call, "code", INT32_MAX, 1, &code));
    exit((int)code);
}

/* ---- The table: `?` marks what may be left out ---- */

static const struct operation {
    const char *name, *takes;
    jf_code (*run)(const call *call);
} operations[] = {
    {"send-to-all", "text or binary, exclude?", send_to_all},
    {"send-to-client", "client?, text or binary", send_to_client},
    {"reply", "text or binary", reply},
    {"send-to-uid", "uid or uids, text or binary", send_to_uid},
    {"send-to-group", "group or groups, text or binary, exclude?", send_to_group},
    {"bind-uid", "client?, uid", bind_uid},
    {"unbind-uid", "client?, uid?", unbind_uid},
    {"is-uid-online", "uid", is_uid_online},
    {"get-uid-by-client-id", "client?", get_uid_by_client_id},
    {"get-client-ids-by-uid", "uid, cursor?, limit?", get_client_ids_by_uid},
    {"get-all-uids", "cursor?, limit?", get_all_uids},
    {"join-group", "client?, group", join_group},
    {"leave-group", "client?, group", leave_group},
    {"ungroup", "group", ungroup},
    {"get-client-count-by-group", "group", get_client_count_by_group},
    {"get-client-ids-by-group", "group, cursor?, limit?", get_client_ids_by_group},
    {"get-uids-by-group", "group, cursor?, limit?", get_uids_by_group},
    {"get-uid-count-by-group", "group", get_uid_count_by_group},
    {"get-all-groups", "cursor?, limit?", get_all_groups},
    {"is-online", "client?", is_online},
    {"get-all-client-count", "nothing", get_all_client_count},
    {"close-client", "client?, code?, reason?, text? or binary?", close_client},
    {"close-uid", "uid, code?, reason?, text? or binary?", close_uid},
    {"close-group", "group, code?, reason?, text? or binary?", close_group},
    {"get-info", "client?", get_info},
    {"set-info", "client?, info", set_info},
    {"update-info", "client?, info", update_info},
    {"call", "plugin, method, payload?", call_plugin},
    {"set-timer", "name, after_ms, every_ms?, scope?", set_timer},
    {"cancel-timer", "name, scope?", cancel_timer},
    {"identify", "nothing", identify},
    {"generation", "nothing", identify},
    {"log", "level?, text", log_line},
    {"print", "text", print},
    {"sleep", "ms?, log?", sleep_for},
    {"repeat", "times, request", repeat},
    {"panic", "message?", panic},
    {"unreachable", "nothing", unreachable},
    {"spin", "ms?", spin},
    {"spin-host", "nothing", spin_host},
    {"overflow-stack", "nothing", overflow_stack},
    {"eat-memory", "bytes?", eat_memory},
    {"grow-memory", "bytes", grow_memory},
    {"exit", "code?", exit_with},
};

enum { OPERATIONS = sizeof operations / sizeof *operations };

jf_code operation_run(jf_str name, const json *arguments, jf_str caller, json_text *ok) {
    for (int i = 0; i < OPERATIONS; i++) {
        const struct operation *operation = &operations[i];
        if (!jf_equal(name, operation->name)) continue;
        call call = {operation->name, operation->takes, arguments, caller, ok};
        TAKE(takes_all_names(&call));
        return operation->run(&call);
    }
    const char *names = operations[0].name;
    for (int i = 1; i < OPERATIONS; i++) names = jf_format("%s, %s", names, operations[i].name).ptr;
    return jf_fail(JF_INVALID_ARGUMENT, "`do` can't be `%.*s`; it is one of %s", JF_ARG(name),
                   names);
}
