// What the pages of docs/ and the README say of the tree: links lead to files, and the messages that
// docs/troubleshooting.md explains are in the sources.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace trefoil {
namespace {

namespace fs = std::filesystem;

// The checkout itself, through Bazel's link to this file.
fs::path Root() { return fs::canonical("tests/docs_test.cc").parent_path().parent_path(); }

std::string Read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// A source's text with its string literals joined where only white space lies between, and quotes unescaped.
std::string Joined(const std::string& source) {
  return std::regex_replace(std::regex_replace(source, std::regex("([^\\\\])\"\\s*\n\\s*\""), "$1"),
                            std::regex("\\\\\""), "\"");
}

// The parts of a message between its "...".
std::vector<std::string> Fragments(const std::string& message) {
  std::vector<std::string> fragments;
  for (size_t begin = 0; begin < message.size();) {
    const size_t end = std::min(message.find("...", begin), message.size());
    std::string part = message.substr(begin, end - begin);
    begin = end + 3;
    const size_t first = part.find_first_not_of(' '), last = part.find_last_not_of(' ');
    if (first != std::string::npos) fragments.push_back(part.substr(first, last - first + 1));
  }
  return fragments;
}

// The messages that a page explains: **`...`**; those of other programs are followed by "(".
std::vector<std::string> Explained(const std::string& page) {
  std::vector<std::string> messages;
  const std::regex quoted("\\*\\*`([^`]+)`\\*\\*( \\((Open MPI|the system))?");
  for (std::sregex_iterator at(page.begin(), page.end(), quoted), end; at != end; ++at) {
    if (!(*at)[2].matched) messages.push_back((*at)[1]);
  }
  return messages;
}

TEST(DocsTest, FragmentsAndLiteralsAreTakenApart) {
  EXPECT_EQ(Fragments("... is in use by ..., last heartbeat ..."),
            (std::vector<std::string>{"is in use by", ", last heartbeat"}));
  EXPECT_EQ(Joined("f(\"one \"\n    \"two\", \"say \\\"x\\\"\")"), "f(\"one two\", \"say \"x\"\")");
  EXPECT_EQ(Explained("**`a ...`**, **`b`** (Open MPI): **`c`** (a test)"), (std::vector<std::string>{"a ...", "c"}));
}

TEST(DocsTest, EveryMessageThatIsExplainedIsInTheSources) {
  std::string sources;
  const std::set<std::string> kinds = {".cc", ".h", ".sh", ""};
  for (const char* room : {"runtime", "parallel", "model", "data", "checkpoint", "training", "launcher", "third_party"}) {
    fs::recursive_directory_iterator files(Root() / room);
    for (const auto& entry : files) {
      // Unpacked from PyPI into third_party.
      if (entry.is_directory() && entry.path().filename().string().starts_with("cud")) {
        files.disable_recursion_pending();
      }
      if (entry.is_regular_file() && kinds.contains(entry.path().extension())) sources += Joined(Read(entry.path()));
    }
  }
  sources += Read(Root() / "tests/launcher/config_page_test.sh");
  const std::vector<std::string> messages = Explained(Read(Root() / "docs/troubleshooting.md"));
  EXPECT_GT(messages.size(), 25u);
  for (const std::string& message : messages) {
    EXPECT_GE(message.size(), 10u) << message << ": too short to tell anything";
    for (const std::string& fragment : Fragments(message)) {
      EXPECT_NE(sources.find(fragment), std::string::npos)
          << "docs/troubleshooting.md explains \"" << message << "\", but no source has \"" << fragment << "\"";
    }
  }
}

TEST(DocsTest, LinksLeadToFiles) {
  int links = 0;
  std::vector<fs::path> pages = {Root() / "README.md", Root() / "tests/cuda_emulation/README.md"};
  for (const auto& entry : fs::directory_iterator(Root() / "docs")) {
    if (entry.path().extension() == ".md") pages.push_back(entry.path());
  }
  const std::regex link("\\]\\(([^)#]+)");
  for (const fs::path& page : pages) {
    const std::string text = Read(page);
    for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at) {
      const std::string target = (*at)[1];
      if (target.starts_with("http")) continue;
      ++links;
      EXPECT_TRUE(fs::exists(page.parent_path() / target)) << fs::relative(page, Root()) << " links to " << target;
    }
  }
  EXPECT_GT(links, 40);
}

}  // namespace
}  // namespace trefoil
