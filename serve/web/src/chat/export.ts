import { fetchConversation } from "@/api/queries";
import type { Conversation } from "@/api/types";
import { words } from "@/i18n";
import { saveFile } from "@/lib/save-file";
import { threadFromServer } from "./from-server";
import { pathOf } from "./tree";

export const exportFormats = [
  { format: "md", name: "exportMarkdown" },
  { format: "json", name: "exportJson" },
  { format: "html", name: "exportHtml" },
  { format: "jsonl", name: "exportJsonl" },
] as const;

export type ExportFormat = (typeof exportFormats)[number]["format"];

const types: Record<ExportFormat, string> = {
  md: "text/markdown",
  html: "text/html",
  json: "application/json",
  jsonl: "application/jsonl",
};

/** Reads a conversation from the server and saves it as a file. */
export async function exportConversation(id: string, format: ExportFormat): Promise<void> {
  const conversation = await fetchConversation(id);
  const name = (conversation.title || id).replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60);
  const text =
    format === "html" ? await asHtml(conversation) : writeConversation(conversation, format);
  saveFile(`${name}.${format}`, types[format], text);
}

async function asHtml(conversation: Conversation): Promise<string> {
  const { writeHtml } = await import("./export-html");
  const thread = threadFromServer(conversation);
  const shown = pathOf(thread).flatMap((id) => thread.byId[id] ?? []);
  return writeHtml(conversation.title || conversation.id, shown, words().disclaimer);
}

/** The text of an exported file. JSONL is one line of `messages`, as training reads it. */
export function writeConversation(
  conversation: Conversation,
  format: Exclude<ExportFormat, "html">,
): string {
  if (format === "json") return `${JSON.stringify(conversation, null, 2)}\n`;
  const system = conversation.messages.filter((message) => message.role === "system");
  const thread = threadFromServer(conversation);
  const shown = pathOf(thread).flatMap((id) => thread.byId[id] ?? []);
  if (format === "jsonl") {
    const messages = [
      ...system.map(({ role, content }) => ({ role, content })),
      ...shown.map(({ role, content, feedback }) => ({
        role,
        content: feedback?.correction || content,
      })),
    ];
    return `${JSON.stringify({ messages })}\n`;
  }
  const parts = shown.map(
    ({ role, content }) => `## ${role === "user" ? "User" : "Assistant"}\n\n${content}`,
  );
  return `# ${conversation.title || conversation.id}\n\n${parts.join("\n\n")}\n`;
}
