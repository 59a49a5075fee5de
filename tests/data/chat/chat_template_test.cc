// Against what Jinja makes of the same templates (tests/data/chat/make_chat_templates.py), and against hostile ones.
#include "data/chat/chat_template.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace trefoil {
namespace {

using Json = nlohmann::json;

absl::StatusOr<std::string> Write(const std::string& source, const std::vector<Message>& messages = {{"user", "hi"}},
                                  bool prompt = true) {
  TREFOIL_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplate::Parse(source));
  return chat.Write(messages, {.bos_token = "<s>", .eos_token = "</s>", .add_generation_prompt = prompt, .now = {}});
}

TEST(ChatTemplate, WritesWhatJinjaWrites) {
  std::ifstream file("tests/data/chat/chat_templates.json");
  const Json cases = Json::parse(file);
  ASSERT_GT(cases.size(), 50u);
  int refused = 0;
  for (const Json& one : cases) {
    std::vector<Message> messages;
    for (const Json& message : one["messages"]) messages.push_back({message["role"], message["content"]});
    const auto text = Write(one["template"], messages, one["add_generation_prompt"]);
    if (one.contains("error")) {
      EXPECT_FALSE(text.ok()) << one["name"] << ": " << *text;
      ++refused;
      continue;
    }
    ASSERT_TRUE(text.ok()) << one["name"] << ": " << text.status() << "\n" << one["template"].get<std::string>();
    EXPECT_EQ(*text, one["text"].get<std::string>()) << one["name"];
  }
  EXPECT_GT(refused, 5);
}

TEST(ChatTemplate, NamesWhatIsNotInTheSubset) {
  const auto refused = [](const std::string& source) {
    const auto text = Write(source);
    EXPECT_FALSE(text.ok()) << source;
    return std::string(text.status().message());
  };
  EXPECT_EQ(refused("a\n{% include 'x' %}").find("chat template, line 2: {% include %} is not in the subset"), 0u);
  EXPECT_EQ(refused("{{ 1 | pprint }}"), "chat template, line 1: the filter pprint is not in the subset");
  EXPECT_EQ(refused("{{ 1 is divisibleby 3 }}"), "chat template, line 1: the test divisibleby is not in the subset");
  EXPECT_EQ(refused("\n\n{{ 'a'.encode('utf-8') }}"), "chat template, line 3: the method encode of a string is not in the subset");
  EXPECT_EQ(refused("{{ cycler(1) }}").find("chat template, line 1: 'cycler' is undefined, or a function"), 0u);
  EXPECT_EQ(refused("{{ raise_exception('only users') }}"),
            "chat template, line 1: the template refuses this conversation: only users");
  EXPECT_EQ(refused("{{ ''.__class__.__mro__ }}"), "chat template, line 1: '__class__' is undefined, and '__mro__' is asked of it");
}

// One clear error each, quickly, whatever it is.
TEST(ChatTemplate, HostileTemplatesEnd) {
  const auto deep = [](const std::string& open, const std::string& middle, const std::string& close) {
    std::string text;
    for (int i = 0; i < 100000; ++i) text += open;
    text += middle;
    for (int i = 0; i < 100000; ++i) text += close;
    return text;
  };
  std::string chain = "{{ a";
  for (int i = 0; i < 200000; ++i) chain += " + 1";
  for (const std::string& source :
       {deep("{% if true %}", "", "{% endif %}"), "{{ " + deep("(", "1", ")") + " }}", "{{ " + deep("[", "1", "]") + " }}",
        "{{ " + deep("not ", "1", "") + " }}", "{{ " + deep("-", "1", "") + " }}", "{{ a" + deep(".b", "", "") + " }}", chain + " }}",
        "{{ 1" + deep(" if 1 else 1", "", "") + " }}", "{% if 1 %}" + deep("{% elif 1 %}", "", "") + "{% endif %}",
        std::string("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"),
        std::string("{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(100000) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"),
        std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), std::string("{{ range(1000000000) }}"),
        std::string("{{ 'aaaaaaaaaa' * 1000000000 }}"), std::string("{% set x = 'a' * 1000000 %}{{ x.replace('a', x) }}"),
        std::string("{{ 9223372036854775807 + 1 }}"), std::string("{{ 99999999999999999999 }}"), std::string("{{ 1 // 0 }}"),
        std::string("{{ 'x"), std::string("{% if %}"), std::string("{% for x in %}"), std::string("{{"), std::string("{#"),
        std::string("{% set a.b = 1 %}"), std::string("{% break %}"), std::string("{{ messages['x'].y }}")}) {
    const auto text = Write(source);
    EXPECT_FALSE(text.ok()) << source.substr(0, 60);
    EXPECT_EQ(text.status().message().find("chat template, line "), 0u) << text.status();
    EXPECT_LT(text.status().message().size(), 300u);
  }
}

TEST(ChatTemplate, OfTokenizerConfig) {
  EXPECT_EQ(*TemplateOfConfig(R"({"chat_template": "a"})"), "a");
  EXPECT_EQ(*TemplateOfConfig(R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})"), "d");
  EXPECT_EQ(*TemplateOfConfig("{}"), "");
  EXPECT_EQ(*TemplateOfConfig(""), "");
  EXPECT_FALSE(TemplateOfConfig("[").ok());
  EXPECT_EQ(*SymbolOfConfig(R"({"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>"})", "bos_token"), "<s>");
  EXPECT_EQ(*SymbolOfConfig(R"({"bos_token": null, "eos_token": "</s>"})", "eos_token"), "</s>");
  EXPECT_EQ(*SymbolOfConfig(R"({"bos_token": null})", "bos_token"), "");
}

}  // namespace
}  // namespace trefoil
