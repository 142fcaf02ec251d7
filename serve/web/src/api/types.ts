/** What the server sends and takes; names as they are on the wire. */

export type Role = "system" | "user" | "assistant";

export interface Health {
  status: "ok" | "loading" | "down";
  version?: string;
  model?: {
    id: string;
    parameters: number;
    context_length: number;
    device: string;
    dtype: string;
    /** What the engine lacks on its machine, such as compiled kernels. */
    notes?: string[];
  };
  search?: { enabled: boolean; provider: string | null };
}

/** One served checkpoint; `resonance` is its card, of which any part may be missing. */
export interface Model {
  id: string;
  created?: number;
  resonance?: ModelCard;
}

export interface ModelCard {
  template?: string;
  base?: string | null;
  data?: unknown;
  steps?: number | null;
  tokens_seen?: number | null;
  parameters?: number | null;
  context_length?: number | null;
  scores?: Record<string, unknown> | null;
  /** Kinds of tasks that it was scored on, best first. */
  families?: string[];
  /** The run's name, where the model's id is an alias of it. */
  checkpoint?: string;
  /** What the server samples with where a request says nothing. */
  sampling?: {
    max_new_tokens: number;
    temperature: number;
    top_k: number;
    top_p: number;
    min_p: number;
    repetition_penalty: number;
  };
  /** Where the run that made it is kept; null for a base model. */
  run?: { folder: string; url: string | null } | null;
  [more: string]: unknown;
}

export interface Source {
  id: number | string;
  title: string;
  url: string;
  site?: string;
  passage?: string;
  score?: number;
}

export interface Sources {
  query: string;
  provider?: string;
  sources: Source[];
  /** Why there was a search. */
  reason?: string | null;
  /** A sentence for the reader when the search did not go as it should. */
  note?: string | null;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Messages that no longer fit into the context window. */
  messages_dropped?: number | null;
}

export interface TokenAlternative {
  token: string;
  logprob: number;
  bytes?: number[];
}

export interface TokenLogprob extends TokenAlternative {
  top_logprobs: TokenAlternative[];
  /** It was not drawn: the answer was given it to begin with. */
  given?: boolean;
}

/** What the model reads for a chat request. */
export interface RenderedPrompt {
  text: string;
  tokens: { id: number; text: string }[];
  prompt_tokens: number;
  messages_kept: number;
  messages_dropped: number;
  context_length: number;
}

export interface Feedback {
  rating: 1 | -1;
  comment?: string | null;
  correction?: string | null;
}

export interface ConversationSummary {
  id: string;
  title: string | null;
  created_at: string;
  updated_at: string;
  message_count: number;
  pinned?: boolean;
  archived?: boolean;
  folder?: string | null;
}

export interface Folder {
  name: string;
  conversation_count: number;
}

/** The passage that a search found. */
export interface Snippet {
  message_id: string;
  role: Role;
  before: string;
  hit: string;
  after: string;
}

export interface ListedConversation extends ConversationSummary {
  /** Null where the words are in the title alone. */
  snippet?: Snippet | null;
}

export interface ConversationPage {
  data: ListedConversation[];
  has_more: boolean;
}

export interface StoredMessage {
  id: string;
  parent_id: string | null;
  role: Role;
  content: string;
  created_at: string;
  model?: string | null;
  finish_reason?: string | null;
  sources?: Sources | null;
  usage?: Usage | null;
  timing?: StoredTiming | null;
  feedback?: Feedback | null;
}

/** How fast an answer was written, as the server saw it. */
export interface StoredTiming {
  first_token_s: number;
  tokens_per_s?: number | null;
}

export interface Conversation extends ConversationSummary {
  messages: StoredMessage[];
  /** The answer that is being written, here or in another tab. */
  answering?: string | null;
}

export interface ResponseFormat {
  type: "json_object" | "json_schema";
  json_schema?: { name: string; schema: object };
}

export interface ChatRequest {
  model?: string;
  messages: { role: Role; content: string }[];
  session_id?: string;
  parent_id?: string | null;
  /** Absent: the server decides. */
  search?: boolean | { query: string };
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  repetition_penalty?: number;
  max_tokens?: number;
  seed?: number;
  stop?: readonly string[];
  response_format?: ResponseFormat;
  logprobs?: boolean;
  top_logprobs?: number;
  stream_options?: { include_usage: boolean };
}
