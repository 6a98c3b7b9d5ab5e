// based tokenize: text to ids and back, at the daemon or with the files of a tokenizer.
#ifndef BASED_CLIENT_TOKENIZE_COMMAND_H_
#define BASED_CLIENT_TOKENIZE_COMMAND_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "client/command.h"

namespace based {

// Each prints its result on standard output.
struct TokenizeActions {
  std::function<absl::Status(const std::string& text)> tokenize;
  std::function<absl::Status(const std::vector<int32_t>& ids)> detokenize;
};

Command TokenizeCommand(TokenizeActions daemon, TokenizeActions here);

}  // namespace based

#endif  // BASED_CLIENT_TOKENIZE_COMMAND_H_
