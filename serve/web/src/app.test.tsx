// @vitest-environment jsdom
import { QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, waitFor, within } from "@testing-library/react";
import userEvent, { type UserEvent } from "@testing-library/user-event";
import axe from "axe-core";
import { Toaster } from "sonner";
import { beforeEach, expect, test, vi } from "vitest";
import { fakeServer, health } from "../tests/fake-server";
import { queryClient } from "./api/queries";
import type { Health } from "./api/types";
import { App } from "./app";
import { useChat } from "./chat/store";
import { TooltipProvider } from "./components/ui/tooltip";
import { page } from "./lib/page";
import { openPromptView, useUi } from "./lib/ui-store";
import { useSettings } from "./settings/store";

function open(address: string, server = fakeServer()) {
  vi.stubGlobal("fetch", server.respond);
  window.history.replaceState(null, "", address);
  render(
    <QueryClientProvider client={queryClient}>
      <TooltipProvider>
        <App />
        <Toaster />
      </TooltipProvider>
    </QueryClientProvider>,
  );
  return server;
}

async function expectNoViolations() {
  const { violations } = await axe.run(document.body, {
    resultTypes: ["violations"],
    // Colours need a real browser; the end-to-end tests look at them.
    rules: { "color-contrast": { enabled: false } },
  });
  expect(violations.map(({ id, nodes }) => [id, nodes[0]?.html])).toEqual([]);
}

beforeEach(() => {
  queryClient.clear();
  useChat.setState({ threads: {}, live: {} });
  useUi.setState({ panel: null });
  useSettings.setState(useSettings.getInitialState());
  localStorage.clear();
});

/** Clicks Undo, and waits until the toast is gone: a toast that is left would show up in the next test. */
async function undo(user: UserEvent) {
  await user.click(await screen.findByRole("button", { name: "Undo" }));
  await waitFor(() => expect(screen.queryByRole("button", { name: "Undo" })).toBeNull());
}

const box = () => screen.getByRole("textbox", { name: "Message" });

test("a message is sent with Enter, its answer streams into the log, and the address names it", async () => {
  const user = userEvent.setup();
  const server = open("/", fakeServer({ answer: ["The capital ", "is **Paris**."] }));
  await screen.findByRole("link", { name: "Capitals" });
  await user.type(box(), "What is the capital?{Enter}");
  const log = await screen.findByRole("log");
  await within(log).findByText("Paris");
  const roles = within(log).getAllByRole("article");
  expect(roles.map((article) => article.dataset.role)).toEqual(["user", "assistant"]);
  const sent = server.sent.find((one) => one.path === "/v1/chat/stream");
  expect(window.location.pathname).toBe(`/c/${sent?.body.session_id}`);
  expect(sent?.body).toMatchObject({
    parent_id: null,
    messages: [{ role: "user", content: "What is the capital?" }],
  });
  await screen.findByRole("button", { name: "Regenerate" });
});

test("regenerating asks for another answer to the question that is stored, and keeps both", async () => {
  const user = userEvent.setup();
  const server = open("/c/first");
  await user.click(await screen.findByRole("button", { name: "Regenerate" }));
  await screen.findByText("2 of 2");
  const sent = server.sent.find((one) => one.path === "/v1/chat/stream");
  expect(sent?.body).toMatchObject({
    session_id: "first",
    parent_id: "m1",
    messages: [{ role: "assistant", content: "" }],
  });
  await user.click(await screen.findByRole("button", { name: "Previous version" }));
  await screen.findByText("Paris");
});

test("a question that follows names the answer that it follows", async () => {
  const user = userEvent.setup();
  const server = open("/c/first");
  await screen.findByText("Paris");
  await user.type(box(), "And of Italy?{Enter}");
  await waitFor(() =>
    expect(server.sent.find((one) => one.path === "/v1/chat/stream")?.body.parent_id).toBe("m2"),
  );
});

