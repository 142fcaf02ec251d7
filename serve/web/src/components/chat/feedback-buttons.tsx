import { ThumbsDown, ThumbsUp } from "lucide-react";
import { useState } from "react";
import { toast } from "sonner";
import { sendFeedback } from "@/api/queries";
import type { Feedback } from "@/api/types";
import { sentenceOf } from "@/chat/errors";
import { useChat } from "@/chat/store";
import { type Message, update } from "@/chat/tree";
import { Button } from "@/components/ui/button";
import { Label } from "@/components/ui/label";
import { Popover, PopoverAnchor, PopoverContent } from "@/components/ui/popover";
import { Textarea } from "@/components/ui/textarea";
import { useWords } from "@/i18n";
import { askConsent } from "@/learned/consent";
import { cn } from "@/lib/utils";
import { ActionButton } from "./action-button";

interface FeedbackProps {
  conversation: string;
  message: Message;
}

/** Thumbs up and down; a bad rating asks for what would have been better. */
export function FeedbackButtons({ conversation, message }: FeedbackProps) {
  const t = useWords();
  const [asking, setAsking] = useState(false);
  const rating = message.feedback?.rating;

  async function store(feedback: Feedback): Promise<boolean> {
    const { change } = useChat.getState();
    const before = message.feedback;
    change(conversation, (thread) => update(thread, message.id, { feedback }));
    try {
      await sendFeedback(conversation, message.serverId as string, feedback);
      return true;
    } catch (reason) {
      change(conversation, (thread) => update(thread, message.id, { feedback: before }));
      toast.error(`${t.feedbackFailed} ${sentenceOf(reason)}`);
      return false;
    }
  }

  return (
    <Popover
      open={asking}
      onOpenChange={(next) => {
        setAsking(next);
        if (!next) askConsent();
      }}
    >
      <PopoverAnchor className="flex">
        <ActionButton
          label={t.goodAnswer}
          aria-pressed={rating === 1}
          onClick={async () => {
            if (!(await store({ ...message.feedback, rating: 1 }))) return;
            askConsent();
            toast.success(t.feedbackThanks, {
              action: { label: t.feedbackMore, onClick: () => setAsking(true) },
            });
          }}
        >
          <ThumbsUp className={cn(rating === 1 && "fill-current text-primary")} />
        </ActionButton>
        <ActionButton
          label={t.badAnswer}
          aria-pressed={rating === -1}
          onClick={async () => {
            if (await store({ ...message.feedback, rating: -1 })) setAsking(true);
          }}
        >
          <ThumbsDown className={cn(rating === -1 && "fill-current text-destructive")} />
        </ActionButton>
      </PopoverAnchor>
      <PopoverContent aria-label={rating === 1 ? t.feedbackMore : t.feedbackTitle}>
        <CorrectionForm
          rating={rating ?? -1}
          given={message.feedback}
          answer={message.content}
          onSend={async (feedback) => {
            setAsking(false);
            if (!(await store(feedback))) return;
            toast.success(t.feedbackThanks);
            askConsent();
          }}
        />
      </PopoverContent>
    </Popover>
  );
}

function CorrectionForm({
  rating,
  given,
  answer,
  onSend,
}: {
  rating: Feedback["rating"];
  given: Feedback | null | undefined;
  answer: string;
  onSend: (feedback: Feedback) => void;
}) {
  const t = useWords();
  const [comment, setComment] = useState(given?.comment ?? "");
  const [correction, setCorrection] = useState(given?.correction ?? "");
  return (
    <form
      className="flex flex-col gap-3"
      onSubmit={(event) => {
        event.preventDefault();
        onSend({
          rating,
          comment: comment.trim() || null,
          correction: correction.trim() || null,
        });
      }}
    >
      <p className="font-medium">{rating === 1 ? t.feedbackMore : t.feedbackTitle}</p>
      <div className="flex flex-col gap-1.5">
        <Label htmlFor="feedback-correction">{t.feedbackCorrection}</Label>
        <Textarea
          id="feedback-correction"
          value={correction}
          placeholder={answer.slice(0, 120)}
          onChange={(event) => setCorrection(event.target.value)}
        />
        <p className="text-muted-foreground text-xs">{t.feedbackHint}</p>
      </div>
      <div className="flex flex-col gap-1.5">
        <Label htmlFor="feedback-comment">
          {rating === 1 ? t.feedbackPraise : t.feedbackComment}
        </Label>
        <Textarea
          id="feedback-comment"
          className="min-h-10"
          value={comment}
          onChange={(event) => setComment(event.target.value)}
        />
      </div>
      <Button type="submit" size="sm" className="self-end">
        {t.save}
      </Button>
    </form>
  );
}
