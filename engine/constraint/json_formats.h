// The string formats of a JSON schema as regular expressions.
#ifndef BASED_ENGINE_CONSTRAINT_JSON_FORMATS_H_
#define BASED_ENGINE_CONSTRAINT_JSON_FORMATS_H_

#include <string>
#include <string_view>
#include <vector>

namespace based {

// Expressions that all match exactly the texts that are offered for the format `name`; none for
// names that are not supported. Every text offered is valid; some valid ones are not offered:
//   date-time, date, time  RFC 3339, years from 0001, no leap seconds, at most 9 decimals
//   duration               ISO 8601 as RFC 3339 appendix A has it, numbers of at most 6 digits
//   email                  RFC 5321: at most 4 words of at most 16 characters, @, a hostname
//   hostname               RFC 1123, at most 4 labels, without "--"
//   ipv4, ipv6             ipv6 without a zone
//   uuid                   RFC 4122
std::vector<std::string> FormatPatterns(std::string_view name);

}  // namespace based

#endif  // BASED_ENGINE_CONSTRAINT_JSON_FORMATS_H_
