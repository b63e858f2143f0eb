/* Requests to HTTP servers. */
#include "internal.h"

#include <string.h>
#include <strings.h>

/* The most that one call writes, as the contract of streams has it; and what one call reads. */
enum { WRITE_BYTES = 4096, READ_BYTES = 64 << 10 };

/* The bindings leave these out. */
#define DROP(of, resource, name) \
    __attribute__((import_module(of "@0.2.4"), import_name("[resource-drop]" resource))) void \
    name(int32_t handle)

DROP("wasi:io/poll", "pollable", jf_drop_pollable_);
DROP("wasi:io/error", "error", jf_drop_io_error_);
DROP("wasi:io/streams", "input-stream", jf_drop_input_stream_);
DROP("wasi:io/streams", "output-stream", jf_drop_output_stream_);
DROP("wasi:http/types", "fields", jf_drop_fields_);
DROP("wasi:http/types", "outgoing-request", jf_drop_outgoing_request_);
DROP("wasi:http/types", "outgoing-body", jf_drop_outgoing_body_);
DROP("wasi:http/types", "future-incoming-response", jf_drop_future_);
DROP("wasi:http/types", "incoming-response", jf_drop_incoming_response_);
DROP("wasi:http/types", "incoming-body", jf_drop_incoming_body_);

#define CODE(name) WASI_HTTP_TYPES_ERROR_CODE_##name

static const char *const names[] = {
    [CODE(DNS_TIMEOUT)] = "DNS-timeout",
    [CODE(DNS_ERROR)] = "DNS-error",
    [CODE(DESTINATION_NOT_FOUND)] = "destination-not-found",
    [CODE(DESTINATION_UNAVAILABLE)] = "destination-unavailable",
    [CODE(DESTINATION_IP_PROHIBITED)] = "destination-IP-prohibited",
    [CODE(DESTINATION_IP_UNROUTABLE)] = "destination-IP-unroutable",
    [CODE(CONNECTION_REFUSED)] = "connection-refused",
    [CODE(CONNECTION_TERMINATED)] = "connection-terminated",
    [CODE(CONNECTION_TIMEOUT)] = "connection-timeout",
    [CODE(CONNECTION_READ_TIMEOUT)] = "connection-read-timeout",
    [CODE(CONNECTION_WRITE_TIMEOUT)] = "connection-write-timeout",
    [CODE(CONNECTION_LIMIT_REACHED)] = "connection-limit-reached",
    [CODE(TLS_PROTOCOL_ERROR)] = "TLS-protocol-error",
    [CODE(TLS_CERTIFICATE_ERROR)] = "TLS-certificate-error",
    [CODE(TLS_ALERT_RECEIVED)] = "TLS-alert-received",
    [CODE(HTTP_REQUEST_DENIED)] = "HTTP-request-denied",
    [CODE(HTTP_REQUEST_LENGTH_REQUIRED)] = "HTTP-request-length-required",
    [CODE(HTTP_REQUEST_BODY_SIZE)] = "HTTP-request-body-size",
    [CODE(HTTP_REQUEST_METHOD_INVALID)] = "HTTP-request-method-invalid",
    [CODE(HTTP_REQUEST_URI_INVALID)] = "HTTP-request-URI-invalid",
    [CODE(HTTP_REQUEST_URI_TOO_LONG)] = "HTTP-request-URI-too-long",
    [CODE(HTTP_REQUEST_HEADER_SECTION_SIZE)] = "HTTP-request-header-section-size",
    [CODE(HTTP_REQUEST_HEADER_SIZE)] = "HTTP-request-header-size",
    [CODE(HTTP_REQUEST_TRAILER_SECTION_SIZE)] = "HTTP-request-trailer-section-size",
    [CODE(HTTP_REQUEST_TRAILER_SIZE)] = "HTTP-request-trailer-size",
    [CODE(HTTP_RESPONSE_INCOMPLETE)] = "HTTP-response-incomplete",
    [CODE(HTTP_RESPONSE_HEADER_SECTION_SIZE)] = "HTTP-response-header-section-size",
    [CODE(HTTP_RESPONSE_HEADER_SIZE)] = "HTTP-response-header-size",
    [CODE(HTTP_RESPONSE_BODY_SIZE)] = "HTTP-response-body-size",
    [CODE(HTTP_RESPONSE_TRAILER_SECTION_SIZE)] = "HTTP-response-trailer-section-size",
    [CODE(HTTP_RESPONSE_TRAILER_SIZE)] = "HTTP-response-trailer-size",
    [CODE(HTTP_RESPONSE_TRANSFER_CODING)] = "HTTP-response-transfer-coding",
    [CODE(HTTP_RESPONSE_CONTENT_CODING)] = "HTTP-response-content-coding",
    [CODE(HTTP_RESPONSE_TIMEOUT)] = "HTTP-response-timeout",
    [CODE(HTTP_UPGRADE_FAILED)] = "HTTP-upgrade-failed",
    [CODE(HTTP_PROTOCOL_ERROR)] = "HTTP-protocol-error",
    [CODE(LOOP_DETECTED)] = "loop-detected",
    [CODE(CONFIGURATION_ERROR)] = "configuration-error",
    [CODE(INTERNAL_ERROR)] = "internal-error",
};

