// JSON written by appending to a string: what goes out per token builds no document.
#ifndef BASED_SERVER_OPENAI_JSON_H_
#define BASED_SERVER_OPENAI_JSON_H_

#include <string>
#include <string_view>

namespace based {

// The inside of a JSON string: `text` (valid UTF-8) with quotes, backslashes and control characters
// escaped.
void AppendJsonEscaped(std::string_view text, std::string& out);

// "text" with its quotes.
void AppendJsonString(std::string_view text, std::string& out);
std::string JsonString(std::string_view text);

// The shortest digits that read back as the same float. A log-probability of minus infinity, which
// JSON cannot say, is -9999, as OpenAI's API has it.
void AppendJsonLogprob(double logprob, std::string& out);

}  // namespace based

#endif  // BASED_SERVER_OPENAI_JSON_H_
