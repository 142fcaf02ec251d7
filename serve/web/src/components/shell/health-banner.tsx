import { CloudOff, LoaderCircle } from "lucide-react";
import { AnimatePresence } from "motion/react";
import * as m from "motion/react-m";
import { useEffect, useRef } from "react";
import { toast } from "sonner";
import { queryClient, useHealth } from "@/api/queries";
import { useWords } from "@/i18n";

/** Says that the server is loading or down, and when it is back. */
export function HealthBanner() {
  const t = useWords();
  const status = useHealth().data?.status;
  const before = useRef(status);
  useEffect(() => {
    if (status === "ok" && before.current && before.current !== "ok") {
      toast.success(t.serverBack);
      void queryClient.invalidateQueries();
    }
    before.current = status;
  }, [status, t]);
  const unwell = status === "loading" || status === "down";
  return (
    <AnimatePresence>
      {unwell && (
        <m.div
          role="status"
          className="glass absolute inset-x-0 top-16 z-20 mx-auto flex w-fit max-w-[calc(100%-1.5rem)] items-center gap-2.5 rounded-2xl px-4 py-2 text-sm"
          initial={{ opacity: 0, y: -10 }}
          animate={{ opacity: 1, y: 0 }}
          exit={{ opacity: 0, y: -10 }}
        >
          {status === "loading" ? (
            <LoaderCircle className="size-4 shrink-0 animate-spin text-primary" />
          ) : (
            <CloudOff className="size-4 shrink-0 text-destructive" />
          )}
          {status === "loading" ? t.modelLoading : t.serverDown}
        </m.div>
      )}
    </AnimatePresence>
  );
}
