#include "runtime/config/runtime_rules.h"

namespace trefoil {

void CheckRuntime(const RuntimeConfig& runtime, Rules& rules) {
  if (!rules.Good("runtime.device", "runtime.messages", "runtime.attention", "runtime.graphs")) return;
  if (runtime.device() != RuntimeConfig::CUDA) {
    const char* rule = ", only with runtime.device CUDA; nearest legal: leave it out";
    if (runtime.attention() != RuntimeConfig::ATTENTION_UNSET) {
      rules.Broken("runtime.attention: ", RuntimeConfig::Attention_Name(runtime.attention()), rule);
    }
    if (runtime.messages() != RuntimeConfig::MESSAGES_UNSET) {
      rules.Broken("runtime.messages: ", RuntimeConfig::Messages_Name(runtime.messages()), rule);
    }
    if (runtime.allow_shared_device()) rules.Broken("runtime.allow_shared_device: true", rule);
    if (runtime.graphs() != RuntimeConfig::GRAPHS_UNSET) {
      rules.Broken("runtime.graphs: ", RuntimeConfig::Graphs_Name(runtime.graphs()), rule);
    }
  } else if (runtime.allow_shared_device() && runtime.messages() == RuntimeConfig::NCCL) {
    rules.Broken("runtime.messages: NCCL, which does not serve ranks that share a GPU (runtime.allow_shared_device); "
                 "nearest legal: HOST");
  }
}

}  // namespace trefoil
