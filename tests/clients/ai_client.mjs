// The AI SDK, with both of its providers for servers like ours.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";
import { assert, base, LONG, MODEL, QUESTION, run } from "./checks.mjs";

const compatible = createOpenAICompatible({ name: "resonance", baseURL: base, apiKey: "none", supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL: base, apiKey: "none" });
const models = { compatible: compatible(MODEL), chat: openai.chat(MODEL) };
const inputSchema = z.object({ city: z.string().max(12), warm: z.boolean() });
const common = { prompt: QUESTION, maxRetries: 0 };

async function each(work) {
  for (const model of Object.values(models)) await work(model);
}

await run({
  chat: () =>
    each(async (model) => {
      const done = await generateText({ model, ...common, maxOutputTokens: 8 });
      assert(done.usage.outputTokens > 0);
    }),
  stream: () =>
    each(async (model) => {
      const done = streamText({ model, ...common, maxOutputTokens: 8 });
      let pieces = 0;
      for await (const _ of done.textStream) pieces++;
      assert(pieces > 0);
    }),
  structured: () =>
    each(async (model) => {
      const done = await generateObject({ model, ...common, schema: inputSchema, maxOutputTokens: 60 });
      inputSchema.parse(done.object);
    }),
  tools: () =>
    each(async (model) => {
      const tools = { weather: tool({ description: "Tells the weather.", inputSchema }) };
      const done = await generateText({ model, ...common, tools, toolChoice: "required", maxOutputTokens: 90 });
      assert(done.toolCalls.length > 0 && done.toolCalls.every((call) => !call.invalid));
    }),
  async embeddings() {
    const done = await embedMany({ model: compatible.embeddingModel(MODEL), values: ["One text", "Another"] });
    assert(done.embeddings.every((embedding) => embedding.length === 32));
  },
  async responses() {
    const model = openai.responses(MODEL);
    const done = await generateText({ model, ...common, maxOutputTokens: 8 });
    assert(done.usage.outputTokens > 0);
    const { object } = await generateObject({ model, ...common, schema: inputSchema, maxOutputTokens: 60 });
    inputSchema.parse(object);
    let pieces = 0;
    for await (const _ of streamText({ model, ...common, maxOutputTokens: 8 }).textStream) pieces++;
    assert(pieces > 0);
  },
  too_long: () =>
    each(async (model) => {
      const error = await generateText({ model, prompt: LONG, maxRetries: 0 }).catch((e) => e);
      assert(APICallError.isInstance(error) && error.responseBody.includes("context_length_exceeded"), String(error));
    }),
});
