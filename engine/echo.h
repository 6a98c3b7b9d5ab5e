// The prompt as a client that asked for an echo hears it.
#ifndef BASED_ENGINE_ECHO_H_
#define BASED_ENGINE_ECHO_H_

#include <cstdint>
#include <vector>

#include "engine/delivery.h"
#include "engine/request.h"
#include "engine/tokenizer.h"

namespace based {

// Gives `stream` the prompt as text and ids, whichever the request wants. REQUIRES: a tokenizer
// where that is text.
void SetEcho(const Request& request, const std::vector<int32_t>& prompt, const Tokenizer* tokenizer,
             DeliveryStream& stream);

}  // namespace based

#endif  // BASED_ENGINE_ECHO_H_
