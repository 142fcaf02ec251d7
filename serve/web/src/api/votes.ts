import { useQuery } from "@tanstack/react-query";
import { askConsent } from "@/learned/consent";
import { request, requestJson } from "./client";
import { queryClient } from "./queries";
import type { Role } from "./types";

export type Choice = "a" | "b" | "tie";

/** One of two answers, and how it came about. */
export interface Candidate {
  model: string;
  settings: Record<string, number>;
  content: string;
}

/** Which of two answers to a prompt is better, as the server keeps it for preference training. */
export interface VoteRequest {
  prompt: { role: Role; content: string }[];
  a: Candidate;
  b: Candidate;
  choice: Choice;
}

export interface Vote extends VoteRequest {
  id: string;
  created_at: string;
}

/** The reader's newest votes. */
export function useVotes() {
  return useQuery({
    queryKey: ["votes"],
    queryFn: () => requestJson<{ data: Vote[] }>("/v1/votes?limit=100").then((page) => page.data),
  });
}

const refresh = () => void queryClient.invalidateQueries({ queryKey: ["votes"] });

export async function sendVote(vote: VoteRequest): Promise<Vote> {
  const body = JSON.stringify(vote);
  const stored = await requestJson<Vote>("/v1/votes", { method: "POST", body });
  refresh();
  askConsent();
  return stored;
}

export async function takeBack(vote: Vote): Promise<void> {
  await request(`/v1/votes/${encodeURIComponent(vote.id)}`, { method: "DELETE" });
  refresh();
}
