/* AnyValues as the store keeps them: texts, arrays and maps as JSON (docs/decisions/0003, sql/migrations/0001). */

#ifndef TAILSIGHT_TEXT_H
#define TAILSIGHT_TEXT_H

#include "buffer.h"
#include "otlp.h"

/* Append tailsight_any_value_text(value); false where what lies inside cannot be read. */
bool put_value_text(Buffer *out, const Value *value);

#endif
