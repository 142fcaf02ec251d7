"""Functions that a model may call: how their signatures, calls and results are written in a prompt, and read again.

The form is that of Hermes and Qwen (NousResearch's "Hermes function calling"): a call is the JSON of a name and
arguments between `<tool_call>` and `</tool_call>`. This module knows texts and grammars, not roles or tokens.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resonance.errors import ResonanceError

CALL_START, CALL_END = "<tool_call>", "</tool_call>"
RESULT_START, RESULT_END = "<tool_response>\n", "\n</tool_response>"
TOOLS_START = (
    "# Tools\n\nYou may call functions to help the user. Each line between <tools> and </tools> describes one in JSON:"
    "\n<tools>\n"
)
TOOLS_END = (
    "</tools>\n\nFor each call, write the function's name and its arguments as JSON between <tool_call> and "
    '</tool_call>:\n<tool_call>\n{"name": NAME, "arguments": OBJECT}\n</tool_call>'
)
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
NO_PARAMETERS: Mapping[str, object] = {"type": "object", "properties": {}, "additionalProperties": False}
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # as json.dumps writes

_CALL = r'<tool_call>\n\{"name": "([A-Za-z0-9_-]{1,64})", "arguments": ((?:(?!\}\n</tool_call>).)*)\}\n</tool_call>'
_ONE_CALL = re.compile(_CALL, re.DOTALL)
_CALLS = re.compile(rf"(?:(?:\A|\n){_CALL})+\Z", re.DOTALL)
_CALL_HEAD = re.compile(r'\s*\{"name": "([^"]*)", "arguments": ')


class ToolError(ResonanceError):
    """A function or a call that cannot be written in a prompt."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function; `arguments` is the text of a JSON object, kept as it was written."""

    name: str
    arguments: str = "{}"

    def __post_init__(self) -> None:
        check_name(self.name)

    def text(self) -> str:
        """The call as an assistant writes it."""
        return f'{CALL_START}\n{{"name": "{self.name}", "arguments": {self.arguments}}}\n{CALL_END}'


def check_name(name: str) -> None:
    """Raise ToolError for what is no function's name."""
    if not TOOL_NAME.fullmatch(name):
        raise ToolError(f"A function's name has 1 to 64 letters, digits, '_' and '-', unlike {name[:80]!r}.")


def tool_json(tool: Mapping[str, object]) -> str:
    """The line of a prompt that describes a function.

    `tool` is the function's `name`, `description` and `parameters` (a JSON schema), or OpenAI's object around them,
    whose `function` holds them. Raises ToolError for a function without a valid name.
    """
    inner = tool.get("function", tool)
    function: Mapping[str, object] = inner if isinstance(inner, Mapping) else {}
    check_name(str(function.get("name", "")))
    return json.dumps(function, ensure_ascii=False)


def with_tools(system: str, tools: Sequence[str]) -> str:
    """A system prompt followed by the functions that the assistant may call, each as `tool_json` writes it."""
    if not tools:
        return system
    lines = "".join(tool + "\n" for tool in tools)
    return f"{system}\n\n{TOOLS_START}{lines}{TOOLS_END}" if system else f"{TOOLS_START}{lines}{TOOLS_END}"


def split_tools(text: str) -> tuple[str, tuple[str, ...]]:
    """The system prompt and the functions of a text that `with_tools` wrote."""
    system, start, rest = text.rpartition(TOOLS_START)
    lines = rest.removesuffix(TOOLS_END)
    if not start or lines == rest or not lines.endswith("\n") or (system and not system.endswith("\n\n")):
        return text, ()
    return system.removesuffix("\n\n"), tuple(lines[:-1].split("\n"))


def with_calls(content: str, calls: Sequence[ToolCall]) -> str:
    """An assistant's text followed by its calls, each on lines of its own."""
    return "\n".join([*([content] if content or not calls else []), *(call.text() for call in calls)])


def split_calls(text: str) -> tuple[str, tuple[ToolCall, ...]]:
    """The content and the calls of a text that `with_calls` wrote."""
    found = _CALLS.search(text) if text.endswith(CALL_END) else None
    if found is None:
        return text, ()
    calls = tuple(ToolCall(name, arguments) for name, arguments in _ONE_CALL.findall(text, found.start()))
    return text[: found.start()], calls