static bool ends_in(const char *name, const char *end) {
    size_t len = strlen(name), end_len = strlen(end);
    return len >= end_len && !strcmp(name + len - end_len, end);
}

static jf_code failed(wasi_http_types_error_code_t error) {
    if (error.tag == CODE(INTERNAL_ERROR) && error.val.internal_error.is_some)
        return jf_note_error_(JF_FAILED, from_text(error.val.internal_error.val));
    const char *name = names[error.tag];
    jf_code code = ends_in(name, "-timeout") ? JF_TIMED_OUT
                   : ends_in(name, "-size")  ? JF_LIMIT_EXCEEDED
                                             : JF_FAILED;
    return jf_note_error_(code, JF(name));
}

static jf_code invalid(const char *what) {
    return jf_note_error_(JF_INVALID_ARGUMENT, JF(what));
}

/* A stream that ended with an error, or was closed although it should not be. */
static jf_code broke_off(wasi_io_streams_stream_error_t error) {
    if (error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED)
        return jf_note_error_(JF_FAILED, JF("the stream was closed"));
    wasi_io_error_borrow_error_t why = {error.val.last_operation_failed.__handle};
    wasi_http_types_error_code_t code;
    jf_code noted;
    if (wasi_http_types_http_error_code(why, &code)) {
        noted = failed(code);
    } else {
        /* Its first line says what; the rest is where in the node. */
        app_string_t text;
        wasi_io_error_method_error_to_debug_string(why, &text);
        jf_str line = from_text(text);
        noted = jf_note_error_(
            JF_FAILED, jf_format("%.*s", (int)strcspn(line.ptr, "\n"), line.ptr));
    }
    jf_drop_io_error_(why.__handle);
    return noted;
}

static bool is_method(jf_str method, wasi_http_types_method_t *is) {
    static const char *const methods[] = {
        [WASI_HTTP_TYPES_METHOD_GET] = "GET",         [WASI_HTTP_TYPES_METHOD_HEAD] = "HEAD",
        [WASI_HTTP_TYPES_METHOD_POST] = "POST",       [WASI_HTTP_TYPES_METHOD_PUT] = "PUT",
        [WASI_HTTP_TYPES_METHOD_DELETE] = "DELETE",   [WASI_HTTP_TYPES_METHOD_CONNECT] = "CONNECT",
        [WASI_HTTP_TYPES_METHOD_OPTIONS] = "OPTIONS", [WASI_HTTP_TYPES_METHOD_TRACE] = "TRACE",
        [WASI_HTTP_TYPES_METHOD_PATCH] = "PATCH",
    };
    is->tag = WASI_HTTP_TYPES_METHOD_OTHER;
    is->val.other = to_text(method);
    for (uint8_t tag = 0; tag < WASI_HTTP_TYPES_METHOD_OTHER; tag++)
        if (jf_equal(method, methods[tag])) is->tag = tag;
    return jf_is_text_("method", method);
}

/* Takes a URL apart: https://AUTHORITY/PATH?QUERY. */
static bool is_url(jf_str url, wasi_http_types_scheme_t *scheme, jf_str *authority, jf_str *path) {
    if (!jf_is_text_("url", url)) return false;
    bool is_http = url.len > 7 && !strncasecmp(url.ptr, "http://", 7);
    bool is_https = url.len > 8 && !strncasecmp(url.ptr, "https://", 8);
    scheme->tag = is_https ? WASI_HTTP_TYPES_SCHEME_HTTPS : WASI_HTTP_TYPES_SCHEME_HTTP;
    size_t from = is_https ? 8 : 7, to = from, end = from;
    while (end < url.len && url.ptr[end] != '#') end++;
    while (to < end && url.ptr[to] != '/' && url.ptr[to] != '?') to++;
    if ((!is_http && !is_https) || from == to) {
        jf_note_error_(JF_INVALID_ARGUMENT,
                       jf_format("%.*s is no URL: write https://HOST/PATH", JF_ARG(url)));
        return false;
    }
    *authority = (jf_str){url.ptr + from, to - from};
    *path = (jf_str){url.ptr + to, end - to};
    if (!path->len || *path->ptr != '/') *path = jf_format("/%.*s", JF_ARG(*path));
    return true;
}

