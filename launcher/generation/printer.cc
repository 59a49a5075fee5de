#include "launcher/generation/printer.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace trefoil {

Printer::Printer(std::ostream& out, std::vector<std::string> titles, bool json)
    : out_(out), titles_(std::move(titles)), json_(json), texts_(titles_.size()), done_(titles_.size()) {}

void Printer::Add(size_t text, const std::string& piece) {
  if (streams()) {
    out_ << piece << std::flush;
  } else {
    texts_[text] += piece;
  }
}

void Printer::End(size_t text, const Written& written) {
  if (streams()) {
    out_ << std::endl;
    return;
  }
  if (json_) {
    const nlohmann::ordered_json line = {
        {"prompt", written.prompt}, {"text", written.text}, {"end", written.end}, {"tokens", written.tokens}};
    texts_[text] = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  } else {
    texts_[text] = "--- " + titles_[text] + "\n" + texts_[text];
  }
  done_[text] = true;
  for (; next_ < done_.size() && done_[next_]; ++next_) {
    out_ << std::exchange(texts_[next_], "") << "\n";
  }
  out_ << std::flush;
}

}  // namespace trefoil
