import type { Conversation, Health, RenderedPrompt } from "@/api/types";

export const health: Health = {
  status: "ok",
  version: "0.1.0",
  model: {
    id: "nano",
    checkpoint: "nano",
    parameters: 7e6,
    context_length: 512,
    device: "cpu",
    dtype: "fp32",
    notes: [],
  },
  search: { enabled: true, provider: "documents", sources: ["documents"] },
};

export const conversation: Conversation = {
  id: "first",
  title: "Capitals",
  created_at: new Date().toISOString(),
  updated_at: new Date().toISOString(),
  message_count: 2,
  messages: [
    {
      id: "m1",
      parent_id: null,
      role: "user",
      content: "What is the capital of France?",
      created_at: new Date().toISOString(),
    },
    {
      id: "m2",
      parent_id: "m1",
      role: "assistant",
      content: "The capital of France is **Paris** [1].",
      created_at: new Date().toISOString(),
      finish_reason: "stop",
      usage: { prompt_tokens: 20, completion_tokens: 9, total_tokens: 29 },
      sources: {
        query: "capital of France",
        sources: [{ id: 1, title: "France", url: "https://example.org/", passage: "Paris is…" }],
      },
    },
  ],
};

/** What the page sent: path, method, body. */
export interface Sent {
  path: string;
  method: string;
  body: Record<string, unknown>;
  headers: Headers;
}

/** A server in place of the network; `answer` gives the pieces of every streamed answer. */
export function fakeServer(
  options: {
    answer?: string[];
    finish?: string;
    health?: Health;
    key?: string;
    /** Whether the reader agrees to training; null: they were never asked. */
    consent?: boolean | null;
    refusal?: { message: string; code: string };
  } = {},
) {
  const sent: Sent[] = [];
  let { consent } = options;
  const json = (body: unknown, status = 200) => Response.json(body, { status });
  async function respond(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    const path = String(input);
    const method = init.method ?? "GET";
    const body = typeof init.body === "string" ? JSON.parse(init.body) : {};
    sent.push({ path, method, body, headers: new Headers(init.headers) });
    if (path === "/health") return json(options.health ?? health);
    const key = new Headers(init.headers).get("Authorization")?.replace("Bearer ", "");
    if (options.key && key !== options.key) {
      return json({ error: { message: "An API key is needed.", code: "unauthorized" } }, 401);
    }
    if (path === "/v1/models")
      return json({ object: "list", data: [{ id: "nano", resonance: { sampling } }] });
    if (path === "/v1/folders" || path.startsWith("/v1/files?") || path.includes("pinned=true")) {
      return json({ object: "list", data: [], has_more: false });
    }
    if (path.startsWith("/v1/conversations?")) {
      return json({ object: "list", data: [conversation], has_more: false });
    }
    if (path === "/v1/conversations/first") return json(conversation);
    if (path.startsWith("/v1/votes")) return json({ object: "list", data: [], has_more: false });
    if (path === "/v1/training-consent" && consent !== undefined) {
      if (method === "PUT") consent = body.given;
      const changed_at = consent === null ? null : conversation.created_at;
      return json({ policy: "ask", given: consent ?? false, changed_at });
    }
    if (path.endsWith("/stream")) {
      if (options.refusal) return json({ error: options.refusal }, 400);
      return new Response(events(options.answer ?? ["Hello", "!"], options.finish));
    }
    if (path === "/v1/chat/prompt") return json(prompt);
    if (path === "/v1/chat/tokens") return json(sizeOf(String(body.messages.at(-1).content)));
    if (path.endsWith("/feedback")) return json({});
    return json({ error: { message: "There is no such conversation.", code: "not_found" } }, 404);
  }
  return { sent, respond };
}

const sampling = {
  max_new_tokens: 128,
  temperature: 0.3,
  top_k: 50,
  top_p: 0.9,
  min_p: 0,
  repetition_penalty: 1,
};

/** A window of 512 tokens, of which each word is one. */
function sizeOf(text: string) {
  const own = text.split(/\s+/).length;
  const size = { message_tokens: own, prompt_tokens: own + 20, room: 384, answer_tokens: 128 };
  return { ...size, context_length: 512, fits: own + 20 <= 384 };
}

const prompt: RenderedPrompt = {
  text: "<|user|>What is the capital of France?",
  tokens: [
    { id: 50257, text: "<|user|>" },
    { id: 1, text: "What is the capital of" },
    { id: 2, text: " France?" },
  ],
  prompt_tokens: 3,
  messages_kept: 1,
  messages_dropped: 0,
  context_length: 512,
};

function events(pieces: string[], finish = "stop"): string {
  const chunk = (more: object) =>
    `data: ${JSON.stringify({ id: "chatcmpl-1", parent_id: "q-1", ...more })}\n\n`;
  return [
    ...pieces.map((content) => chunk({ choices: [{ delta: { content } }] })),
    chunk({ choices: [{ delta: {}, finish_reason: finish }] }),
    chunk({
      choices: [],
      usage: { prompt_tokens: 5, completion_tokens: pieces.length, total_tokens: 7 },
    }),
    "data: [DONE]\n\n",
  ].join("");
}