def call_grammar(
    tools: Sequence[str], *, required: bool, several: bool, answer_schema: Mapping[str, object] | None = None
) -> str:
    """The grammar, in llguidance's variant of Lark, of an assistant's text that may call these functions.

    Arguments are JSON of the function's schema. Without `required` the text may also be an answer: any text, with or
    without calls after it, or JSON of `answer_schema`. With `several` more calls may follow the first.
    """
    functions = [json.loads(tool) for tool in tools]
    calls = " | ".join(f"call_{i}" for i in range(len(tools)))
    more = f'("\\n{CALL_START}" body)*' if several else ""
    rules = [f"called: start_of_call body {more}", f'body: "\\n" ({calls}) "\\n{CALL_END}"']
    if required or answer_schema is not None:
        rules.append(f'start_of_call: "{CALL_START}"')
    else:
        rules += [f'start_of_call[lazy]: TEXT "{CALL_START}"', "TEXT: /(.|\\n)*/"]
    if required:
        rules.append("start: called")
    elif answer_schema is not None:
        rules += ["start: answer | called", f"answer: %json {json.dumps(dict(answer_schema))}"]
    else:
        rules.append("start: TEXT | called")
    for i, function in enumerate(functions):
        schema = {"type": "object"} | dict(function.get("parameters") or NO_PARAMETERS) | {"x-guidance": SPACING}
        head = json.dumps(f'{{"name": "{function["name"]}", "arguments": ')
        rules.append(f'call_{i}: {head} %json {json.dumps(schema)} "}}"')
    return "%llguidance {}\n" + "\n".join(rules) + "\n"


@dataclass(frozen=True, slots=True)
class CallPiece:
    """The next piece of a call: its name first, then its arguments in parts. `index` counts the text's calls."""

    index: int
    name: str | None
    arguments: str


class ToolCallParser:
    """Splits a text of `call_grammar` into its content and its calls, as it comes."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._arguments: list[list[str]] = []
        self._buffer = ""
        self._state = "text"  # then head -> arguments -> tail, again for each call
        self._depth, self._in_string, self._escaped = 0, False, False

    @property
    def calls(self) -> list[ToolCall]:
        """The calls so far; the last one's arguments may be incomplete."""
        return [ToolCall(name, "".join(parts)) for name, parts in zip(self.names, self._arguments, strict=True)]

    def feed(self, text: str) -> tuple[str, list[CallPiece]]:
        """Add text; return the content and the pieces of calls that are known by now."""
        self._buffer += text
        content, pieces = "", list[CallPiece]()
        while True:
            state, size = self._state, len(self._buffer)
            if state == "text":
                content += self._read_content()
            elif state == "head":
                self._read_head(pieces)
            elif state == "arguments":
                self._read_arguments(pieces)
            else:
                self._find_next_call()
            if (self._state, len(self._buffer)) == (state, size):
                return content, pieces

    def finish(self) -> str:
        """End the text; return the rest of its content."""
        rest, self._buffer = (self._buffer if self._state == "text" else ""), ""
        return rest

    def _read_content(self) -> str:
        content, start, rest = self._buffer.partition(CALL_START)
        if start:
            self._state, self._buffer = "head", rest
            return content.removesuffix("\n")
        begun = "\n" + CALL_START  # keep back what may be the beginning of a call
        kept = next((k for k in range(len(begun), 0, -1) if content.endswith((begun[:k], CALL_START[:k]))), 0)
        self._buffer = content[len(content) - kept :]
        return content[: len(content) - kept]

    def _read_head(self, pieces: list[CallPiece]) -> None:
        head = _CALL_HEAD.match(self._buffer)
        if head is not None:
            self._state, self._buffer = "arguments", self._buffer[head.end() :]
            pieces.append(CallPiece(len(self.names), head[1], ""))
            self.names.append(head[1])
            self._arguments.append([])

    def _read_arguments(self, pieces: list[CallPiece]) -> None:
        end = next((i + 1 for i, character in enumerate(self._buffer) if self._closes(character)), None)
        arguments = self._buffer[:end]
        if arguments:
            self._arguments[-1].append(arguments)
            pieces.append(CallPiece(len(self.names) - 1, None, arguments))
        self._buffer = "" if end is None else self._buffer[end:]
        self._state = self._state if end is None else "tail"

    def _closes(self, character: str) -> bool:
        """Advance by a character of the arguments; return whether it ends them."""
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth == 0
        return False

    def _find_next_call(self) -> None:
        _, start, rest = self._buffer.partition(CALL_START)
        if start:
            self._state, self._buffer = "head", rest
