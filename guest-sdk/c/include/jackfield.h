/* The contract between a Jackfield node and a plugin, for plugins in C.
 *
 * Memory: you free nothing. What the SDK hands out belongs to the event and is valid until the
 * handler returns. What you hand in is copied, or only read during the call. To keep something for
 * longer, copy it into memory of your own.
 *
 * Errors: a function returns JF_OK or the code of an error. After an error, nothing was done and no
 * result was written; jf_error_text() says what went wrong. Results that you do not need may be NULL.
 *
 * Arguments: where a jf_str is asked for, "text" and a char pointer will do as well. JF_NONE stands
 * for whatever may be left out. README.md has examples. */
#ifndef JACKFIELD_H
#define JACKFIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Values ---- */

/* Text in UTF-8, or bytes. `ptr` is NULL if there is nothing: no uid, no next page. After the last
 * byte of what the SDK hands out stands a zero byte, so that C's own functions can read it. */
typedef struct {
    const char *ptr;
    size_t len;
} jf_str;

/* `room` is the SDK's, and 0 in what others make. A copy of the struct has the same items: add to one
 * of the two only. */
typedef struct {
    const jf_str *items;
    size_t len, room;
} jf_list;

typedef struct {
    jf_str key, value;
} jf_pair;

/* Pairs in order. A key may come twice in a query and in headers. */
typedef struct {
    const jf_pair *items;
    size_t len, room;
} jf_map;

typedef struct {
    bool is_binary;
    jf_str data;
} jf_message;

#define JF_NONE ((jf_str){0})

/* For printf: printf("%.*s", JF_ARG(text)). */
#define JF_ARG(text) (int)(text).len, (text).ptr

/* A list that is valid in the block where it stands: JF_LIST(JF("tea"), group). */
#define JF_LIST(...) \
    ((jf_list){(const jf_str[]){__VA_ARGS__}, \
               sizeof((const jf_str[]){__VA_ARGS__}) / sizeof(jf_str), 0})

bool jf_equal(jf_str a, jf_str b);
/* Bytes are not always text: the payload of a call, and what a bucket has, may be anything. */
bool jf_is_utf8(jf_str bytes);
/* With a question mark for each byte that is not UTF-8. */
jf_str jf_as_utf8(jf_str bytes);
void jf_list_add(jf_list *list, jf_str text);
/* The value of the first pair with this key, or none. */
jf_str jf_map_get(jf_map map, jf_str key);
/* Appends a pair; in what jf_update_info takes, the value JF_NONE deletes the key. */
void jf_map_add(jf_map *map, jf_str key, jf_str value);
jf_message jf_text(jf_str text);
jf_message jf_binary(jf_str bytes);

/* Memory of the event. There is no error: a plugin whose memory is used up traps. */
void *jf_alloc(size_t bytes);
jf_str jf_copy(jf_str text);
jf_str jf_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- Errors ---- */

typedef enum {
    JF_OK,
    JF_INVALID_ARGUMENT,
    JF_NOT_FOUND,
    JF_CLOSED,
    JF_TAKEN,
    JF_OVERLOADED,
    JF_LIMIT_EXCEEDED,
    JF_UNREACHABLE,
    JF_TIMED_OUT,
    JF_DENIED,
    JF_INTERNAL,
    /* Of calls, buckets and HTTP requests. */
    JF_UNKNOWN_METHOD,
    JF_UNAVAILABLE,
    JF_FAILED,
} jf_code;

