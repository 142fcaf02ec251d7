import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test, vi } from "vitest";
import { ApiError } from "./client";
import { readEvent, type StreamEvent, streamAnswer } from "./stream";

vi.stubGlobal("localStorage", { getItem: () => "secret" });

let close = () => {};
afterEach(() => close());

type Handler = (request: IncomingMessage, response: ServerResponse, call: number) => void;

async function serve(handler: Handler): Promise<string> {
  let calls = 0;
  const server = createServer((request, response) => {
    calls += 1;
    handler(request, response, calls);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  close = () => {
    server.closeAllConnections();
    server.close();
  };
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/chat/stream`;
}

const chunk = (id: number, content: string) =>
  `id: s:${id}\ndata: ${JSON.stringify({ id: "a", choices: [{ delta: { content } }] })}\n\n`;

async function collect(url: string, signal = new AbortController().signal) {
  const events: StreamEvent[] = [];
  for await (const event of streamAnswer(url, {}, signal)) events.push(event);
  return events;
}

const textOf = (events: StreamEvent[]) =>
  events.map((event) => (event.type === "text" ? event.text : "")).join("");

test("text arrives whole when events and characters are cut anywhere", async () => {
  const url = await serve(async (_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const bytes = Buffer.from(`${chunk(1, "Grüße, ")}${chunk(2, "世界 🌍")}data: [DONE]\n\n`);
    for (const byte of bytes) {
      response.write(Buffer.from([byte]));
      if (byte % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    response.end();
  });
  const events = await collect(url);
  expect(textOf(events)).toBe("Grüße, 世界 🌍");
  expect(events.at(-1)).toEqual({ type: "done" });
});

test("a broken stream is taken up again after its last event", async () => {
  const seen: (string | undefined)[] = [];
  const url = await serve((request, response, call) => {
    seen.push(request.headers["last-event-id"] as string | undefined);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    if (call === 1) {
      response.write(chunk(1, "one "));
      setTimeout(() => response.destroy(), 30);
    } else response.end(`${chunk(2, "two")}data: [DONE]\n\n`);
  });
  const events = await collect(url);
  expect(textOf(events)).toBe("one two");
  expect(seen).toEqual([undefined, "s:1"]);
});

test("a stream that the server no longer keeps ends as lost", async () => {
  const url = await serve((_, response, call) => {
    if (call > 1) {
      response.writeHead(404, { "Content-Type": "application/json" });
      response.end(JSON.stringify({ error: { message: "gone", code: "stream_gone" } }));
      return;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.end(chunk(1, "one"));
  });
  expect((await collect(url)).at(-1)).toEqual({ type: "lost" });
});

test("an error before the stream is the server's own sentence, with its status and wait", async () => {
  const url = await serve((_, response) => {
    response.writeHead(429, { "Content-Type": "application/json", "Retry-After": "3" });
    response.end(JSON.stringify({ error: { message: "Busy.", code: "server_full" } }));
  });
  const error = (await collect(url).catch((reason) => reason)) as ApiError;
  expect(error).toBeInstanceOf(ApiError);
  expect([error.status, error.message, error.retryAfter]).toEqual([429, "Busy.", 3]);
});

test("the API key goes into a header and not into the address", async () => {
  let asked: IncomingMessage | undefined;
  const url = await serve((request, response) => {
    asked = request;
    response.end("data: [DONE]\n\n");
  });
  await collect(url);
  expect(asked?.headers.authorization).toBe("Bearer secret");
  expect(asked?.url).not.toContain("secret");
});

test("aborting closes the connection, which the server sees", async () => {
  const controller = new AbortController();
  let gone: () => void;
  const seenByServer = new Promise<void>((resolve) => {
    gone = resolve;
  });
  const url = await serve((_, response) => {
    response.on("close", () => gone());
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(chunk(1, "one"));
  });
  setTimeout(() => controller.abort(), 50);
  await expect(collect(url, controller.signal)).rejects.toThrow();
  await seenByServer;
});

test("sources, usage, log-probabilities and errors are told apart", () => {
  const sources = { query: "q", sources: [] };
  expect(readEvent({ event: "sources", data: JSON.stringify(sources) })).toEqual([
    { type: "sources", sources },
  ]);
  expect(readEvent({ event: "error", data: '{"error":{"message":"No.","code":"x"}}' })).toEqual([
    { type: "error", message: "No.", code: "x" },
  ]);
  const older = { tokens: [" a"], token_logprobs: [-1], top_logprobs: [{ " b": -2, " a": -1 }] };
  expect(
    readEvent({ data: JSON.stringify({ choices: [{ text: " a", logprobs: older }] }) }),
  ).toEqual([
    {
      type: "text",
      text: " a",
      tokens: [
        {
          token: " a",
          logprob: -1,
          top_logprobs: [
            { token: " a", logprob: -1 },
            { token: " b", logprob: -2 },
          ],
        },
      ],
    },
  ]);
});
