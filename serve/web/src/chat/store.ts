import { create } from "zustand";
import { releaseAll } from "./kept";
import { emptyThread, type Message, pathOf, siblingsOf, type Thread } from "./tree";

interface ChatState {
  threads: Record<string, Thread>;
  /** By conversation: the message that is being written now. */
  live: Record<string, string>;
  change: (conversation: string, change: (thread: Thread) => Thread) => void;
  setLive: (conversation: string, message: string | null) => void;
  forget: (conversation: string) => void;
}

export const useChat = create<ChatState>()((set) => ({
  threads: {},
  live: {},
  change: (conversation, change) =>
    set((state) => ({
      threads: {
        ...state.threads,
        [conversation]: change(state.threads[conversation] ?? emptyThread),
      },
    })),
  setLive: (conversation, message) =>
    set((state) => {
      const { [conversation]: _, ...others } = state.live;
      return { live: message ? { ...others, [conversation]: message } : others };
    }),
  forget: (conversation) => {
    releaseAll(conversation);
    set((state) => {
      const { [conversation]: _, ...threads } = state.threads;
      return { threads };
    });
  },
}));

export function getThread(conversation: string): Thread {
  return useChat.getState().threads[conversation] ?? emptyThread;
}

export function usePath(conversation: string): readonly string[] {
  return useChat((state) => pathOf(state.threads[conversation] ?? emptyThread));
}

export function useMessage(conversation: string, id: string): Message | undefined {
  return useChat((state) => state.threads[conversation]?.byId[id]);
}

export function useSiblings(conversation: string, id: string): readonly string[] {
  return useChat((state) => siblingsOf(state.threads[conversation] ?? emptyThread, id));
}

export function useLive(conversation: string): string | undefined {
  return useChat((state) => state.live[conversation]);
}