test("Edit opens the question, and sending it opens a branch", async () => {
  const user = userEvent.setup();
  const server = open("/c/first");
  await user.click(await screen.findByRole("button", { name: "Edit" }));
  const field = screen.getByRole("textbox", { name: "Edited text" });
  await user.clear(field);
  await user.type(field, "What is the capital of Spain?{Enter}");
  await screen.findByText("Hello!");
  const sent = server.sent.find((one) => one.path === "/v1/chat/stream");
  expect(sent?.body.messages).toEqual([{ role: "user", content: "What is the capital of Spain?" }]);
});

test("an answer that was cut off goes on where it ended, after the question that the server has", async () => {
  const user = userEvent.setup();
  const server = open("/", fakeServer({ answer: ["One,", " two"], finish: "length" }));
  await user.type(box(), "Count{Enter}");
  await user.click(await screen.findByRole("button", { name: "Continue" }));
  await screen.findByText("One, twoOne, two");
  const [, sent] = server.sent.filter((one) => one.path === "/v1/chat/stream");
  expect(sent?.body).toMatchObject({
    parent_id: "q-1",
    messages: [{ role: "assistant", content: "One, two" }],
  });
  expect(screen.getAllByRole("article")).toHaveLength(2);
});

test("a deleted answer comes back with Undo", async () => {
  const user = userEvent.setup();
  const server = open("/c/first");
  await screen.findByText("Paris");
  const [, answer] = screen.getAllByRole("article");
  await user.click(within(answer as HTMLElement).getByRole("button", { name: "More" }));
  await user.click(await screen.findByRole("menuitem", { name: "Delete from here on" }));
  expect(screen.queryByText("Paris")).toBeNull();
  await undo(user);
  await screen.findByText("Paris");
  expect(server.sent.some((one) => one.method === "DELETE")).toBe(false);
});

test("the prompt view tells the template from the message, and says how full the window is", async () => {
  open("/c/first");
  await screen.findByText("Paris");
  openPromptView({ conversation: "first" });
  const panel = await screen.findByRole("dialog", { name: "Prompt" });
  await within(panel).findByText(/^3 of 512 tokens/);
  const added = panel.querySelectorAll(".prompt-token[data-added][title]");
  expect([...added].map((token) => token.textContent)).toEqual(["<|user|>"]);
  await expectNoViolations();
});

test("the thumbs are stored under the server's own id of the message", async () => {
  const user = userEvent.setup();
  const server = open("/c/first");
  await user.click(await screen.findByRole("button", { name: "Good answer" }));
  await waitFor(() =>
    expect(server.sent.find((one) => one.method === "PUT")).toMatchObject({
      path: "/v1/conversations/first/messages/m2/feedback",
      body: { rating: 1 },
    }),
  );
});

test("what is sent while the model loads is held back, and sent when it is ready", async () => {
  const user = userEvent.setup();
  const options = { health: { ...health, status: "loading" as Health["status"] } };
  const server = open("/", fakeServer(options));
  await screen.findByText(/The model is loading/);
  await user.type(box(), "Hello there{Enter}");
  await screen.findByText(/Held back/);
  const asked = () => server.sent.filter((one) => one.path === "/v1/chat/stream");
  expect(asked()).toEqual([]);
  options.health.status = "ok";
  await screen.findByText("Hello!");
  expect(asked().map(({ body }) => body.messages)).toEqual([
    [{ role: "user", content: "Hello there" }],
  ]);
});

test("a message that was held back can be taken back", async () => {
  const user = userEvent.setup();
  open("/", fakeServer({ health: { ...health, status: "down" } }));
  await screen.findByText(/does not answer/);
  await user.type(box(), "Never mind{Enter}");
  await user.click(await screen.findByRole("button", { name: "Do not send" }));
  expect(screen.queryByText(/Held back/)).toBeNull();
  screen.getByRole("button", { name: "Answer" });
});

