// @vitest-environment jsdom
import { beforeEach, expect, test, vi } from "vitest";
import { conversation } from "../../tests/fake-server";
import { useChat } from "./store";
import { loadConversation, showConversation } from "./sync";
import { pathOf, type Thread } from "./tree";

const chunk = (more: object) => `data: ${JSON.stringify({ id: "a1", ...more })}\n\n`;
const question = {
  id: "q1",
  parent_id: "m2",
  role: "user" as const,
  content: "And of Italy?",
  created_at: conversation.created_at,
};

beforeEach(() => useChat.setState({ threads: {}, live: {} }));

test("an answer under way elsewhere is shown from its start, with what preceded its first token", async () => {
  const sent: string[] = [];
  vi.stubGlobal("fetch", async (input: RequestInfo | URL) => {
    const path = String(input);
    sent.push(path);
    if (path === "/v1/chat/stream/a1?after=0") {
      return new Response(
        [
          'event: search\ndata: {"searched": false, "reason": "small talk"}\n\n',
          chunk({ parent_id: "q1", prefix: "It is ", choices: [{ delta: { content: "" } }] }),
          chunk({ choices: [{ delta: { content: "Rome." } }] }),
          chunk({
            choices: [],
            usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
            timing: { first_token_s: 0.25, tokens_per_s: 12.5 },
          }),
          "data: [DONE]\n\n",
        ].join(""),
      );
    }
    const answering = sent.length > 1 ? null : "a1";
    const stored = [...conversation.messages, question];
    return Response.json({ ...conversation, messages: stored, answering });
  });
  let seen: Thread | undefined;
  const end = useChat.subscribe((state) => {
    const thread = state.threads.first;
    if (thread?.byId.a1?.status === "done") seen ??= thread;
  });
  showConversation(await loadConversation("first"));
  await vi.waitFor(() => expect(seen).toBeDefined());
  end();
  expect(pathOf(seen as Thread)).toEqual(["m1", "m2", "q1", "a1"]);
  expect(seen?.byId.a1).toMatchObject({
    content: "It is Rome.",
    unsearched: "small talk",
    timing: { firstToken: 0.25, tokensPerSecond: 12.5 },
  });
});

test("an answer whose beginning the server does not have any more is followed from what it has", async () => {
  const sent: string[] = [];
  vi.stubGlobal("fetch", async (input: RequestInfo | URL) => {
    const path = String(input);
    sent.push(path);
    if (path === "/v1/chat/stream/a1?after=0") {
      return Response.json({ error: { message: "Gone.", code: "stream_gone" } }, { status: 404 });
    }
    if (path === "/v1/chat/stream/a1") {
      return new Response(
        `${chunk({ choices: [{ delta: { content: "and on" } }] })}data: [DONE]\n\n`,
      );
    }
    const ended = sent.includes("/v1/chat/stream/a1");
    const whole = {
      ...question,
      id: "a1",
      parent_id: "q1",
      role: "assistant",
      content: "On and on",
    };
    const stored = [...conversation.messages, question, ...(ended ? [whole] : [])];
    return Response.json({ ...conversation, messages: stored, answering: ended ? null : "a1" });
  });
  const seen = new Set<string | undefined>();
  const end = useChat.subscribe((state) => seen.add(state.threads.first?.byId.a1?.content));
  showConversation(await loadConversation("first"));
  await vi.waitFor(() => expect(seen).toContain("On and on"));
  end();
  expect(seen).toContain("… and on");
  expect(pathOf(useChat.getState().threads.first as Thread)).toEqual(["m1", "m2", "q1", "a1"]);
});
