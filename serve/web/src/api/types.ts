/**
 * What the server sends and takes, by the API's own OpenAPI document: `npm run types` makes
 * `schema.d.ts` of it, and a test holds that to be fresh. Only what the page adds stands here.
 */
import type { components } from "./schema";

type Schemas = components["schemas"];

/** Some of a type's fields need not be there. */
type Loose<T, Fields extends keyof T> = Omit<T, Fields> & Partial<Pick<T, Fields>>;

export type Role = Schemas["StoredMessage"]["role"];

/** A server that does not answer is "down", and says nothing else. */
export type Health = Loose<
  Schemas["Health"],
  "version" | "model" | "search" | "limits" | "uptime_s"
>;

/** One served checkpoint; `resonance` is its card, of which any part may be missing. */
export type Model = Loose<
  Omit<Schemas["Model"], "resonance">,
  "created" | "object" | "owned_by"
> & {
  resonance?: ModelCard;
};

export type ModelCard = Partial<Schemas["ModelCard"]>;

export type Source = Schemas["Source"];
export type Sources = Loose<
  Pick<
    Schemas["Sources"],
    "query" | "provider" | "sources" | "reason" | "why" | "note" | "problem"
  >,
  "provider"
>;

/** Where the sources of a conversation's answers may come from. */
export type SourceChoice = NonNullable<Schemas["ChatRequest"]["search_sources"]>;

/** Why there was a search or none, and what went wrong with one, as codes. */
export type SearchReason = Schemas["SearchReason"];
export type SearchProblem = Schemas["SearchProblem"];

export type Usage = Pick<
  Schemas["Usage"],
  "prompt_tokens" | "completion_tokens" | "total_tokens"
> & {
  /** Messages that no longer fit into the context window. */
  messages_dropped?: number | null;
};

/** What the reader wrote has no bytes of its own. */
export type TokenAlternative = Loose<Schemas["Alternative"], "bytes">;

export type TokenLogprob = TokenAlternative & {
  top_logprobs: TokenAlternative[];
  /** It was not drawn: the answer was given it to begin with. */
  given?: boolean;
};

/** What the model reads for a chat request. */
export type RenderedPrompt = Omit<Schemas["RenderedPrompt"], "token_ids" | "sources">;

export type Feedback = Schemas["Feedback"];
export type Folder = Schemas["Folder"];

/** The passage that a search found. */
export type Snippet = Schemas["Snippet"];

/** Of a conversation that is in this browser alone, less is known. */
export type ListedConversation = Loose<
  Schemas["ListedConversation"],
  "pinned" | "archived" | "folder"
>;
export type ConversationPage = Pick<Schemas["ConversationPage"], "has_more"> & {
  data: ListedConversation[];
};

export type StoredMessage = Omit<
  Schemas["StoredMessage"],
  "sources" | "usage" | "tool_calls" | "tool_call_id"
> & {
  sources?: Sources | null;
  usage?: Usage | null;
};

/** How fast an answer was written, as the server saw it. */
export type StoredTiming = Schemas["Timing"];

export type Conversation = Loose<
  Omit<Schemas["OpenConversation"], "messages" | "title">,
  "pinned" | "archived" | "folder"
> & {
  title: string | null;
  messages: StoredMessage[];
};

export interface ResponseFormat {
  type: "json_object" | "json_schema";
  json_schema?: { name: string; schema: object };
}

/** The part of the API's request that the page sends. */
export type ChatRequest = Partial<
  Pick<
    { [Name in keyof Schemas["ChatRequest"]]: NonNullable<Schemas["ChatRequest"][Name]> },
    | "model"
    | "session_id"
    | "temperature"
    | "top_p"
    | "top_k"
    | "min_p"
    | "repetition_penalty"
    | "max_tokens"
    | "seed"
    | "search_sources"
    | "logprobs"
    | "top_logprobs"
    | "stream_options"
  >
> & {
  messages: { role: Role; content: string }[];
  /** Absent: the server decides. */
  search?: boolean | Partial<Extract<Schemas["ChatRequest"]["search"], object>>;
  parent_id?: string | null;
  stop?: readonly string[];
  response_format?: ResponseFormat;
};
