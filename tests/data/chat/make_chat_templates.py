"""Writes chat_templates.json: what Jinja makes of conversations, by transformers' own set-up.

Needs transformers 5.24. The templates are written for the test, each after the manner of a well-known model's.
"""

import json
import sys

from transformers.utils.chat_template_utils import render_jinja_template

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
    "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = "26 Jul 2024" %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message comes first #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate user/assistant") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
"""
QWEN25 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
QWEN3 = """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML = """{% for message in messages %}
  {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' -}}
{% endif %}
"""
# What the language itself does, in small.
LANGUAGE = [
    "{{ 1 + 2 * 3 - 4 // 2 }}|{{ 4 // 2 ~ 5 % 3 }}|{{ -7 // 2 }}|{{ -7 % 3 }}|{{ 2 * 'ab' if false else 'ab' * 3 }}|{{ 1.5 + 1 }}",
    "{% macro tag(name, kind='b', end=none) %}<{{ kind }} {{ name }}{{ end }}>{% endmacro %}{{ tag('x') }}{{ tag('y', 'i', 3) }}{{ tag(kind='k', name='n') }}",
    "{% for k, v in {'a': 1, 'b': [true, none, 2.0]}.items() %}{{ loop.index }}{{ k }}={{ v }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for i in range(8) if i % 2 %}{% if i == 5 %}{% break %}{% endif %}{{ i }}:{{ loop.length }} {% else %}none{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{{ {'a': 'é\"\\n', 'b': [1, 2.5, none, true], 'c': {}} | tojson }}{{ [1, {'x': []}] | tojson(indent=2) }}",
    "{% set x = 1 %}{% for i in range(2) %}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}{% set ns = namespace(n=0) %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
    "{% set text %}  a\n  {% if true %}b{% endif %}\n{% endset %}[{{ text }}]{{ text | trim | length }}",
    "  {%- if true %}\n   x  \n  {%+ if true %}y{% endif %}\n {#- c -#}  z{{ '\\n' }}{% endif -%}  w",
    "{{ 'a,b,,c'.split(',') }}{{ 'a b  c'.split() }}{{ 'a-b-c'.split('-', 1) }}{{ ' x '.strip() }}{{ 'xxaxx'.lstrip('x') }}{{ 'ab'.upper() }}{{ 'Ab'.replace('A', 'c') }}",
    "{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ (messages | rejectattr('role', 'equalto', 'user') | list)[0].content }}",
    "{{ x is defined }}{{ x is not defined }}{{ none is none }}{{ 'a' is string }}{{ {} is mapping }}{{ [] is iterable }}{{ 1 is number }}{{ true is true }}{{ x | default('d') }}{{ '' | default('e', true) }}",
    "{{ 'héllo'[1:3] }}{{ [1,2,3,4][::-1] }}{{ [1,2,3,4][-2:] }}{{ 'abc'[-1] }}{{ [1,2,3] | first }}{{ [1,2,3] | last }}{{ 'abc' | length }}{{ 'é' | length }}",
    "{{ not 1 == 2 and 'b' in 'abc' and 2 not in [1] or x }}{{ 'a' < 'b' }}{{ (1, 2) | list }}{{ [1] + [2] }}{{ {'a': 1}['a'] }}{{ {'a': 1}.get('b', 'c') }}",
    "{% generation %}said{% endgeneration %}{{ \"it's\" ~ 'a \"b\"' ~ '\\\\' }}{{ [\"it's\", 'b'] }}{{ true }}{{ none }}{{ undefined_thing }}",
    "{{ messages[5].role }}{{ 1 }}",
    "{{ raise_exception('no ' + messages[0].role) }}",
    "{{ missing.role }}",
    "{{ 1 + 'a' }}",
    "{%- for message in messages -%}\n{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ message.role }}\n{%- endfor %}",
]

CONVERSATIONS = [
    [("user", "Hello, who are you?")],
    [("system", "  Be brief.  "), ("user", "2 + 2?"), ("assistant", " <think>\nFour.\n</think>\n\n4. "), ("user", "And \"3 + 3\"?\nQuickly; naïve.")],
    [("user", "a"), ("assistant", "b")],
    [("assistant", "first"), ("user", "second")],
]


def main(path):
    cases = []
    templates = [("llama2", LLAMA2), ("llama3", LLAMA3), ("mistral", MISTRAL), ("qwen2.5", QWEN25), ("qwen3", QWEN3),
                 ("smollm2", SMOLLM2), ("chatml", CHATML)]
    templates += [(f"language {i}", text) for i, text in enumerate(LANGUAGE)]
    for name, template in templates:
        for conversation in CONVERSATIONS if not name.startswith("language") else CONVERSATIONS[1:2]:
            for prompt in (True, False) if not name.startswith("language") else (True,):
                messages = [{"role": role, "content": content} for role, content in conversation]
                case = {"name": name, "template": template, "messages": messages, "add_generation_prompt": prompt}
                try:
                    rendered, _ = render_jinja_template(
                        [messages], chat_template=template, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")
                    case["text"] = rendered[0]
                except Exception as error:  # what the template, or Jinja, refuses
                    case["error"] = type(error).__name__
                cases.append(case)
    with open(path, "w") as file:
        json.dump(cases, file, indent=1, ensure_ascii=False)
        file.write("\n")
    print(len(cases), "cases,", sum("error" in case for case in cases), "refused")


if __name__ == "__main__":
    main(sys.argv[1])
