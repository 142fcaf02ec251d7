// OpenAI's client in JavaScript.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { assert, base, LONG, MODEL, QUESTION, run } from "./checks.mjs";

const client = new OpenAI({ baseURL: base, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: QUESTION }];
const Place = z.object({ city: z.string().max(12), warm: z.boolean() });
const parameters = z.toJSONSchema(Place);
const tools = [{ type: "function", function: { name: "weather", parameters } }];

await run({
  async chat() {
    const done = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 8 });
    assert(done.usage.completion_tokens > 0);
  },
  async stream() {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ model: MODEL, messages, max_tokens: 8, stream: true }))
      chunks.push(chunk);
    assert(chunks.at(-1).choices[0].finish_reason);
  },
  async structured() {
    const done = await client.chat.completions.parse({
      model: MODEL,
      messages,
      max_tokens: 60,
      response_format: zodResponseFormat(Place, "place"),
    });
    Place.parse(done.choices[0].message.parsed);
  },
  async tools() {
    const done = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 90, tools, tool_choice: "required" });
    for (const call of done.choices[0].message.tool_calls) Place.parse(JSON.parse(call.function.arguments));
  },
  async embeddings() {
    const done = await client.embeddings.create({ model: MODEL, input: ["One text", "Another"] });
    assert(done.data.every(({ embedding }) => embedding.length === 32));
  },
  async responses() {
    const first = await client.responses.create({ model: MODEL, input: QUESTION, max_output_tokens: 8 });
    const second = await client.responses.create({ model: MODEL, input: "And in Ulm?", max_output_tokens: 8, previous_response_id: first.id });
    assert((await client.responses.retrieve(second.id)).previous_response_id === first.id);
    const parsed = await client.responses.parse({ model: MODEL, input: QUESTION, max_output_tokens: 60, text: { format: zodTextFormat(Place, "place") } });
    Place.parse(parsed.output_parsed);
    const events = [];
    for await (const event of await client.responses.create({ model: MODEL, input: QUESTION, max_output_tokens: 8, stream: true }))
      events.push(event.type);
    assert(events[0] === "response.created" && /^response\.(completed|incomplete)$/.test(events.at(-1)), events.join());
  },
  async too_long() {
    const error = await client.chat.completions.create({ model: MODEL, messages: [{ role: "user", content: LONG }] }).catch((e) => e);
    assert(error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded", String(error));
  },
});
