/* The node's calls, and what the plugin answers.
 *
 * An event ends where its handler has returned and the node has read the answer: after the handler
 * itself, or in the function that the component model calls "post-return". The bindings' own would
 * free each part of the answer; these, in their place, free all memory of the event. */
#include "internal.h"

struct jf_acceptance {
    jf_str subprotocol, uid;
    jf_list groups;
    jf_map info;
};

/* ---- What an event does that the plugin does not handle ---- */

#define DEFAULT __attribute__((weak))

DEFAULT jf_verdict jf_on_connect(jf_str client, const jf_handshake *handshake,
                                 jf_acceptance *acceptance) {
    (void)client, (void)handshake, (void)acceptance;
    return JF_ACCEPT;
}

DEFAULT void jf_on_message(jf_str client, jf_message message) {
    (void)client, (void)message;
}

DEFAULT void jf_on_close(jf_str client, const jf_departure *departure) {
    (void)client, (void)departure;
}

DEFAULT jf_code jf_on_start(void) {
    return JF_OK;
}

DEFAULT void jf_on_stop(void) {
}

DEFAULT jf_code jf_on_call(jf_caller caller, jf_str method, jf_str payload, jf_out *answer) {
    (void)caller, (void)payload, (void)answer;
    return jf_fail(JF_UNKNOWN_METHOD, "there is no method %.*s", JF_ARG(method));
}

DEFAULT void jf_on_timer(jf_str name) {
    (void)name;
}

/* ---- Connect ---- */

void(jf_accept_uid)(jf_acceptance *acceptance, jf_str uid) {
    acceptance->uid = jf_copy(uid);
}

void(jf_accept_group)(jf_acceptance *acceptance, jf_str group) {
    jf_list_add(&acceptance->groups, jf_copy(group));
}

void(jf_accept_info)(jf_acceptance *acceptance, jf_str key, jf_str value) {
    jf_map_add(&acceptance->info, jf_copy(key), jf_copy(value));
}

void(jf_accept_subprotocol)(jf_acceptance *acceptance, jf_str subprotocol) {
    acceptance->subprotocol = jf_copy(subprotocol);
}

static exports_jackfield_plugin_handler_refusal_t refusal;

static void refuse_with(int status, jf_str reason) {
    refusal.status = status < 0 || status > UINT16_MAX ? 0 : (uint16_t)status;
    refusal.reason = to_text(jf_as_utf8(reason));
}

jf_verdict jf_refuse(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    refuse_with(status, jf_format_(format, arguments));
    va_end(arguments);
    return JF_REFUSE;
}

bool exports_jackfield_plugin_handler_on_connect(
    exports_jackfield_plugin_handler_client_id_t *client,
    exports_jackfield_plugin_handler_handshake_t *from,
    exports_jackfield_plugin_handler_acceptance_t *accepted,
    exports_jackfield_plugin_handler_refusal_t *refused) {
    jf_handshake handshake = {
        .path = from_text(from->path),
        .query = from_pairs(from->query.ptr, from->query.len),
        .headers = from_pairs(from->headers.ptr, from->headers.len),
        .remote_address = from_text(from->remote_address),
        .subprotocols = from_texts(from->subprotocols.ptr, from->subprotocols.len),
        .uid = from->uid.is_some ? from_text(from->uid.val) : JF_NONE,
    };
    jf_acceptance acceptance = {0};
    refuse_with(403, JF(""));
    bool comes_in = jf_on_connect(from_text(*client), &handshake, &acceptance) == JF_ACCEPT;
    if (comes_in && !(jf_is_text_or_none_("subprotocol", acceptance.subprotocol) &&
                      jf_is_text_or_none_("uid", acceptance.uid) &&
                      jf_are_texts_("group", acceptance.groups) &&
                      jf_are_pairs_("info", acceptance.info))) {
        jf_log(JF_LOG_ERROR, "jf_on_connect accepts with what is no text: %s", jf_error_message());
        refuse_with(500, JF("the server failed"));
        comes_in = false;
    }
    if (!comes_in) {
        *refused = refusal;
        return false;
    }
    *accepted = (exports_jackfield_plugin_handler_acceptance_t){
        .subprotocol = {acceptance.subprotocol.ptr != NULL, to_text(acceptance.subprotocol)},
        .uid = {acceptance.uid.ptr != NULL, to_text(acceptance.uid)},
        .groups = {to_texts(acceptance.groups), acceptance.groups.len},
        .info = to_info(acceptance.info),
    };
    return true;
}

