/* What a function of the contract may answer, as JSON has it. */
#ifndef OUTCOME_H
#define OUTCOME_H

#include "json.h"

void outcome_list(json_text *to, jf_list list);
void outcome_info(json_text *to, jf_map info);
/* Pairs as arrays of two, since a name may come twice. */
void outcome_pairs(json_text *to, jf_map map);
void outcome_reach(json_text *to, const jf_reach *reach);
void outcome_count(json_text *to, const jf_count *count);
void outcome_page(json_text *to, const jf_page *page);
void outcome_identity(json_text *to, const jf_identity *identity);

#endif
