import { useQuery } from "@tanstack/react-query";
import { toast } from "sonner";
import { requestJson } from "@/api/client";
import { queryClient } from "@/api/queries";
import type { components } from "@/api/schema";
import { sentenceOf } from "@/chat/errors";
import { learnedWords } from "./words";

type Consent = components["schemas"]["TrainingConsent"];

const PATH = "/v1/training-consent";
const query = { queryKey: ["consent"], queryFn: () => requestJson<Consent>(PATH) };

/** Whether training may use what the reader writes and judges. */
export function useConsent() {
  return useQuery(query);
}

/** Gives or withdraws the reader's consent; says so where that fails. */
export async function setConsent(given: boolean): Promise<void> {
  try {
    const body = JSON.stringify({ given });
    queryClient.setQueryData(["consent"], await requestJson(PATH, { method: "PUT", body }));
  } catch (reason) {
    toast.error(`${learnedWords().failed} ${sentenceOf(reason)}`);
  }
}

/** How long the question waits at most for other notes to go, in steps (ms). */
const WAIT = 10_000;
const STEP = 250;

let asked = false;

/** Asks a reader who has just judged something, once: who has answered is never asked again. */
export async function askConsent(): Promise<void> {
  if (asked) return;
  asked = true;
  try {
    const { policy, changed_at } = await queryClient.fetchQuery(query);
    if (policy !== "ask" || changed_at) return;
  } catch {
    asked = false; // with the next judgement
    return;
  }
  // It must not lie over the note that offers to undo a vote.
  for (let waited = 0; waited < WAIT && toast.getToasts().length > 0; waited += STEP) {
    await new Promise((resolve) => setTimeout(resolve, STEP));
  }
  const t = learnedWords();
  toast(t.ask, {
    description: t.askNote,
    duration: Number.POSITIVE_INFINITY,
    action: { label: t.yes, onClick: () => void setConsent(true) },
    cancel: { label: t.no, onClick: () => void setConsent(false) },
  });
}
