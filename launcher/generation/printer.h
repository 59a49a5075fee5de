// Prints what is written of several texts: of one as it comes, of several each when it is done, in their order.
//
//   Printer printer(std::cout, titles, /*json=*/false);
//   printer.Begin(0, "Once upon");
//   printer.Add(0, " a time");
//   printer.End(0, {.prompt = "Once upon", .text = " a time", .end = "END", .tokens = 3});
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace trefoil {

struct Written {
  std::string prompt, text;
  std::string end;  // why it ended: "END", "STOP", "LIMIT"
  int64_t tokens = 0;
};

class Printer {
 public:
  // A title for each text: "prompt 2 of 3, sample 1 of 4". json: an object a line in place of texts.
  Printer(std::ostream& out, std::vector<std::string> titles, bool json);

  void Begin(size_t text, const std::string& prompt) { Add(text, prompt); }
  void Add(size_t text, const std::string& piece);
  void End(size_t text, const Written& written);

 private:
  bool streams() const { return titles_.size() == 1 && !json_; }

  std::ostream& out_;
  const std::vector<std::string> titles_;
  const bool json_;
  std::vector<std::string> texts_;  // so far
  std::vector<bool> done_;
  size_t next_ = 0;  // to be printed
};

}  // namespace trefoil
