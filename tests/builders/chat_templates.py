"""Chat templates: small ones of every behaviour, and those of known models as packages ship them.

No text of a known model's template is here. Tests that need one are skipped if no installed package
has it: `pip install --no-deps trl axolotl` brings most.
"""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.builders.models import CHATML, make_tokenizer

_PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n"
HYBRID = CHATML.replace(
    "{{ m['content'] }}", "{{ m['content'].split('</think>')[-1].lstrip() }}"
).replace(
    _PROMPT,
    _PROMPT + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}",
)
"""As Qwen3: thoughts of earlier turns are dropped, an empty one in the prompt excludes them."""
THINKING = HYBRID.replace("{% endif %}{% endif %}", "{% else %}<think>\n{% endif %}{% endif %}")
"""As Qwen3.5: the prompt begins a thought, unless thoughts are excluded."""
DISTILL = HYBRID.partition(_PROMPT)[0] + _PROMPT + "<think>\n{% endif %}"
"""As DeepSeek's distilled models: the prompt always begins a thought."""
PRESERVING = CHATML.replace(
    "{{ m['content'] }}",
    "{% if m.role == 'assistant' and preserve_thinking %}<think>\n{{ m.reasoning_content or '' }}"
    "\n</think>\n\n{% endif %}{{ m['content'] }}",
).replace(_PROMPT, _PROMPT + "<think>\n")
"""As Qwen3.8: thoughts have a field of their own, and stay if an option says so."""
DATED = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "<|im_start|>system\nToday: {{ date_string }}<|im_end|>\n" + CHATML
)
"""As Llama 3.2: the day's date, unless an option gives one."""
SPACED = (
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}<|im_end|>"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
"""As Mistral: no words before an answer, but a space."""
MOVES_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "{{ m.content }}<|im_end|>{% elif m.role == 'assistant' %}{{ m.content }}</s>{% endif %}"
    "{% endfor %}"
)
"""As Mistral v3: the instructions are always in the last user message."""
CHANNELS = CHATML.replace(
    "{{ m['content'] }}", "{% if m.role == 'assistant' %}final: {% endif %}{{ m['content'] }}"
)
"""As gpt-oss: words before an answer that the policy has to write itself."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A known model's template, and what a run sends it."""

    name: str
    """The models."""
    file: str
    """Within one of `_FOLDERS`."""
    kind: "Kind"
    """Its special tokens."""
    prompt: dict[str, Any] = field(default_factory=dict)
    """The settings, besides `format: chat`."""
    how: str
    """`append`, `whole` or `refused`."""
    why: str = ""
    """A part of the reason why it is not `append`."""

    @property
    def settings(self) -> str:
        """The settings as the page of prompts writes them."""
        if not self.prompt:
            return "none"
        options = self.prompt.get("template_options", {})
        values = {k: v for k, v in self.prompt.items() if k != "template_options"} | options
        words = (f"{k}: {'true' if v is True else v or 'false'}" for k, v in values.items())
        return ", ".join(
            "`system`" if word.startswith("system: ") else f"`{word}`" for word in words
        )

    @property
    def row(self) -> str:
        """The row of the page of prompts."""
        why = self.why.replace("<think>", "`<think>`")
        return f"| {self.name} | {self.settings} | {self.how} | {why} |"

    def read(self) -> str | None:
        """Return the template's text, or None if no installed package ships it."""
        package, folder, name = self.file.split(":")
        found = importlib.util.find_spec(package)
        for place in () if found is None else found.submodule_search_locations or ():
            file = Path(place) / folder / name
            if file.is_file():
                return file.read_text()
        return None

    def tokenizer(self, template: str) -> Any:
        """Return a small tokenizer with the special tokens of the model."""
        tokenizer = make_tokenizer(chat_template=template)
        kind = self.kind
        tokens = [kind.bos, *kind.tokens, kind.end, kind.eos]
        tokenizer.add_special_tokens(
            {
                "bos_token": kind.bos,
                "eos_token": kind.eos,
                "additional_special_tokens": [*dict.fromkeys(tokens)],
            }
        )
        return tokenizer


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The special tokens of models of one maker, and where a package has their templates."""

    files: str
    """With a place for the file's name."""
    tokens: tuple[str, ...]
    """Those that templates write, besides the following."""
    bos: str = "<s>"
    """The tokenizer's begin token."""
    eos: str
    """The tokenizer's end token."""
    end: str
    """The token after an answer."""

    def __call__(self, name: str, file: str, how: str, why: str = "", **prompt: Any) -> Family:
        """Return a model with this kind's tokens."""
        path = self.files.format(file)
        return Family(name=name, file=path, kind=self, how=how, why=why, prompt=prompt)


