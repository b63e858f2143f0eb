#include "request.h"

#include "operations.h"

#define EXPECTED \
    "a request is a text message with a JSON object, " \
    "{\"id\":7,\"do\":\"join-group\",\"group\":\"g\"}"

request request_wrong(const char *why) {
    return (request){.id = JF("null"), .wrong = jf_format(EXPECTED "%s%s", *why ? ": " : "", why)};
}

request request_of_object(const json *object) {
    const json *id = json_get(object, "id");
    return (request){.id = id ? id->raw : JF("null"),
                     .operation = json_get(object, "do"),
                     .object = object};
}

request request_read(jf_str text) {
    jf_str why;
    const json *object = json_read(text, &why);
    if (!object) return request_wrong(why.ptr);
    if (object->kind != JSON_OBJECT) return request_wrong("this is no object");
    return request_of_object(object);
}

request request_named_or_whole(jf_str text) {
    if (text.len && *text.ptr == '{') return request_read(text);
    json *operation = jf_alloc(sizeof *operation);
    *operation = (json){.kind = JSON_STRING, .text = text};
    return (request){.id = JF("null"), .operation = operation};
}

jf_code request_run(const request *request, jf_str caller, json_text *ok) {
    if (request->wrong.ptr) return jf_fail(JF_INVALID_ARGUMENT, "%s", request->wrong.ptr);
    if (!request->operation || request->operation->kind != JSON_STRING)
        return jf_fail(JF_INVALID_ARGUMENT, EXPECTED);
    return operation_run(request->operation->text, request->object, caller, ok);
}

void request_error(json_text *to, jf_code code) {
    json_name(to, "error");
    json_open(to, '{');
    json_name(to, "code");
    json_string(to, jf_code_name(code));
    json_name(to, "message");
    json_string(to, jf_error_message());
    json_close(to, '}');
}

void request_answer(const request *request, jf_str caller, json_text *to) {
    json_text ok = {0};
    jf_code code = request_run(request, caller, &ok);
    json_name(to, "id");
    json_raw(to, request->id);
    if (code == JF_OK) {
        json_name(to, "ok");
        json_raw(to, json_done(&ok));
    } else {
        request_error(to, code);
    }
}

jf_str request_answer_text(const request *request, jf_str caller) {
    json_text text = {0};
    json_open(&text, '{');
    request_answer(request, caller, &text);
    json_close(&text, '}');
    return json_done(&text);
}