test("a conversation that does not exist says so and offers a new one", async () => {
  open("/c/nothing-here");
  expect((await screen.findByRole("alert")).textContent).toContain("never stored");
});

test("a server that asks for a key gets it, and then shows what belongs to it", async () => {
  const user = userEvent.setup();
  open("/", fakeServer({ key: "k-1" }));
  const dialog = await screen.findByRole("dialog", { name: "API key" });
  await user.type(within(dialog).getByLabelText("API key"), "k-1{Enter}");
  await screen.findByRole("link", { name: "Capitals" });
});

test("a key that the server refuses is not kept, and the page says so", async () => {
  const user = userEvent.setup();
  open("/", fakeServer({ key: "k-1" }));
  const dialog = await screen.findByRole("dialog", { name: "API key" });
  const field = within(dialog).getByLabelText("API key");
  await user.type(field, "k-2{Enter}");
  expect((await within(dialog).findByRole("alert")).textContent).toContain("does not accept");
  expect(localStorage.getItem("resonance.key")).toBeNull();
  await user.clear(field);
  await user.type(field, "k-1{Enter}");
  await screen.findByRole("link", { name: "Capitals" });
});

test("another key, here or in another tab, leaves nothing of the former owner's in the page", async () => {
  const user = userEvent.setup();
  const loadAnew = vi.spyOn(page, "loadAnew").mockImplementation(() => {});
  localStorage.setItem("resonance.key", "k-0");
  open("/", fakeServer());
  await screen.findByRole("link", { name: "Capitals" });
  useUi.getState().open("key");
  const field = within(await screen.findByRole("dialog", { name: "API key" })).getByLabelText(
    "API key",
  );
  await user.type(field, "{Enter}");
  await waitFor(() => expect(useUi.getState().panel).toBeNull());
  expect(loadAnew).not.toHaveBeenCalled();
  useUi.getState().open("key");
  const again = within(await screen.findByRole("dialog", { name: "API key" })).getByLabelText(
    "API key",
  );
  await user.clear(again);
  await user.type(again, "k-1{Enter}");
  await waitFor(() => expect(loadAnew).toHaveBeenCalledTimes(1));
  expect(localStorage.getItem("resonance.key")).toBe("k-1");
  window.dispatchEvent(new StorageEvent("storage", { key: "resonance.key", newValue: "k-2" }));
  expect(loadAnew).toHaveBeenCalledTimes(2);
  loadAnew.mockRestore();
});

test("the tab is called by what the page shows", async () => {
  open("/c/first");
  await waitFor(() => expect(document.title).toBe("Capitals · Resonance"));
  useUi.getState().open("palette");
  const user = userEvent.setup();
  await user.type(await screen.findByRole("combobox", { name: "Commands" }), "compare{Enter}");
  await waitFor(() => expect(document.title).toBe("Compare · Resonance"));
});

test("a deleted conversation stays off the list when that is loaded anew, and comes back with Undo", async () => {
  const user = userEvent.setup();
  const server = open("/c/first");
  await user.click(await screen.findByRole("button", { name: "Actions for Capitals" }));
  await user.click(await screen.findByRole("menuitem", { name: "Delete" }));
  expect(window.location.pathname).toBe("/");
  await queryClient.invalidateQueries({ queryKey: ["conversations"] });
  expect(screen.queryByRole("link", { name: "Capitals" })).toBeNull();
  await undo(user);
  await screen.findByRole("link", { name: "Capitals" });
  expect(window.location.pathname).toBe("/c/first");
  expect(server.sent.some((one) => one.method === "DELETE")).toBe(false);
});

