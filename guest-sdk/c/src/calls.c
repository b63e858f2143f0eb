/* Calls of other plugins. */
#include "internal.h"

static jf_code from_call_error(jackfield_plugin_types_call_error_t error) {
    static const jf_code codes[] = {
        [JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_UNKNOWN_METHOD] = JF_UNKNOWN_METHOD,
        [JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_INVALID_ARGUMENT] = JF_INVALID_ARGUMENT,
        [JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_NOT_FOUND] = JF_NOT_FOUND,
        [JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_DENIED] = JF_DENIED,
        [JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_LIMIT_EXCEEDED] = JF_LIMIT_EXCEEDED,
        [JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_OVERLOADED] = JF_OVERLOADED,
        [JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_UNAVAILABLE] = JF_UNAVAILABLE,
        [JACKFIELD_PLUGIN_TYPES_CALL_ERROR_CODE_FAILED] = JF_FAILED,
    };
    return jf_note_error_(codes[error.code], from_text(error.message));
}

jf_code(jf_call)(jf_str plugin, jf_str method, jf_str payload, jf_str *answer) {
    TEXT(plugin);
    TEXT(method);
    app_string_t name = to_text(plugin), what = to_text(method);
    app_list_u8_t given = to_bytes(payload), answered;
    jackfield_plugin_types_call_error_t error;
    if (!jackfield_plugin_calls_call(&name, &what, &given, &answered, &error))
        return from_call_error(error);
    RESULT(answer, from_bytes(answered));
    return JF_OK;
}
