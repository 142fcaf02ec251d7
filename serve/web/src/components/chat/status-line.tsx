import { useEffect, useState } from "react";
import { useChat, useLive } from "@/chat/store";
import { useWords } from "@/i18n";

/** Tells screen readers when an answer begins and how it ended; the log itself is too chatty. */
export function StatusLine({ conversation }: { conversation: string }) {
  const t = useWords();
  const live = useLive(conversation);
  const [last, setLast] = useState<string>();
  useEffect(() => {
    if (live) setLast(live);
  }, [live]);
  const ended = useChat((state) =>
    last ? state.threads[conversation]?.byId[last]?.status : undefined,
  );
  const said = {
    streaming: t.generating,
    done: t.answerReady,
    stopped: t.answerStopped,
    failed: t.answerFailed,
    dropped: t.answerFailed,
    waiting: t.answerHeld,
  };
  return (
    <div role="status" className="sr-only">
      {ended ? said[ended] : ""}
    </div>
  );
}
