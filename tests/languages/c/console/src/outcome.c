#include "outcome.h"

void outcome_list(json_text *to, jf_list list) {
    json_open(to, '[');
    for (size_t i = 0; i < list.len; i++) json_string(to, list.items[i]);
    json_close(to, ']');
}

void outcome_info(json_text *to, jf_map info) {
    json_open(to, '{');
    for (size_t i = 0; i < info.len; i++) {
        json_name(to, info.items[i].key);
        json_string(to, info.items[i].value);
    }
    json_close(to, '}');
}

void outcome_pairs(json_text *to, jf_map map) {
    json_open(to, '[');
    for (size_t i = 0; i < map.len; i++)
        outcome_list(to, JF_LIST(map.items[i].key, map.items[i].value));
    json_close(to, ']');
}

static void missing(json_text *to, jf_list nodes) {
    json_name(to, "missing");
    outcome_list(to, nodes);
}

void outcome_reach(json_text *to, const jf_reach *reach) {
    json_open(to, '{');
    json_name(to, "clients");
    json_uint(to, reach->clients);
    json_name(to, "dropped");
    json_uint(to, reach->dropped);
    missing(to, reach->missing);
    json_close(to, '}');
}

void outcome_count(json_text *to, const jf_count *count) {
    json_open(to, '{');
    json_name(to, "value");
    json_uint(to, count->value);
    missing(to, count->missing);
    json_close(to, '}');
}

void outcome_page(json_text *to, const jf_page *page) {
    json_open(to, '{');
    json_name(to, "items");
    outcome_list(to, page->items);
    json_name(to, "next");
    json_string(to, page->next);
    missing(to, page->missing);
    json_close(to, '}');
}

void outcome_identity(json_text *to, const jf_identity *identity) {
    json_open(to, '{');
    json_name(to, "plugin");
    json_string(to, identity->plugin);
    json_name(to, "generation");
    json_uint(to, identity->generation);
    json_name(to, "node");
    json_string(to, identity->node);
    json_close(to, '}');
}
