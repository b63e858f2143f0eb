/* Events that come by themselves. */
#include "internal.h"

jf_code(jf_set_timer)(jf_str name, uint64_t after_ms, uint64_t every_ms, jf_scope scope) {
    TEXT(name);
    app_string_t timer = to_text(name);
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_timers_set_timer(&timer, after_ms, every_ms == JF_ONCE ? NULL : &every_ms,
                                           (jackfield_plugin_timers_timer_scope_t)scope, &error))
        return from_error(error);
    return JF_OK;
}

jf_code(jf_cancel_timer)(jf_str name, jf_scope scope, bool *was_set) {
    TEXT(name);
    app_string_t timer = to_text(name);
    bool was;
    jackfield_plugin_types_error_t error;
    if (!jackfield_plugin_timers_cancel_timer(
            &timer, (jackfield_plugin_timers_timer_scope_t)scope, &was, &error))
        return from_error(error);
    RESULT(was_set, was);
    return JF_OK;
}
