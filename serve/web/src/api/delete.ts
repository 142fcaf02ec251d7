import { ApiError, request } from "./client";

/** How long something is waited for that the server is still writing to, and the longest wait between two tries (ms). */
const PATIENCE = 120_000;
const LONGEST_WAIT = 2_000;

/**
 * Deletes what may be written to for a while yet: an answer that was stopped a moment ago, or one
 * that comes after. What is gone already counts as deleted; a page that is being left tries once.
 */
export async function deletePatiently(path: string): Promise<void> {
  const end = Date.now() + PATIENCE;
  for (let wait = 300; ; wait = Math.min(2 * wait, LONGEST_WAIT)) {
    try {
      await request(path, { method: "DELETE", keepalive: true });
      return;
    } catch (reason) {
      const status = reason instanceof ApiError ? reason.status : null;
      if (status === 404) return;
      if (status !== 409 || Date.now() > end) throw reason;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}
