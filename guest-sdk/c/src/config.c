/* Settings of the manifest. The node has read them, and gives no errors. */
#include "internal.h"

jf_str(jf_config)(jf_str name) {
    app_string_t what = to_text(name);
    app_option_string_t found;
    wasi_config_store_error_t error;
    if (!name.ptr || !jf_is_utf8(name) || !wasi_config_store_get(&what, &found, &error))
        return JF_NONE;
    return from_option(found);
}

jf_map jf_config_all(void) {
    app_list_tuple2_string_string_t found;
    wasi_config_store_error_t error;
    if (!wasi_config_store_get_all(&found, &error)) return (jf_map){0};
    return from_pairs(found.ptr, found.len);
}
