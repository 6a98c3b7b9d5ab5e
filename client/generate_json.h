// Events of a completion as JSON.
#ifndef BASED_CLIENT_GENERATE_JSON_H_
#define BASED_CLIENT_GENERATE_JSON_H_

#include <string>

#include "client/generate_event.h"

namespace based {

// The GenerateResponse that says the same, in proto3's JSON mapping on one line: the proto's field
// names, every field that has a value, 64-bit integers as strings, bytes as base64.
std::string ToJson(const GenerateEvent& event);

}  // namespace based

#endif  // BASED_CLIENT_GENERATE_JSON_H_