/* The request without its body, and where that is written to. */
static jf_code prepare(const jf_http_request *request,
                       wasi_http_types_own_outgoing_request_t *prepared,
                       wasi_http_types_own_outgoing_body_t *body) {
    wasi_http_types_method_t method;
    wasi_http_types_scheme_t scheme;
    jf_str authority, path;
    if (!is_method(request->method.ptr ? request->method : JF("GET"), &method) ||
        !is_url(request->url, &scheme, &authority, &path) ||
        !jf_are_pairs_("headers", request->headers))
        return JF_INVALID_ARGUMENT;
    wasi_http_types_list_tuple2_field_name_field_value_t list = {
        (wasi_http_types_tuple2_field_name_field_value_t *)(uintptr_t)request->headers.items,
        request->headers.len};
    wasi_http_types_own_fields_t headers;
    wasi_http_types_header_error_t error;
    if (!wasi_http_types_static_fields_from_list(&list, &headers, &error))
        return invalid("`headers` has one that may not be sent");
    *prepared = wasi_http_types_constructor_outgoing_request(headers);
    wasi_http_types_borrow_outgoing_request_t it = {prepared->__handle};
    app_string_t where = to_text(authority), what = to_text(path);
    const char *wrong = NULL;
    if (!wasi_http_types_method_outgoing_request_set_method(it, &method)) wrong = "method";
    else if (!wasi_http_types_method_outgoing_request_set_scheme(it, &scheme)) wrong = "scheme";
    else if (!wasi_http_types_method_outgoing_request_set_authority(it, &where)) wrong = "host";
    else if (!wasi_http_types_method_outgoing_request_set_path_with_query(it, &what)) wrong = "path";
    else if (!wasi_http_types_method_outgoing_request_body(it, body)) wrong = "body";
    if (!wrong) return JF_OK;
    jf_drop_outgoing_request_(prepared->__handle);
    return invalid(jf_format("the request's %s is wrong", wrong).ptr);
}

static jf_code write_body(wasi_http_types_own_outgoing_body_t body, jf_str bytes) {
    wasi_http_types_own_output_stream_t stream;
    wasi_http_types_borrow_outgoing_body_t it = {body.__handle};
    if (bytes.len) {
        if (!wasi_http_types_method_outgoing_body_write(it, &stream)) {
            jf_drop_outgoing_body_(body.__handle);
            return jf_note_error_(JF_FAILED, JF("the request has no body"));
        }
        wasi_io_streams_borrow_output_stream_t to = {stream.__handle};
        for (size_t at = 0; at < bytes.len; at += WRITE_BYTES) {
            size_t left = bytes.len - at;
            app_list_u8_t part = {(uint8_t *)(uintptr_t)bytes.ptr + at,
                                  left < WRITE_BYTES ? left : WRITE_BYTES};
            wasi_io_streams_stream_error_t error;
            if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(to, &part, &error)) {
                jf_code code = broke_off(error);
                jf_drop_output_stream_(stream.__handle);
                jf_drop_outgoing_body_(body.__handle);
                return code;
            }
        }
        jf_drop_output_stream_(stream.__handle);
    }
    wasi_http_types_error_code_t error;
    if (!wasi_http_types_static_outgoing_body_finish(body, NULL, &error)) return failed(error);
    return JF_OK;
}

