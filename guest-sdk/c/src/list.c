/* Lists of texts, and maps. */
#include "internal.h"

#include <string.h>

/* Room for one more item. What has no room of its own is copied: it is somebody else's. */
static void *grown(const void *items, size_t len, size_t *room, size_t bytes) {
    if (len < *room) return (void *)(uintptr_t)items;
    size_t wanted = len < 4 ? 8 : len * 2;
    void *more = jf_alloc(wanted * bytes);
    if (len) memcpy(more, items, len * bytes);
    *room = wanted;
    return more;
}

void(jf_list_add)(jf_list *list, jf_str text) {
    jf_str *items = grown(list->items, list->len, &list->room, sizeof *items);
    items[list->len++] = text;
    list->items = items;
}

void(jf_map_add)(jf_map *map, jf_str key, jf_str value) {
    jf_pair *items = grown(map->items, map->len, &map->room, sizeof *items);
    items[map->len++] = (jf_pair){key, value};
    map->items = items;
}

jf_str(jf_map_get)(jf_map map, jf_str key) {
    for (size_t i = 0; i < map.len; i++)
        if (jf_equal(map.items[i].key, key)) return map.items[i].value;
    return JF_NONE;
}

jf_list jf_list_from_list_(jf_list list) {
    return list;
}

jf_list jf_list_from_str_(jf_str text) {
    jf_list list = {0};
    if (text.ptr) jf_list_add(&list, text);
    return list;
}

jf_list jf_list_from_chars_(const char *text) {
    return jf_list_from_str_(JF(text));
}
