import { Check, Copy, FileDown, Trash2 } from "lucide-react";
import { useState } from "react";
import { toast } from "sonner";
import { revoke, type Share, share, useShares } from "@/api/shares";
import { sentenceOf } from "@/chat/errors";
import { exportConversation } from "@/chat/export";
import { getThread } from "@/chat/store";
import { pathOf } from "@/chat/tree";
import { ActionButton } from "@/components/chat/action-button";
import { Button } from "@/components/ui/button";
import {
  Dialog,
  DialogClose,
  DialogContent,
  DialogDescription,
  DialogTitle,
} from "@/components/ui/dialog";
import { Input } from "@/components/ui/input";
import { useCopy } from "@/hooks/use-copy";
import { useLanguage, useWords } from "@/i18n";
import { formatTime } from "@/lib/format";
import { type ShareTarget, useUi } from "@/lib/ui-store";

const DAYS = [1, 7, 30, 365];

/** Shares a conversation by a link that ends, and shows the links that there are. */
export default function ShareDialog() {
  const t = useWords();
  const open = useUi((state) => state.panel === "share");
  const target = useUi((state) => state.share);
  return (
    <Dialog open={open} onOpenChange={(next) => !next && useUi.getState().close()}>
      <DialogContent>
        <div className="flex items-start justify-between gap-3">
          <DialogTitle>{t.shareTitle}</DialogTitle>
          <DialogClose />
        </div>
        {target && <bdi className="truncate font-medium text-sm">{target.title}</bdi>}
        <DialogDescription>{t.shareNote}</DialogDescription>
        {target && <Create key={target.conversation} target={target} />}
        <Links open={open} />
      </DialogContent>
    </Dialog>
  );
}

function Create({ target }: { target: ShareTarget }) {
  const t = useWords();
  const [days, setDays] = useState(30);
  const [made, setMade] = useState<Share | null>(null);
  const [busy, setBusy] = useState(false);
  async function create() {
    setBusy(true);
    try {
      setMade(await share(target.conversation, days, newestStored(target.conversation)));
    } catch (reason) {
      toast.error(`${t.shareFailed} ${sentenceOf(reason)}`);
    }
    setBusy(false);
  }
  return (
    <>
      <div className="flex flex-wrap items-end gap-3">
        <label className="flex flex-col gap-1.5 text-sm">
          {t.shareExpires}
          <select
            className="h-9 rounded-lg border border-input bg-background/60 px-2 text-sm"
            value={days}
            onChange={(event) => setDays(Number(event.target.value))}
          >
            {DAYS.map((count) => (
              <option key={count} value={count}>
                {t.shareDays(count)}
              </option>
            ))}
          </select>
        </label>
        <Button disabled={busy} onClick={() => void create()}>
          {t.shareCreate}
        </Button>
        <Button
          variant="outline"
          onClick={() =>
            exportConversation(target.conversation, "html").catch((reason) =>
              toast.error(`${t.exportFailed} ${sentenceOf(reason)}`),
            )
          }
        >
          <FileDown />
          {t.shareFile}
        </Button>
      </div>
      {made && <LinkField share={made} />}
    </>
  );
}

/** The newest message of the shown branch that the server has. */
function newestStored(conversation: string): string | undefined {
  const thread = getThread(conversation);
  const newest = pathOf(thread).findLast((id) => thread.byId[id]?.serverId);
  return newest ? thread.byId[newest]?.serverId : undefined;
}

function linkOf({ path }: Share): string {
  return `${window.location.origin}${path}`;
}

function LinkField({ share: made }: { share: Share }) {
  const t = useWords();
  const language = useLanguage();
  const { copied, copy } = useCopy();
  return (
    <div className="flex flex-col gap-1.5">
      <div className="flex gap-2">
        <Input
          readOnly
          autoFocus
          aria-label={t.shareLink}
          value={linkOf(made)}
          onFocus={(event) => event.target.select()}
        />
        <Button variant="secondary" onClick={() => void copy(linkOf(made))}>
          {copied ? <Check /> : <Copy />}
          {copied ? t.copied : t.copyLink}
        </Button>
      </div>
      <p className="text-muted-foreground text-xs">
        {t.shareUntil(formatTime(made.expires_at, language))}
      </p>
    </div>
  );
}

function Links({ open }: { open: boolean }) {
  const t = useWords();
  const language = useLanguage();
  const { data: links = [] } = useShares(open);
  const { copy } = useCopy();
  if (links.length === 0) return null;
  return (
    <section aria-label={t.shareList} className="flex flex-col gap-1 border-t pt-4">
      <h3 className="font-medium text-sm">{t.shareList}</h3>
      <ul>
        {links.map((one) => (
          <li key={one.id} className="flex items-center gap-1 text-sm">
            <a
              href={one.path}
              target="_blank"
              rel="noopener noreferrer"
              className="tap flex min-w-0 grow flex-col justify-center py-1 hover:underline"
            >
              <bdi className="truncate">{one.title || t.untitled}</bdi>
              <span className="text-muted-foreground text-xs">
                {t.shareUntil(formatTime(one.expires_at, language))}
              </span>
            </a>
            <ActionButton label={t.copyLink} onClick={() => void copy(linkOf(one))}>
              <Copy />
            </ActionButton>
            <ActionButton
              label={t.shareRevoke(one.title || t.untitled)}
              onClick={() =>
                revoke(one.id).then(
                  () => toast(t.shareRevoked),
                  (reason) => toast.error(sentenceOf(reason)),
                )
              }
            >
              <Trash2 />
            </ActionButton>
          </li>
        ))}
      </ul>
    </section>
  );
}