/* `written` is what the request's body came to: the error of the request if it has no answer. */
static jf_code await(wasi_http_types_own_future_incoming_response_t future, jf_code written,
                     wasi_http_types_own_incoming_response_t *response) {
    wasi_http_types_borrow_future_incoming_response_t it = {future.__handle};
    wasi_io_poll_own_pollable_t pollable =
        wasi_http_types_method_future_incoming_response_subscribe(it);
    wasi_io_poll_method_pollable_block((wasi_io_poll_borrow_pollable_t){pollable.__handle});
    jf_drop_pollable_(pollable.__handle);
    wasi_http_types_result_result_own_incoming_response_error_code_void_t answer;
    bool is_there = wasi_http_types_method_future_incoming_response_get(it, &answer);
    jf_drop_future_(future.__handle);
    if (!is_there || answer.is_err)
        return written != JF_OK ? written : jf_note_error_(JF_FAILED, JF("there is no answer"));
    if (answer.val.ok.is_err) return failed(answer.val.ok.val.err);
    *response = answer.val.ok.val.ok;
    return JF_OK;
}

static jf_code read_body(wasi_http_types_own_incoming_body_t body, jf_str *bytes) {
    wasi_http_types_own_input_stream_t stream;
    wasi_http_types_borrow_incoming_body_t it = {body.__handle};
    if (!wasi_http_types_method_incoming_body_stream(it, &stream))
        return jf_note_error_(JF_FAILED, JF("the answer has no body"));
    wasi_io_streams_borrow_input_stream_t from = {stream.__handle};
    char *all = NULL;
    size_t len = 0, room = 0;
    for (;;) {
        app_list_u8_t part;
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_input_stream_blocking_read(from, READ_BYTES, &part, &error)) {
            bool is_end = error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED;
            jf_code code = is_end ? JF_OK : broke_off(error);
            jf_drop_input_stream_(stream.__handle);
            *bytes = len ? (jf_str){all, len} : JF("");
            return code;
        }
        if (len + part.len >= room) {
            room = (len + part.len) * 2 + 1;
            char *more = jf_alloc(room);
            if (len) memcpy(more, all, len);
            all = more;
        }
        memcpy(all + len, part.ptr, part.len);
        len += part.len;
    }
}

static jf_code read_response(wasi_http_types_own_incoming_response_t from,
                             jf_http_response *response) {
    wasi_http_types_borrow_incoming_response_t it = {from.__handle};
    response->status = wasi_http_types_method_incoming_response_status(it);
    wasi_http_types_own_headers_t headers = wasi_http_types_method_incoming_response_headers(it);
    wasi_http_types_list_tuple2_field_name_field_value_t list;
    wasi_http_types_method_fields_entries((wasi_http_types_borrow_fields_t){headers.__handle},
                                          &list);
    jf_drop_fields_(headers.__handle);
    response->headers = (jf_map){(const jf_pair *)list.ptr, list.len, 0};
    wasi_http_types_own_incoming_body_t body;
    jf_code code;
    if (wasi_http_types_method_incoming_response_consume(it, &body)) {
        code = read_body(body, &response->body);
        jf_drop_incoming_body_(body.__handle);
    } else {
        code = jf_note_error_(JF_FAILED, JF("the answer has no body"));
    }
    jf_drop_incoming_response_(from.__handle);
    return code;
}

static wasi_http_types_own_request_options_t options(uint32_t timeout_ms) {
    wasi_http_types_own_request_options_t options = wasi_http_types_constructor_request_options();
    wasi_http_types_borrow_request_options_t it = {options.__handle};
    wasi_http_types_duration_t time = (uint64_t)timeout_ms * 1000000;
    wasi_http_types_method_request_options_set_connect_timeout(it, &time);
    wasi_http_types_method_request_options_set_first_byte_timeout(it, &time);
    return options;
}

jf_code(jf_http)(const jf_http_request *request, jf_http_response *response) {
    wasi_http_types_own_outgoing_request_t prepared;
    wasi_http_types_own_outgoing_body_t body;
    jf_code code = prepare(request, &prepared, &body);
    if (code != JF_OK) return code;
    wasi_http_types_own_request_options_t wanted;
    if (request->timeout_ms) wanted = options(request->timeout_ms);
    wasi_http_types_own_future_incoming_response_t future;
    wasi_http_types_error_code_t error;
    if (!wasi_http_outgoing_handler_handle(prepared, request->timeout_ms ? &wanted : NULL, &future,
                                           &error)) {
        jf_drop_outgoing_body_(body.__handle);
        return failed(error);
    }
    /* Who wants no more of the body, a server or the node, says why by the answer. */
    jf_code written = write_body(body, request->body);
    wasi_http_types_own_incoming_response_t answer;
    code = await(future, written, &answer);
    if (code != JF_OK) return code;
    jf_http_response read = {0};
    code = read_response(answer, &read);
    if (code == JF_OK) RESULT(response, read);
    return code;
}