_TRL = "trl:chat_templates:{}.jinja"
_VLLM = "vllm:transformers_utils/chat_templates:{}.jinja"
_AXOLOTL = "axolotl:utils/chat_templates/templates:{}.jinja"
_SYSTEM: dict[str, Any] = {"system": "Answer with one command."}
_THOUGHTS = ("<think>", "</think>")
_qwen = Kind(
    files=_TRL,
    tokens=(*_THOUGHTS, "<|im_start|>"),
    end="<|im_end|>",
    eos="<|im_end|>",
)
_llama = Kind(
    files=_TRL,
    tokens=("<|start_header_id|>", "<|end_header_id|>"),
    bos="<|begin_of_text|>",
    end="<|eot_id|>",
    eos="<|eot_id|>",
)
_gemma = Kind(
    files=_TRL, tokens=("<start_of_turn>",), bos="<bos>", end="<end_of_turn>", eos="<eos>"
)
_mistral = Kind(files=_AXOLOTL, tokens=("[INST]", "[/INST]"), end="</s>", eos="</s>")
_deepseek = Kind(
    files=_TRL,
    tokens=(*_THOUGHTS, "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"),
    bos="<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    end="<\uff5cend\u2581of\u2581sentence\uff5c>",
    eos="<\uff5cend\u2581of\u2581sentence\uff5c>",
)
_plain_chatml = Kind(files=_VLLM, tokens=("<|im_start|>",), end="<|im_end|>", eos="</s>")
_NO_THOUGHTS: dict[str, Any] = {"template_options": {"enable_thinking": False}}
_KEPT: dict[str, Any] = {"template_options": {"preserve_thinking": True}}
_DATE: dict[str, Any] = {"template_options": {"date_string": "26 Jul 2024"}}
_CLOCK: dict[str, Any] = {"template_options": {"strftime_now": "2024-07-26"}}
_DROPS = "drops the thoughts of earlier turns"
_BEGINS = "begins each answer with <think>"
_DATES = "writes the date of today"

FAMILIES = (
    _qwen("Qwen2.5", "qwen2_5", "append", **_SYSTEM),
    _qwen("Qwen2.5", "qwen2_5", "append", think=True),
    _qwen("Qwen3", "qwen3", "append"),
    _qwen("Qwen3", "qwen3", "append", **_NO_THOUGHTS),
    _qwen("Qwen3", "qwen3", "whole", _DROPS, think=True),
    _qwen("Qwen3 Instruct 2507", "qwen3_instruct_2507", "append", think=True),
    _qwen("Qwen3.5", "qwen3_5_think", "refused", _BEGINS),
    _qwen("Qwen3.5", "qwen3_5_think", "append", **_NO_THOUGHTS),
    _qwen("Qwen3.5", "qwen3_5_think", "whole", _DROPS, think=True),
    _qwen("Qwen3.6", "qwen3_6", "append", think=True, **_KEPT),
    _qwen("Qwen3.8", "qwen3_8", "append", think=True),
    _qwen("Qwen3.8", "qwen3_8", "append", **_NO_THOUGHTS),
    _qwen("Qwen3 with TRL's template", "qwen3_training", "append", think=True),
    _llama("Llama 3", "llama3", "append"),
    _llama("Llama 3.1", "llama3_1", "append"),
    _llama("Llama 3.2", "llama3_2", "refused", _DATES),
    _llama("Llama 3.2", "llama3_2", "append", **_DATE),
    _gemma("Gemma, Gemma 2", "gemma", "append"),
    _gemma("Gemma, Gemma 2", "gemma", "refused", "System role not supported", **_SYSTEM),
    _gemma("Gemma 3", "gemma3", "append", **_SYSTEM),
    _mistral("Mistral v1", "mistral_v1", "append", **_SYSTEM),
    _mistral("Mistral v3", "mistral_v2v3", "append"),
    _mistral("Mistral v3", "mistral_v2v3", "whole", "rewrites the past", **_SYSTEM),
    _mistral("Mistral Small 3", "mistral_v7_tekken", "refused", _DATES),
    _mistral("Mistral Small 3", "mistral_v7_tekken", "append", **_CLOCK),
    _mistral("Mistral Small 3", "mistral_v7_tekken", "append", **_SYSTEM),
    _deepseek("DeepSeek-R1 distills", "deepseek_r1_distill", "refused", _BEGINS),
    _deepseek("DeepSeek-R1 distills", "deepseek_r1_distill", "whole", _DROPS, think=True),
    _deepseek(
        "DeepSeek-R1 distills with TRL's template",
        "deepseek_r1_distill_training",
        "append",
        think=True,
    ),
    _plain_chatml("ChatML", "template_chatml", "append", **_SYSTEM),
)
"""What people bring. SmolLM2's template writes ChatML, with a system message of its own."""