test("after renaming by keyboard the focus is back on the conversation", async () => {
  const user = userEvent.setup();
  const server = open("/");
  const rename = async () => {
    await user.click(await screen.findByRole("button", { name: "Actions for Capitals" }));
    await user.click(await screen.findByRole("menuitem", { name: "Rename" }));
    await screen.findByRole("textbox", { name: "New title" });
  };
  await rename();
  await user.keyboard("Not this{Escape}");
  expect(document.activeElement).toBe(screen.getByRole("link", { name: "Capitals" }));
  expect(server.sent.some((one) => one.method === "PATCH")).toBe(false);
  await rename();
  await user.keyboard("Cities{Enter}");
  await waitFor(() =>
    expect(server.sent.filter((one) => one.method === "PATCH")).toMatchObject([
      { path: "/v1/conversations/first", body: { title: "Cities" } },
    ]),
  );
});

test("the page speaks German when it is asked to", async () => {
  useSettings.setState({ language: "de" });
  open("/");
  expect(await screen.findByRole("textbox", { name: "Nachricht" })).toBeTruthy();
  expect(document.documentElement.lang).toBe("de");
});

test("Ctrl+K opens the commands, and typing and Enter run one", async () => {
  const user = userEvent.setup();
  open("/");
  await user.keyboard("{Control>}k{/Control}");
  await user.type(await screen.findByRole("combobox", { name: "Commands" }), "compare{Enter}");
  await screen.findByRole("heading", { name: "Compare" });
});

test.each([
  ["a new chat", "/", () => screen.findByRole("heading", { name: "What shall we try?" })],
  ["a conversation", "/c/first", () => screen.findByText("Paris")],
  ["side by side", "/?mode=compare", () => screen.findByRole("heading", { name: "Compare" })],
  ["raw text", "/?mode=complete", () => screen.findByRole("heading", { name: "Raw completion" })],
])("axe finds nothing on the screen of %s", async (_, address, ready) => {
  open(address);
  await screen.findByRole("link", { name: "Capitals" });
  await ready();
  await expectNoViolations();
});

test.each(["settings", "palette", "help", "key"] as const)(
  "axe finds nothing in the panel %s",
  async (panel) => {
    open("/c/first");
    await screen.findByText("Paris");
    useUi.getState().open(panel);
    await screen.findByRole("dialog");
    await expectNoViolations();
  },
);

test("a message that is too long says so once, in the server's figures, and stays there", async () => {
  const user = userEvent.setup();
  const refusal = { message: "Too long.", code: "context_length_exceeded" };
  open("/", fakeServer({ refusal }));
  await user.click(box());
  await user.paste(Array(400).fill("word").join(" "));
  const chip = await screen.findByRole("list", { name: "Pasted texts" });
  within(chip).getByText("1,999 characters");
  await screen.findByText("420 tokens, 384 fit");
  await user.keyboard("{Enter}");
  const alert = await screen.findByRole("alert");
  expect(alert.textContent).toContain("has 420 tokens, and 384 fit beside the 128 kept");
  expect(alert.textContent).toContain("Shorten it by 36 tokens");
  expect(screen.getAllByText(/Shorten it/)).toHaveLength(1);
  await user.click(screen.getByRole("button", { name: "Show all" }));
  screen.getByRole("button", { name: "Show less" });
});

test("a pasted text can be put into the message or removed, and tokens are counted meanwhile", async () => {
  const user = userEvent.setup();
  open("/", fakeServer());
  await user.type(box(), "Sum up");
  await screen.findByText("2 tokens");
  await user.paste("long ".repeat(320));
  await screen.findByText("322 tokens");
  await user.click(screen.getByRole("button", { name: "Put into the message" }));
  expect((box() as HTMLTextAreaElement).value).toMatch(/^Sum up\n\nlong long/);
  await user.clear(box());
  await user.paste("long ".repeat(320));
  await user.click(screen.getByRole("button", { name: "Remove the pasted text" }));
  expect((screen.getByRole("button", { name: "Send" }) as HTMLButtonElement).disabled).toBe(true);
});

