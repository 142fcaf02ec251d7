import { create } from "zustand";
import { persist } from "zustand/middleware";
import type { ChatRequest } from "@/api/types";

export interface Vote {
  at: string;
  prompt: string;
  a: { request: Omit<ChatRequest, "messages">; answer: string };
  b: { request: Omit<ChatRequest, "messages">; answer: string };
  better: "a" | "b" | "tie";
}

interface VotesState {
  votes: Vote[];
  add: (vote: Vote) => void;
}

/** What the reader found better, kept in this browser. */
export const useVotes = create<VotesState>()(
  persist(
    (set) => ({ votes: [], add: (vote) => set(({ votes }) => ({ votes: [...votes, vote] })) }),
    {
      name: "resonance.votes",
      version: 1,
    },
  ),
);

export function tallyOf(votes: Vote[]): Record<Vote["better"], number> {
  const count = (better: Vote["better"]) => votes.filter((vote) => vote.better === better).length;
  return { a: count("a"), b: count("b"), tie: count("tie") };
}
