import type { ChatRequest } from "@/api/types";

/**
 * A request as a curl command line. `keyed`: the server asks for a key, which the command takes from
 * the environment, so that it is in no clipboard.
 */
export function asCurl(origin: string, body: ChatRequest, keyed: boolean): string {
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return [
    `curl -N ${origin}/v1/chat/stream \\`,
    ...(keyed ? ['  -H "Authorization: Bearer $RESONANCE_API_KEY" \\'] : []),
    "  -H 'Content-Type: application/json' \\",
    `  -d '${quoted}'`,
  ].join("\n");
}

/** A JSON value as Python writes it: what differs are three words, outside of texts. */
function pythonOf(value: unknown): string {
  const words: Record<string, string> = { true: "True", false: "False", null: "None" };
  return JSON.stringify(value).replace(
    /"(?:[^"\\]|\\.)*"|true|false|null/g,
    (part) => words[part] ?? part,
  );
}

/** A request with the `openai` package; what only this server knows goes into `extra_body`. */
export function asPython(origin: string, body: ChatRequest, keyed: boolean): string {
  const { messages, model, temperature, top_p, max_tokens, seed, stop, response_format } = body;
  const { top_k, min_p, repetition_penalty, search, search_sources } = body;
  const given = { temperature, top_p, max_tokens, seed, stop, response_format };
  const options = Object.entries(given)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `    ${name}=${pythonOf(value)},`);
  const key = keyed ? 'os.environ["RESONANCE_API_KEY"]' : '"none"';
  const extra = pythonOf({ top_k, min_p, repetition_penalty, search, search_sources });
  return [
    ...(keyed ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${origin}/v1", api_key=${key})`,
    "stream = client.chat.completions.create(",
    `    model=${JSON.stringify(model ?? "default")},`,
    `    messages=${JSON.stringify(messages)},`,
    ...options,
    `    extra_body=${extra},`,
    "    stream=True,",
    ")",
    "for chunk in stream:",
    '    print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ].join("\n");
}
