import { useQuery } from "@tanstack/react-query";
import { toast } from "sonner";
import { requestJson } from "@/api/client";
import { queryClient } from "@/api/queries";
import type { components } from "@/api/schema";
import { sentenceOf } from "@/chat/errors";
import { useSettings } from "@/settings/store";
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

/** Asks a reader who has just judged something; the question is put once, and stays until it is answered or put off. */
export function askConsent(): void {
  const { consentQuestion, set } = useSettings.getState();
  if (consentQuestion === "unasked") set({ consentQuestion: "open" });
}