#define AFTER(function) \
    void __wasm_export_exports_jackfield_plugin_##function##_post_return(uint8_t *answer) { \
        (void)answer; \
        jf_end_event_(); \
    }

__attribute__((export_name("cabi_post_jackfield:plugin/handler@0.1.0#on-connect")))
AFTER(handler_on_connect)

/* ---- Message, close ---- */

void exports_jackfield_plugin_handler_on_message(
    exports_jackfield_plugin_handler_client_id_t *client,
    exports_jackfield_plugin_handler_message_t *from) {
    bool is_binary = from->tag == JACKFIELD_PLUGIN_TYPES_MESSAGE_BINARY;
    jf_str data = is_binary ? from_bytes(from->val.binary) : from_text(from->val.text);
    jf_on_message(from_text(*client), (jf_message){is_binary, data});
    jf_end_event_();
}

void exports_jackfield_plugin_handler_on_close(
    exports_jackfield_plugin_handler_client_id_t *client,
    exports_jackfield_plugin_handler_departure_t *from) {
    jf_departure departure = {
        .code = from->code,
        .reason = from_text(from->reason),
        .by = (jf_closer)from->by,
        .uid = from->uid.is_some ? from_text(from->uid.val) : JF_NONE,
        .groups = from_texts(from->groups.ptr, from->groups.len),
        .info = from_pairs(from->info.ptr, from->info.len),
    };
    jf_on_close(from_text(*client), &departure);
    jf_end_event_();
}

/* ---- Start, stop ---- */

/* What an error code of the plugin's own means, which may be without a sentence. */
static jf_str sentence(jf_code code) {
    const char *message = jf_error_message();
    if (jf_error_code_() != code) message = jf_code_name(code);
    return jf_as_utf8(JF(message));
}

bool exports_jackfield_plugin_lifecycle_on_start(app_string_t *error) {
    jf_code code = jf_on_start();
    if (code == JF_OK) return true;
    *error = to_text(sentence(code));
    return false;
}

__attribute__((export_name("cabi_post_jackfield:plugin/lifecycle@0.1.0#on-start")))
AFTER(lifecycle_on_start)

void exports_jackfield_plugin_lifecycle_on_stop(void) {
    jf_on_stop();
    jf_end_event_();
}

/* ---- Call ---- */

static jackfield_plugin_types_call_error_code_t to_call_error(jf_code code) {
    switch (code) {
    case JF_UNKNOWN_METHOD: return JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_UNKNOWN_METHOD;
    case JF_INVALID_ARGUMENT: return JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_INVALID_ARGUMENT;
    case JF_NOT_FOUND: return JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_NOT_FOUND;
    case JF_DENIED: return JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_DENIED;
    case JF_LIMIT_EXCEEDED: return JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_LIMIT_EXCEEDED;
    case JF_OVERLOADED: return JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_OVERLOADED;
    case JF_UNAVAILABLE: return JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_UNAVAILABLE;
    default: return JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_FAILED;
    }
}

bool exports_jackfield_plugin_call_handler_on_call(
    exports_jackfield_plugin_call_handler_caller_t *from, app_string_t *method,
    app_list_u8_t *payload, app_list_u8_t *answer,
    exports_jackfield_plugin_call_handler_call_error_t *error) {
    bool is_plugin = from->tag == EXPORTS_JACKFIELD_PLUGIN_CALL_HANDLER_CALLER_PLUGIN;
    app_string_t name = is_plugin ? from->val.plugin : from->val.api;
    jf_out out = {0};
    jf_code code = jf_on_call((jf_caller){is_plugin, from_text(name)}, from_text(*method),
                              from_bytes(*payload), &out);
    if (code == JF_OK) {
        *answer = to_bytes(out.bytes);
        return true;
    }
    error->code = to_call_error(code);
    error->message = to_text(sentence(code));
    return false;
}

__attribute__((export_name("cabi_post_jackfield:plugin/call-handler@0.1.0#on-call")))
AFTER(call_handler_on_call)

/* ---- Timer ---- */

void exports_jackfield_plugin_timer_handler_on_timer(app_string_t *name) {
    jf_on_timer(from_text(*name));
    jf_end_event_();
}

/* The bindings want an object file with the world's types in it. `jackfield componentize` embeds
 * the types instead, of the world that the project has. */
void __component_type_object_force_link_app(void) {
}