test("the server's sampling is shown and not sent until the reader changes it", async () => {
  const user = userEvent.setup();
  const server = open("/c/first");
  await screen.findByText("Paris");
  useUi.getState().open("settings");
  const sheet = await screen.findByRole("dialog");
  const slider = await within(sheet).findByRole("slider", { name: "Temperature" });
  await waitFor(() => expect((slider as HTMLInputElement).value).toBe("0.3"));
  await user.click(within(sheet).getByRole("radio", { name: "Precise" }));
  expect((slider as HTMLInputElement).value).toBe("0");
  within(sheet).getByText(/The server has 0.3/);
  await user.type(within(sheet).getByLabelText("System prompt of this chat"), "Be brief.");
  await user.keyboard("{Escape}");
  await user.type(box(), "And of Italy?{Enter}");
  await waitFor(() =>
    expect(server.sent.find((one) => one.path === "/v1/chat/stream")?.body).toMatchObject({
      temperature: 0,
      messages: [{ role: "system", content: "Be brief." }, { content: "And of Italy?" }],
    }),
  );
  const { body } = server.sent.find((one) => one.path === "/v1/chat/stream") ?? {};
  expect(body).not.toHaveProperty("min_p");
  expect(body).not.toHaveProperty("max_tokens");
});

test("a chat draws on the sources that are chosen for it, from its first question on", async () => {
  const user = userEvent.setup();
  const search = {
    enabled: true,
    provider: "duckduckgo, documents",
    sources: ["web", "documents"],
  };
  const server = open("/c/first", fakeServer({ health: { ...health, search } as Health }));
  const choose = async (button: string, item: RegExp) => {
    await user.click(await screen.findByRole("button", { name: button }));
    await user.click(await screen.findByRole("menuitemradio", { name: item }));
  };
  await screen.findByText("Paris");
  await choose("Search: Auto", /^Web$/);
  await choose("Search: Auto · Web", /^None/);
  await screen.findByRole("button", { name: "Search: None" });
  const changes = server.sent.filter(({ method }) => method === "PATCH");
  expect(changes.map(({ path, body }) => [path, body.search_sources])).toEqual([
    ["/v1/conversations/first", "web"],
    ["/v1/conversations/first", "off"],
  ]);
  await user.click(screen.getAllByRole("button", { name: "New chat" })[0] as HTMLElement);
  await choose("Search: Auto", /^Documents$/);
  await user.type(box(), "What do they say?{Enter}");
  await waitFor(() =>
    expect(server.sent.find((one) => one.path === "/v1/chat/stream")?.body.search_sources).toBe(
      "documents",
    ),
  );
  expect(server.sent.filter(({ method }) => method === "PATCH")).toHaveLength(2);
});

const consentQuestion = { name: "May your conversations help to train the next model?" };

async function judge(user: UserEvent) {
  await user.click(await screen.findByRole("button", { name: "Good answer" }));
}

test("a reader who judges is asked for consent once, until there is an answer", async () => {
  const user = userEvent.setup();
  const server = fakeServer({ consent: null });
  open("/c/first", server);
  await judge(user);
  await screen.findByRole("region", consentQuestion);
  await expectNoViolations();
  cleanup();
  open("/c/first", server);
  const asked = await screen.findByRole("region", consentQuestion);
  await user.click(within(asked).getByRole("button", { name: "No" }));
  await waitFor(() => expect(screen.queryByRole("region", consentQuestion)).toBeNull());
  const { body } = server.sent.findLast(({ method }) => method === "PUT") ?? {};
  expect(body).toEqual({ given: false });
});

test("a reader who puts the question off is not asked again", async () => {
  const user = userEvent.setup();
  const server = fakeServer({ consent: null });
  open("/c/first", server);
  await judge(user);
  const asked = await screen.findByRole("region", consentQuestion);
  await user.click(within(asked).getByRole("button", { name: "Not now" }));
  expect(screen.queryByRole("region", consentQuestion)).toBeNull();
  cleanup();
  open("/c/first", server);
  await judge(user);
  await waitFor(() => expect(server.sent.filter(({ method }) => method === "PUT")).toHaveLength(2));
  expect(screen.queryByRole("region", consentQuestion)).toBeNull();
});