/* "not-found" for JF_NOT_FOUND. */
const char *jf_code_name(jf_code code);
/* The event's last error, for a log: code, sentence, function, and where it was called. */
const char *jf_error_text(void);
/* Its sentence alone. */
const char *jf_error_message(void);
/* Makes an error of your own and returns its code, for the handlers that return one. */
jf_code jf_fail(jf_code code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends the event with a trap: the node's log has the text and the line. */
#define jf_panic(...) jf_panic_(__FILE__, __LINE__, __VA_ARGS__)

/* ---- Events: write those that the plugin needs ----
 *
 * The one that is left out accepts everybody, does nothing, or answers unknown-method. */

typedef struct {
    jf_str path; /* percent-encoded, as it came */
    jf_map query;
    jf_map headers; /* names in lower case */
    jf_str remote_address;
    jf_list subprotocols;
    jf_str uid; /* the one that the node has found, or none */
} jf_handshake;

typedef struct jf_acceptance jf_acceptance;

typedef enum { JF_ACCEPT, JF_REFUSE } jf_verdict;

typedef enum { JF_BY_CLIENT, JF_BY_PLUGIN, JF_BY_NODE, JF_BY_NETWORK } jf_closer;

typedef struct {
    uint16_t code;
    jf_str reason;
    jf_closer by;
    jf_str uid; /* what the client had: */
    jf_list groups;
    jf_map info;
} jf_departure;

typedef struct {
    bool is_plugin; /* otherwise a backend */
    jf_str name;    /* the plugin's, or that of the backend's token, which may be empty */
} jf_caller;

/* Where a handler puts the bytes that it gives back. */
typedef struct jf_out jf_out;

jf_verdict jf_on_connect(jf_str client, const jf_handshake *handshake, jf_acceptance *acceptance);
void jf_on_message(jf_str client, jf_message message);
void jf_on_close(jf_str client, const jf_departure *departure);
jf_code jf_on_start(void);
void jf_on_stop(void);
jf_code jf_on_call(jf_caller caller, jf_str method, jf_str payload, jf_out *answer);
void jf_on_timer(jf_str name);

/* For jf_on_connect. */
void jf_accept_uid(jf_acceptance *acceptance, jf_str uid);
void jf_accept_group(jf_acceptance *acceptance, jf_str group);
void jf_accept_info(jf_acceptance *acceptance, jf_str key, jf_str value);
void jf_accept_subprotocol(jf_acceptance *acceptance, jf_str subprotocol);
/* Returns JF_REFUSE. */
jf_verdict jf_refuse(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For jf_on_call, and for the function of jf_bucket_update. Returns JF_OK. */
jf_code jf_put(jf_out *out, jf_str bytes);

/* ---- Functions of the node ---- */

typedef struct {
    uint64_t clients, dropped;
    jf_list missing;
} jf_reach;

typedef struct {
    uint64_t value;
    jf_list missing;
} jf_count;

typedef struct {
    jf_list items;
    jf_str next; /* the cursor of the next page, or none */
    jf_list missing;
} jf_page;

/* Messages: a text may stand for a message, and a single name for a list. */
jf_code jf_send_to_all(jf_message message, jf_list exclude, jf_reach *reach);
jf_code jf_send_to_client(jf_str client, jf_message message);
jf_code jf_reply(jf_message message);
jf_code jf_send_to_uid(jf_list uids, jf_message message, jf_reach *reach);
jf_code jf_send_to_group(jf_list groups, jf_message message, jf_list exclude, jf_reach *reach);

jf_code jf_bind_uid(jf_str client, jf_str uid);
jf_code jf_unbind_uid(jf_str client, jf_str uid_or_none, bool *was_bound);
jf_code jf_is_uid_online(jf_str uid, bool *is_online);
jf_code jf_get_uid_by_client_id(jf_str client, jf_str *uid);
jf_code jf_get_client_ids_by_uid(jf_str uid, jf_str cursor, uint32_t limit, jf_page *page);
jf_code jf_get_all_uids(jf_str cursor, uint32_t limit, jf_page *page);

jf_code jf_join_group(jf_str client, jf_str group);
jf_code jf_leave_group(jf_str client, jf_str group);
jf_code jf_ungroup(jf_str group, jf_count *count);
jf_code jf_get_client_count_by_group(jf_str group, jf_count *count);
jf_code jf_get_client_ids_by_group(jf_str group, jf_str cursor, uint32_t limit, jf_page *page);
jf_code jf_get_uids_by_group(jf_str group, jf_str cursor, uint32_t limit, jf_page *page);
jf_code jf_get_uid_count_by_group(jf_str group, jf_count *count);
jf_code jf_get_all_groups(jf_str cursor, uint32_t limit, jf_page *page);

jf_code jf_is_online(jf_str client, bool *is_online);
jf_code jf_get_all_client_count(jf_count *count);
/* JF_NONE as the last message: none. */
jf_code jf_close_client(jf_str client, uint16_t code, jf_str reason, jf_message last);
jf_code jf_close_uid(jf_str uid, uint16_t code, jf_str reason, jf_message last, jf_count *count);
jf_code jf_close_group(jf_str group, uint16_t code, jf_str reason, jf_message last, jf_count *count);

jf_code jf_get_info(jf_str client, jf_map *info);
jf_code jf_set_info(jf_str client, jf_map info);
jf_code jf_update_info(jf_str client, jf_map changes, jf_map *info);

typedef struct {
    jf_str plugin;
    uint64_t generation;
    jf_str node;
} jf_identity;

typedef enum { JF_LOG_TRACE, JF_LOG_DEBUG, JF_LOG_INFO, JF_LOG_WARN, JF_LOG_ERROR } jf_level;

jf_identity jf_identify(void);
void jf_log(jf_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Calls another plugin of this node. */
jf_code jf_call(jf_str plugin, jf_str method, jf_str payload, jf_str *answer);

typedef enum { JF_NODE, JF_CLUSTER } jf_scope;

/* As `every_ms`: the timer fires once. */
#define JF_ONCE UINT64_MAX

jf_code jf_set_timer(jf_str name, uint64_t after_ms, uint64_t every_ms, jf_scope scope);
jf_code jf_cancel_timer(jf_str name, jf_scope scope, bool *was_set);

/* ---- Settings of the manifest ---- */

/* The text of [config] with this name, or none. */
jf_str jf_config(jf_str name);
jf_map jf_config_all(void);

/* ---- Buckets: the manifest names them under [keyvalue] ---- */

/* The value is none if there is no such key. */
jf_code jf_bucket_get(jf_str bucket, jf_str key, jf_str *value);
jf_code jf_bucket_set(jf_str bucket, jf_str key, jf_str value);
jf_code jf_bucket_delete(jf_str bucket, jf_str key);
jf_code jf_bucket_exists(jf_str bucket, jf_str key, bool *exists);
/* One page of keys; `missing` is empty. */
jf_code jf_bucket_keys(jf_str bucket, jf_str cursor, jf_page *page);
/* Adds to a number in decimal in one step; a key that is not there counts as 0. */
jf_code jf_bucket_increment(jf_str bucket, jf_str key, int64_t delta, int64_t *value);

/* Reads `old`, which is none if there is no such key, and puts the new value. It runs again if
 * another change came first. If it puts nothing, or returns an error, nothing is written. */
typedef jf_code jf_updater(jf_str old, jf_out *value, void *context);

/* Returns what the updater returned, or the error of the bucket. */
jf_code jf_bucket_update(jf_str bucket, jf_str key, jf_updater *updater, void *context);

/* Up to 100 keys at once, one by one and not in one step. The values are in the order of the keys. */
jf_code jf_bucket_get_many(jf_str bucket, jf_list keys, jf_list *values);
jf_code jf_bucket_set_many(jf_str bucket, jf_map values);
jf_code jf_bucket_delete_many(jf_str bucket, jf_list keys);

/* ---- HTTP requests: the manifest allows hosts under [http] ---- */

typedef struct {
    jf_str method; /* none: GET */
    jf_str url;
    jf_map headers;
    jf_str body;
    uint32_t timeout_ms; /* 0: the plugin's http_timeout, which is the longest in any case */
} jf_http_request;

typedef struct {
    uint16_t status;
    jf_map headers;
    jf_str body;
} jf_http_response;

/* An answer with any status is JF_OK. */
jf_code jf_http(const jf_http_request *request, jf_http_response *response);

/* ---- Time and chance ---- */

/* Milliseconds since 1970. */
int64_t jf_now_ms(void);
/* A number that nobody can guess. */
uint64_t jf_random(void);

/* ---- How arguments are converted ----
 *
 * These macros have the functions' names: each notes the line for jf_error_text(), and converts
 * "text" and char pointers. An argument of a wrong type is an error of the compiler. */

jf_str jf_from_str_(jf_str text);
jf_str jf_from_chars_(const char *text);
jf_list jf_list_from_list_(jf_list list);
jf_list jf_list_from_str_(jf_str text);
jf_list jf_list_from_chars_(const char *text);
jf_message jf_message_from_message_(jf_message message);
jf_message jf_message_from_chars_(const char *text);
void jf_at_(const char *function, const char *file, int line);
_Noreturn void jf_panic_(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define JF(text) \
    _Generic((text), jf_str: jf_from_str_, char *: jf_from_chars_, const char *: jf_from_chars_)(text)
#define JF_L_(list) \
    _Generic((list), jf_list: jf_list_from_list_, jf_str: jf_list_from_str_, \
        char *: jf_list_from_chars_, const char *: jf_list_from_chars_)(list)
#define JF_M_(message) \
    _Generic((message), jf_message: jf_message_from_message_, jf_str: jf_text, \
        char *: jf_message_from_chars_, const char *: jf_message_from_chars_)(message)
#define JF_AT_(function, ...) (jf_at_(#function, __FILE__, __LINE__), function(__VA_ARGS__))

#define jf_equal(a, b) jf_equal(JF(a), JF(b))
#define jf_list_add(list, text) jf_list_add(list, JF(text))
#define jf_map_get(map, key) jf_map_get(map, JF(key))
#define jf_map_add(map, key, value) jf_map_add(map, JF(key), JF(value))
#define jf_text(text) jf_text(JF(text))
#define jf_binary(bytes) jf_binary(JF(bytes))
#define jf_copy(text) jf_copy(JF(text))
#define jf_accept_uid(acceptance, uid) jf_accept_uid(acceptance, JF(uid))
#define jf_accept_group(acceptance, group) jf_accept_group(acceptance, JF(group))
#define jf_accept_info(acceptance, key, value) jf_accept_info(acceptance, JF(key), JF(value))
#define jf_accept_subprotocol(acceptance, name) jf_accept_subprotocol(acceptance, JF(name))
#define jf_put(out, bytes) jf_put(out, JF(bytes))
#define jf_config(name) jf_config(JF(name))

#define jf_send_to_all(message, exclude, reach) \
    JF_AT_(jf_send_to_all, JF_M_(message), JF_L_(exclude), reach)
#define jf_send_to_client(client, message) JF_AT_(jf_send_to_client, JF(client), JF_M_(message))
#define jf_reply(message) JF_AT_(jf_reply, JF_M_(message))
#define jf_send_to_uid(uids, message, reach) \
    JF_AT_(jf_send_to_uid, JF_L_(uids), JF_M_(message), reach)
#define jf_send_to_group(groups, message, exclude, reach) \
    JF_AT_(jf_send_to_group, JF_L_(groups), JF_M_(message), JF_L_(exclude), reach)
#define jf_bind_uid(client, uid) JF_AT_(jf_bind_uid, JF(client), JF(uid))
#define jf_unbind_uid(client, uid_or_none, was_bound) \
    JF_AT_(jf_unbind_uid, JF(client), JF(uid_or_none), was_bound)
#define jf_is_uid_online(uid, is_online) JF_AT_(jf_is_uid_online, JF(uid), is_online)
#define jf_get_uid_by_client_id(client, uid) JF_AT_(jf_get_uid_by_client_id, JF(client), uid)
#define jf_get_client_ids_by_uid(uid, cursor, limit, page) \
    JF_AT_(jf_get_client_ids_by_uid, JF(uid), JF(cursor), limit, page)
#define jf_get_all_uids(cursor, limit, page) JF_AT_(jf_get_all_uids, JF(cursor), limit, page)
#define jf_join_group(client, group) JF_AT_(jf_join_group, JF(client), JF(group))
#define jf_leave_group(client, group) JF_AT_(jf_leave_group, JF(client), JF(group))
#define jf_ungroup(group, count) JF_AT_(jf_ungroup, JF(group), count)
#define jf_get_client_count_by_group(group, count) \
    JF_AT_(jf_get_client_count_by_group, JF(group), count)
#define jf_get_client_ids_by_group(group, cursor, limit, page) \
    JF_AT_(jf_get_client_ids_by_group, JF(group), JF(cursor), limit, page)
#define jf_get_uids_by_group(group, cursor, limit, page) \
    JF_AT_(jf_get_uids_by_group, JF(group), JF(cursor), limit, page)
#define jf_get_uid_count_by_group(group, count) JF_AT_(jf_get_uid_count_by_group, JF(group), count)
#define jf_get_all_groups(cursor, limit, page) JF_AT_(jf_get_all_groups, JF(cursor), limit, page)
#define jf_is_online(client, is_online) JF_AT_(jf_is_online, JF(client), is_online)
#define jf_get_all_client_count(count) JF_AT_(jf_get_all_client_count, count)
#define jf_close_client(client, code, reason, last) \
    JF_AT_(jf_close_client, JF(client), code, JF(reason), JF_M_(last))
#define jf_close_uid(uid, code, reason, last, count) \
    JF_AT_(jf_close_uid, JF(uid), code, JF(reason), JF_M_(last), count)
#define jf_close_group(group, code, reason, last, count) \
    JF_AT_(jf_close_group, JF(group), code, JF(reason), JF_M_(last), count)
#define jf_get_info(client, info) JF_AT_(jf_get_info, JF(client), info)
#define jf_set_info(client, info) JF_AT_(jf_set_info, JF(client), info)
#define jf_update_info(client, changes, info) JF_AT_(jf_update_info, JF(client), changes, info)
#define jf_call(plugin, method, payload, answer) \
    JF_AT_(jf_call, JF(plugin), JF(method), JF(payload), answer)
#define jf_set_timer(name, after_ms, every_ms, scope) \
    JF_AT_(jf_set_timer, JF(name), after_ms, every_ms, scope)
#define jf_cancel_timer(name, scope, was_set) JF_AT_(jf_cancel_timer, JF(name), scope, was_set)
#define jf_bucket_get(bucket, key, value) JF_AT_(jf_bucket_get, JF(bucket), JF(key), value)
#define jf_bucket_set(bucket, key, value) JF_AT_(jf_bucket_set, JF(bucket), JF(key), JF(value))
#define jf_bucket_delete(bucket, key) JF_AT_(jf_bucket_delete, JF(bucket), JF(key))
#define jf_bucket_exists(bucket, key, exists) JF_AT_(jf_bucket_exists, JF(bucket), JF(key), exists)
#define jf_bucket_keys(bucket, cursor, page) JF_AT_(jf_bucket_keys, JF(bucket), JF(cursor), page)
#define jf_bucket_increment(bucket, key, delta, value) \
    JF_AT_(jf_bucket_increment, JF(bucket), JF(key), delta, value)
#define jf_bucket_update(bucket, key, updater, context) \
    JF_AT_(jf_bucket_update, JF(bucket), JF(key), updater, context)
#define jf_bucket_get_many(bucket, keys, values) \
    JF_AT_(jf_bucket_get_many, JF(bucket), JF_L_(keys), values)
#define jf_bucket_set_many(bucket, values) JF_AT_(jf_bucket_set_many, JF(bucket), values)
#define jf_bucket_delete_many(bucket, keys) JF_AT_(jf_bucket_delete_many, JF(bucket), JF_L_(keys))
#define jf_http(request, response) JF_AT_(jf_http, request, response)

#endif
