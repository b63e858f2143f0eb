/* The table of operations: a name, its arguments, and the few lines that carry it out. */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#include "json.h"

/* `arguments` may be NULL: none. */
jf_code operation_run(jf_str name, const json *arguments, jf_str caller, json_text *ok);

#endif
