/* Which spans of a request do the rules of sources concern? (tailsight_storage/source_rules.py, which writes the rules) */

#ifndef TAILSIGHT_MATCH_H
#define TAILSIGHT_MATCH_H

#include "buffer.h"
#include "otlp.h"

enum Matched { MATCHED, ODD, RULES_WRONG };

/* Append four uint32_t for each span that a rule concerns: the places of its ResourceSpans, of its ScopeSpans in that and of
 * the span in this, and the number of the first rule that fits. ODD where the request is not written as everybody writes it. */
enum Matched match_request(Slice message, Slice rules, Buffer *found);

#endif
