import { getApiKey } from "./key";

/** The server's answer was an error; `message` is its own sentence. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string | null;
  readonly retryAfter: number | null;

  constructor(status: number, message: string, code: string | null, retryAfter: number | null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** No answer came at all: the server is down, or the network is. */
export class OfflineError extends Error {
  constructor() {
    super("The server cannot be reached.");
    this.name = "OfflineError";
  }
}

let heard: () => void = () => {};

/** Calls `listener` whenever the server could not be reached, or a connection to it broke. */
export function onUnreachable(listener: () => void): void {
  heard = listener;
}

export function noteUnreachable(): void {
  heard();
}

async function toError(response: Response): Promise<ApiError> {
  const retry = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  let message = `The server answered ${response.status}.`;
  let code: string | null = null;
  try {
    const { error } = (await response.json()) as { error?: { message?: string; code?: string } };
    message = error?.message || message;
    code = error?.code ?? null;
  } catch {
    // Not our error form (a proxy's page, say): the status has to do.
  }
  return new ApiError(response.status, message, code, Number.isNaN(retry) ? null : retry);
}

/** Calls the server, with the API key when there is one; anything but 2xx is thrown. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const key = getApiKey();
  if (key && !headers.has("Authorization")) headers.set("Authorization", `Bearer ${key}`);
  // A form says itself what it is, with the mark that parts its fields.
  const typed = headers.has("Content-Type") || init.body instanceof FormData;
  if (init.body && !typed) headers.set("Content-Type", "application/json");
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (reason) {
    if (init.signal?.aborted) throw reason;
    noteUnreachable();
    throw new OfflineError();
  }
  if (!response.ok) throw await toError(response);
  return response;
}

/** Like {@link request}, and reads the JSON of the answer (undefined when it is empty). */
export async function requestJson<T>(path: string, init: RequestInit = {}): Promise<T> {
  const text = await (await request(path, init)).text();
  return (text ? JSON.parse(text) : undefined) as T;
}
