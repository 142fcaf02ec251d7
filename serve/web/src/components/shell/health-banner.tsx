import { CloudOff, LoaderCircle } from "lucide-react";
import { useEffect, useRef } from "react";
import { toast } from "sonner";
import { queryClient, useHealth } from "@/api/queries";
import { Appear } from "@/components/ui/appear";
import { useWords } from "@/i18n";
import { useUi } from "@/lib/ui-store";

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
  const model = useHealth().data?.model;
  const served = useRef(model);
  useEffect(() => {
    const before = served.current;
    if (model) served.current = model;
    if (!model || before?.id !== model.id || before.checkpoint === model.checkpoint) return;
    void queryClient.invalidateQueries({ queryKey: ["models"] });
    toast(t.newModel(model.id, model.checkpoint), {
      id: "new-model",
      duration: Number.POSITIVE_INFINITY,
      action: { label: t.learned, onClick: () => useUi.getState().open("learned") },
      cancel: { label: t.close, onClick: () => {} },
    });
  }, [model, t]);
  const unwell = status === "loading" || status === "down";
  return (
    <Appear
      open={unwell}
      role="status"
      className="glass absolute inset-x-0 top-16 z-20 mx-auto flex w-fit max-w-[calc(100%-1.5rem)] items-center gap-2.5 rounded-2xl px-4 py-2 text-sm"
      hidden={{ opacity: 0, transform: "translateY(-10px)" }}
      shown={{ opacity: 1, transform: "none" }}
    >
      {status === "loading" ? (
        <LoaderCircle className="size-4 shrink-0 animate-spin text-primary" />
      ) : (
        <CloudOff className="size-4 shrink-0 text-destructive" />
      )}
      {status === "loading" ? t.modelLoading : t.serverDown}
    </Appear>
  );
}
