// /debug and /debug.json on the operators' HTTP listener. They show request ids and tenants, so
// only clients on this machine are answered; others use AdminService.
#ifndef BASED_SERVER_DEBUG_PAGE_H_
#define BASED_SERVER_DEBUG_PAGE_H_

#include <functional>

#include "server/debug_view.h"

struct mg_context;

namespace based {

// `steps`: with the profile of steps, which takes milliseconds to sum up. The live page asks for
// /debug.json?steps=0&requests=N, the latest N requests without the profile, every second.
using DebugSource = std::function<DebugView(bool steps)>;

// `source` must outlive the listener `context`; it is called from the listener's threads.
void AddDebugPages(mg_context* context, const DebugSource* source);

}  // namespace based

#endif  // BASED_SERVER_DEBUG_PAGE_H_
